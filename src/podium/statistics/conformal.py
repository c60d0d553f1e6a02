"""Sets of classes that contain the true one with a promised probability (split conformal sets).

A class belongs to an image's set if the model gives it a probability of at least some threshold.
The threshold is an order statistic of the probabilities that validation images give their true
class, so that the set of a further image contains the true class with at least the promised
probability, whatever the model is worth: validation images and that image only have to be
*exchangeable*, that is, drawn from the same source in no particular order (Vovk, Gammerman &
Shafer, 2005). This score, the least ambiguous one (LAC; Sadinle, Lei & Wasserman, 2019), gives the
smallest sets; `docs/single-pictures.md` has those of others. It needs one number of each image and
one comparison per class, in any program.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from podium.errors import ConfigError
from podium.runs.predictions import Predictions, TopPredictions
from podium.statistics.calibration import calibrated_probabilities
from podium.statistics.intervals import Interval, share_interval
from podium.statistics.losses import check_finite, in_parts, kept_moments

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

SHOWN = (0.8, 0.9, 0.95, 0.99)
"""The coverages that reports show."""


@dataclass(frozen=True, eq=False)
class SetRule:
    """Which classes belong to the set of an image.

    Examples:
        >>> import numpy as np
        >>> rule = SetRule(0.9, np.array([0.2, 0.2, 0.2]), images=500)
        >>> rule.members(np.array([[0.7, 0.25, 0.05], [0.15, 0.7, 0.15]])).tolist()
        [[True, True, False], [False, True, False]]
    """

    coverage: float
    """The promised probability that the set contains the true class, 0..1."""
    least: Floats
    """The least probability of a class in the set, shape (classes,); 0: it is in every set."""
    images: int
    """Validation images that the thresholds come from."""
    by_class: bool = False
    """Whether the promise holds for the images of each class, not only for all together."""

    @property
    def unlimited(self) -> Indices:
        """Classes with too few validation images for a threshold of their own."""
        return np.flatnonzero(self.least <= 0)

    def members(self, probabilities: Floats) -> Bools:
        """Whether each class belongs to the set of each image; bool of shape (n, classes).

        The most likely class always does: with a coverage below the model's accuracy, the least
        certain images would otherwise get no class at all. That only adds coverage.

        Args:
            probabilities: shape (n, classes).
        """
        best = probabilities >= probabilities.max(axis=1, keepdims=True)
        return np.asarray(best | (probabilities >= self.least))


@dataclass(frozen=True)
class KnownRule:
    """Which images are none of the classes: those less similar to training images than most.

    Examples:
        >>> import numpy as np
        >>> rule = KnownRule.of(np.linspace(0.01, 0.99, 99), keep=0.95)
        >>> round(rule.least, 3), rule.foreign(np.array([0.04, 0.06, 0.9])).tolist()
        (0.05, [True, False, False])
    """

    keep: float
    """Share of images like the validation images that are not called foreign, or more, 0..1."""
    least: float
    """The least similarity of an image that is not foreign."""
    images: int
    """Validation images that the threshold comes from."""

    @classmethod
    def of(cls, similarities: Floats, keep: float) -> KnownRule:
        """The rule that keeps a share of further images like these.

        Args:
            similarities: of the validation images, shape (n,).
            keep: 0.5 to below 1.

        Raises:
            ConfigError: `keep` is not in that range, or there are too few images for it.
        """
        _refuse_share("keep", keep)
        if len(similarities) < fewest(keep):
            raise ConfigError(
                f"Keeping {100 * keep:g} % needs {fewest(keep)} validation images or more, and "
                f"this run has {len(similarities)}. Use a lower --keep or validate on more images."
            )
        return cls(keep, _threshold(similarities, keep), len(similarities))

    def foreign(self, similarities: Floats) -> Bools:
        """Whether each image is none of the classes; bool of shape (n,).

        Args:
            similarities: shape (n,).
        """
        return np.asarray(similarities < self.least)


@dataclass(frozen=True, eq=False)
class ConformityScores:
    """The probability that a model gives the true class of each validation image.

    Examples:
        >>> import numpy as np
        >>> scores = ConformityScores(np.linspace(0.01, 0.99, 99), np.arange(99) % 3, classes=3)
        >>> scores.rule(0.9).least.round(2).tolist()
        [0.1, 0.1, 0.1]
        >>> scores.rule(0.999)
        Traceback (most recent call last):
        ...
        podium.errors.ConfigError: A coverage of 99.9 % needs 999 validation images or more, ...
    """

    probabilities: Floats
    """Of the true class, shape (n,), 0..1, at the model's temperature."""
    labels: Indices
    """Index of the true class, shape (n,)."""
    classes: int
    """Number of classes that the model knows."""

    @classmethod
    def of(cls, predictions: Predictions, temperature: float = 1.0) -> ConformityScores:
        """Compute them.

        Args:
            predictions: of the *validation* images.
            temperature: what to divide the logits by.

        Raises:
            DataError: there are no images, or a logit is not finite.
            ConfigError: the temperature is not a positive number.
        """
        found = label_probabilities(predictions, temperature)
        return cls(found, predictions.labels, len(predictions.class_names))

    def rule(self, coverage: float, *, by_class: bool = False) -> SetRule:
        """The rule by which sets contain the true class with a probability of `coverage` or more.

        Args:
            coverage: 0.5 to below 1.
            by_class: use a threshold for each class, from its own images, so that the promise holds
                for the images of each class (Mondrian sets). A class with too few of them is in
                every set.

        Raises:
            ConfigError: `coverage` is not in that range, or there are too few images for it: no
                threshold could keep the promise, but that of sets with all classes.
        """
        _refuse_share("coverage", coverage)
        n = len(self.labels)
        if not by_class:
            least = np.full(self.classes, _threshold(self.probabilities, coverage))
            most = n
        else:
            parts = [self.probabilities[self.labels == one] for one in range(self.classes)]
            least = np.array([_threshold(part, coverage) for part in parts])
            most = max(map(len, parts))
        if not least.any() and most < (needed := fewest(coverage)):
            has = f"no class has more than {most}" if by_class else f"this run has {n}"
            raise ConfigError(
                f"A coverage of {100 * coverage:g} %{' by class' if by_class else ''} needs "
                f"{needed} validation images or more{' of each class' if by_class else ''}, and "
                f"{has}: they can promise {100 * most / (most + 1):.1f} % at most. Use a lower "
                f"coverage{', omit the promise by class,' if by_class else ''} or validate on more "
                "images."
            )
        return SetRule(coverage, least, n, by_class)


