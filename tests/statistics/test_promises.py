"""Do claims about all contenders together keep their promises? docs/statistics.md has more."""

from __future__ import annotations

import pytest

from tests.statistics.promises import SETTINGS, counted
from tests.statistics.studies_simulated import Setting

# 5 and 95 % as 200 studies may count them: two standard deviations
CHANCE, COVER = 8.1, 91.9


@pytest.mark.parametrize(
    "name", ["equal-3-85-500", "equal-5-95-500", "equal-5-groups-30-50", "equal-3-seeds-5-3-2"]
)
def test_of_equal_contenders_nothing_is_claimed_in_95_percent(name: str) -> None:
    found = counted(SETTINGS[name], 200)
    assert found.percent("false_claim") <= CHANCE
    assert found.percent("joint_held") >= COVER
    assert found.percent("all_best_kept") >= COVER
    assert found.percent("places_held") >= COVER
    assert found.percent("a_best_kept") > found.percent("all_best_kept")
    assert found.percent("false_winner") <= CHANCE
    assert found.percent("alone_held") < found.percent("joint_held") - 2  # what they are for


def test_a_true_winner_is_named_more_often_than_pairs_show_it() -> None:
    found = counted(SETTINGS["ahead-5-1000"], 200)
    assert found.percent("false_claim") <= CHANCE
    assert found.percent("all_best_kept") >= COVER
    assert found.percent("winner_named") > found.percent("winner_by_pairs") + 10
    # the winner's curse, and what remains of it in the joint interval
    shown, true = sum(found.shown), sum(found.true)
    assert shown > 1.15 * true
    assert found.won_joint_held > found.won_alone_held
    assert found.won_joint_held / len(found.shown) >= COVER / 100


def test_two_that_are_tied_for_best_are_both_kept() -> None:
    found = counted(Setting((0.87, 0.87, 0.84, 0.84), 500), 200)
    assert found.percent("all_best_kept") >= COVER
    assert found.percent("false_winner") <= CHANCE
    assert found.percent("false_claim") <= CHANCE
