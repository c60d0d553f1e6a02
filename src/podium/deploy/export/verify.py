"""Agreement of an exported model with the original: compared on real images, with limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from podium.errors import ExportError
from podium.runs.predictions import softmax
from podium.statistics.conformal import SetRule

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]
Share = Annotated[float, Field(ge=0, le=1)]

BATCH = 32


class Check(BaseModel):
    """How an export agreed with the model in PyTorch, on the same images."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    images: int = Field(ge=1)
    split: str = Field(max_length=300)
    agreement: Share
    """Share of images with the same most likely class."""
    disagreements: int = Field(ge=0)
    """Images with another most likely class, except near ties (see `Limits`)."""
    largest: Share
    """The largest difference of any probability, over all classes and images."""
    mean: Share
    """Mean over images of the largest difference of a probability."""
    accuracy: Share | None = None
    """Accuracy of the export; None: labels are not known."""
    accuracy_before: Share | None = None
    """Accuracy of the model in PyTorch; None: labels are not known."""
    covered: Share | None = None
    """Share of the export's sets that contain the label; None: no sets, or no labels."""
    covered_before: Share | None = None
    """The same of the model in PyTorch."""


@dataclass(frozen=True)
class Limits:
    """The largest changes that a precision may cause.

    Attributes:
        tie: two most likely classes whose probabilities differ by less are a near tie.
        disagreements: share of images that may get another class, except near ties.
        largest: largest difference of any probability.
        mean: largest `Check.mean`.
        lost: largest drop of accuracy, and of the share of sets that contain the label, as a share
            of images, if labels are known. One image for 250 images or fewer.
    """

    tie: float
    disagreements: float
    largest: float
    mean: float
    lost: float


LIMITS = {
    "fp32": Limits(tie=1e-3, disagreements=0.0, largest=1e-3, mean=1e-4, lost=0.0),
    # products keep 8 bits: a class may change if two are close
    "bf16": Limits(tie=0.05, disagreements=0.01, largest=0.5, mean=0.02, lost=0.004),
    "int8": Limits(tie=0.05, disagreements=0.02, largest=1.0, mean=0.05, lost=0.004),
}
"""By precision; for int8, accuracy within 0.4 points."""


def in_batches(compute: Callable[[Pixels], Logits], pixels: Pixels) -> Logits:
    """Compute the logits, shape (n, classes), of pixels of shape (n, S, S, channels), 32 at a time.

    Args:
        compute: from pixels to logits.
        pixels: uint8 of shape (n, S, S, channels).
    """
    starts = range(0, len(pixels), BATCH)
    return np.concatenate([compute(pixels[at : at + BATCH]) for at in starts])


def compare(
    expected: Logits,
    found: Logits,
    temperature: float,
    precision: str,
    *,
    split: str,
    labels: npt.NDArray[np.int64] | None = None,
    sets: SetRule | None = None,
) -> Check:
    """Compare two models' logits for the same images.

    Args:
        expected: logits of the model in PyTorch, shape (n, classes).
        found: logits of the export.
        temperature: temperature of both.
        precision: selects the `Limits` that define near ties.
        split: description of the images.
        labels: shape (n,), -1 where not known; None: none are known.
        sets: how both make sets of classes; None: they make none.

    Raises:
        ExportError: the export does not give finite logits for these classes.
    """
    if found.shape != expected.shape or not np.isfinite(found).all():
        raise ExportError(
            f"The exported model gives logits of shape {found.shape}; expected finite ones of "
            f"shape {expected.shape}."
        )
    before, after = softmax(expected, temperature), softmax(found, temperature)
    same = expected.argmax(1) == found.argmax(1)
    first, second = np.sort(before, axis=1)[:, ::-1][:, :2].T if before.shape[1] > 1 else (1.0, 0.0)
    tied = (first - second) < LIMITS[precision].tie
    differences = np.abs(before - after).max(axis=1)
    right = was_right = inside = was_inside = None
    known = np.zeros(len(same), bool) if labels is None else labels >= 0
    if labels is not None and known.any():
        right = float((found.argmax(1) == labels)[known].mean())
        was_right = float((expected.argmax(1) == labels)[known].mean())
        if sets is not None:
            own = np.flatnonzero(known), labels[known]
            inside, was_inside = (float(sets.members(one)[own].mean()) for one in (after, before))
    return Check(
        images=len(same),
        split=split,
        agreement=float(same.mean()),
        disagreements=int((~same & ~tied).sum()),
        largest=float(min(1.0, differences.max())),
        mean=float(min(1.0, differences.mean())),
        accuracy=right,
        accuracy_before=was_right,
        covered=inside,
        covered_before=was_inside,
    )


def refuse(check: Check, precision: str) -> str:
    """The reasons why a check fails, with the figures; empty string: it passes.

    Args:
        check: the result of `compare`.
        precision: selects the `Limits`.
    """
    limits, n = LIMITS[precision], check.images
    most = max(int(limits.disagreements * n), 1 if limits.disagreements else 0)
    why = []
    if check.disagreements > most:
        why.append(
            f"{check.disagreements} of {n} images get another class, at most {most} may "
            f"(not counting images whose two most likely classes differ by less than "
            f"{limits.tie:g})"
        )
    if check.largest > limits.largest:
        why.append(
            f"a probability differs by {check.largest:.2g}, at most {limits.largest:g} may be"
        )
    if check.mean > limits.mean:
        why.append(
            f"probabilities differ by {check.mean:.2g} on average, at most {limits.mean:g} may be"
        )
    for what, before, after in (
        ("accuracy", check.accuracy_before, check.accuracy),
        ("the coverage of sets", check.covered_before, check.covered),
    ):
        if before is None or after is None or not limits.lost:
            continue
        if round(n * (before - after)) > max(1, int(limits.lost * n)):
            why.append(
                f"{what} falls from {100 * before:.2f} % to {100 * after:.2f} %, at most "
                f"{100 * limits.lost:g} points are allowed"
            )
    return "; ".join(why)


def makes_these_sets(
    found: npt.NDArray[np.bool_], probabilities: Floats, rule: SetRule, precision: str
) -> bool:
    """Whether a file's own output holds the sets of a rule, apart from rounding.

    Args:
        found: the output, shape (n, classes).
        probabilities: of the same images, from the file's logits.
        rule: what the sets should be.
        precision: that of the file, whose softmax rounds, too.
    """
    rounding = LIMITS[precision].tie if precision == "bf16" else 1e-4
    near_best = probabilities.max(axis=1, keepdims=True) - probabilities < rounding
    either = near_best & (near_best.sum(axis=1, keepdims=True) > 1)
    either |= np.abs(probabilities - rule.least) < rounding
    return bool(((found == rule.members(probabilities)) | either).all())
