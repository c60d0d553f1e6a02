"""Cross-validated contenders: against published figures, scikit-learn, and simulated studies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import t as student
from sklearn.datasets import make_moons
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.svm import SVC

import podium
from podium.cli.app import main
from podium.errors import DataError
from podium.reporting.words.labels import labels as words_of
from podium.reporting.words.verdict_words import claim_sentence
from podium.statistics.comparison import compare_table
from podium.statistics.folds import Folds, common_folds, fold_effect
from podium.statistics.paired import flipped_at_random, seed_effect, sign_flip
from podium.statistics.scoring import find_metric
from podium.statistics.table import ContenderPredictions, PredictionTable
from tests.statistics.studies_simulated import cross_validated

Indices = npt.NDArray[np.int64]


def folds_of(n: int, count: int, repeats: int = 1, start: int = 0) -> Indices:
    random = np.random.default_rng(start)
    return np.stack([random.permutation(np.arange(n) % count) for _ in range(repeats)])


def table_with(
    right: list[npt.NDArray[np.bool_]], folds: list[Indices | None], **more: object
) -> PredictionTable:
    """Two classes; `right` and `folds` of each contender, shape (rows, images)."""
    n = right[0].shape[1]
    labels = np.arange(n) % 2
    return PredictionTable(
        ("a", "b"), tuple(map(str, range(n))), labels,
        tuple(
            ContenderPredictions(f"c{at}", f"C {at}", tuple(range(len(one))),
                                 np.where(one, labels, 1 - labels), folds=own)
            for at, (one, own) in enumerate(zip(right, folds, strict=True))
        ),
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


def test_the_corrected_t_is_that_of_scikit_learns_worked_example() -> None:
    # "Statistical comparison of models using grid search": t 0.750, one-sided p 0.227
    x, y = make_moons(noise=0.352, random_state=1, n_samples=100)
    cut = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    scores: list[list[float]] = []
    for kernel in ({"kernel": "rbf"}, {"kernel": "linear"}):
        scores.append([])
        for train, test in cut.split(x, y):
            model = SVC(random_state=0, **kernel).fit(x[train], y[train])
            scores[-1].append(roc_auc_score(y[test], model.decision_function(x[test])))
    effect = fold_effect(np.subtract(scores[0], scores[1]), overlap=1 / 9)
    assert effect.p_value() / 2 == pytest.approx(0.227, abs=5e-4)
    assert effect.mean / np.sqrt(effect.image_square) == pytest.approx(0.750, abs=5e-4)


def test_the_interval_is_the_t_interval_with_the_corrected_variance() -> None:
    scores = np.array([0.91, 0.88, 0.95, 0.90, 0.86])
    half = student.ppf(0.975, 4) * np.sqrt((1 / 5 + 1 / 4) * scores.var(ddof=1))
    low, high = fold_effect(scores, 1 / 4).interval()
    assert (low, high) == pytest.approx((0.9 - half, 0.9 + half))


def test_folds_of_unequal_size_count_by_their_images() -> None:
    number = np.array([[0] * 10 + [1] * 30 + [2] * 20])
    folds, right = Folds(number), np.arange(60)[None] % 7 > 0
    values = right.astype(float)
    units = folds.units(folds.means(values))
    assert units.mean() == pytest.approx(values.mean())
    clustered = seed_effect(values, number[0])  # the same linearisation as of groups
    assert units.var(ddof=1) / 3 == pytest.approx(clustered.image_square / clustered.count)
    assert (folds.count, folds.repeats, folds.overlap) == (3, 1, 0.5)


def test_a_pair_is_compared_fold_by_fold_over_all_repeats_and_seeds() -> None:
    random, n = np.random.default_rng(1), 120
    assigned = folds_of(n, 5, repeats=3)
    rows = np.repeat(assigned, 2, axis=0)  # two seeds in each repeat
    right = [random.random((6, n)) < share for share in (0.9, 0.8)]
    found = compare_table(table_with(right, [rows, rows]))
    (pair,) = found.pairs
    scores = [
        np.mean([one[2 * repeat + seed][assigned[repeat] == fold].mean() for seed in (0, 1)])
        - np.mean([two[2 * repeat + seed][assigned[repeat] == fold].mean() for seed in (0, 1)])
        for one, two in [right]
        for repeat in range(3)
        for fold in range(5)
    ]
    expected = fold_effect(np.array(scores), 1 / 4)
    assert pair.accuracy.value == pytest.approx(expected.mean)
    assert pair.p == pytest.approx(max(expected.p_value(), 1e-12))
    assert pair.claim == "methods"
    assert found.folds is not None
    assert (found.folds.folds, found.folds.repeats, found.folds.training_images) == (5, 3, 96)
    assert [one.seeds for one in found.standings] == [2, 2]
    by_name = {one.name: one.accuracy for one in found.standings}
    assert by_name["c0"].value == pytest.approx(right[0].mean())
    assert pair.only_first - pair.only_second == pytest.approx(n * pair.accuracy.value)
    # rows in another order, and seeds of another number, change nothing else
    turned = compare_table(table_with([right[0][::-1], right[1]], [rows[::-1], rows]))
    assert turned.pairs[0].p == pytest.approx(pair.p)
    fewer = compare_table(table_with([right[0], right[1][::2]], [rows, rows[::2]]))
    assert fewer.pairs[0].accuracy.value == pytest.approx(right[0].mean() - right[1][::2].mean())


def test_nothing_is_certain_where_every_fold_shows_the_same_difference() -> None:
    n, folds = 100, folds_of(100, 5)
    right = [np.ones((1, n), bool), np.ones((1, n), bool)]
    for fold in range(5):
        right[1][0, np.flatnonzero(folds[0] == fold)[0]] = False
    (pair,) = compare_table(table_with(right, [folds, folds])).pairs
    assert pair.p >= sign_flip(np.array([1] * 5))
    assert pair.winner is None
    assert pair.accuracy.low < 0 < pair.accuracy.high
    one = compare_table(table_with([right[0]], [folds])).standings[0].accuracy
    assert one.high - one.low > 0.02


def test_a_metric_is_scored_within_each_fold() -> None:
    random, n = np.random.default_rng(2), 90
    folds, labels = folds_of(n, 3), np.arange(n) % 2
    logits = [
        random.normal(size=(n, 2)).astype(np.float32) + gain * np.eye(2, dtype=np.float32)[labels]
        for gain in (2, 1)
    ]
    for name in ("macro_f1", "log_loss"):
        metric = find_metric(name)
        table = PredictionTable(
            ("a", "b"), tuple(map(str, range(n))), labels,
            tuple(
                ContenderPredictions(f"c{at}", f"C {at}", (0,), one.argmax(axis=1)[None],
                                     logits=(one,), folds=folds)
                for at, one in enumerate(logits)
            ),
            metric=metric,
        )  # fmt: skip
        found = compare_table(table)
        scores = [
            [metric.score(one[folds[0] == fold], labels[folds[0] == fold]) for fold in range(3)]
            for one in logits
        ]
        expected = fold_effect(np.subtract(scores[0], scores[1]), 1 / 2)
        (pair,) = found.pairs
        assert pair.judged.value == pytest.approx(expected.mean)
        assert found.metric.name == name
        assert found.standings[0].judged.value == pytest.approx(np.mean(scores[0]))
        # never below that of the images: the three folds agree in macro F1 by chance
        if metric.per_image is None:
            assert pair.p > 10 * expected.p_value()
        else:
            apart = np.subtract(*(metric.per_image(one, labels) for one in logits))
            error = max(expected.image_square, apart.var(ddof=1) / n) ** 0.5
            p = 2 * student.sf(abs(expected.mean) / error, df=2)
            assert pair.p == pytest.approx(max(p, flipped_at_random(apart)))


@pytest.mark.parametrize("name", ["balanced_accuracy", "macro_f1", "mcc", "auroc"])
def test_folds_of_the_same_score_leave_another_metric_uncertain(name: str) -> None:
    n = 80
    folds, labels = (np.arange(n) % 2)[None], np.arange(n) // 2 % 2
    wrong = np.isin(np.arange(n), [0, 1, 2, 3])  # one image of each class in each fold
    answers = labels, np.where(wrong, 1 - labels, labels)
    table = PredictionTable(
        ("a", "b"), tuple(map(str, range(n))), labels,
        tuple(
            ContenderPredictions(f"c{at}", f"C {at}", (0,), one[None], folds=folds,
                                 logits=(np.eye(2, dtype=np.float32)[one],))
            for at, one in enumerate(answers)
        ),
        metric=find_metric(name),
    )  # fmt: skip
    assert len({*Folds(folds).means((answers[0] == answers[1])[None].astype(float))}) == 1
    (pair,) = compare_table(table).pairs
    assert pair.judged.value > 0.04
    assert pair.p > 0.05  # four images of 80: McNemar's exact test gives 0.125, mid-p 0.0625
    assert pair.judged.low < 0 < pair.judged.value < pair.judged.high
    best = compare_table(table).standings[0].judged
    assert best.low < best.value == best.high == 1
    grouped = replace(table, groups=np.arange(n) // 4)
    (of_groups,) = compare_table(grouped).pairs
    assert of_groups.p == 1  # they are one group
    assert of_groups.judged.high - of_groups.judged.low > pair.judged.high - pair.judged.low


def test_a_metric_that_a_fold_does_not_have_leaves_accuracy() -> None:
    n = 20
    folds = (np.arange(n) >= 10).astype(np.int64)[None]  # each fold has one class alone
    labels = folds[0]
    logits = np.eye(2, dtype=np.float32)[labels]
    table = PredictionTable(
        ("a", "b"), tuple(map(str, range(n))), labels,
        (ContenderPredictions("c", "C", (0,), labels[None], logits=(logits,), folds=folds),),
        metric=find_metric("auroc"),
    )  # fmt: skip
    found = compare_table(table)
    assert found.metric.is_accuracy
    assert "auroc" in found.why_accuracy


def test_other_folds_and_no_folds_cannot_be_paired() -> None:
    right = [np.ones((1, 30), bool)] * 2
    folds = folds_of(30, 3)
    with pytest.raises(DataError, match="different folds"):
        compare_table(table_with(right, [folds, folds_of(30, 3, start=1)]))
    with pytest.raises(DataError, match="others on a test split"):
        compare_table(table_with(right, [folds, None]))
    with pytest.raises(DataError, match="two folds or more"):
        Folds(np.zeros((1, 30), np.int64))
    assert common_folds([None, None]) is None


def test_the_words_say_which_claim_folds_support() -> None:
    folds = folds_of(60, 10, repeats=5)
    right = [np.random.default_rng(at).random((5, 60)) < 0.8 for at in range(2)]
    found = compare_table(table_with(right, [folds, folds]))
    said = claim_sentence(found, words_of("en"))
    assert "5 × 10 folds" in said
    assert "recipes, trained on some 54 images" in said
    assert "find about twice" not in said
    once = compare_table(table_with([one[:1] for one in right], [folds[:1]] * 2))
    assert "10 folds" in claim_sentence(once, words_of("en"))
    assert "10 partições" in claim_sentence(once, words_of("pt"))


def test_a_csv_with_folds_is_judged_by_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(3)
    source = tmp_path / "folds.csv"
    rows = ["path,label,fold,good,poor"]
    for at in range(100):
        wrong = random.random(2) < (0.1, 0.3)
        rows.append(
            f"{at}.jpg,cat,part {at % 10},{','.join('dog' if one else 'cat' for one in wrong)}"
        )
    source.write_text("\n".join(rows), encoding="utf-8")
    assert main(["compare", str(source)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Cross-validation (10 folds)" in told
    assert "trained on some 90 images" in told
    found = podium.compare(source)
    assert found.folds is not None
    plain = tmp_path / "plain.csv"
    plain.write_text("\n".join(",".join(row.split(",")[:2] + row.split(",")[3:]) for row in rows))
    assert podium.compare(plain).pairs[0].p < found.pairs[0].p


def test_equal_recipes_are_told_apart_in_at_most_5_percent_of_cross_validations() -> None:
    claims, held, studies = 0, np.zeros(2), 120
    for table, truth in cross_validated(studies, n=60, folds=10, repeats=5):
        found = compare_table(table)
        (pair,) = found.pairs
        claims += pair.winner is not None
        own = next(one.accuracy for one in found.standings if one.name == "c0")
        held += pair.accuracy.low <= 0 <= pair.accuracy.high, own.low <= truth <= own.high
    assert claims / studies <= 0.05 + 2 * (0.05 * 0.95 / studies) ** 0.5
    assert held.min() / studies >= 0.91
