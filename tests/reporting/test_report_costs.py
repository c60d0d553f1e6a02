"""Margins, costs and groups in the report and in `podium compare`."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import podium
from podium.cli.app import main
from podium.reporting.build import build_report
from podium.reporting.page.verdict_section import verdict_section
from podium.reporting.tables import pair_table
from podium.reporting.words.cost_words import (
    cost_headings,
    cost_hint,
    cost_rows,
    margin_sentence,
    trade_offs,
)
from podium.reporting.words.labels import labels
from podium.reporting.words.verdict_words import (
    headline,
    pair_cells,
    pair_sentence,
    places_sentence,
)
from podium.results.study import gather
from podium.runs.folder import StudyFolder
from podium.statistics.costs import NO_COST
from tests.conftest import reports_undrawn
from tests.fake_study import fake_study

CLASSES = tuple(f"sport {number}" for number in range(8))
SLOW, FAST = 55.0, 5.0  # ms


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Two contenders of almost the same accuracy, the worse one eleven times as fast."""
    root = tmp_path_factory.mktemp("runs") / "priced"
    folder = fake_study(root, CLASSES, per_class=80, epochs=1, contenders=2, skill=(0.92, 0.91))
    order = [one.name for one in gather(folder).ranking]
    for run in folder.runs(folder.read_spec()):
        done = json.loads(run.done.read_text())
        done["latency_ms"] = SLOW if run.contender == order[0] else FAST
        done["device"] = "cpu"
        run.done.write_text(json.dumps(done))
    paths = next(iter(folder.runs(folder.read_spec()))).read_predictions("test").paths
    groups = [f"day {at // 4}" for at in range(len(paths))]
    table = {
        "path": list(paths),
        "label": [path.split("/")[1] for path in paths],
        "split": ["test"] * len(paths),
        "group": groups,
        "sha256": [hashlib.sha256(path.encode()).hexdigest() for path in paths],
    }
    pq.write_table(pa.table(table), folder.images)
    spec = folder.spec.read_text()
    folder.spec.write_text(f"{spec}\nmargin: 6\n")
    return folder


def text_of(page: Path) -> str:
    html = re.sub(r"<style>.*?</style>|<script>.*?</script>", "", page.read_text("utf-8"),
                  flags=re.DOTALL)  # fmt: skip
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_the_report_says_what_accuracy_costs(study: StudyFolder) -> None:
    results = gather(study)
    assert results.verdicts is not None
    best, other = results.verdicts.standings
    (told,) = trade_offs(results.verdicts, results.costs, labels("en"))
    behind = f"{100 * other.behind:.1f}"
    assert told == (
        f"{other.label} is at most {behind} points worse than the best, and 11 times as fast as "
        f"{best.label}."
    )
    (portuguese,) = trade_offs(results.verdicts, results.costs, labels("pt"))
    assert behind.replace(".", ",") in portuguese
    with reports_undrawn():
        page = text_of(build_report(study).index)
    assert told in page
    assert "Accuracy and what it costs" in page
    assert "differ by less than 6.0 points count as equivalent" in page
    assert "640 test images belong to 160 groups" in page


def test_compare_prints_costs_and_takes_another_margin(
    study: StudyFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["compare", str(study.path)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "11 times as fast" in told
    assert "55.0" in told
    assert "less than 6.0 points count as equivalent" in told
    saved = tmp_path / "pairs.json"
    assert main(["compare", str(study.path), "--margin", "0.1", "--save", str(saved)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "less than 0.1 points" in told
    stored = json.loads(saved.read_text())
    assert stored["margin"] == {"size": 0.001, "chosen": True}
    assert stored["pairs"][0]["within"] > 0.001
    assert not stored["pairs"][0]["equivalent"]
    assert main(["compare", str(study.path), "--margin", "0"]) == 2
    assert "margin: expected points above 0" in " ".join(capsys.readouterr().err.split())


def test_times_of_two_machines_are_not_compared(study: StudyFolder) -> None:
    results = gather(study)
    assert results.verdicts is not None
    costs = dict(results.costs)
    name = results.verdicts.standings[1].name
    costs[name] = type(costs[name])(latency=1.0, parameters=10, device="cuda")
    assert trade_offs(results.verdicts, costs, labels("en")) == []
    unknown = dict.fromkeys(costs, NO_COST)
    assert cost_rows(results.verdicts, unknown, labels("en")) == []
    assert "count as equivalent" in margin_sentence(results.verdicts, labels("en"))


PUBLISHED = Path(__file__).parents[2] / "benchmarks" / "results" / "sports100"


@pytest.mark.parametrize("lang", ["en", "pt"])
def test_what_the_published_study_says_does_not_contradict_itself(
    lang: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real runs: a winner whose rival's place, from all pairs, begins with 1."""
    published = tmp_path / "sports100"  # with all of its seeds no place does
    shutil.copytree(PUBLISHED, published)
    shutil.rmtree(published / "inception_resnet" / "seed-2")
    results, say = gather(StudyFolder(published)), labels(lang)
    verdicts = results.verdicts
    assert verdicts is not None
    (leader,) = verdicts.leaders
    rivals = [one.label for one in verdicts.standings if one.best == 1 and one is not leader]
    assert rivals
    assert leader.label in headline(verdicts, say)
    told = places_sentence(verdicts, say)
    assert told == say("v_ruled_out", names=" ".join(rivals))
    section = verdict_section(results, say)
    assert section is not None
    assert section["places"] == told
    assert main(["compare", str(published), "--lang", lang]) == 0
    assert told in " ".join(capsys.readouterr().out.split())

    headings = cost_headings(verdicts, results.costs, say)
    for row in cost_rows(verdicts, results.costs, say):
        assert len(row) == len(headings)
    # these runs measured no time per image and kept no weights: no columns of dashes
    assert all(one.latency is None and one.megabytes is None for one in results.costs.values())
    for key in ("latency", "megabytes", "front"):
        assert say(f"cost_{key}") not in headings
    assert say("cost_parameters") in headings
    assert say("cost_hint_times") not in cost_hint(verdicts, results.costs, say)


@pytest.mark.parametrize(("lang", "word"), [("en", "equivalent"), ("pt", "equivalentes")])
def test_the_bound_beside_a_verdict_is_the_one_that_it_follows_from(lang: str, word: str) -> None:
    verdicts, say = podium.compare(PUBLISHED, margin=12), labels(lang)
    told = margin_sentence(verdicts, say)
    found = [pair for pair in verdicts.pairs if pair.verdict == "equivalent"]
    assert 0 < len(found) < len(verdicts.pairs)
    for pair in verdicts.pairs:
        sentence = pair_sentence(pair, verdicts.labels, say)
        cell = pair_cells(pair, verdicts.labels, say)[-1]
        within = say.number(100 * pair.within, 1)
        assert (cell == f"{word} (±{within})") == (pair in found)
        assert (word in sentence and f" {within} " in sentence) == (pair in found)
    assert all(pair.within < 0.12 for pair in found)
    # one of the two-sided intervals reaches beyond the margin: why is said
    assert any(max(-pair.joint.low, pair.joint.high) > 0.12 for pair in found)
    assert say("v_equivalent_within") in told
    assert told in pair_table(verdicts, say)
    strict = podium.compare(PUBLISHED, margin=1)
    assert say("v_equivalent_within") not in margin_sentence(strict, say)
