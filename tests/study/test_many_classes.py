"""A run with more classes than a predictions file holds logits of, through the real command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from podium.cli.app import main
from podium.config.settings import RunSpec
from podium.results.run import read_run
from podium.runs.folder import RunFolder
from podium.runs.predictions import MOST_WHOLE, TopPredictions


@pytest.mark.usefixtures("undrawn")
def test_a_run_keeps_the_largest_logits_and_is_read_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path / "cache"))
    for split in ("train", "valid", "test"):
        for number in range(MOST_WHOLE + 1):
            place = tmp_path / "data" / split / f"c{number:03d}"
            place.mkdir(parents=True)
            random = np.random.default_rng(number)
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            pixels[0, 0] = ("train", "valid", "test").index(split)
            Image.fromarray(pixels).save(place / "1.png")
    command = ["train", "simple_resnet", "--data", "data", "--epochs", "1", "--image-size", "32"]
    assert main([*command, "--device", "cpu", "--no-audit", "--name", "many"]) == 0
    capsys.readouterr()
    (place,) = (tmp_path / "runs" / "many").glob("*/seed-0")
    run = RunFolder(place, place.parent.name, 0)
    for found in (run.read_predictions("valid"), run.read_predictions("test")):
        assert isinstance(found, TopPredictions)
        assert len(found) == MOST_WHOLE + 1
        assert found.top.temperature == run.read_done()["temperature"]
    result = read_run(run, "many", RunSpec.model_validate(run.read_config()["recipe"]))
    assert result.scores.accuracy == run.read_done()["test_accuracy"]
    assert all(one.n == MOST_WHOLE + 1 for one in result.calibration)
