"""What the report says of who beats whom: against scipy, and in words that one can trust."""

from __future__ import annotations

import csv
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, binomtest, fisher_exact
from statsmodels.stats.multitest import multipletests

from podium.auditing import Audit, DuplicatePair, write_audit
from podium.config.settings import RunSpec
from podium.reporting.build import ReportResult, build_report
from podium.reporting.words.labels import labels
from podium.reporting.words.recipes import setting_value, setting_words
from podium.reporting.words.verdict_words import (
    answers,
    claim_sentence,
    p_words,
    pair_sentence,
    points,
    tied_words,
)
from podium.runs.folder import StudyFolder
from podium.runtime.files import write_json
from podium.statistics.classes import significant_classes
from podium.statistics.intervals import Interval
from podium.statistics.metrics import per_class
from podium.statistics.questions import questions
from podium.statistics.scoring import find_metric
from podium.statistics.table import ContenderPredictions, PredictionTable
from podium.statistics.verdicts import Standing, Verdicts, compare_contenders
from tests.conftest import reports_undrawn
from tests.fake_study import fake_study
from tests.statistics.studies_simulated import Setting, sheets

CLASSES = tuple(f"sport {number}" for number in range(20))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyFolder, ReportResult]:
    """The paper's five contenders with about its accuracies, 400 test images, one seed."""
    folder = fake_study(tmp_path_factory.mktemp("runs") / "five", CLASSES, per_class=20, epochs=2)
    with reports_undrawn():
        return folder, build_report(folder)


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> ReportResult:
    root = tmp_path_factory.mktemp("runs") / "seeds"
    folder = fake_study(root, CLASSES[:6], per_class=30, epochs=2, contenders=2, seeds=(0, 1, 2))
    with reports_undrawn():
        return build_report(folder, lang="pt")


def text_of(result: ReportResult) -> str:
    text = result.index.read_text(encoding="utf-8")
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<script>.*?</script>", "", text,
                                      flags=re.DOTALL))  # fmt: skip


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_pairs_are_those_of_scipy_and_statsmodels(
    study: tuple[StudyFolder, ReportResult],
) -> None:
    folder, result = study
    spec = folder.read_spec()
    right = {}
    for run in folder.runs(spec):
        test = run.read_predictions("test")
        right[run.contender] = test.predicted == test.labels
    expected = {}
    for a, b in itertools.combinations(spec.contenders, 2):
        only_a, only_b = (right[a] & ~right[b]).sum(), (right[b] & ~right[a]).sum()
        expected[a, b] = binomtest(int(only_a), int(only_a + only_b)).pvalue
        if only_a != only_b:
            expected[a, b] -= binom.pmf(only_a, only_a + only_b, 0.5)
    holm = dict(zip(expected, multipletests(list(expected.values()), method="holm")[1],
                    strict=True))  # fmt: skip
    rows = rows_of(result.index.parent / "tables" / "pairs.csv")
    assert len(rows) == 10
    for row in rows:
        pair = (row["first"], row["second"])
        assert float(row["p"]) == pytest.approx(expected[pair], rel=1e-9)
        # what pairs have in common makes it smaller than Holm's
        assert expected[pair] <= float(row["p_adjusted"]) <= 1.02 * holm[pair]
        gap = right[pair[0]].mean() - right[pair[1]].mean()
        assert float(row["difference"]) == pytest.approx(gap)
        joint, alone = (row["joint_low"], row["joint_high"]), (row["low"], row["high"])
        assert float(joint[0]) < float(alone[0]) <= gap <= float(alone[1]) < float(joint[1])
        assert (row["winner"] == "") == (float(row["p_adjusted"]) >= 0.05)


def test_places_follow_from_the_pairs(study: tuple[StudyFolder, ReportResult]) -> None:
    _, result = study
    tables = result.index.parent / "tables"
    pairs = rows_of(tables / "pairs.csv")
    for row in rows_of(tables / "places.csv"):
        own = [pair for pair in pairs if row["contender"] in (pair["first"], pair["second"])]
        lost = sum(pair["winner"] not in ("", row["contender"]) for pair in own)
        won = sum(pair["winner"] == row["contender"] for pair in own)
        assert (int(row["best_place"]), int(row["worst_place"])) == (1 + lost, 5 - won)
        assert row["may_be_best"] == ("yes" if row["contender"] == "resnet18-finetuned" else "no")
    text = text_of(result)
    assert "ResNet-18, fine-tuned won: at 95 % confidence, no other contender is as good" in text


def test_each_question_has_its_sentence(study: tuple[StudyFolder, ReportResult]) -> None:
    text = text_of(study[1])
    for topic in (
        "What augmentation adds to SimpleResNet",
        "What augmentation adds to InceptionResNet",
        "What InceptionResNet adds over SimpleResNet",
        "What transfer learning adds (ResNet-18)",
    ):
        assert text.count(topic) == 1
    assert "the verdicts are about these trained models, not about the recipes" in text
    assert "intervals are adjusted for all 10 comparisons" in text
    assert "Significant differences are overestimated on average" in text
    assert "They also differ in model (ResNet-18 / " in text
    assert "n = 400" in text


