"""`seeds: auto`: a study that adds seeds until its contenders are decided, by made-up trainings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

import podium
from podium.cli.app import main
from podium.config.studyfile import load_study
from podium.errors import ConfigError
from podium.reporting.words.labels import labels
from podium.reporting.words.look_words import look_sentence
from podium.reporting.words.verdict_words import claim_sentence
from podium.results.study import gather
from podium.runs.folder import StudyFolder
from podium.runs.images import image_rows
from podium.runs.pictures import write_pictures
from podium.statistics.comparison import compare_sources
from podium.study import study as studies
from podium.study.cells import Cell
from podium.study.outcome import Outcome, record_failure
from podium.study.rounds import next_round
from podium.study.study import Study
from podium.study.work import Work
from tests.fake_study import fake_run

pytestmark = pytest.mark.usefixtures("undrawn")

RECIPE = {"model": "simple_resnet", "epochs": 3, "lr_drop": 2, "image_size": 32}


def images_of(folder: StudyFolder) -> tuple[list[str], list[str]]:
    """The classes of a study, and the paths of its test images, class by class."""
    rows = image_rows(folder.images, "path", "split")
    return folder.read_data()["classes"], sorted(path for path, split in rows if split == "test")


class MadeUp:
    """Writes predictions of so much skill instead of training; may fail or be killed."""

    def __init__(self, **skill: float) -> None:
        self.skill, self.trained = skill, list[str]()
        self.killed_at = self.fails_at = ""

    def map(self, cells: Sequence[Cell], work: Work) -> Iterator[Outcome]:
        for cell in cells:
            if str(cell) == self.killed_at:
                raise KeyboardInterrupt
            run, number = work.run(cell), [*self.skill].index(cell.contender)
            if str(cell) == self.fails_at:
                yield record_failure(run, ConfigError("no luck"), cell.title, work.notify)
                continue
            self.trained.append(str(cell))
            fake_run(run, RECIPE, *images_of(work.folder), self.skill[cell.contender], number)
            write_pictures(run.explanations, [])
            yield Outcome(run)


Made = Callable[..., Study]


@pytest.fixture
def made(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A study whose cells are made up, of a file `rounds.yaml` beside its runs."""

    def study(by: MadeUp, **changes: Any) -> Study:
        monkeypatch.setattr(studies, "executor_named", lambda name: by)
        monkeypatch.setattr(studies, "try_out", lambda *_: None)
        values = {
            "name": "rounds",
            "data": str(pictures),
            "seeds": "auto",
            "contenders": dict.fromkeys(by.skill, RECIPE),
            **changes,
        }
        path = tmp_path / "rounds.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return Study.load(path, runs=tmp_path / "runs", audit=False)

    return study


def command(tmp_path: Path, *words: str) -> int:
    study, runs = str(tmp_path / "rounds.yaml"), str(tmp_path / "runs")
    return main(["run", study, "--runs", runs, "--no-audit", *words])


