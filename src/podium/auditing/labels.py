"""Labels that are likely wrong, by cross-validated predictions.

    features     of all splits together, from the bundled network (`podium.auditing.embed`)
    folds        five, stratified; duplicates stay in one fold, or they would confirm each other
    logits       out of fold, by linear discriminant analysis
    calibration  one scale for the logits and one rate of wrong labels, by maximum likelihood
    issues       confident learning's off-diagonal images that are more likely wrong than right

Confident learning: Northcutt, Jiang & Chuang (2021), "Confident Learning: Estimating Uncertainty
in Dataset Labels", Journal of Artificial Intelligence Research 70. Its confident joint counts an
image for the most probable class whose threshold it reaches; off-diagonal images are suspect.
If the classifier errs more often than the labels, those are its own errors. So an image must also
be more likely wrong than right, by Bayes' rule with the rate of wrong labels.

docs/results.md ("How well the audit's checks work") has the measured precision and recall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit

from podium.auditing.record import LEAST_ACCURACY, LabelFindings, LabelIssue
from podium.data.index import DataIndex
from podium.runtime.events import AuditProgress, Event, Notify, Progress, silent
from podium.runtime.parts import Parts

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
FOLDS = 5
"""Folds of the cross-validation, and the minimum number of images of a class to be judged."""

PRIOR_ERRORS = (1.0, 99.0)
"""Pseudo-counts of wrong and right labels (a beta prior); they matter only for few images."""


@dataclass(frozen=True)
class Calibration:
    """How to turn logits into probabilities, and how often labels are wrong.

    Logits are multiplied by `scale`. A share `error_rate` (0..1) of the labels is assumed to be
    wrong, with every other class equally likely.
    """

    scale: float
    error_rate: float


@dataclass(frozen=True)
class Suspects:
    """Images whose label is likely wrong, the most suspicious first.

    `images`: their indices; `suggested`: the most probable other class; `p_wrong`: the probability
    that the label is wrong, above 0.5; all of shape (suspects,). `probabilities`: float of shape
    (n, classes), calibrated and out of fold. `accuracy`: share of images that are classified as
    labelled.
    """

    images: Integers
    suggested: Integers
    p_wrong: Floats
    probabilities: Floats
    calibration: Calibration
    accuracy: float


def find_label_issues(
    index: DataIndex,
    *,
    groups: Sequence[int] | None = None,
    features: npt.NDArray[np.float32] | None = None,
    notify: Notify = silent,
    device: str = "auto",
) -> LabelFindings:
    """Find the images whose label is likely wrong, in all splits together.

    Args:
        index: the images.
        groups: a number for each image, split after split; images with the same number are
            duplicates and never in different folds. None: no image has a duplicate.
        features: of the images, float32 of shape (n, d), split after split, standardised. None:
            computed by `podium.auditing.embed`.
        notify: receives the progress: number of images done.
        device: where the network runs: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Returns:
        The issues, rank 1 first. `estimated_errors` is None if the check is too weak, see
        `LEAST_ACCURACY`. If fewer than two classes have `FOLDS` images, there are no issues,
        `accuracy` is 0, and `method` says so.

    Raises:
        ConfigError: the device is unknown or not available.
        UnreadableImageError: an image can no longer be read.
        ValueError: `groups` does not have one number for each image.
    """
    splits = [(name, path) for name, split in index.splits.items() for path in split.paths]
    labels = np.concatenate([split.labels for split in index.splits.values()]).astype(np.int64)
    units = np.arange(len(labels)) if groups is None else np.asarray(groups, dtype=np.int64)
    if units.shape != labels.shape:
        raise ValueError(f"groups: expected one per image ({len(labels)}), got {len(units)}")
    judged = _enough(labels, units, len(index.classes))
    left_out = len(index.classes) - len(judged)
    if len(judged) < 2:
        return LabelFindings(
            (),
            None,
            0.0,
            f"Labels were not checked: that needs at least two classes with {FOLDS} different "
            f"images each, and there is {'one' if len(judged) else 'none'}.",
        )
    if features is None:
        features = image_features(index, device=device, notify=notify)
    rows = np.flatnonzero(np.isin(labels, judged))
    suspects = find_suspects(
        features[rows], np.searchsorted(judged, labels[rows]).astype(np.int64), units[rows]
    )
    issues = []
    for rank, (at, other) in enumerate(zip(suspects.images, suspects.suggested, strict=True), 1):
        split, path = splits[rows[at]]
        own = int(np.searchsorted(judged, labels[rows[at]]))
        issues.append(
            LabelIssue(
                path=path,
                split=split,
                label=index.classes[judged[own]],
                suggested=index.classes[judged[other]],
                p_label=float(suspects.probabilities[at, own]),
                p_suggested=float(suspects.probabilities[at, other]),
                rank=rank,
            )
        )
    return LabelFindings(
        tuple(issues),
        round(suspects.calibration.error_rate * len(rows))
        if suspects.accuracy >= LEAST_ACCURACY
        else None,
        suspects.accuracy,
        _method(left_out),
    )


def image_features(
    index: DataIndex,
    *,
    device: str = "auto",
    notify: Notify = silent,
    parts: Parts | None = None,
) -> npt.NDArray[np.float32]:
    """Compute the standardised features of every image; progress is told as that of `labels`.

    Args:
        index: the images.
        device: where the network runs: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        notify: receives the progress: number of images done.
        parts: what computes on other machines; None: this one does.

    Returns:
        float32 of shape (n, d), split after split.
    """
    from podium.auditing.embed import embed  # loads torch

    def report(event: Event) -> None:
        if isinstance(event, Progress):
            event = AuditProgress("labels", event.done, event.total)
        notify(event)

    return standardised(embed(index, device=device, notify=report, parts=parts))


def standardised(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scale each feature to mean 0 and standard deviation 1; constant features become 0.

    The covariance is shrunk towards a single variance for all features, but the stages of a
    network have different scales. docs/results.md has the accuracy with and without.

    Args:
        features: float32 of shape (n, d).
    """
    spread = features.std(axis=0)
    spread[spread < 1e-6] = 1.0
    return np.asarray((features - features.mean(axis=0)) / spread, dtype=np.float32)


