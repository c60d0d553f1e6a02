"""A study's verdicts count groups, as the table of its images states them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from podium.errors import RunFolderError
from podium.results.study import gather
from podium.runs.folder import StudyFolder
from podium.statistics.table import read_table
from podium.statistics.verdicts import Verdicts, compare_contenders
from tests.fake_study import fake_study

CLASSES = tuple("abcdefgh")


def study(root: Path, groups: dict[str, str | None] | None) -> StudyFolder:
    """Two contenders on eight classes of ten test images each."""
    folder = StudyFolder(fake_study(root, CLASSES, contenders=2, per_class=10, epochs=1).path)
    if groups is not None:
        table = pa.table({"path": list(groups), "label": ["?"] * len(groups),
                          "group": pa.array([*groups.values()], pa.string())})  # fmt: skip
        pq.write_table(table, folder.images)
    return folder


def judged(folder: StudyFolder) -> Verdicts:
    verdicts = gather(folder).verdicts
    assert verdicts is not None
    return verdicts


def test_groups_of_the_images_are_the_units_of_the_verdicts(tmp_path: Path) -> None:
    alone = judged(study(tmp_path / "alone", None))
    paths = read_table([tmp_path / "alone"]).paths
    # five images of a class are of one patient; those of the last class have no group
    of = {path: f"patient {at // 5}" if at < 70 else None for at, path in enumerate(paths)}
    of["train/class-000/7.jpg"] = "another split's"
    folder = study(tmp_path / "grouped", of)
    table = read_table([folder.path])
    assert table.groups is not None
    assert len(set(table.groups.tolist())) == 14 + 10
    assert len(set(table.groups[:5].tolist())) == 1

    found = judged(folder)
    expected = compare_contenders(table)  # as with the column `group` of a CSV
    assert found.standings[0].accuracy == expected.standings[0].accuracy
    assert found.standings[0].accuracy != alone.standings[0].accuracy
    assert found.standings[0].accuracy.value == alone.standings[0].accuracy.value
    assert found.grouping is not None
    assert found.grouping.groups == 24
    runs = gather(folder).runs
    shown = next(one.accuracy for one in found.standings if one.name == runs[0].folder.contender)
    assert runs[0].interval == (shown.low, shown.high)
    assert runs[0].interval != gather(StudyFolder(tmp_path / "alone")).runs[0].interval
    assert runs[0].classes[0].by_groups is not None
    assert compare_contenders(replace(table, groups=None)).pairs == alone.pairs


@pytest.mark.parametrize("groups", [{}, {"test/class-000/1.jpg": None}])
def test_without_groups_nothing_changes(tmp_path: Path, groups: dict[str, str | None]) -> None:
    alone = judged(study(tmp_path / "alone", None))
    assert judged(study(tmp_path / "none", groups)).pairs == alone.pairs


def test_a_damaged_table_of_images_is_named(tmp_path: Path) -> None:
    folder = study(tmp_path, None)
    folder.images.write_bytes(b"no parquet")
    with pytest.raises(RunFolderError, match=r"images\.parquet is not a table of images"):
        gather(folder)
    with pytest.raises(RunFolderError, match=r"images\.parquet is not a table of images"):
        read_table([folder.path])