def _refuse_share(name: str, share: float) -> None:
    if not 0.5 <= share < 1:
        raise ConfigError(
            f"{name}: expected a share from 0.5 to below 1, got {share:g} (95 % is 0.95)."
        )


def fewest(coverage: float) -> int:
    """The fewest validation images that can promise a coverage; of a class, where it is by class.

    Args:
        coverage: 0..1, below 1.

    Examples:
        >>> [fewest(one) for one in (0.9, 0.95, 0.99)]
        [9, 19, 99]
    """
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def _threshold(probabilities: Floats, coverage: float) -> float:
    """The largest threshold that keeps the promise; 0: there are too few images for one.

    A further image's probability is equally likely to have any rank among the n + 1, so with the
    k-th smallest of the n as threshold it falls below in at most k of n + 1 cases.
    """
    n = len(probabilities)
    # not floor((n + 1) * (1 - coverage)), which rounding makes too small
    k = n + 1 - math.ceil((n + 1) * coverage - 1e-9)
    return float(np.partition(probabilities, k - 1)[k - 1]) if k else 0.0


def label_probabilities(predictions: Predictions, temperature: float = 1.0) -> Floats:
    """The probability of the true class of each image, shape (n,), 0..1.

    Args:
        predictions: of n images.
        temperature: what to divide the logits by.

    Raises:
        DataError: there are no images, or a logit is not finite.
        ConfigError: the temperature is not a positive number.
    """
    if isinstance(predictions, TopPredictions):
        sums, top = kept_moments(predictions, temperature), predictions.top
        behind = top.label.astype(np.float64) - top.logits[:, 0]
        return np.asarray(np.exp(behind / temperature - sums.log_total))
    check_finite(predictions, temperature)
    parts = map(predictions.take, in_parts(predictions))
    found = [
        calibrated_probabilities(part, temperature)[np.arange(len(part)), part.labels]
        for part in parts
    ]
    return np.concatenate(found)


@dataclass(frozen=True)
class Coverage:
    """What the sets of a split turned out to be."""

    promised: float
    """The coverage of the rule, 0..1."""
    by_class: bool
    """Whether it was promised for the images of each class."""
    n: int
    """Number of images."""
    covered: Interval
    """Share of sets that contain the true class, with its 95 % interval: Wilson's, or
    cluster-robust with groups of images."""
    size: float
    """Mean number of classes in a set; of more classes than a file has logits for, at least."""
    single: float
    """Share of sets of one class, 0..1."""


def measure_coverage(
    predictions: Predictions,
    temperature: float,
    rule: SetRule,
    groups: Indices | None = None,
) -> Coverage:
    """Count how often sets contain the true class, and how large they are.

    Args:
        predictions: of images other than those that the rule comes from.
        temperature: what to divide the logits by.
        rule: decides which classes belong to a set.
        groups: shape (n,), group index of each image, from 0: the interval is cluster-robust;
            None: images are independent.

    Raises:
        DataError: there are no images, or a logit is not finite.
        ConfigError: the temperature is not a positive number.
    """
    own = label_probabilities(predictions, temperature)
    hit = predictions.predicted == predictions.labels
    hit |= own >= rule.least[predictions.labels]
    sizes = _sizes(predictions, temperature, rule)
    return Coverage(
        promised=rule.coverage,
        by_class=rule.by_class,
        n=len(predictions),
        covered=Interval(float(hit.mean()), *share_interval(hit, groups)),
        size=float(sizes.mean()),
        single=float((sizes == 1).mean()),
    )


def _sizes(predictions: Predictions, temperature: float, rule: SetRule) -> npt.NDArray[np.intp]:
    """Number of classes in each set."""
    if isinstance(predictions, TopPredictions):
        sums, top = kept_moments(predictions, temperature), predictions.top
        found = []
        for part in in_parts(predictions):
            logits = top.logits[part].astype(np.float64)
            logs = (logits - logits[:, :1]) / temperature - sums.log_total[part, None]
            inside = np.exp(logs) >= rule.least[top.classes[part]]
            inside[:, 0] = True
            found.append(inside.sum(axis=1))
        return np.concatenate(found)
    parts = map(predictions.take, in_parts(predictions))
    return np.concatenate(
        [rule.members(calibrated_probabilities(part, temperature)).sum(axis=1) for part in parts]
    )
