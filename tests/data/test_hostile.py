"""Files and names that were made to harm: told, never followed, never run."""

from __future__ import annotations

import json
import pickle
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from podium.auditing.record import Audit, DuplicatePair
from podium.cli.app import main
from podium.cli.terminal import visible
from podium.config.studyfile import load_study
from podium.errors import ConfigError, RunFolderError, UserError
from podium.evaluation.trained import load_run
from podium.models.weights import read_state
from podium.results.pictures import audit_thumbnails
from podium.runs.folder import RunFolder
from podium.training.checkpoint import read_checkpoint
from podium.training.job import Job
from tests.conftest import write_pictures
from tests.training.test_training import index, straight

__all__ = ["index", "straight"]  # fixtures


class Trap:
    """What runs when a pickle of it is loaded freely."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.fixture
def run(straight: Job, tmp_path: Path) -> RunFolder:
    shutil.copytree(straight.folder.path, tmp_path / "contender" / "seed-0")
    return RunFolder(tmp_path / "contender" / "seed-0", "contender", 0)


def test_nothing_unpickles_what_it_was_handed(run: RunFolder, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    pickle.loads(pickle.dumps(Trap(mark)))
    assert mark.is_file(), "the trap works"
    mark.unlink()
    for trap in (pickle.dumps(Trap(mark)), _torch_file(Trap(mark), tmp_path)):
        for path in (run.last, run.best, run.predictions("test"), run.model, run.config):
            path.write_bytes(trap)
        with pytest.raises(RunFolderError):
            read_checkpoint(run.last)
        with pytest.raises(RunFolderError):
            load_run(run)
        with pytest.raises(RunFolderError):
            run.read_predictions("test")
        with pytest.raises(RunFolderError):
            run.read_config()
        for name in ("a.pth", "a.safetensors"):
            (tmp_path / name).write_bytes(trap)
            with pytest.raises(UserError):
                read_state(tmp_path / name)
        assert not mark.exists()


def _torch_file(value: object, folder: Path) -> bytes:
    torch.save({"format": 1, "state_dict": value}, folder / "trap.pt")
    return (folder / "trap.pt").read_bytes()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": 2}, "has format 2; this Podium reads format 1"),
        ({"format": None}, "format is missing"),
        ({"model": "../../etc/passwd"}, "neither Podium nor timm has '../../etc/passwd'"),
        ({"model": "hf-hub:evil/model"}, "'hf-hub:evil/model'"),
        ({"model": ["simple_resnet"]}, "model: Input should be a valid string"),
        ({"model": "resnet18"}, "does not hold the weights of resnet18"),
        ({"model": "vit_giant_patch14_224"}, "does not hold the weights of vit_giant"),
        ({"class_names": ["a", "a", "b"]}, "class_names"),
        ({"class_names": []}, "class_names"),
        ({"class_names": "abc"}, "class_names"),
        ({"class_names": [str(n) for n in range(50_000)]}, "with 50000 classes"),
        ({"image_size": 10**9}, "image_size"),
        ({"image_size": "32"}, "image_size"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"mean": [0.5, 0.5]}, "mean"),
        ({"mean": [0.5, 0.5, 0.5], "std": [0, 1, 1]}, "std"),
        ({"pooling": "stages"}, "cannot be built"),
        ({"pooling": "code"}, "pooling"),
    ],
)
def test_a_description_of_a_model_is_checked_before_it_is_followed(
    run: RunFolder, change: dict[str, Any], expected: str
) -> None:
    values = json.loads(run.model.read_text())
    run.model.write_text(json.dumps(values | change))
    began = time.monotonic()
    with pytest.raises(RunFolderError) as caught:
        load_run(run)
    assert expected in str(caught.value)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"format": 1}', "null"])
def test_a_damaged_description_is_told(run: RunFolder, text: str) -> None:
    run.model.write_text(text)
    with pytest.raises(RunFolderError, match=r"model\.json"):
        load_run(run)


def test_weights_of_other_shapes_are_refused(run: RunFolder) -> None:
    state = load_file(run.best)
    state["more"] = torch.zeros(1)
    save_file(state, run.best)
    with pytest.raises(RunFolderError, match="more has shape"):
        load_run(run)


def test_a_study_that_unfolds_without_end_is_refused(tmp_path: Path) -> None:
    """A few lines of YAML whose aliases stand for a billion values."""
    lines = ['a0: &a0 ["x", "x", "x", "x", "x", "x", "x", "x", "x", "x"]']
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    bomb = tmp_path / "bomb.yaml"
    for place in ("contenders: {x: *a9}", "contenders: *a9", "data: *a9", "seeds: *a9"):
        bomb.write_text("\n".join([*lines, "name: x", place]))
        began = time.monotonic()
        with pytest.raises(ConfigError) as caught:
            load_study(bomb)
        assert time.monotonic() - began < 5
        assert len(str(caught.value)) < 5_000
    bomb.write_text("&a {name: *a}")
    with pytest.raises(ConfigError):
        load_study(bomb)


def test_an_audit_made_by_hand_leads_to_no_picture_elsewhere(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data", {"train": 1}, ("circle",))
    write_pictures(tmp_path / "private", {"train": 1}, ("circle",))
    secret = tmp_path / "private" / "train" / "circle" / "0.png"
    pairs = tuple(
        DuplicatePair("near", "train/circle/0.png", path, "train", "test", "a", "a", 1, 1.0)
        for path in ("../private/train/circle/0.png", str(secret))
    )
    audit = Audit("f", "r", {}, {}, pairs=pairs)
    assert list(audit_thumbnails(audit, tmp_path / "data")) == ["train/circle/0.png"]


def test_names_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = "\x1b[2J\x1b]0;owned\x07\u202egnp.exe"
    write_pictures(tmp_path / "data", {"train": 3, "valid": 2, "test": 2}, ("circle", wild))
    (tmp_path / "data" / "train" / "circle" / f"{wild}.png").write_bytes(b"broken")
    assert main(["data", "check", str(tmp_path / "data")]) == 0
    told = capsys.readouterr()
    for text in (told.out, told.err):
        assert not set("\x1b\x07\u202e") & set(text)
    assert r"\x1b[2J" in told.out
    assert r"\x1b[2J" in told.err
    assert visible("a\tb\nc é 運動") == "a\tb\nc é 運動"
    assert visible("a\x1b[31m\r\u202e") == r"a\x1b[31m\r\u202e"
