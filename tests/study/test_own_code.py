"""A study with models of the user's, from outside the package and through the real command."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from torch import nn

import podium
from podium.cli.app import main, take_imports
from podium.config.code import allow_named, code_of, named
from podium.config.registry import MODELS, allow
from podium.config.settings import RunSpec, StudySpec
from podium.config.studyfile import load_study
from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.errors import ConfigError, RunFolderError
from podium.results.study import gather
from podium.runs.folder import StudyFolder
from podium.runtime.events import silent
from podium.study.study import Study
from podium.training.fit import fit
from tests.conftest import StopAfter, reports_undrawn
from tests.training.test_training import job, weights
from tests.users_code import NETWORKS, PARTS, forgotten, install, write_networks

STUDY: dict[str, Any] = {
    "name": "own",
    "defaults": {"epochs": 1, "image_size": 32, "batch_size": 16, "lr": 1e-3},
    "contenders": {
        "file": {"model": "my_networks:tiny"},
        "spec": {"model": "my_networks:SPEC", "pretrained": True},
        "ours": {"model": "simple_resnet"},
    },
}


def command(folder: Path, *words: str) -> int:
    """The command as another process would run it in `folder`."""
    with forgotten(folder, MODELS), contextlib.chdir(folder):
        return main(list(words))


def write_study(folder: Path, data: Path, **changes: object) -> str:
    (folder / "own.yaml").write_text(
        yaml.safe_dump({**STUDY, "data": str(data), **changes}, sort_keys=False), encoding="utf-8"
    )
    return "own.yaml"


RUN = ("--no-audit", "--workers", "0", "--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A folder with a study of a user's models that was run from elsewhere; tests copy it."""
    folder = tmp_path_factory.mktemp("own")
    write_networks(folder / "studies")
    write_study(folder / "studies", pictures)
    with reports_undrawn():
        assert command(folder, "run", "studies/own.yaml", *RUN) == 0
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_a_study_of_a_users_models_tells_where_they_come_from(finished: Path) -> None:
    folder = StudyFolder(finished / "runs" / "own")
    code: dict[str, Any] = {
        run.contender: run.read_config().get("code") for run in folder.runs(folder.read_spec())
    }
    assert code["file"]["model"].startswith("my_networks:tiny sha256:")
    assert code["spec"]["model"].startswith("my_networks:SPEC sha256:")
    assert code["ours"] is None
    done = {run.contender: run.read_done() for run in folder.runs(folder.read_spec())}
    assert done["spec"]["about_model"] == {
        "title": "Tiny, with a title",
        "licence": "MIT",
        "citation": "Me (2026), Tiny networks",
    }
    assert "about_model" not in done["ours"]
    assert done["spec"]["pretrained_source"] == "my own weights"
    page = (folder.report / "index.html").read_text(encoding="utf-8")
    assert "Tiny, with a title" in page
    assert "my_networks:tiny" in page
    assert "SimpleResNet" in page