def _enough(labels: Integers, units: Integers, classes: int) -> Integers:
    """Classes with at least `FOLDS` different images, in order."""
    pairs = np.unique(np.stack([labels, units]), axis=1)
    return np.flatnonzero(np.bincount(pairs[0], minlength=classes) >= FOLDS).astype(np.int64)


def _method(left_out: int) -> str:
    text = (
        f"Confident learning (Northcutt et al., 2021) on {FOLDS}-fold out-of-fold predictions of "
        "a linear discriminant on the bundled network's features, all splits together; it lists "
        "the images whose label is more likely wrong than right by that measure, for inspection"
    )
    if left_out:
        noun = "class" if left_out == 1 else "classes"
        text += f"; {left_out} {noun} with fewer than {FOLDS} different images left out"
    return text + "."


def find_suspects(
    features: npt.NDArray[np.float32], labels: Integers, groups: Integers | None = None
) -> Suspects:
    """Check every label against the out-of-fold prediction for its image.

    Args:
        features: float of shape (n, d).
        labels: of shape (n,), from 0 to classes - 1.
        groups: of shape (n,); images with the same number are never in different folds.
            None: every image is a group.
    """
    units = np.arange(len(labels)) if groups is None else groups
    logits = out_of_fold_logits(features, labels, assign_folds(labels, units))
    accuracy = float((logits.argmax(axis=1) == labels).mean())
    assumed = PRIOR_ERRORS[0] / sum(PRIOR_ERRORS) if accuracy < LEAST_ACCURACY else None
    calibration = calibrate(logits, labels, assumed)
    probabilities = np.exp(log_softmax(calibration.scale * logits, axis=1))
    _, _, confident = confident_joint(probabilities, labels)
    rows = np.arange(len(labels))
    own = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = 0
    suggested = others.argmax(axis=1)
    strongest = others[rows, suggested]
    wrong = _chance_of_error(own, calibration.error_rate, probabilities.shape[1])
    off_diagonal = (confident >= 0) & (confident != labels)
    images = np.flatnonzero(off_diagonal & (wrong > 0.5))
    # confidence in the other class, times the evidence against this one: either one alone finds
    # fewer (doubt without an alternative, or an alternative that is only slightly more likely)
    weight = strongest * (np.log(strongest + 1e-300) - np.log(own + 1e-300))
    images = images[np.argsort(-weight[images], kind="stable")]
    return Suspects(
        images=images.astype(np.int64),
        suggested=suggested[images].astype(np.int64),
        p_wrong=wrong[images],
        probabilities=probabilities,
        calibration=calibration,
        accuracy=accuracy,
    )


