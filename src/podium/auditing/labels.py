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

Features and logits are read in parts, however many images there are; see docs/scale.md.

docs/results.md ("How well the audit's checks work") has the measured precision and recall.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit

from podium.auditing.discriminant import out_of_fold_logits
from podium.auditing.record import LEAST_ACCURACY, LabelFindings, LabelIssue
from podium.data.index import DataIndex
from podium.features.scaling import Standardised, standardised
from podium.runtime.events import AuditProgress, Event, Notify, Progress, silent
from podium.runtime.large_array import Chosen, Table, in_parts, is_large
from podium.runtime.parts import Parts

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
FOLDS = 5
"""Folds of the cross-validation, and the minimum number of images of a class to be judged."""

PRIOR_ERRORS = (1.0, 99.0)
"""Pseudo-counts of wrong and right labels (a beta prior); they matter only for few images."""

CALIBRATED_ON = 100_000
"""Images that the two numbers of the calibration are fitted on; with more, a random sample."""

LOGITS = 2**22  # that are looked at together


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

    `images`: their indices; `suggested`: the most probable other class; `p_suggested`: its
    probability; `p_wrong`: the probability that the label is wrong, above 0.5; all of shape
    (suspects,). `own`: of every image, the probability of the class that it is labelled as, shape
    (n,). Probabilities are calibrated and out of fold. `accuracy`: share of images that are
    classified as labelled.
    """

    images: Integers
    suggested: Integers
    p_suggested: Floats
    p_wrong: Floats
    own: Floats
    calibration: Calibration
    accuracy: float


def find_label_issues(
    index: DataIndex,
    *,
    groups: Sequence[int] | Integers | None = None,
    features: Table | None = None,
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
    own = np.searchsorted(judged, labels[rows]).astype(np.int64)
    suspects = find_suspects(Chosen(features, rows), own, units[rows])
    names = list(index.splits)
    begins = np.cumsum([0, *map(len, index.splits.values())])
    issues = []
    for rank, (at, other, p_other) in enumerate(
        zip(suspects.images, suspects.suggested, suspects.p_suggested, strict=True), 1
    ):
        split = int(np.searchsorted(begins, rows[at], side="right")) - 1
        issues.append(
            LabelIssue(
                path=index.splits[names[split]].paths[int(rows[at] - begins[split])],
                split=names[split],
                label=index.classes[judged[own[at]]],
                suggested=index.classes[judged[other]],
                p_label=float(suspects.own[at]),
                p_suggested=float(p_other),
                rank=rank,
            )
        )
    return LabelFindings(
        tuple(issues),
        round(suspects.calibration.error_rate * len(rows))
        if suspects.accuracy >= LEAST_ACCURACY
        else None,
        suspects.accuracy,
        _method(left_out, len(rows), is_large(features.shape)),
    )


def image_features(
    index: DataIndex,
    *,
    device: str = "auto",
    notify: Notify = silent,
    parts: Parts | None = None,
) -> Standardised:
    """Compute the standardised features of every image; progress is told as that of `labels`.

    Args:
        index: the images.
        device: where the network runs: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        notify: receives the progress: number of images done.
        parts: what computes on other machines; None: this one does.

    Returns:
        float32 of shape (n, d), split after split; read in parts.
    """
    from podium.auditing.embed import embed  # loads torch

    def report(event: Event) -> None:
        if isinstance(event, Progress):
            event = AuditProgress("labels", event.done, event.total)
        notify(event)

    return standardised(embed(index, device=device, notify=report, parts=parts))


def _enough(labels: Integers, units: Integers, classes: int) -> Integers:
    """Classes with at least `FOLDS` different images, in order."""
    apart = int(units.max(initial=0)) + 1
    different = np.unique(labels * apart + units) // apart
    return np.flatnonzero(np.bincount(different, minlength=classes) >= FOLDS).astype(np.int64)


def _method(left_out: int, images: int, rounded: bool) -> str:
    text = (
        f"Confident learning (Northcutt et al., 2021) on {FOLDS}-fold out-of-fold predictions of "
        "a linear discriminant on the bundled network's features, all splits together; it lists "
        "the images whose label is more likely wrong than right by that measure, for inspection"
    )
    if left_out:
        noun = "class" if left_out == 1 else "classes"
        text += f"; {left_out} {noun} with fewer than {FOLDS} different images left out"
    if rounded:
        text += "; features rounded to 16 bits"
    if images > CALIBRATED_ON:
        text += f"; probabilities calibrated on {CALIBRATED_ON:,} images, drawn at random"
    return text + "."


def find_suspects(features: Table, labels: Integers, groups: Integers | None = None) -> Suspects:
    """Check every label against the out-of-fold prediction for its image.

    Args:
        features: float of shape (n, d).
        labels: of shape (n,), from 0 to classes - 1.
        groups: of shape (n,); images with the same number are never in different folds.
            None: every image is a group.
    """
    units = np.arange(len(labels)) if groups is None else groups
    logits = out_of_fold_logits(features, labels, assign_folds(labels, units))
    classes = logits.shape[1]
    best = [part.argmax(axis=1) for _, part in _logits(logits)]
    accuracy = float((np.concatenate(best) == labels).mean())
    assumed = PRIOR_ERRORS[0] / sum(PRIOR_ERRORS) if accuracy < LEAST_ACCURACY else None
    calibration = calibrate(logits, labels, assumed)
    own = _own_probabilities(logits, labels, calibration.scale)
    bars = thresholds(own, labels, classes)
    wrong = _chance_of_error(own, calibration.error_rate, classes)
    suspicious = np.zeros(len(labels), dtype=np.bool_)
    suggested = np.zeros(len(labels), dtype=np.int64)
    strongest = np.zeros(len(labels))
    for place, part in _logits(logits):
        probabilities = np.exp(log_softmax(calibration.scale * part, axis=1))
        confident = confident_class(probabilities, bars)
        off_diagonal = (confident >= 0) & (confident != labels[place])
        suspicious[place] = off_diagonal & (wrong[place] > 0.5)
        rows = np.arange(len(part))
        probabilities[rows, labels[place]] = 0
        suggested[place] = probabilities.argmax(axis=1)
        strongest[place] = probabilities[rows, suggested[place]]
    images = np.flatnonzero(suspicious)
    # confidence in the other class, times the evidence against this one: either one alone finds
    # fewer (doubt without an alternative, or an alternative that is only slightly more likely)
    weight = strongest * (np.log(strongest + 1e-300) - np.log(own + 1e-300))
    images = images[np.argsort(-weight[images], kind="stable")]
    return Suspects(
        images=images.astype(np.int64),
        suggested=suggested[images],
        p_suggested=strongest[images],
        p_wrong=wrong[images],
        own=own,
        calibration=calibration,
        accuracy=accuracy,
    )


def _logits(logits: Table) -> Iterator[tuple[slice, Floats]]:
    """Logits in parts, as float64: where they are, and their values."""
    for place, part in in_parts(logits, max(1, LOGITS // logits.shape[1])):
        yield place, part.astype(np.float64)


def _own_probabilities(logits: Table, labels: Integers, scale: float) -> Floats:
    """The probability of the class that each image is labelled as, shape (n,)."""
    found = [
        log_softmax(scale * part, axis=1)[np.arange(len(part)), labels[place]]
        for place, part in _logits(logits)
    ]
    return np.asarray(np.exp(np.concatenate(found)), dtype=np.float64)


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


def calibrate(
    logits: Table, labels: Integers, error_rate: float | None = None, seed: int = 0
) -> Calibration:
    """Fit the scale of the logits and the rate of wrong labels by maximum likelihood.

    A temperature alone (Guo et al., 2017) would explain wrong labels by underconfidence. So a
    label is the true class with probability 1 - e, and any other class with e / (classes - 1).

    Args:
        logits: of shape (n, classes), out of fold.
        labels: of shape (n,).
        error_rate: share of wrong labels, 0 to 1; None: fitted.
        seed: draws the `CALIBRATED_ON` images that are used if there are more.
    """
    classes = logits.shape[1]
    if len(labels) > CALIBRATED_ON:
        drawn = np.sort(np.random.default_rng(seed).permutation(len(labels))[:CALIBRATED_ON])
        logits, labels = Chosen(logits, drawn), labels[drawn]
    wrong, right = PRIOR_ERRORS
    fixed = None if error_rate is None else float(logit(error_rate))

    def cost(parameters: Floats) -> float:
        own = _own_probabilities(logits, labels, float(np.exp(parameters[0])))
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


def thresholds(own: Floats, labels: Integers, classes: int) -> Floats:
    """The mean probability of each class over the images with that label, shape (classes,).

    Args:
        own: the probability of its label, of each image, shape (n,).
        labels: of shape (n,).
        classes: number of classes.
    """
    count = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=own, minlength=classes)
    return np.asarray(sums / np.maximum(count, 1))


def confident_class(probabilities: Floats, bars: Floats) -> Integers:
    """Of each image, the most probable class among those whose threshold it reaches, or -1.

    Args:
        probabilities: of shape (n, classes).
        bars: threshold of each class, shape (classes,).
    """
    reached = np.where(probabilities >= bars - 1e-12, probabilities, -1.0)
    return np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), -1).astype(np.int64)
