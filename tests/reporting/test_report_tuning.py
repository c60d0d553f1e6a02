"""A tuning on the page, in tables, on the card and in the terminal, in both languages."""

from __future__ import annotations

import csv
import html
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import podium
from podium.cli.app import main
from podium.cli.ending import print_ending
from podium.deploy.publish.card import card
from podium.errors import RunFolderError
from podium.reporting.build import ReportResult, build_report
from podium.reporting.figures.style import figure_style
from podium.reporting.figures.tuning_figure import tuning_figure
from podium.reporting.words.labels import labels
from podium.reporting.words.paper_words import paper_text
from podium.reporting.words.tuning_words import how_words, settings_words, tuning_sentences
from podium.results.study import gather
from podium.results.tuning import study_tuning
from podium.runs.folder import StudyFolder
from podium.runs.tuning import Trial, TunedContender, Tuning, how_tuned, tuning_file, write_tuning
from podium.runtime.files import write_json, write_text
from podium.statistics.scoring import ACCURACY
from tests.conftest import reports_undrawn
from tests.fake_study import CONTENDERS, fake_study

FIRST, SECOND, THIRD = [*CONTENDERS][:3]
TUNE: dict[str, Any] = {
    "trials": 4,
    "space": {"lr": {"log": [1e-4, 1e-1]}, "mixup": [0.0, 0.2], "flip_test": [False, True]},
}


def trial(number: int, score: float | None, **settings: Any) -> Trial:
    state: Any = "failed" if score is None else "complete"
    best = None if score is None else 3
    why = "Its loss is <not> finite." if score is None else ""
    return Trial(number, settings, state, score, score, best, 8, 61.0, why)


def tuned(root: Path, **changes: Any) -> StudyFolder:
    """Two of three contenders are tuned; the second's own settings fail."""
    folder = fake_study(root, ("golf", "judo", "polo"), contenders=3, epochs=2, per_class=20)
    values = yaml.safe_load(folder.spec.read_text(encoding="utf-8"))
    write_text(folder.spec, yaml.safe_dump(values | {"tune": TUNE | changes}, sort_keys=False))
    spec = folder.read_spec()
    assert spec.tune is not None
    found = {
        FIRST: (3, [trial(1, 0.5), trial(2, 0.4, lr=0.05, mixup=0.0),
                    trial(3, 0.9, lr=0.0012, mixup=0.2, flip_test=True), trial(4, 0.6, lr=0.01)]),
        SECOND: (2, [trial(1, None), trial(2, 0.75, lr=1e-4), trial(3, 0.7, lr=0.002)]),
    }  # fmt: skip
    tuning = Tuning(
        spec.tune.model_dump(mode="json"),
        ACCURACY.described(),
        {
            name: TunedContender(tuple(those), best, spec.contenders[name].model_dump(mode="json"))
            for name, (best, those) in found.items()
        },
    )
    write_tuning(folder.path, tuning)
    for name in found:
        run = folder.run(name, 0)
        write_json(run.done, {**run.read_done(), "tuned": how_tuned(spec, folder.path, name)})
    return folder


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> ReportResult:
    folder = tuned(tmp_path_factory.mktemp("tuned") / "study")
    with reports_undrawn(but=["tuning"]):
        return build_report(folder, formats=("png",), dpi=60)


