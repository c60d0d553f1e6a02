"""A study that the Podium of before the rooms left behind: it opens, predicts, reports, goes on.

`earlier-version.tar.xz` was written by that version: one finished run, and one that was stopped
after the first of three epochs (most of its weights were then set to 0, to keep the file small).
With it lies what that version predicted once it had gone on to the end.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import podium
from podium.runs.folder import StudyFolder
from podium.runs.predictions import Predictions
from podium.statistics.metrics import scores


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study, beside the pictures that it was trained on."""
    with tarfile.open(Path(__file__).with_name("earlier-version.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    random = np.random.default_rng(11)
    for split, count in (("train", 8), ("valid", 4), ("test", 4)):
        for kind, name in enumerate("abc"):
            place = tmp_path / "pictures" / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 90, (32, 32, 3))
                pixels[..., kind] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.bmp")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "old"


def test_the_finished_run_is_read_and_predicts_as_before(folder: Path) -> None:
    run = StudyFolder(folder).run("whole", 0)
    stored = run.read_predictions("test")
    assert run.read_done()["test_accuracy"] == scores(stored).accuracy
    assert len(run.read_history()) == 2
    again = podium.evaluate(run.path, "pictures", device="cpu", workers=0)
    assert again.paths == stored.paths
    np.testing.assert_allclose(again.logits, stored.logits, atol=1e-3)
    (guessed,) = podium.predict(
        folder, folder.parent.parent / "pictures/test/a/0.bmp", device="cpu"
    )
    assert guessed.error == ""


def test_the_stopped_run_goes_on_to_the_same_end(folder: Path) -> None:
    study = podium.Study.load(
        "study.yaml", runs="runs", audit=False, device="cpu", precision="fp32", workers=0
    )
    result = study.run()
    assert [outcome.skipped for outcome in result.outcomes] == [True, False]
    assert not result.failed
    before = Predictions.read(folder.parents[1] / "expected" / "predictions-test.parquet")
    after = study.folder.run("begun", 0).read_predictions("test")
    assert after.paths == before.paths
    np.testing.assert_allclose(after.logits, before.logits, atol=1e-3)
    assert study.report(dpi=50, formats=("png",)).is_file()
    assert [one.name for one in podium.compare(folder).standings]