def assign_folds(labels: Integers, groups: Integers, folds: int = FOLDS, seed: int = 0) -> Integers:
    """Assign each image to a fold, stratified by class; a group stays in one fold.

    Args:
        labels: class of each image, shape (n,).
        groups: group of each image, shape (n,).
        folds: number of folds.
        seed: seeds the shuffle.

    Returns:
        int64 of shape (n,), from 0 to folds - 1. Without groups, the images of a class, and all
        images, differ by at most one between folds.
    """
    _, first, unit = np.unique(groups, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(first))
    by_class = shuffled[np.argsort(labels[first[shuffled]], kind="stable")]
    dealt = np.empty(len(first), dtype=np.int64)
    dealt[by_class] = np.arange(len(first)) % folds
    return np.asarray(dealt[unit], dtype=np.int64)


def out_of_fold_logits(
    features: npt.NDArray[np.float32], labels: Integers, fold: Integers
) -> Floats:
    """Compute out-of-fold log-posteriors of each image, up to a constant.

    Uses linear discriminant analysis with the shrunk covariance of Ledoit & Wolf (2004), "A
    well-conditioned estimator for large-dimensional covariance matrices". The sums of squares are
    computed once per fold; each training set is the total minus one fold.

    Args:
        features: float of shape (n, d).
        labels: of shape (n,), from 0 to classes - 1.
        fold: fold of each image, shape (n,), from 0; see `assign_folds`.

    Returns:
        float64 of shape (n, classes).
    """
    classes = int(labels.max()) + 1
    size = features.shape[1]
    centred = features - features.mean(axis=0)  # float32 is precise enough for small numbers
    if len(centred) < size:
        centred = _within_their_span(centred)
    numbers = range(int(fold.max()) + 1)
    squares = [_squares(centred[fold == f]) for f in numbers]
    length = np.einsum("nd,nd->n", centred, centred).astype(np.float64)
    one_hot = np.eye(classes, dtype=np.float32)[labels]
    sums = [(one_hot[fold == f].T @ centred[fold == f]).astype(np.float64) for f in numbers]
    counts = [one_hot[fold == f].sum(axis=0, dtype=np.float64) for f in numbers]
    all_squares = np.sum(squares, axis=0, dtype=np.float64)
    logits = np.zeros((len(labels), classes))
    for held in numbers:
        count = np.sum(counts, axis=0) - counts[held]
        means = (np.sum(sums, axis=0) - sums[held]) / np.maximum(count, 1)[:, None]
        within = all_squares - squares[held]
        within = (within - (means.T * count) @ means) / count.sum()
        train = fold != held
        # squared distance of each training image from its class's mean
        nearness = (centred[train] @ means.T.astype(np.float32))[
            np.arange(train.sum()), labels[train]
        ]
        lengths = length[train] - 2.0 * nearness + (means**2).sum(axis=1)[labels[train]]
        shrunk = _shrink(within, lengths, size)
        weights = cho_solve(cho_factor(shrunk), means.T)
        prior = np.log(np.maximum(count, 1) / count.sum())
        scores = (
            centred[~train] @ weights.astype(np.float32)
            - 0.5 * (means.T * weights).sum(axis=0)
            + prior
        )
        # duplicates with several labels can keep a whole class in one fold: it cannot be judged
        # there, so it gets the benefit of the doubt
        present = count > 0
        scores[:, ~present] = scores[:, present].max(axis=1, keepdims=True)
        logits[~train] = scores
    return logits


