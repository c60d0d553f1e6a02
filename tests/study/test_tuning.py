"""Tuning: trials that see no test image, the choice, and a study that goes on after any kill."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import podium
from podium.cli.app import main
from podium.config.settings import RunSpec, StudySpec
from podium.config.studyfile import load_study
from podium.errors import RunFolderError, TrainingError
from podium.results.study import gather
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.ledger import LEDGER
from podium.runs.tuning import (
    chosen_of,
    read_tuning,
    trials_folder,
    tuning_file,
    with_chosen,
)
from podium.runtime.events import Event, Message, RunStarted, silent
from podium.runtime.files import write_json, write_text
from podium.runtime.lock import sole_owner
from podium.study.cells import cells_of
from podium.study.outcome import Outcome, StudyResult
from podium.study.preflight import stand_in
from podium.study.study import Study
from podium.study.trial import floor_of, train_trial
from podium.study.tuning import read_trial, refuse_other_tuning, tune_contenders
from podium.training.processes import DivergedError

SPACE: dict[str, Any] = {"lr": {"log": [1e-4, 3e-2]}, "label_smoothing": [0, 0.1]}
NEVER = (".lock", ".owner.json")
TIMES = ("seconds", "images_per_second", "finished_at", "test_scored_at", "latency_ms")


def tuned(**changes: Any) -> dict[str, Any]:
    tune = {"trials": 5, "space": SPACE, **changes.pop("tune", {})}
    recipe = {"model": "simple_resnet", "epochs": 3}
    contenders = {"plain": recipe, "flipped": {**recipe, "flip_test": True}}
    return {"name": "tuned", "data": "x", "tune": tune, "contenders": contenders, **changes}


class Trainer:
    """In place of trainings: each epoch's accuracy follows from the learning rate."""

    def __init__(
        self,
        ends: Callable[[str], str] = lambda name: "complete",
        only: int = 1000,
        epochs: Sequence[float] = (0.5, 0.8, 1.0),
    ) -> None:
        self.ends, self.left, self.epochs = ends, only, epochs
        self.trained: list[str] = []
        self.rounds: list[list[str]] = []

    def __call__(self, spec: StudySpec, folder: StudyFolder, only: Sequence[str]) -> StudyResult:
        assert spec.data.score_on == "nothing"
        assert spec.seeds == (1000,)
        self.rounds.append(sorted(only))
        outcomes = []
        for cell in cells_of(spec):
            run = folder.run(cell.contender, cell.seed)
            if cell.contender not in only or run.is_done():
                continue
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            self.trained.append(cell.contender)
            outcomes.append(self._train(run, spec.contenders[cell.contender]))
        return StudyResult(folder, tuple(outcomes))

    def _train(self, run: RunFolder, recipe: RunSpec) -> Outcome:
        state = self.ends(run.contender)
        if state == "broken":
            return Outcome(run, error="The disk is full.")
        best = 1 - abs(recipe.lr - 0.003) * 10
        rows = [
            {"epoch": number, "lr": recipe.lr, "train_loss": 1.0, "train_accuracy": 0.5,
             "valid_loss": 1.0, "valid_accuracy": share * best, "seconds": 2.0,
             "images_per_second": 9.0}
            for number, share in enumerate(self.epochs, 1)
        ]  # fmt: skip
        run.write_history(rows)
        for file in (run.last, run.best, run.model):
            file.write_text("weights")
        failed = state == "failed"
        score = None if failed else rows[-1]["valid_accuracy"]
        write_json(run.done, {
            "state": state, "why": "It diverged." * failed, "score": score,
            "valid_accuracy": score, "best_epoch": None if failed else 3, "epochs": 3,
            "seconds": 6.0,
        })  # fmt: skip
        return Outcome(run)


def tune(
    folder: Path,
    trainer: Trainer,
    values: Mapping[str, Any],
    only: Sequence[str] = (),
    told: list[Event] | None = None,
) -> dict[str, str]:
    spec = load_study(values)
    study = StudyFolder(folder / "tuned")
    recipes = {name: one for name, one in spec.contenders.items() if not only or name in only}
    alone: Callable[[], AbstractContextManager[None]] = nullcontext
    heard = (told if told is not None else []).append
    return tune_contenders(spec, study, recipes, trainer, alone, heard, None)


def record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "tuned" / "tuning.json").read_text(encoding="utf-8")))


