"""What groups of images do to a test set: how many independent images it is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from podium.statistics.intervals import LEVEL
from podium.statistics.paired import design_effect

FEW_GROUPS = 10
"""With fewer, variances over groups are so uncertain that hardly anything can be claimed."""


@dataclass(frozen=True)
class Grouping:
    """Groups of test images that belong together, such as the frames of a patient.

    Examples:
        >>> from podium.statistics.grouping import Grouping
        >>> grouping = Grouping(images=500, groups=25, design_effect=8.0)
        >>> grouping.effective, grouping.least_p < 0.05
        (62.5, True)
    """

    images: int
    groups: int
    design_effect: float
    """How many images of a group count as one for an accuracy (Kish, 1965), the mean over the
    contenders: 1 where images of a group are no more alike than others."""

    @property
    def effective(self) -> float:
        """Independent images that would say as much about an accuracy."""
        return self.images / self.design_effect

    @property
    def least_p(self) -> float:
        """The smallest p that two models can reach: all groups fall to one side."""
        return min(1.0, 0.5 ** (self.groups - 1))

    @property
    def can_claim(self) -> bool:
        """Whether there are enough groups for any pair to have a winner."""
        return self.least_p < LEVEL


def grouping_of(
    groups: npt.NDArray[np.int64] | None, right: list[npt.NDArray[np.float64]]
) -> Grouping | None:
    """The groups of a table's images; None where images are independent.

    Args:
        groups: group index of each image, from 0, shape (images,).
        right: of each contender, 1 for correct and 0 for wrong predictions, shape (seeds, images).
    """
    if groups is None:
        return None
    effects = [design_effect(one.mean(axis=0), groups) for one in right]
    return Grouping(len(groups), int(groups.max()) + 1, float(np.mean(effects)))