def _squares(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(values.T @ values)


def _within_their_span(centred: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Project few points onto the subspace that they span: the same distances, less work."""
    values, vectors = np.linalg.eigh(centred.astype(np.float64) @ centred.T)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)), dtype=np.float32)


def _shrink(covariance: Floats, lengths: Floats, size: int) -> Floats:
    """Shrink a covariance towards a multiple of the identity (Ledoit & Wolf).

    Args:
        covariance: of shape (k, k).
        lengths: squared length of each residual that the covariance is made of, shape (n,).
        size: dimensions of the features, including empty ones that the covariance leaves out.
    """
    mean = np.trace(covariance) / size
    total = float((covariance**2).sum())
    distance = total - size * mean**2  # squared, from the multiple of the identity
    noise = ((lengths**2).mean() - total) / len(lengths)
    share = float(np.clip(noise / distance, 1e-4, 1)) if distance > 0 else 1.0
    shrunk = (1 - share) * covariance
    shrunk[np.diag_indices(len(shrunk))] += share * mean + 1e-12
    return shrunk


def calibrate(logits: Floats, labels: Integers, error_rate: float | None = None) -> Calibration:
    """Fit the scale of the logits and the rate of wrong labels by maximum likelihood.

    A temperature alone (Guo et al., 2017) would explain wrong labels by underconfidence. So a
    label is the true class with probability 1 - e, and any other class with e / (classes - 1).

    Args:
        logits: of shape (n, classes), out of fold.
        labels: of shape (n,).
        error_rate: share of wrong labels, 0 to 1; None: fitted.
    """
    rows, classes = np.arange(len(labels)), logits.shape[1]
    wrong, right = PRIOR_ERRORS
    fixed = None if error_rate is None else float(logit(error_rate))

    def cost(parameters: Floats) -> float:
        own = np.exp(log_softmax(np.exp(parameters[0]) * logits, axis=1)[rows, labels])
        rate = expit(parameters[1])
        likelihood = own * (1 - rate) + (1 - own) * rate / (classes - 1)
        prior = wrong * np.log(rate) + right * np.log1p(-rate)
        return -float(np.log(likelihood + 1e-300).sum() + prior) / len(labels)

    found = minimize(
        cost,
        x0=[-1.5, -4.0 if fixed is None else fixed],
        method="Nelder-Mead",
        bounds=[(-5.0, 1.0), (-12.0, 0.0) if fixed is None else (fixed, fixed)],
        options={"xatol": 0.01, "fatol": 1e-7, "maxiter": 200},
    )
    return Calibration(float(np.exp(found.x[0])), float(expit(found.x[1])))


def _chance_of_error(own: Floats, rate: float, classes: int) -> Floats:
    """Compute the probability that a label is wrong, by Bayes' rule, from that of its class."""
    wrong = (1 - own) * rate / (classes - 1)
    return np.asarray(wrong / (wrong + own * (1 - rate) + 1e-300))


def confident_joint(probabilities: Floats, labels: Integers) -> tuple[Floats, Integers, Integers]:
    """Count images by their label and by the class that they confidently belong to.

    Args:
        probabilities: out of fold, of shape (n, classes).
        labels: of shape (n,); every class occurs.

    Returns:
        `(thresholds, joint, confident)`: the mean probability of each class over the images with
        that label, shape (classes,); counts of shape (classes, classes), rows are labels; and for
        each image the most probable class among those whose threshold it reaches, or -1.
    """
    classes = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels]
    count = np.bincount(labels, minlength=classes)
    thresholds = np.bincount(labels, weights=own, minlength=classes) / np.maximum(count, 1)
    reached = np.where(probabilities >= thresholds - 1e-12, probabilities, -1.0)
    confident = np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), -1).astype(np.int64)
    joint = np.zeros((classes, classes), dtype=np.int64)
    known = confident >= 0
    np.add.at(joint, (labels[known], confident[known]), 1)
    return thresholds, joint, confident