def test_every_contender_gets_the_same_number_of_trials(tmp_path: Path) -> None:
    trainer, told = Trainer(), list[Event]()
    probe = {"model": "resnet18", "pretrained": True, "freeze": "backbone", "linear_probe": True}
    values = tuned()
    values["contenders"] |= {
        "probe": {**probe, "epochs": 1},
        "both": {"mean_of": ["plain", "flipped"]},
    }
    assert tune(tmp_path, trainer, values, told=told) == {}
    names = [f"{name}-trial-{n}" for name in ("plain", "flipped") for n in range(1, 6)]
    assert trainer.rounds == [sorted(names)]  # all at once: none depends on another
    found = read_tuning(tmp_path / "tuned")
    assert found is not None
    assert {name: len(one.trials) for name, one in found.contenders.items()} == {
        "plain": 5, "flipped": 5,
    }  # fmt: skip
    for one in found.contenders.values():
        assert one.best.score == max(trial.score or 0 for trial in one.trials)
        assert one.trials[0].settings == {}
    said = [event.text for event in told if isinstance(event, Message)]
    assert said == [
        "probe: not tuned, as no setting in tune.space has an effect on it",
        "both: not tuned itself; it averages contenders that may be",
        "tunes 2 contenders on training and validation images: 10 trials; then the study",
    ]
    # what was chosen is what is trained; the rest of the study is as written
    spec = load_study(values)
    chosen = with_chosen(spec, tmp_path / "tuned")
    best = found.contenders["plain"].best.settings
    assert chosen.contenders["plain"].lr == best["lr"] != spec.contenders["plain"].lr
    assert chosen.contenders["probe"] == spec.contenders["probe"]
    assert (
        with_chosen(load_study(tuned(tune={"trials": 6})), tmp_path / "tuned").contenders["plain"]
        == (spec.contenders["plain"])
    )  # another tuning's choice is not this one's


def test_weights_of_trials_are_not_kept(tmp_path: Path) -> None:
    tune(tmp_path, Trainer(), tuned())
    kept = {path.name for path in trials_folder(tmp_path / "tuned").rglob("*") if path.is_file()}
    assert kept == {"history.csv", "done.json"}


@pytest.mark.parametrize("how", [{"sampler": "tpe"}, {"prune": "median"}, {}])
def test_a_tuning_that_was_stopped_anywhere_ends_like_one_that_was_not(
    tmp_path: Path, how: dict[str, Any]
) -> None:
    values, whole = tuned(tune=how), Trainer()
    tune(tmp_path / "whole", whole, values)
    trained: list[str] = []
    for _ in range(4):
        part = Trainer(only=3)
        try:
            tune(tmp_path / "parts", part, values)
        except KeyboardInterrupt:
            assert not (tmp_path / "parts" / "tuned" / "tuning.json").exists()
        trained += part.trained
    assert sorted(trained) == sorted(whole.trained)  # each once
    assert record(tmp_path / "parts") == record(tmp_path / "whole")
    sequential = bool(how)
    assert len(whole.rounds) == (5 if sequential else 1)
    if sequential:  # contenders side by side
        assert whole.rounds[2] == ["flipped-trial-3", "plain-trial-3"]


def test_what_one_contender_came_to_decides_nothing_for_another(tmp_path: Path) -> None:
    values = tuned(tune={"sampler": "tpe", "trials": 14})
    tune(tmp_path / "both", Trainer(), values)
    tune(tmp_path / "each", Trainer(), values, only=["flipped"])
    tune(tmp_path / "each", Trainer(), values, only=["plain"])
    both, each = record(tmp_path / "both"), record(tmp_path / "each")
    assert both["contenders"] == each["contenders"]
    best = both["contenders"]["plain"]["trials"]
    assert best[13]["settings"] != best[12]["settings"]


def test_a_trial_without_a_score_counts_as_one(tmp_path: Path) -> None:
    trainer = Trainer(lambda name: "failed" if name.endswith(("-1", "-4")) else "complete")
    assert tune(tmp_path, trainer, tuned()) == {}
    found = read_tuning(tmp_path / "tuned")
    assert found is not None
    states = [one.state for one in found.contenders["plain"].trials]
    assert states == ["failed", "complete", "complete", "failed", "complete"]
    assert found.contenders["plain"].best.state == "complete"
    hopeless = Trainer(lambda name: "failed" if name.startswith("plain") else "complete")
    failed = tune(tmp_path / "other", hopeless, tuned())
    assert failed == {"plain": "none of its 5 trials has a score. It diverged."}


