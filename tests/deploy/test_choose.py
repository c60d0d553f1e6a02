"""Which run a folder stands for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from podium.deploy.find.choose import choose_run
from podium.errors import RunFolderError
from podium.runs.find import best_seed, by_contender, find_runs
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.predictions import Predictions
from podium.runtime.files import write_json
from tests.fake_study import fake_study


def with_accuracy(run: RunFolder, valid: float, test: float) -> None:
    """Weights (of a sort), and these accuracies in the closing record."""
    run.best.write_bytes(b"weights")
    write_json(run.done, {**run.read_done(), "valid_accuracy": valid, "test_accuracy": test})


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    """Three contenders, two seeds; validation and test images disagree about the best."""
    folder = fake_study(tmp_path / "s", ("a", "b"), contenders=3, epochs=2, seeds=(0, 1))
    accuracies = iter([(0.5, 0.99), (0.95, 0.99), (0.8, 0.1), (0.9, 0.1), (0.1, 0.9), (0.2, 0.9)])
    for run in folder.runs(folder.read_spec()):
        with_accuracy(run, *next(accuracies))
    return folder


def test_of_a_study_the_best_on_validation_images_is_taken(study: StudyFolder) -> None:
    said: list[str] = []
    run = choose_run(study.path, said.append)
    # mean 0.85 against 0.725: the best single run is another contender's
    assert (run.contender, run.seed) == ("simple_resnet-autoaugment", 1)
    assert len(said) == 1
    assert "simple_resnet-autoaugment, seed 1" in said[0]
    assert "validation" in said[0]


def test_an_older_run_is_judged_by_its_predictions(study: StudyFolder) -> None:
    run = study.run("inception_resnet", 0)
    for one in (run, study.run("inception_resnet", 1)):
        done = one.read_done()
        del done["valid_accuracy"]
        write_json(one.done, done)
        labels = np.zeros(4, np.int64)
        right = np.eye(2, dtype=np.float32)[labels]
        Predictions(("a", "b"), tuple("wxyz"), labels, right).write(one.predictions("valid"))
    assert choose_run(study.path) == run


def test_of_a_contender_the_best_seed_is_taken_and_a_run_as_it_is_named(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    run = study.run("inception_resnet", 1)
    assert choose_run(run.path, said.append) == run
    contender = run.path.parent
    assert said == []
    assert choose_run(contender, said.append) == run  # 0.2 against 0.1
    assert said[0].endswith("resnet, seed 1, the best on the validation images (20.0 %).")
    run.done.unlink()
    assert choose_run(contender).seed == 0  # a finished one goes before one that is not
    study.run("inception_resnet", 0).best.unlink()
    assert choose_run(str(contender), said.append) == run
    monkeypatch.chdir(contender)
    assert choose_run(".").path.resolve() == run.path
    monkeypatch.chdir(run.path)
    assert choose_run(".").path.resolve() == run.path
    assert len(said) == 1


def test_all_commands_take_the_same_run_of_a_path(study: StudyFolder) -> None:
    """Of each contender that is served, the seed that `choose_run` takes of its folder."""
    for run in study.runs(study.read_spec()):
        run.model.write_text("{}")
    found = find_runs(study.path)
    assert found.spec is not None
    assert found.runs == study.runs(found.spec)
    for theirs in by_contender(found.runs):
        assert find_runs(theirs[0].path.parent).runs == theirs
        assert best_seed(theirs) == choose_run(theirs[0].path.parent)
    assert find_runs(study.path / "report").runs == []


def test_what_holds_no_run_is_refused_in_words(study: StudyFolder, tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "nowhere", "does not exist"),
        (study.spec, "is a file"),
        (tmp_path, "not a run folder"),
    ):
        with pytest.raises(RunFolderError, match=said):
            choose_run(path)
    study.run("simple_resnet-autoaugment", 1).best.unlink()
    with pytest.raises(RunFolderError, match=r"holds no best\.safetensors"):
        choose_run(study.path)  # never another one in its place
    for run in study.runs(study.read_spec()):
        run.best.unlink(missing_ok=True)
    with pytest.raises(RunFolderError, match="with weights yet"):
        choose_run(run.path.parent)
    for run in study.runs(study.read_spec()):
        run.done.unlink()
    with pytest.raises(RunFolderError, match="no finished run"):
        choose_run(study.path)


def test_choosing_needs_no_torch() -> None:
    code = "import podium.deploy.find.choose, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