def test_seeds_make_it_a_claim_about_recipes_also_in_portuguese(seeded: ReportResult) -> None:
    text = text_of(seeded)
    assert "O que este estudo mostra" in text
    assert "Com 3 sementes: isto fala das receitas" in text
    assert "O que o aumento de dados acrescenta a SimpleResNet" in text
    (row,) = rows_of(seeded.index.parent / "tables" / "pairs.csv")
    assert (row["claim"], row["seeds"], row["n"]) == ("methods", "3", "180")


def test_both_languages_have_the_same_words_and_places() -> None:
    en, pt = labels("en").words, labels("pt").words
    assert set(en) == set(pt)
    for key, text in en.items():
        places = set(re.findall(r"{(\w+)}", text))
        assert places == set(re.findall(r"{(\w+)}", pt[key])), key


def test_classes_are_grey_unless_told_apart(study: tuple[StudyFolder, ReportResult]) -> None:
    folder, result = study
    run = folder.runs(folder.read_spec())[0]
    classes = per_class(run.read_predictions("test"))
    right = np.array([round(one.recall * one.support) for one in classes])
    n = np.array([one.support for one in classes])
    p = [
        fisher_exact([[k, m - k], [right.sum() - k, n.sum() - m - right.sum() + k]]).pvalue
        for k, m in zip(right, n, strict=True)
    ]
    expected = (multipletests(p, method="holm")[1] < 0.05).tolist()
    assert significant_classes(classes) == expected
    assert f"{sum(expected)} of 20 classes do." in text_of(result)
    assert "a recall of 100 % has an interval of 84–100 %" in text_of(result)


def test_calibration_is_shown_before_and_after(study: tuple[StudyFolder, ReportResult]) -> None:
    result = study[1]
    rows = rows_of(result.index.parent / "tables" / "calibration.csv")
    assert len(rows) == 5
    for row in rows:
        assert float(row["ece_low"]) <= float(row["ece_high"])
        assert float(row["temperature"]) > 0
        assert row["n"] == "400"
    text = text_of(result)
    assert text.count("Calibration error (ECE)") == 5
    assert "A perfect model would measure" in text


@pytest.mark.usefixtures("undrawn")
def test_accuracy_is_given_without_leaked_images(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "leaky", CLASSES[:4], per_class=10, epochs=2, contenders=1)
    data = {**folder.read_data(), "test_fingerprint": "t" * 64}
    write_json(folder.data, data)
    run = folder.runs(folder.read_spec())[0]
    test = run.read_predictions("test")
    leaked = test.paths[:3]
    pairs = tuple(
        DuplicatePair("near", "train/a/1.jpg", path, "train", "test", "sport 0", "sport 0", 3, 0.98)
        for path in leaked
    )
    counts: dict[str, dict[str, int]] = {"train": {}, "valid": {}, "test": {}}
    audit = Audit(
        fingerprint=str(data["fingerprint"]), root="somewhere", class_counts=counts, oddities=(),
        totals={"images": 100, "classes": 4, "greyscale": 0, "skipped": 0, "train": 50,
                "valid": 10, "test": 40},
        pairs=pairs, groups=(), labels=None, seconds={"total": 1.0},
        settings={"max_distance": 14, "min_similarity": 0.9, "tiny": 32, "extreme_shape": 4.0},
    )  # fmt: skip
    write_audit(audit, folder.audit)
    text = text_of(build_report(folder))
    assert "3 of 40 test images have an identical or nearly identical image in train" in text
    right = test.predicted == test.labels
    kept = 100 * right[3:].mean()
    assert f"{kept:.2f} (" in text
    assert f"{int(right[:3].sum())} / 3" in text

    write_audit(
        Audit.from_json({**json.loads(folder.audit.read_text()), "fingerprint": "other"}),
        folder.audit,
    )
    assert "nearly identical image" not in text_of(build_report(folder))


@pytest.mark.parametrize(
    ("share", "en", "pt"),
    [(0.066, "+6.6", "+6,6"), (-0.028, "−2.8", "−2,8"), (0.0, "0.0", "0,0"), (-1e-5, "0.0", "0,0")],
)
def test_differences_carry_their_sign(share: float, en: str, pt: str) -> None:
    assert points(share, labels("en")) == en
    assert points(share, labels("pt")) == pt


def test_sixty_tied_contenders_make_a_sentence_of_eight_names() -> None:
    found = Standing(
        "a",
        "A",
        Interval(0.9, 0.8, 0.95),
        0.9,
        50,
        1,
        1,
        60,
        tuple(f"c{i}" for i in range(59)),
        True,
    )
    names = {f"c{i}": f"Contender {i}" for i in range(59)} | {"a": "A", "b": "B"}
    text = tied_words(found, names, labels("en"))
    assert text.endswith("Contender 6 and 52 others")


