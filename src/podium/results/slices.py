"""The slices of a study's test images: how the contenders compare within them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from podium.errors import DataError
from podium.runs.folder import StudyFolder
from podium.runs.images import read_metadata
from podium.statistics.slicing import LeftOut, slices_of
from podium.statistics.table import PredictionTable
from podium.statistics.weak_slices import WeakSlices, weak_slices
from podium.statistics.within import Within, compare_within


@dataclass(frozen=True)
class StudySlices:
    """What the report tells of slices."""

    within: Within
    weak: WeakSlices
    left_out: tuple[LeftOut, ...]
    """Columns and values that gave no slice."""


def study_slices(
    folder: StudyFolder, wanted: Sequence[str] | None, table: PredictionTable | None
) -> StudySlices | None:
    """Compare a study's contenders within slices of its test images.

    Args:
        folder: of the study; its table of images has the columns.
        wanted: `data.slices` of the study.
        table: the predictions of all contenders; None: they are not comparable.

    Returns:
        None where there is nothing to tell: no comparable predictions, or no column.

    Raises:
        RunFolderError: the table of images is damaged.
    """
    if table is None or wanted == ():
        return None
    columns = read_metadata(folder.images, table.paths)
    slicing = slices_of(columns, table.labels, table.paths, wanted)
    if not slicing.slices and not slicing.left_out:
        return None
    try:
        within = compare_within(table, slicing)
    except DataError:  # the folder was assembled by hand
        return None
    return StudySlices(within, weak_slices(table, slicing), slicing.left_out)