def rows(file: Path) -> list[dict[str, str]]:
    with open(file, encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_the_page_says_what_every_contender_got(reported: ReportResult) -> None:
    page = html.unescape(reported.index.read_text(encoding="utf-8"))
    part = page[page.index('<section id="tuning">') : page.index('<section id="compare">')]
    for said in (
        "random search over lr, mixup, flip_test",
        "No trial had a test image.",
        "Trials whose loss was no longer finite: 1",
        "was chosen for being high",
        "do not account for what another search",
        "lr 0.0001 → 0.0012, mixup 0 → 0.2, flip_test false → true",
        "4 min 04 s",
        "Tang et al., 2020",
        "<svg",
    ):
        assert said in part, said
    assert page.count('href="#tuning"') == 1
    assert "best of 4 trials" in page  # among the facts of the run
    assert (reported.index.parent / "figures" / "best-of-k-trials.png").is_file()


def test_tables_have_every_trial_and_the_best_of_k(reported: ReportResult) -> None:
    tables = reported.index.parent / "tables"
    trials = rows(tables / "tuning-trials.csv")
    assert [row["chosen"] for row in trials] == ["no", "no", "yes", "no", "no", "yes", "no"]
    assert json.loads(trials[2]["settings"]) == {"lr": 0.0012, "mixup": 0.2, "flip_test": True}
    assert (trials[4]["score"], trials[4]["why"]) == ("", "Its loss is <not> finite.")
    best = [row for row in rows(tables / "tuning-best-of-k.csv") if row["contender"] == FIRST]
    # own 0.5, then the mean over one, two and three of 0.4, 0.9 and 0.6, of which 0.5 is the least
    means = [0.5, (0.5 + 0.9 + 0.6) / 3, (0.9 + 0.9 + 0.6) / 3, 0.9]
    assert [float(row["best"]) for row in best] == pytest.approx(means)
    assert all(float(row["low"]) <= float(row["best"]) <= float(row["high"]) for row in best)
    # own settings that failed count as the worst that has a score
    second = [row for row in rows(tables / "tuning-best-of-k.csv") if row["contender"] == SECOND]
    assert [float(row["best"]) for row in second] == pytest.approx([0.7, 0.725, 0.75])


@pytest.mark.parametrize(
    ("lang", "said"),
    [("en", "Tuned SimpleResNet: 4 trials"), ("pt", "SimpleResNet foi ajustado: 4 ensaios")],
)
def test_the_terminal_ends_with_it(
    reported: ReportResult, lang: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_ending(reported, labels(lang))
    assert said in capsys.readouterr().out


def test_the_card_says_how_the_settings_were_chosen(reported: ReportResult) -> None:
    text = card(reported.results.folder.run(FIRST, 0))
    assert "were chosen as the best of 4 trials" in text
    assert "no trial had a test image" in text
    assert "chosen as the best" not in card(reported.results.folder.run(THIRD, 0))


def test_a_trial_that_is_changed_after_the_verdict_is_found(
    reported: ReportResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = StudyFolder(tmp_path / "study")
    shutil.copytree(reported.results.folder.path, folder.path)
    assert main(["verify", str(folder.path)]) == 0
    assert "tuning       hash of tuning.json: agrees" in capsys.readouterr().out
    record, receipt = tuning_file(folder.path), folder.receipt.read_text(encoding="utf-8")
    before = json.loads(record.read_text(encoding="utf-8"))
    before["contenders"][FIRST]["trials"][0]["score"] = 0.8  # its own settings were nearly as good
    write_json(record, before)
    assert main(["verify", str(folder.path)]) == 1
    assert "! tuning: tuning.json: " in capsys.readouterr().out
    # a receipt of an earlier version says what it does not cover
    old = {key: value for key, value in json.loads(receipt).items() if key != "tuning"}
    write_json(folder.receipt, old)
    found = podium.verify(folder.path)
    assert found.agrees
    assert [note for note in found.notes if "has no hash of tuning.json" in note]
    # what the trainings were told of their trials, they still know
    before["contenders"][FIRST]["trials"][2]["score"] = 0.95
    write_json(record, before)
    (wrong,) = podium.verify(folder.path).differences
    assert wrong.text == (f"{FIRST}/seed-0: score is 0.9 in done.json and 0.95 in tuning.json")


@pytest.mark.parametrize("lang", ["en", "pt"])
def test_a_paper_is_told_what_every_contender_got(reported: ReportResult, lang: Any) -> None:
    results, say = reported.results, labels(lang)
    text = paper_text(results.verdicts, say, results.tuning)
    assert text is not None
    first, second = (results.verdicts.labels[name] for name in (FIRST, SECOND))  # type: ignore[union-attr]
    words = {
        "en": (f"4 trials ({first}) and 3 trials ({second}) by accuracy on the validation images",
               "random search (Bergstra & Bengio, 2012) with Optuna (Akiba et al., 2019)",
               "Settings (lr, mixup, flip_test)", "no trial had a test image"),
        "pt": (f"4 ensaios ({first}) e 3 ensaios ({second}) por acurácia nas imagens de validação",
               "nenhum ensaio teve imagem de teste"),
    }  # fmt: skip
    for said in words[lang]:
        assert said in text.plain, text.plain
    cited = {one.key for one in text.references}
    assert {"akiba2019", "bergstra2012"} <= cited
    assert cited.isdisjoint({"golovin2017", "bergstra2011"})
    bib = (reported.index.parent / "tables" / "references.bib").read_text(encoding="utf-8")
    assert "@inproceedings{akiba2019," in bib
    assert "Akiba et al., 2019" in reported.index.read_text(encoding="utf-8")


def test_trials_that_depend_on_one_another_have_no_band(tmp_path: Path) -> None:
    folder = tuned(tmp_path / "study", sampler="tpe", prune="median")
    found = gather(folder).tuning
    assert found is not None
    say = labels("en")
    told = how_words(found, say)
    assert "a tree-structured Parzen estimator, after 10 random trials, over lr" in told
    assert "ended early, 0 in all" in told
    text = paper_text(gather(folder).verdicts, say, found)
    assert text is not None
    assert "ended early (0 of 7), by a median stopping rule (Golovin et al., 2017)" in text.plain
    assert "a tree-structured Parzen estimator (Bergstra et al., 2011) with" in text.plain
    assert found.contenders[0].curve.value.tolist() == [0.5, 0.5, 0.9, 0.9]
    assert found.contenders[0].curve.low is None
    with figure_style():
        (axes,) = tuning_figure(found, say).axes
    assert [line.get_drawstyle() for line in axes.lines] == ["steps-post"] * 2
    assert not axes.collections
    assert len(tuning_sentences(found, say)) == 3


def test_settings_in_words() -> None:
    say = labels("en")
    values = {"lr": 1e-4, "loss": "focal", "flip_test": True, "early_stop": None, "batch_size": 16}
    said = "lr 0.0001, loss focal, flip_test true, early_stop null, batch_size 16"
    assert settings_words(values, say) == said
    assert settings_words({"lr": 0.5}, labels("pt")) == "lr 0,5"


@pytest.mark.parametrize("damage", [["{"], ['{"format": 2}'], ['{"format": 1, "contenders": []}']])
def test_a_damaged_record_is_told(tmp_path: Path, damage: Sequence[str]) -> None:
    folder = tuned(tmp_path / "study")
    write_text(tuning_file(folder.path), damage[0])
    with pytest.raises(RunFolderError, match=r"tuning\.json"):
        folder.read_spec()


@pytest.mark.parametrize("probe", [True, False])
def test_only_what_no_setting_affects_is_said_to_be_unaffected(tmp_path: Path, probe: bool) -> None:
    """The third contender is not tuned: a probe has no rate; otherwise it could not be tuned."""
    folder = tuned(tmp_path / "study", space={"lr": {"log": [1e-4, 1e-2]}})
    values = yaml.safe_load(folder.spec.read_text(encoding="utf-8"))
    if probe:
        recipe = {"model": "efficientnet_lite0", "pretrained": True, "freeze": "backbone"}
        values["contenders"][THIRD] = {**recipe, "linear_probe": True, "epochs": 1}
    write_text(folder.spec, yaml.safe_dump(values, sort_keys=False))
    found = study_tuning(folder, folder.read_spec(), ACCURACY, ())
    assert found is not None
    assert found.untuned == ((THIRD,) if probe else ())
    assert len(found.contenders) == 2