def test_a_trial_that_could_not_be_trained_is_tried_again(tmp_path: Path) -> None:
    broken = Trainer(lambda name: "broken" if name == "plain-trial-2" else "complete")
    failed = tune(tmp_path, broken, tuned())
    assert failed == {"plain": "its trial 2 failed. The disk is full."}
    assert [*record(tmp_path)["contenders"]] == ["flipped"]
    again = Trainer()
    assert tune(tmp_path, again, tuned()) == {}
    assert again.trained == ["plain-trial-2"]
    assert tune(tmp_path, again, tuned()) == {}
    assert again.trained == ["plain-trial-2"]  # nothing is left to do


def test_more_trials_keep_those_that_there_are(tmp_path: Path) -> None:
    tune(tmp_path, Trainer(), tuned())
    more = Trainer()
    tune(tmp_path, more, tuned(tune={"trials": 7}))
    assert len(more.trained) == 4
    # but not once the judged trainings have begun
    folder = StudyFolder(tmp_path / "tuned")
    write_text(folder.run("plain", 0).config, "recipe: {}")
    refuse_other_tuning(load_study(tuned(tune={"trials": 7})), folder)
    with pytest.raises(RunFolderError, match=r"settings of another tuning \(other trials\)"):
        refuse_other_tuning(load_study(tuned(tune={"trials": 9})), folder)
    tuning_file(folder.path).unlink()
    with pytest.raises(RunFolderError, match=r"plain/seed-0 was trained before this tuning, as it"):
        refuse_other_tuning(load_study(tuned()), folder)


def test_a_contender_that_is_written_anew_is_not_tuned(tmp_path: Path) -> None:
    tune(tmp_path, Trainer(), tuned())
    changed = tuned()
    changed["contenders"]["plain"] = {**changed["contenders"]["plain"], "epochs": 9}
    assert [*chosen_of(load_study(changed), tmp_path / "tuned")] == ["flipped"]
    relabelled = tuned()
    relabelled["contenders"]["plain"]["label"] = "Plain"
    assert [*chosen_of(load_study(relabelled), tmp_path / "tuned")] == ["plain", "flipped"]
    assert chosen_of(load_study(tuned(metric="macro_f1")), tmp_path / "tuned") == {}


def test_one_goes_on_to_be_tuned_after_another_was(tmp_path: Path) -> None:
    """Its judged trainings have what was chosen, and a stand-in; its trials stay what they were."""
    values, seen = tuned(), list[StudySpec]()
    transfer = {"model": "resnet18", "pretrained": True, "if_unavailable": "efficientnet_lite0"}
    values["contenders"]["plain"] = {**transfer, "epochs": 3}

    class Remembers(Trainer):
        def __call__(
            self, spec: StudySpec, folder: StudyFolder, only: Sequence[str]
        ) -> StudyResult:
            seen.append(spec)
            for cell in cells_of(spec):  # as a study does, so that it can be compared
                run, recipe = folder.run(cell.contender, cell.seed), spec.contenders[cell.contender]
                run.path.mkdir(parents=True, exist_ok=True)
                write_text(run.config, yaml.safe_dump({"recipe": recipe.model_dump(mode="json")}))
            return super().__call__(spec, folder, only)

    spec, study = load_study(values), StudyFolder(tmp_path / "tuned")
    used = {"plain": stand_in(spec.contenders["plain"], "efficientnet_lite0")}
    tune_contenders(spec, study, used, Remembers(), nullcontext, silent, None)
    chosen = with_chosen(spec, study.path).contenders
    for recipes in ({"flipped": chosen["flipped"]}, {**chosen}):
        shutil.rmtree(trials_folder(study.path) / "flipped-trial-5", ignore_errors=True)
        (tmp_path / "tuned" / "tuning.json").rename(tmp_path / "before.json")
        kept = json.loads((tmp_path / "before.json").read_text())
        kept["contenders"].pop("flipped", None)
        write_json(tuning_file(study.path), kept)
        given = {**recipes}
        if "plain" in given:
            given["plain"] = stand_in(chosen["plain"], "efficientnet_lite0")
        assert tune_contenders(spec, study, given, Remembers(), nullcontext, silent, None) == {}
        first = seen[0].contenders["plain-trial-1"]
        assert seen[-1].contenders["plain-trial-1"] == first
        assert first.model == "efficientnet_lite0"


