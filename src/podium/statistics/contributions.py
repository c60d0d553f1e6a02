"""The images' contributions to metrics that are made of classes, in closed form.

Balanced accuracy is a mean within each class, and an area under a ROC curve one of the positive
and one of the negative images (DeLong, DeLong & Clarke-Pearson, 1988). So the class, not the test
set, is what variances are taken over, each with its own n - 1: with few images in a class, a
jackknife over all images takes them as too steady.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when they are first used

Values = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def class_weights(labels: Labels) -> Values:
    """Weights with which a plain mean over images is the mean over the classes; their mean is 1.

    Args:
        labels: class index of each image, shape (images,).
    """
    _, at, support = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(len(labels) / (len(support) * support[at]), np.float64)


def effective_images(labels: Labels) -> float:
    """Images in equal classes that would determine a mean over the classes as well.

    Args:
        labels: class index of each image, shape (images,).
    """
    return len(labels) / float(np.square(class_weights(labels)).mean())


def class_freedom(labels: Labels) -> float:
    """Degrees of freedom of the variance of a mean over classes (Satterthwaite, 1946).

    That variance is a sum of the classes', each estimated from its own images: where one class of
    five images accounts for most of it, it is known no better than from five. Values of all classes
    are taken to vary alike.

    Args:
        labels: class index of each image, shape (images,).

    Returns:
        1 or more; images minus classes where classes are equal.

    Examples:
        >>> import numpy as np
        >>> from podium.statistics.contributions import class_freedom
        >>> labels = np.repeat([0, 1, 2], [90, 90, 5])
        >>> round(class_freedom(labels), 1)
        4.9
    """
    support = np.unique(labels, return_counts=True)[1].astype(np.float64)
    squares = 1 / (support**2 * np.maximum(1, support - 1))
    return max(1.0, float((1 / support).sum()) ** 2 / float(squares.sum()))


def by_class(values: Values, labels: Labels) -> Values:
    """Values whose plain mean is the mean over the classes of each class's mean.

    Args:
        values: of each image, shape (seeds, images).
        labels: class index of each image.

    Returns:
        Shape (seeds, images): the mean over classes, plus each image's deviation from the mean of
        its class, scaled so that the variance of the plain mean is that of the mean over classes.
        An image alone in its class deviates from the mean over classes instead.
    """
    _, at, support = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(at, one) / support for one in values])
    overall = means.mean(axis=1, keepdims=True)
    # without the root, a class of five images would vary a tenth too little
    scale = class_weights(labels) * np.sqrt(support / np.maximum(1, support - 1))[at]
    apart = (values - np.where(support > 1, means, overall)[:, at]) * scale
    found: Values = overall + apart - apart.mean(axis=1, keepdims=True)
    return found


def auroc_contributions(shares: Values, labels: Labels) -> Values:
    """Values whose mean is the macro one-vs-rest AUROC, and whose variance is DeLong's.

    Args:
        shares: of each class, in the order by which its curve ranks the images, shape (images,
            classes).
        labels: class index of each image.

    Returns:
        Shape (images,); with few images in a class the variance is a little larger. A class with no
        images, or with all of them, has no curve and is left out.
    """
    n, areas = len(labels), []
    apart = np.zeros(n)
    for number in np.unique(labels):
        positive = labels == number
        count = int(positive.sum())
        if count == n:
            continue
        placed = scipy.stats.rankdata(shares[:, number])
        for side, other in ((positive, n - count), (~positive, count)):
            within = scipy.stats.rankdata(shares[side, number])
            placed[side] = (placed[side] - within) / other
        placed[~positive] = 1 - placed[~positive]  # a negative image should rank low
        areas.append(float(placed[positive].mean()))
        apart += np.where(positive, n / count, n / (n - count)) * (placed - areas[-1])
    # DeLong's n / (n - 1) within each class, times the variance of Student's t with n - 1 degrees
    # of freedom, (n - 1) / (n - 3): with it normal quantiles and sign flips keep their level
    support = np.bincount(labels)[labels]
    apart *= np.sqrt(support / np.maximum(1, support - 3)) / max(1, len(areas))
    mean = float(np.mean(areas)) if areas else np.nan
    return np.asarray(mean + apart - apart.mean())


def area_variance(area: float, support: Labels) -> float:
    """Variance that a model of ranks gives to a macro one-vs-rest AUROC.

    Each curve's is Hanley & McNeil's (1982) with both sides as large as their mean, as Newcombe
    (2006) advises. Two classes have one curve between them; of more, curves are taken to be
    correlated by 1 / (classes - 1).

    Args:
        area: of every curve, 0..1.
        support: images in each class, shape (classes,), two classes or more.
    """
    n, classes = support.sum(), len(support)
    half = n / 2 - 1
    shape = 1 + half * ((1 - area) / (2 - area) + area / (1 + area))
    curves = area * (1 - area) * shape / (support * (n - support))
    alike = 1 / (classes - 1)
    total = (1 - alike) * curves.sum() + alike * np.sqrt(curves).sum() ** 2
    return float(total) / classes**2