def test_reading_a_run_imports_nothing_unless_it_is_told_to(
    copied: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = "runs/own/file/seed-0"
    picture = str(next((pictures / "test" / "circle").iterdir()))
    shutil.copy(copied / "studies" / "my_networks.py", copied)
    shutil.copy(copied / "studies" / "parts.py", copied)
    with (copied / "my_networks.py").open("a") as file:
        file.write("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n")
    assert command(copied, "predict", run, picture) == 2
    told = capsys.readouterr().err
    assert "never because a run's folder does" in told
    assert "--import my_networks" in told
    with forgotten(copied, MODELS):  # what a report reads
        results = gather(StudyFolder(copied / "runs" / "own"))
    assert results.model_titles == {
        "my_networks:tiny": "my_networks:tiny",
        "my_networks:SPEC": "Tiny, with a title",
        "simple_resnet": "SimpleResNet",
    }
    assert not (copied / "ran").exists()
    assert command(copied, "predict", run, picture, "--import", "my_networks") == 0
    assert (copied / "ran").exists()
    asked = ("evaluate", run, "--data", str(pictures), "--workers", "0")
    assert command(copied, "--import=my_networks", *asked) == 0
    assert command(copied, "explain", "runs/own", "--import", "my_networks") == 0
    assert command(copied, "predict", run, picture, "--import") == 2
    assert "expected the name of a module" in capsys.readouterr().err
    assert command(copied, "predict", run, picture, "--import", "not_there") == 2


def test_imports_are_taken_out_of_a_command() -> None:
    assert take_imports(["--import", "a", "run", "--import=b.c", "x", "--", "--import", "d"]) == (
        ["run", "x", "--", "--import", "d"],
        ["a", "b.c"],
    )
    for words in (["run", "--import"], ["--import", "--epochs"], ["--import="]):
        with pytest.raises(ConfigError, match="expected the name of a module"):
            take_imports(words)


def test_an_export_needs_none_of_the_users_code(copied: Path, pictures: Path) -> None:
    pytest.importorskip("onnxruntime")
    run, out = "runs/own/spec/seed-0", copied / "model"
    export = ("export", run, "--format", "onnx", "--to", str(out), "--rounds", "0")
    with contextlib.chdir(copied / "studies"):
        shutil.copy("my_networks.py", copied)
        shutil.copy("parts.py", copied)
    assert command(copied, *export) == 2
    assert command(copied, *export, "--import", "my_networks") == 0
    folder = StudyFolder(copied / "runs" / "own")
    stored = folder.run("spec", 0).read_predictions("test")
    with forgotten(copied, MODELS):
        (path,) = out.glob("*.onnx")
        model = podium.load_exported(path)
        shown = [Image.open(pictures / name).convert("RGB") for name in stored.paths[:6]]
        found = model.predict(shown)
        assert "my_networks" not in sys.modules
    for guesses, logits in zip(found, stored.logits, strict=False):
        assert guesses[0].name == stored.class_names[int(logits.argmax())]


def test_changed_code_is_refused_and_the_same_goes_on(copied: Path) -> None:
    def again(**settings: Any) -> list[bool]:
        with forgotten(copied, MODELS):
            study = Study.load(copied / "studies" / "own.yaml", runs=copied / "runs", audit=False,
                               device="cpu", precision="fp32", workers=0, **settings)  # fmt: skip
            return [outcome.skipped for outcome in study.run().outcomes]

    assert again() == [True, True, True]
    parts = copied / "studies" / "parts.py"
    parts.write_text(PARTS.replace("nn.ReLU()", "nn.GELU()"), encoding="utf-8")
    with pytest.raises(RunFolderError) as told:
        again()
    assert "was started with other code of my_networks:tiny (model: sha256 " in str(told.value)
    assert ", now " in str(told.value)
    assert again(overrides=["name=again", "contenders.ours.epochs=2"]) == [False, False, False]
    parts.write_text(PARTS, encoding="utf-8")
    assert again() == [True, True, True]
    shutil.rmtree(copied / "runs" / "own" / "file")
    assert again() == [False, True, True]


def test_a_card_tells_the_terms_of_a_users_model(finished: Path) -> None:
    card = podium.card(finished / "runs" / "own" / "spec" / "seed-0")
    assert "The code of the network is under MIT." in card
    assert "my own weights, published under MIT" in card
    assert "Me (2026), Tiny networks" in card
    ours = podium.card(finished / "runs" / "own" / "ours" / "seed-0")
    assert "oliveira2023augmentation" in ours
    assert "The code of the network" not in ours


def test_a_package_and_a_decorator_train_as_a_file_does(
    tmp_path: Path, pictures: Path, finished: Path
) -> None:
    write_networks(tmp_path)
    site = install(tmp_path / "site", "packed", NETWORKS, "podium.models", packed_tiny="tiny")
    settings = {**STUDY["defaults"], "epochs": 1}
    spec = StudySpec.model_validate(
        {"name": "ways", "data": str(pictures),
         "contenders": {"package": {"model": "packed_tiny", **settings},
                        "decorated": {"model": "registered_tiny", **settings}}}
    )  # fmt: skip
    with forgotten(tmp_path, MODELS):
        sys.path[:0] = [str(site), str(tmp_path)]
        import my_networks  # type: ignore[import-not-found]

        assert my_networks.Tiny
        machine = podium.Machine(device="cpu", precision="fp32", workers=0)
        study = Study(spec, runs=tmp_path / "runs", machine=machine, audit=False)
        result = study.run()
    assert not result.failed
    one = StudyFolder(finished / "runs" / "own").run("file", 0).read_predictions("test")
    for outcome in result.outcomes:
        assert np.array_equal(outcome.run.read_predictions("test").logits, one.logits)


def test_a_model_that_cannot_be_is_told_before_anything_is_made(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_networks(tmp_path)
    write_study(tmp_path, pictures, contenders={"odd": {"model": "not_there:tiny"}})
    assert command(tmp_path, "run", "own.yaml", *RUN) == 2
    assert "contenders.odd.model: not_there:tiny: There is no module" in capsys.readouterr().err
    write_study(tmp_path, pictures, contenders={"odd": {"model": "my_networks:block"}})
    assert command(tmp_path, "run", "own.yaml", *RUN) == 2
    assert "has the parameters (inputs, outputs)" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


# ---------------------------------------------------------------- training


@pytest.fixture(scope="module")
def index(pictures: Path) -> DataIndex:
    return build_index(pictures)


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Path]:
    with forgotten(tmp_path, MODELS):
        allow("my_networks", write_networks(tmp_path / "mine"))
        yield tmp_path


@pytest.mark.parametrize("stop_at", [1, 4, 8])
def test_an_interrupted_run_of_a_users_model_ends_with_the_same_bits(
    mine: Path, index: DataIndex, stop_at: int
) -> None:
    whole = job(mine / "whole", index, model="my_networks:tiny")
    fit(whole, silent)
    broken = job(mine / "broken", index, model="my_networks:tiny")
    with pytest.raises(KeyboardInterrupt):
        fit(broken, silent, StopAfter(stop_at))
    fit(broken, silent)
    assert weights(broken) == weights(whole)
    assert broken.folder.best.read_bytes() == whole.folder.best.read_bytes()


def test_two_processes_train_a_users_model(mine: Path, index: DataIndex) -> None:
    both = job(mine / "both", index, model="my_networks:tiny", devices=2, epochs=1)
    assert both.allowed["my_networks"] == str(mine / "mine")
    fit(both, silent)
    named_there = job(mine / "named", index, model="registered_tiny", devices=2, epochs=1)
    fit(named_there, silent)
    assert weights(named_there) == weights(both)


def test_a_model_of_a_session_is_refused_for_two_processes(
    mine: Path, index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))

    here.__module__ = "__main__"
    podium.register_model("here", image_size=32)(here)
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    both = job(mine / "both", index, model="here", devices=2, epochs=1)
    with pytest.raises(ConfigError, match="here is defined in this session"):
        fit(both, silent)


