"""Adding seeds until it is decided: what a look costs, and how often such studies claim falsely."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from podium.config.settings import RunSpec
from podium.reporting.words.labels import labels
from podium.reporting.words.look_words import look_sentence
from podium.statistics.comparison import compare_table
from podium.statistics.looks import seed_level
from podium.statistics.paired import seed_effect
from podium.statistics.stopping import Look, PairLook, look, looks, with_seeds
from tests.statistics.stopping_rules import IMAGES, SEEDS, images_stopped, seeds_stopped
from tests.statistics.studies_simulated import Setting, sheets


def test_the_looks_share_the_level() -> None:
    assert sum(seed_level(seeds) for seeds in range(2, 11)) == pytest.approx(1)


@pytest.mark.parametrize("seeds", [3, 6, 10])
def test_only_the_seeds_pay_for_looking(seeds: int) -> None:
    random = np.random.default_rng(seeds)
    shifts = random.normal(0.1, 0.05, (seeds, 1))
    values = np.repeat(shifts, 1000, axis=1)  # all images alike: Student's t of the seeds
    effect = seed_effect(values, seed_level=seed_level(seeds))
    spread = shifts.std(ddof=1) / seeds**0.5
    reach = student.isf(0.025 * seed_level(seeds), seeds - 1) * spread
    assert effect.margin(0.05) == pytest.approx(reach)
    p = 2 * student.sf(abs(shifts.mean()) / spread, seeds - 1) / seed_level(seeds)
    assert effect.p_value() == pytest.approx(min(p, 1), rel=1e-4)
    same = np.repeat(random.normal(0.1, 1, (1, 1000)), seeds, axis=0)  # all seeds alike: images
    part = seed_effect(same, seed_level=seed_level(seeds))
    assert part.p_value() == pytest.approx(seed_effect(same).p_value())


def test_seeds_that_coincide_do_not_decide() -> None:
    """Of few images, two seeds often have exactly the same accuracy: no sign of how seeds vary."""
    right = np.zeros((2, 2, 40), bool)
    right[0, 0, :36] = right[0, 1, 4:] = True
    right[1, 0, :12] = right[1, 1, 20:32] = True
    (sheet,) = sheets(Setting((0.9, 0.3), 40, seeds=2), 1)
    contenders = [
        replace(one, predicted=np.where(own, sheet.labels, (sheet.labels + 1) % 10))
        for one, own in zip(sheet.contenders, right, strict=True)
    ]
    table = with_seeds(replace(sheet, contenders=tuple(contenders)), 2)
    (pair,) = compare_table(table, resamples=0).pairs
    assert pair.accuracy.value == pytest.approx(0.6)
    assert pair.winner is None


def test_the_study_ends_when_nothing_is_open_or_all_seeds_are_there() -> None:
    pair = PairLook("a", "b", "open", 0.4)
    assert not Look(9, (pair, replace(pair, outcome="futile"))).is_last
    assert Look(10, (pair,)).is_last
    assert Look(3, (replace(pair, outcome="superior"), replace(pair, outcome="futile"))).is_last


def test_contenders_that_nothing_tells_apart_are_futile_at_once() -> None:
    """Right on the same images with every seed: all ten would show the same."""
    (sheet,) = sheets(Setting((0.85,) * 3, 200, seeds=2, seed_sd=0.05), 1)
    first, second, third = sheet.contenders
    twins = replace(sheet, contenders=(first, replace(second, predicted=first.predicted), third))
    for table in (twins, replace(twins, contenders=twins.contenders[:2])):
        part = with_seeds(table, 2)
        pair = look(part, compare_table(part, resamples=0)).pairs[0]
        assert (pair.outcome, pair.chance) == ("futile", 0)
    # within a margin that was chosen, these images say that they are equivalent
    part = with_seeds(replace(twins, contenders=twins.contenders[:2], margin=0.1), 2)
    assert look(part, compare_table(part, resamples=0)).pairs[0].outcome == "equivalent"
    odd = first.predicted.copy()
    odd[1, 0] = (odd[1, 0] + 1) % 10
    nearly = replace(twins, contenders=(first, replace(second, predicted=odd)))
    part = with_seeds(nearly, 2)
    assert look(part, compare_table(part, resamples=0)).pairs[0].outcome == "open"


def test_shortcuts_do_not_keep_a_study_going() -> None:
    (sheet,) = sheets(Setting((0.95, 0.4, 0.4, 0.4), 500, seeds=2, seed_sd=0.05), 1)
    part = with_seeds(sheet, 2)

    def seen(*models: str) -> Look:
        contenders = [
            replace(one, recipe=RunSpec(model=model, epochs=1))
            for one, model in zip(part.contenders, models, strict=True)
        ]
        table = replace(part, contenders=tuple(contenders))
        return look(table, compare_table(table, resamples=0))

    plain = seen(*["simple_resnet"] * 4)
    probed = seen("simple_resnet", "simple_resnet", "shortcut_file", "shortcut_border")
    assert [one.outcome for one in probed.pairs] == [one.outcome for one in plain.pairs]
    assert [(one.first, one.second) for one in probed.judged] == [("c0", "c1")]
    assert "shortcut" not in look_sentence(plain, labels("en"))
    assert "shortcut model do not count here" in look_sentence(probed, labels("en"))
    decided = replace(probed, pairs=tuple(
        replace(one, outcome="superior" if one.counts else "open") for one in probed.pairs
    ))  # fmt: skip
    assert decided.is_last
    # a single contender beside shortcuts: they are what it is compared with
    alone = seen("simple_resnet", "shortcut_colour", "shortcut_file", "shortcut_border")
    assert alone.judged == alone.pairs


def test_a_look_does_not_depend_on_later_seeds() -> None:
    (sheet,) = sheets(SEEDS["seeds-apart-2-5-500-middle"], 1)
    every = [*looks(sheet)]
    assert [one.seeds for one in every] == [*range(2, 11)]
    part = with_seeds(sheet, 4)
    assert every[2] == look(part, compare_table(part, resamples=0)) == [*looks(part)][-1]
    odd = replace(sheet.contenders[0], seeds=(0,), predicted=sheet.contenders[0].predicted[:1])
    assert not [*looks(replace(sheet, contenders=(odd, sheet.contenders[1])))]


def test_of_equal_recipes_nothing_is_claimed_in_95_percent() -> None:
    found = seeds_stopped(SEEDS["seeds-equal-2-500-high"], 100)
    assert found.percent(found.false_claim) <= 9  # 5 % as 100 studies may count them
    assert found.outcomes["futile"] > 80
    assert np.mean(found.ends) < 8


def test_what_is_true_is_found_with_few_seeds() -> None:
    found = seeds_stopped(SEEDS["seeds-apart-2-5-2000-middle"], 30)
    assert found.found >= 28
    assert np.mean(found.ends) < 7


def test_a_growing_test_set_claims_no_more() -> None:
    found = images_stopped(IMAGES["images-equal-2"], 60)
    assert found.percent(found.false_claim) <= 11  # 5 % as 60 studies may count them
    assert found.outcomes["open"] == 60 - found.false_claim
