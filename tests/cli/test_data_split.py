"""`podium data split`: the splits of a study as a table, through the real command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from podium.auditing import index_data
from podium.cli.app import main
from podium.config.data_settings import DataSpec, SplitSpec
from podium.data.shares import fold_numbers
from tests.conftest import write_pictures

GROUP = r"(?P<group>[a-z]+/\d)"


@pytest.fixture(scope="module")
def unsplit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 pictures of each of three classes; the first digit of a name is its group."""
    return write_pictures(tmp_path_factory.mktemp("unsplit"), {"": 14}, side=16)


def table(path: Path) -> Any:
    read = pd.read_parquet if path.suffix == ".parquet" else pd.read_csv
    return read(path)


@pytest.mark.parametrize("name", ["split.csv", "split.parquet"])
def test_the_table_has_the_splits_of_a_study(unsplit: Path, tmp_path: Path, name: str) -> None:
    to = tmp_path / name
    command = ["data", "split", str(unsplit), "--group", GROUP, "--by", "group", "--to", str(to)]
    assert main([*command, "--valid-fraction", "0.2", "--seed", "3"]) == 0
    rows = table(to)
    assert [*rows] == ["path", "label", "split", "group"]
    assert rows["path"].is_monotonic_increasing
    assert (rows["path"].str.split("/").str[0] == rows["label"]).all()
    assert (rows["path"].str.extract(GROUP.replace("?P<group>", ""))[0] == rows["group"]).all()
    assert rows.groupby("group")["split"].nunique().max() == 1

    data = DataSpec(path=str(unsplit), group=GROUP, split=SplitSpec(), valid_fraction=0.2,
                    split_seed=3)  # fmt: skip
    for split, part in index_data(data).splits.items():
        assert rows["path"][rows["split"] == split].tolist() == [*part.paths]

    # what was written is a table that a study can read
    again = index_data(DataSpec(path=str(to), options={"images": str(unsplit)}, group="group"))
    assert {name: len(one) for name, one in again.splits.items()} == {
        name: int((rows["split"] == name).sum()) for name in ("train", "valid", "test")
    }


def test_folds_of_all_images(unsplit: Path, tmp_path: Path) -> None:
    to = tmp_path / "folds.csv"
    command = ["data", "split", str(unsplit), "--to", str(to), "--folds", "4"]
    assert main([*command, "--group", GROUP]) == 0
    rows = table(to)
    labels = np.unique(rows["label"], return_inverse=True)[1].astype(np.int64)
    assert rows["fold"].tolist() == fold_numbers(labels, [*rows["group"]], 4, 0).tolist()
    assert rows.groupby("group")["fold"].nunique().max() == 1
    assert main(command) == 0
    rows = table(to)
    assert rows["fold"].tolist() == fold_numbers(labels, None, 4, 0).tolist()
    assert rows["group"].isna().all()


def test_a_class_of_one_group_is_told(
    unsplit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = r"(?P<group>noise|[a-z]+/\d)"
    command = ["data", "split", str(unsplit), "--to", str(tmp_path / "a.csv"), "--folds", "3"]
    assert main([*command, "--group", rule]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "1 class with fewer groups than the 3 splits: 'noise' (1)" in told
    assert "1 class in a single fold: noise. When that fold is tested, nothing of the" in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--by", "group"], "expected groups to split"),
        (["--by", "patient"], "Invalid value for '--by'"),
        (["--valid-fraction", "0.7"], "--valid-fraction: Input should be less than 0.5"),
        (["--folds", "1"], "Invalid value for '--folds'"),
        (["--folds", "100"], "100 folds need at least 100 images, found 42"),
        (["--group", "patient"], "got 'patient'"),
        (["--group", "capture:x"], "expected capture:SECONDS"),
    ],
)
def test_mistakes_are_told(
    unsplit: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    told: str,
) -> None:
    to = tmp_path / "split.csv"
    assert main(["data", "split", str(unsplit), "--to", str(to), *options]) == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert not to.exists()


def test_another_ending_is_refused(unsplit: Path, tmp_path: Path) -> None:
    assert main(["data", "split", str(unsplit), "--to", str(tmp_path / "split.txt")]) == 2