def test_kept_features_of_changed_code_are_not_taken(tmp_path: Path, index: DataIndex) -> None:
    """The weights are the same, the computation is not."""
    settings: dict[str, Any] = {"model": "my_networks:SPEC", "pretrained": True}
    told: list[str] = []
    for name, activation in (("one", "ReLU"), ("two", "ReLU"), ("three", "GELU")):
        with forgotten(tmp_path, MODELS):
            folder = write_networks(tmp_path / name)
            (folder / "parts.py").write_text(PARTS.replace("nn.ReLU()", f"nn.{activation}()"))
            allow("my_networks", folder)
            work = job(tmp_path / f"run-{name}", index, augmentation="none", epochs=1,
                       freeze="backbone", **settings)  # fmt: skip
            fit(work, lambda event: told.append(getattr(event, "text", "")))
    kept = [text for text in told if "features of 99 images" in text]
    assert ["from the cache" in text for text in kept] == [False, True, False]


# ---------------------------------------------------------------- settings


def test_names_are_found_by_the_types_of_settings() -> None:
    spec = load_study({**STUDY, "data": "C:pictures"})  # a folder, though it looks like a name
    found = [(place, registry.kind, name) for place, registry, name in named(spec)
             if registry is MODELS]  # fmt: skip
    assert found == [
        ("contenders.file.model", "model", "my_networks:tiny"),
        ("contenders.spec.model", "model", "my_networks:SPEC"),
        ("contenders.ours.model", "model", "simple_resnet"),
    ]
    assert code_of(RunSpec(model="resnet50", epochs=1)) == {}
    recipe = RunSpec(model="resnet18", pretrained=True, if_unavailable="a_file:net", epochs=1)
    with pytest.raises(ConfigError, match="if_unavailable: a_file:net: There is no module a_file"):
        allow_named([recipe])


def test_a_run_that_names_other_code_in_its_record_is_refused(copied: Path) -> None:
    config = copied / "runs" / "own" / "ours" / "seed-0" / "config.yaml"
    values = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**values, "code": {"model": "x:y sha256:00"}}))
    with forgotten(copied, MODELS):
        study = Study.load(copied / "studies" / "own.yaml", runs=copied / "runs", audit=False)
        with pytest.raises(RunFolderError, match=r"other code of x:y \(model: sha256 00, now none"):
            study.run()
    assert json.loads((config.parent / "done.json").read_text())


def test_plain_functions_of_a_file_are_taken_by_the_command(pictures: Path, tmp_path: Path) -> None:
    """In a process of its own, which has imported nothing that a test might have."""
    (tmp_path / "plain.py").write_text(
        "from torch.nn.functional import cross_entropy\n"
        "from torchvision.transforms import v2\n"
        "def half(logits, targets): return cross_entropy(logits, targets, reduction='sum') / 2\n"
        "def mean(logits, targets): return cross_entropy(logits, targets)\n"
        "def mirrored(): return v2.RandomHorizontalFlip()\n"
        "def share(logits, labels): return float((logits.argmax(1) == labels).mean())\n"
    )
    study = tmp_path / "study.yaml"
    recipe = "model: simple_resnet, epochs: 1, image_size: 32, augmentation: 'plain:mirrored'"
    study.write_text(
        f"name: plain\ndata: {pictures}\nmetric: 'plain:share'\n"
        f"contenders:\n  one: {{{recipe}, loss: 'plain:half'}}\n"
    )
    words = [sys.executable, "-m", "podium", "run", str(study), "--only", "one", "--no-audit"]
    words += ["--workers", "0", "--device", "cpu", "--precision", "fp32"]

    def told(*more: str) -> tuple[int, str]:
        done = subprocess.run(
            [*words, *more], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stderr

    code, said = told("--name", "wrong", "--set", "contenders.one.loss=plain:mean")
    assert (code, "mean" in said) == (2, True), said
    assert "This is a bug" not in said
    code, said = told()
    assert code == 0, said
    config = yaml.safe_load((tmp_path / "runs/plain/one/seed-0/config.yaml").read_text())
    assert set(config["code"]) == {"metric", "loss", "augmentation"}
