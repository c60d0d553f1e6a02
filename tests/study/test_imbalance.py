"""Unequal classes through the command: what is refused beforehand, trained, and answered."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from podium.cli.app import main
from podium.runs.folder import StudyFolder
from tests.conftest import reports_undrawn, write_pictures

STUDY = """
name: unequal
data: {data}
metric: {metric}
defaults:
  model: simple_resnet
  image_size: 32
  epochs: 1
  batch_size: 12
contenders:
  plain: {{}}
  own: {{class_weights: {{{rare}: 3}}}}
  drawn: {{sampler: balanced}}
"""


@pytest.fixture(scope="module")
def unequal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 12, 12 and 3 training images, and of 4, 4 and 2 test images."""
    root = tmp_path_factory.mktemp("unequal")
    write_pictures(root, {"train": 12, "valid": 3, "test": 4})
    for split, kept, of in (("train", 3, 12), ("test", 2, 4)):
        for number in range(kept, of):
            (root / split / "noise" / f"{number}.png").unlink()
    return root


def run(folder: Path, data: Path, rare: str = "noise", metric: str = "balanced_accuracy") -> int:
    study = folder / "study.yaml"
    study.write_text(STUDY.format(data=data, rare=rare, metric=metric), encoding="utf-8")
    with reports_undrawn():
        return main(["run", str(study), "--runs", str(folder / "runs"), "--device", "cpu"])


def test_a_study_says_whether_balancing_helps(
    unequal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, unequal) == 0
    folder = StudyFolder(tmp_path / "runs" / "unequal")
    assert folder.read_spec().contenders["own"].class_weights == {"noise": 3.0}
    page = (folder.path / "report" / "index.html").read_text(encoding="utf-8")
    page = re.sub(r"\s+", " ", html.unescape(page))
    assert page.count("What balancing the classes adds to SimpleResNet") == 2
    assert "noise: 3" in page
    assert "equally many of each class" in page
    capsys.readouterr()
    assert main(["compare", str(folder.path), "--lang", "pt", "--resamples", "0"]) == 0
    assert "O que balancear as classes acrescenta a SimpleResNet" in capsys.readouterr().out


def test_a_weight_of_no_class_is_refused_before_anything_trains(
    unequal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, unequal, rare="nois") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "own: class_weights: the images have no class 'nois'. Did you mean noise?" in told
    assert not list((tmp_path / "runs").rglob("last.ckpt"))


@pytest.mark.parametrize("weights", ["{noise: 0}", "balence", "{noise: much}", "{}", "[1, 2]"])
def test_wrong_weights_are_told_with_what_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], weights: str
) -> None:
    study = tmp_path / "study.yaml"
    text = STUDY.format(data="none", rare="noise", metric="accuracy")
    study.write_text(text.replace("{noise: 3}", weights), encoding="utf-8")
    assert main(["run", str(study)]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "1 setting is wrong" in told
    assert "expected none, balanced, effective, or a weight above 0 for each class" in told