def test_a_contender_that_could_not_be_tuned_is_not_judged(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "podium.study.study.tune_contenders", lambda *given: {"plain": "its trial 2 failed."}
    )
    study = Study.load(a_study(tmp_path, images), runs=tmp_path / "runs", audit=False)
    (outcome,) = study.run().failed
    assert outcome.error == "plain could not be tuned: its trial 2 failed."
    assert study.folder.run("plain", 0).failed.is_file()
    assert not (tmp_path / "runs" / LEDGER).exists()


def test_one_process_at_a_time_drives_trials_that_depend_on_one_another(tmp_path: Path) -> None:
    values, told = tuned(tune={"sampler": "tpe"}), list[Event]()
    held, freed = threading.Event(), threading.Event()

    def hold() -> None:
        with sole_owner(trials_folder(tmp_path / "tuned") / ".driver"):
            held.set()
            freed.wait()

    other = threading.Thread(target=hold)
    other.start()
    held.wait()

    class Heard(list[Event]):
        def append(self, event: Event) -> None:
            super().append(event)
            if isinstance(event, Message) and "waits for" in event.text:
                freed.set()

    told = Heard()
    tune(tmp_path, Trainer(), values, told=told)
    other.join()
    assert any("which tunes" in event.text for event in told if isinstance(event, Message))


def test_only_a_loss_that_is_not_finite_is_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = StudyFolder(tmp_path).run("plain-trial-2", 1000)
    given: Any = SimpleNamespace(
        run=run, metric="accuracy", recipe=RunSpec(model="", epochs=1),
        index=SimpleNamespace(splits={"test": ()}),
    )  # fmt: skip
    errors: list[Exception] = [TrainingError("Memory ran out."), DivergedError("The loss is nan.")]

    def fit(*_: Any) -> None:
        raise errors.pop(0)

    monkeypatch.setattr("podium.study.trial.job_of", lambda *_: (None, "", None))
    monkeypatch.setattr("podium.study.trial.fit", fit)
    with pytest.raises(TrainingError, match="Memory"):
        train_trial(given, silent, threading.Event())
    assert not run.is_done()
    assert train_trial(given, silent, threading.Event()) == {}
    found = read_trial(run, 2, {"lr": 10.0})
    assert (found.state, found.score, found.why) == ("failed", None, "The loss is nan.")
    with pytest.raises(AssertionError):  # whatever asks for it, it is given no test image
        train_trial(SimpleNamespace(index=SimpleNamespace(splits={"test": (1,)})), silent, None)  # type: ignore[arg-type]


def test_pruning_looks_at_complete_trials_before_it(tmp_path: Path) -> None:
    trainer = Trainer(lambda name: "pruned" if name.endswith("-2") else "complete")
    tune(tmp_path, trainer, tuned(tune={"prune": "median", "trials": 6}))
    spec = load_study(tuned(tune={"prune": "median", "trials": 6}))
    folder = StudyFolder(trials_folder(tmp_path / "tuned"))
    runs = [folder.run(f"plain-trial-{number}", 1000) for number in range(1, 6)]
    assert floor_of(runs[:4], "accuracy") == ()  # only three of them are complete
    floor = floor_of(runs, "accuracy")
    scores = sorted(run.read_done()["score"] for run in runs if run != runs[1])
    assert floor[-1] == pytest.approx((scores[1] + scores[2]) / 2)
    found = read_tuning(tmp_path / "tuned")
    assert found is not None
    assert spec.tune is not None
    assert found.tune == spec.tune.model_dump(mode="json")