@pytest.mark.parametrize(
    ("p", "words"), [(0.0004, "p < 0.001"), (0.0432, "p = 0.043"), (0.5, "p = 0.50")]
)
def test_p_values_are_written_as_readers_expect(p: float, words: str) -> None:
    assert p_words(p, labels("en")) == words


def balancing(metric: str, test: list[int]) -> tuple[str, Verdicts]:
    """The answer where balancing finds the rare class at the price of some of the common one."""
    truth = np.repeat([0, 1], test)
    plain, weighted = np.zeros_like(truth), truth.copy()
    weighted[: test[0] // 4] = 1
    contenders = tuple(
        ContenderPredictions(
            name, name, (0,), one[None], logits=(np.eye(2, dtype=np.float32)[one],)
        )
        for name, one in (("plain", plain), ("weighted", weighted))
    )
    paths = tuple(f"{number}.jpg" for number in range(len(truth)))
    table = PredictionTable(
        ("common", "rare"), paths, truth, contenders, metric=find_metric(metric)
    )
    recipes = {
        "plain": RunSpec(model="simple_resnet", epochs=1),
        "weighted": RunSpec(model="simple_resnet", epochs=1, class_weights="balanced"),
    }
    verdicts = compare_contenders(table, resamples=0)
    (answer,) = answers(verdicts, questions(recipes), recipes, labels("en"))
    assert answer.topic == "What balancing the classes adds to SimpleResNet"
    return answer.text, verdicts


def test_two_questions_of_one_kind_are_told_apart() -> None:
    recipes = {
        f"{model}-{policy}": RunSpec(model=model, augmentation=policy, epochs=1)
        for model in ("simple_resnet", "inception_resnet")
        for policy in ("none", "autoaugment")
    }
    truth, rng = np.arange(40) % 2, np.random.default_rng(0)
    contenders = tuple(
        ContenderPredictions(name, name, (0,), rng.integers(0, 2, (1, 40))) for name in recipes
    )
    table = PredictionTable(("a", "b"), tuple(map(str, range(40))), truth, contenders)
    verdicts = compare_contenders(table, resamples=0)
    found = [one.topic for one in answers(verdicts, questions(recipes), recipes, labels("en"))]
    assert found == [
        "What augmentation adds to SimpleResNet",
        "What augmentation adds to InceptionResNet",
        "What InceptionResNet adds over SimpleResNet (inception_resnet-none)",
        "What InceptionResNet adds over SimpleResNet (inception_resnet-autoaugment)",
    ]


def test_the_answer_on_balancing_has_what_the_metric_hides() -> None:
    text, _ = balancing("accuracy", [160, 20])
    assert "weighted is less accurate than plain, by 11.1 points" in text
    assert "a rare class counts as much as a common one, the difference is +37.5 points" in text
    text, _ = balancing("balanced_accuracy", [160, 20])
    assert "in balanced accuracy, by 37.5 points" in text
    assert "In accuracy, the difference is −11.1 points (95 % interval −" in text
    text, _ = balancing("macro_f1", [160, 20])
    assert "In accuracy," in text
    assert "In balanced accuracy," in text
    text, verdicts = balancing("accuracy", [80, 80])  # the same number twice is no news
    assert "In balanced accuracy" not in text
    assert verdicts.pairs[0].macro_recall.value == pytest.approx(verdicts.pairs[0].accuracy.value)


@pytest.mark.parametrize(
    ("lang", "told"),
    [
        ("en", "trained layers (all / the classifier only), pre-training (no / yes)"),
        ("pt", "camadas treinadas (todas / só o classificador), pré-treino (não / sim)"),
    ],
)  # fmt: skip
def test_settings_that_differ_are_told_in_words(lang: str, told: str) -> None:
    first = RunSpec(model="resnet18", epochs=1)
    second = RunSpec(model="resnet18", epochs=2, pretrained=True, freeze="backbone")
    say = labels(lang)
    words = [
        f"{setting_words(key, say)} ({setting_value(first, key, say, {})} / "
        f"{setting_value(second, key, say, {})})"
        for key in ("freeze", "pretrained")
    ]
    assert ", ".join(words) == told


@pytest.mark.parametrize(
    ("lang", "clause"), [("en", "p goes step by step"), ("pt", "passo a passo")]
)
def test_an_interval_that_includes_0_beside_a_winner_is_explained(lang: str, clause: str) -> None:
    say = labels(lang)
    (sheet,) = sheets(Setting((0.9, 0.8, 0.6), 500), 1)
    plain = compare_contenders(sheet, resamples=0)
    first, *others = plain.pairs
    assert first.winner is not None
    wide = replace(first, joint=Interval(first.joint.value, -0.004, 0.3))
    for pair, told in ((first, False), (wide, True)):
        verdicts = replace(plain, pairs=(pair, *others))
        assert (clause in pair_sentence(pair, verdicts.labels, say)) is told
        assert (clause in claim_sentence(verdicts, say)) is told
    alone = replace(wide, score=wide.joint)  # of two contenders, no pair is adjusted for others
    assert clause not in pair_sentence(alone, plain.labels, say)