def test_it_stops_when_one_is_better_and_verify_says_where(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by = MadeUp(good=0.95, poor=0.3)
    folder = made(by).folder
    assert command(tmp_path) == 0
    told = " ".join(capsys.readouterr().out.split())
    seeds = len(by.trained) // 2
    assert 2 < seeds < 10
    assert f"Stopped after {seeds} of at most 10 seeds: one of the two is better." in told
    assert "seeds: auto" in folder.spec.read_text(encoding="utf-8")

    results = gather(folder)
    assert results.unfinished == ()
    assert [one.is_last for one in results.looks] == [False] * (seeds - 2) + [True]
    assert results.verdicts is not None
    assert results.verdicts.seed_level == 1 / 16
    assert results.verdicts.pairs[0].winner == "good"
    receipt = json.loads(folder.receipt.read_text(encoding="utf-8"))
    assert [one["stops"] for one in receipt["stopping"].values()] == [
        one.is_last for one in results.looks
    ]
    assert receipt["unfinished"] == []
    assert podium.verify(folder.path).agrees
    table, verdicts = compare_sources([folder.path], split="test", shared=False, resamples=0)
    assert table.seed_level == 1 / 16
    assert verdicts.pairs[0].p == results.verdicts.pairs[0].p
    for lang, words in (("en", "after every round of seeds"), ("pt", "após cada rodada")):
        assert words in claim_sentence(verdicts, labels(lang))

    # to list them would leave out of p that they were looked at
    assert command(tmp_path, "--seed", "0", "--seed", "1") == 2
    assert "was trained with seeds: auto" in " ".join(capsys.readouterr().err.split())
    assert "seeds: auto" in folder.spec.read_text(encoding="utf-8")

    # one seed less or more than its looks say is found
    for number, name in enumerate(by.skill):
        fake_run(folder.run(name, seeds), RECIPE, *images_of(folder), by.skill[name], number)
    more = [one.text for one in podium.verify(folder.path).differences]
    assert f"seeds: auto stops after {seeds} seeds; there are {seeds + 1}" in more
    for name, seed in product(by.skill, (seeds - 1, seeds)):
        shutil.rmtree(folder.run(name, seed).path)
    less = [one.text for one in podium.verify(folder.path).differences]
    assert f"seeds: auto does not stop after {seeds - 1} seeds: it goes on" in less


def test_a_killed_study_comes_to_the_same(made: Made) -> None:
    skill = {"good": 0.95, "middle": 0.6, "poor": 0.3}
    whole = MadeUp(**skill)
    study = made(whole)
    study.run()
    before = gather(study.folder).looks
    shutil.rmtree(study.folder.path)

    killed, resumed, further = (MadeUp(**skill) for _ in range(3))
    killed.killed_at = "middle/seed-2"  # in the middle of a round
    with pytest.raises(KeyboardInterrupt):
        made(killed).run()
    assert len(gather(study.folder).unfinished) == 2
    made(resumed).run()
    assert sorted(killed.trained + resumed.trained) == sorted(whole.trained)
    assert gather(study.folder).looks == before
    result = made(further).run()
    assert (further.trained, len(result.outcomes)) == ([], len(whole.trained))


def test_a_study_does_not_go_on_for_its_shortcuts(made: Made) -> None:
    by = MadeUp(good=0.95, poor=0.3, border=0.8)
    probe = {"model": "shortcut_border", "freeze": "backbone", "linear_probe": True, "epochs": 1}
    study, told = (
        made(by, contenders={"good": RECIPE, "poor": RECIPE, "border": probe}),
        list[str](),
    )
    study.run(lambda event: told.append(str(getattr(event, "text", ""))))
    last = gather(study.folder).looks[-1]
    assert [(one.first, one.second, one.outcome) for one in last.judged] == [
        ("good", "poor", "superior")
    ]
    assert last.is_last
    assert "open" in [one.outcome for one in last.pairs]
    assert any("one of the two is better. Pairs with a shortcut model" in one for one in told)


def test_a_round_that_another_process_has_begun_is_not_looked_at(made: Made) -> None:
    """Of the next seed one contender is done already: the look is at the whole rounds."""
    by = MadeUp(a=0.6, b=0.55)
    study = made(by)
    by.killed_at = "a/seed-2"
    with pytest.raises(KeyboardInterrupt):
        study.run()
    fake_run(study.folder.run("a", 2), RECIPE, *images_of(study.folder), 0.6, 0)
    cells = [cell for cell in study.cells() if cell.seed < 2]
    told: list[Any] = []
    more = next_round(study.folder, study.spec, cells, told.append)
    assert told[0].text.startswith("After 2 of at most 10 seeds")
    assert [str(cell) for cell in more] == ["a/seed-2", "b/seed-2"]


def test_a_failure_stops_the_rounds_until_it_is_mended(made: Made) -> None:
    by = MadeUp(good=0.95, poor=0.3)
    by.fails_at = "poor/seed-1"
    study, told = made(by), list[str]()
    result = study.run(lambda event: told.append(str(event)))
    assert len(result.failed) == 1
    assert by.trained == ["good/seed-0", "good/seed-1", "poor/seed-0"]
    assert any("goes on once all contenders" in one for one in told)
    by.fails_at = ""
    assert not study.run().failed
    assert "poor/seed-2" in by.trained


def test_equals_end_as_futile_and_within_a_margin_as_equivalent(made: Made) -> None:
    by = MadeUp(one=0.7, other=0.7)
    study = made(by)
    study.run()
    (pair,) = gather(study.folder).looks[-1].pairs
    assert (pair.outcome, len(by.trained) < 20) == ("futile", True)
    study = made(by, name="wide", margin=60)
    study.run()
    last = gather(study.folder).looks[-1]
    assert [one.outcome for one in last.pairs] == ["equivalent"]
    assert "os dois são equivalentes" in look_sentence(last, labels("pt"))


@pytest.mark.parametrize(
    ("changes", "words", "told"),
    [
        ({"contenders": {"a": RECIPE}}, [], "needs two contenders"),
        ({"data": {"path": "x", "folds": 5}}, [], "needs a test split"),
        (
            {"seeds": "automatic"},
            [],
            "1 setting is wrong. line 10: seeds: expected auto, or a list",
        ),
        (
            {"seeds": [0, "x"]},
            [],
            "1 setting is wrong. line 10: seeds: expected auto, or a list of whole numbers such as "
            "[0, 1, 2]; got 'x'.",
        ),
        ({"seeds": [0, 0]}, [], "different whole numbers"),
        ({}, ["--only", "a"], "--only: with seeds: auto"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path,
    changes: dict[str, Any],
    words: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    contenders = {"a": RECIPE, "b": RECIPE}
    values = {"name": "rounds", "data": "x", "seeds": "auto", "contenders": contenders, **changes}
    (tmp_path / "rounds.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert command(tmp_path, *words) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_the_plain_list_is_as_it_was() -> None:
    contenders = {"a": RECIPE, "b": RECIPE}
    study = load_study({"name": "s", "data": "x", "seeds": [3, 5], "contenders": contenders})
    assert study.seeds == study.every_seed == (3, 5)
    auto = load_study({"name": "s", "data": "x", "seeds": "auto", "contenders": contenders})
    assert auto.every_seed == tuple(range(10))