# Real trainings, through the command ----------------------------------------------------------


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A copy, whose test images these tests spoil and restore."""
    copied = tmp_path_factory.mktemp("images") / "pictures"
    shutil.copytree(pictures, copied)
    return copied


def a_study(folder: Path, images: Path, **changes: Any) -> Path:
    values = {
        "name": "tuned",
        "data": str(images),
        "tune": {"trials": 3, "space": SPACE, "sampler": "tpe"},
        "contenders": {
            "plain": {"model": "simple_resnet", "epochs": 1, "image_size": 32, "batch_size": 16}
        },
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def run(study: Path, *words: str) -> int:
    place = ["--runs", str(study.parent / "runs"), "--workers", "0", "--precision", "fp32"]
    return main(["run", str(study), *place, "--no-audit", "--device", "cpu", *words])


class Unreadable:
    """A listener that spoils the test images before the first trial, and restores them after."""

    def __init__(self, images: Path) -> None:
        self.files = {path: path.read_bytes() for path in (images / "test").rglob("*.png")}
        self.trials, self.judged = 0, 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Message) and event.text.startswith("tunes"):
            for path in self.files:
                path.write_bytes(b"spoilt")
        if isinstance(event, RunStarted):
            if "-trial-" in event.contender:
                self.trials += 1
                return
            self.judged += 1
            for path, content in self.files.items():
                path.write_bytes(content)


def test_no_trial_can_look_at_a_test_image(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are unreadable while trials are trained, and in no ledger before the judged runs."""
    study = Study.load(
        # a metric that has no value without images, of which trials have none to test on
        a_study(tmp_path, images, tune={"trials": 2, "space": SPACE}, metric="balanced_accuracy"),
        runs=tmp_path / "runs", audit=False, workers=0, device="cpu", precision="fp32",
    )  # fmt: skip
    seen, ledger = Unreadable(images), tmp_path / "runs" / LEDGER
    lines: list[int] = []

    def listen(event: Event) -> None:
        seen(event)
        if isinstance(event, RunStarted):
            lines.append(len(ledger.read_text().splitlines()) if ledger.exists() else 0)

    try:
        result = study.run(listen)
    finally:
        for path, content in seen.files.items():
            path.write_bytes(content)
    assert not result.failed
    assert (seen.trials, seen.judged) == (2, 1)
    assert lines == [0, 0, 0]  # before each training
    assert len(ledger.read_text().splitlines()) == 1
    folder = trials_folder(study.folder.path)
    assert not [*folder.rglob("predictions-*"), *folder.rglob(LEDGER), *folder.rglob("leave-*")]
    data = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    assert data["totals"] == {"train": 72, "valid": 27, "test": 0}


class Killed(BaseException):
    """As sudden as a kill: nothing is caught, nothing is recorded."""


def contents(folder: Path) -> dict[str, Any]:
    """What a study came to, without times."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items() if key not in TIMES}
        return [plain(one) for one in value] if isinstance(value, list) else value

    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name in ("tuning.json", "done.json"):
            found[name] = plain(json.loads(path.read_text(encoding="utf-8")))
        elif path.name in ("best.safetensors", "study.yaml", "config.yaml"):
            found[name] = path.read_bytes()
    return found


@pytest.mark.usefixtures("undrawn")
def test_a_killed_tuning_goes_on_and_ends_as_if_it_had_not_been(
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, killed = a_study(tmp_path / "whole", images), a_study(tmp_path / "killed", images)
    assert run(whole) == 0
    told = capsys.readouterr().out
    assert "Tuned plain: 3 trials" in told
    assert "optimistic" in told
    count = 0

    def kill(path: Path, value: Any) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise Killed  # trained, and not recorded
        write_json(path, value)

    with monkeypatch.context() as patch:
        patch.setattr("podium.study.trial.write_json", kill)
        with pytest.raises(Killed):
            run(killed)
    folder = StudyFolder(tmp_path / "killed" / "runs" / "tuned")
    assert len([*trials_folder(folder.path).rglob("done.json")]) == 1
    assert run(killed) == 0
    assert "tunes 1 contender on training and validation images: 3 trials, 1 of them done" in (
        capsys.readouterr().err
    )
    before, after = (contents(tmp_path / name / "runs" / "tuned") for name in ("whole", "killed"))
    assert before.keys() == after.keys()
    assert before == after
    # a finished study is not begun again
    trained = [path.stat().st_mtime_ns for path in folder.path.rglob("done.json")]
    assert run(killed) == 0
    assert trained == [path.stat().st_mtime_ns for path in folder.path.rglob("done.json")]
    _is_told(folder, capsys)


def _is_told(folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """What was chosen, wherever it is asked for."""
    results = gather(folder)
    assert results.tuning is not None
    (one,) = results.tuning.contenders
    done = folder.run("plain", 0).read_done()
    assert done["tuned"]["settings"] == dict(one.chosen)
    assert done["tuned"]["trials"] == 3
    lr = one.chosen.get("lr", 1e-4)
    assert folder.run("plain", 0).read_config()["recipe"]["lr"] == lr
    page = (folder.report / "index.html").read_text(encoding="utf-8")
    assert "How the contenders were tuned" in page
    assert "No trial had a test image" in page
    tables = folder.report / "tables"
    assert len((tables / "tuning-trials.csv").read_text().splitlines()) == 4
    assert len((tables / "tuning-best-of-k.csv").read_text().splitlines()) == 4
    assert "chosen as the best of 3 trials" in podium.card(folder.path)
    trials_of = str(trials_folder(folder.path))
    assert main(["report", trials_of]) == 2
    assert "are in the report of the study" in capsys.readouterr().err
