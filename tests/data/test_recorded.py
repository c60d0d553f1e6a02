"""A study's images are found again, of whatever kind they were and are now."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from podium.data.recorded import study_source
from podium.data.source import Reader
from podium.errors import DataError
from podium.runs.folder import StudyFolder
from tests.conftest import write_pictures

Study = Callable[..., StudyFolder]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    def write(root: str | Path, **data: Any) -> StudyFolder:
        folder = StudyFolder(tmp_path / "study")
        folder.path.mkdir(exist_ok=True)
        content = {
            "name": "s",
            "data": data,
            "contenders": {"a": {"model": "simple_resnet", "epochs": 1}},
        }
        folder.spec.write_text(yaml.safe_dump(content))
        folder.data.write_text(json.dumps({"root": str(root)}))
        return folder

    return write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "around" / "shapes", {"": 6}, side=16)


def test_a_folder_that_moved_or_was_packed(study: Study, folder: Path, tmp_path: Path) -> None:
    made = study(folder, path=str(folder))
    content = (folder / "circle/1.png").read_bytes()
    packed = shutil.make_archive(str(tmp_path / "shapes"), "zip", folder.parent, folder.name)
    assert Reader(study_source(made)).read("circle/1.png") == content
    moved = folder.parent.rename(tmp_path / "moved")
    with pytest.raises(DataError, match=r"are not where they were.*--data FOLDER"):
        study_source(made)
    for given in (moved, moved / "shapes", packed):
        assert Reader(study_source(made, given)).read("circle/1.png") == content


def test_a_table_whose_images_moved(study: Study, folder: Path, tmp_path: Path) -> None:
    """Its paths begin at the folder given, even if that has only one folder in it."""
    table = folder.parent / "images.csv"
    table.write_text("file,label\nshapes/circle/1.png,round\nshapes/noise/1.png,other\n")
    made = study(folder.parent, path=str(table), source="table", label="label")
    content = (folder / "circle/1.png").read_bytes()
    assert Reader(study_source(made)).read("shapes/circle/1.png") == content
    moved = folder.parent.rename(tmp_path / "moved")
    for given in (moved, moved / "images.csv"):
        assert Reader(study_source(made, given)).read("shapes/circle/1.png") == content
