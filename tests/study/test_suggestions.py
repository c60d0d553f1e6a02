"""The settings that a tuning tries: the same after any interruption; and which trials end early."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import pytest

from podium.config.settings import RunSpec
from podium.config.tuning import Tune, ranges_of
from podium.errors import ConfigError
from podium.statistics.scoring import ACCURACY, find_metric
from podium.study.suggestions import Suggestions
from podium.training.schedule import best_so_far, falls_behind, median_floor

PLAIN = RunSpec(model="simple_resnet", epochs=3)
SPACE: dict[str, Any] = {
    "lr": {"log": [1e-4, 3e-2]},
    "batch_size": {"uniform": [16, 128]},
    "augmentation": ["none", "randaugment", "trivialaugment"],
}


def suggestions(name: str = "plain", **changes: Any) -> Suggestions:
    tune = Tune(**{"trials": 12, "space": SPACE, **changes})
    return Suggestions(tune, name, PLAIN, ranges_of(tune, RunSpec))


def score(settings: dict[str, Any]) -> float:
    return -abs(float(np.log10(settings.get("lr", PLAIN.lr))) + 2.5)


def searched(trials: int, **changes: Any) -> list[dict[str, Any]]:
    found = suggestions(**changes)
    for number in range(1, trials):
        found.tell(number, "complete", [score(found.settings[-1])])
        found.draw()
    return found.settings


def test_draws_are_of_the_space_and_the_first_trial_is_the_contender() -> None:
    found = suggestions()
    for _ in range(40):
        found.draw()
    assert found.settings[0] == {}
    assert found.recipes[0] == PLAIN
    drawn = found.settings[1:]
    assert all(set(one) == set(SPACE) for one in drawn)
    assert all(1e-4 <= one["lr"] <= 3e-2 and 16 <= one["batch_size"] <= 128 for one in drawn)
    assert {one["augmentation"] for one in drawn} == set(SPACE["augmentation"])
    assert all(one["lr"] == float(f"{one['lr']:.3g}") for one in drawn)  # no noise behind
    assert 8 < sum(one["lr"] < 10**-2.76 for one in drawn) < 32  # half of them, on a log scale
    assert all(made.lr == one["lr"] for made, one in zip(found.recipes[1:], drawn, strict=True))


def test_draws_depend_on_seed_contender_and_number_alone() -> None:
    first, again = suggestions(), suggestions()
    for _ in range(5):
        first.draw()
    assert [again.draw() for _ in range(5)] == first.settings[1:]
    assert suggestions(name="other").draw() != first.settings[1]
    assert suggestions(seed=7).draw() != first.settings[1]


def test_no_trial_has_the_settings_of_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in a large space of choices either, where few draws rarely meet the last of them."""
    monkeypatch.setattr("podium.study.suggestions.MOST_DRAWS", 2)
    space = {
        "augmentation": ["none", "randaugment"],
        "flip_test": [False, True],
        "warmup": [0.1, 0.2],  # without effect: the schedule has no warm-up
        "batch_size": {"uniform": [16, 20]},
    }
    found, again = suggestions(space=space), suggestions(space=space)
    for _ in range(20):  # 2 x 2 x 5; its own settings are none of them
        found.draw()
    assert len({one.model_dump_json() for one in found.recipes}) == 21
    for number in range(20):  # and the same ones where some of them were begun before
        again.draw(found.recipes[number + 1].model_dump(mode="json") if number % 2 else None)
    assert again.settings == found.settings
    found.draw()  # nothing is left
    assert found.recipes[-1] in found.recipes[:-1]


def test_a_trial_that_was_begun_as_a_repeat_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier version repeated a trial after so many draws; its folder must stay of use."""
    monkeypatch.setattr("podium.study.suggestions.MOST_DRAWS", 1)
    space = {"augmentation": ["none", "randaugment"], "flip_test": [False, True]}
    once = suggestions(space=space)
    monkeypatch.setattr("podium.study.suggestions.every_drawing", lambda _: None)
    before = suggestions(space=space)
    for _ in range(3):
        before.draw()
        once.draw(before.recipes[-1].model_dump(mode="json"))
    assert once.settings == before.settings
    assert len({one.model_dump_json() for one in once.recipes}) < 4


def test_tpe_follows_what_it_is_told_and_is_the_same_when_told_again() -> None:
    by_tpe = searched(30, sampler="tpe")
    assert searched(30, sampler="tpe") == by_tpe
    assert by_tpe[:10] != by_tpe[10:20]
    at_random = searched(30)
    far = [np.mean([score(one) for one in those[12:]]) for those in (by_tpe, at_random)]
    assert far[0] > far[1] + 0.1  # nearer to the best rate
    # other results, other draws
    other = suggestions(sampler="tpe")
    for number in range(1, 30):
        other.tell(number, "complete", [-score(other.settings[-1])])
        other.draw()
    assert other.settings[12:] != by_tpe[12:]


def test_tpe_takes_trials_that_failed_or_were_ended() -> None:
    found = suggestions(sampler="tpe", prune="median")
    for number in range(1, 15):
        state: Any = ("complete", "pruned", "failed")[number % 3]
        found.tell(number, state, [0.1, 0.2])
        found.draw()
    assert len(found.settings) == 15


def test_without_optuna_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'podium\[tune\]'"):
        suggestions()


def test_optuna_is_as_loud_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    suggestions().draw()
    assert optuna.logging.get_verbosity() == before
    assert capsys.readouterr() == ("", "")


def history(values: Sequence[float], column: str = "valid_accuracy") -> list[dict[str, float]]:
    return [{column: value} for value in values]


def test_trials_end_early_where_optunas_median_pruner_ends_them() -> None:
    """Told the best score so far after each epoch, as its advice is about a trial's best."""
    rng, epochs = np.random.default_rng(3), 6
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=0)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    theirs = optuna.create_study(direction="maximize", pruner=pruner)
    complete: list[list[dict[str, float]]] = []
    ended = 0
    for _ in range(40):
        rows = history((np.sort(rng.random(epochs)) + rng.normal(0, 0.2, epochs)).tolist())
        rows = rows[: int(rng.integers(3, epochs + 1))]  # some stop early by themselves
        floor, trial = median_floor(complete, ACCURACY), theirs.ask()
        best = best_so_far(rows, ACCURACY)
        for epoch in range(1, len(rows) + 1):
            trial.report(best[epoch - 1], epoch)
            behind = falls_behind(rows[:epoch], floor, ACCURACY)
            assert behind == trial.should_prune()
            if behind:
                break
        if behind:
            ended += 1
            theirs.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            complete.append(rows)
            theirs.tell(trial, best[-1])
    assert min(ended, len(complete)) > 4


def test_lower_is_better_where_the_metric_says_so() -> None:
    loss = find_metric("log_loss")
    rows = history([0.9, 0.7, 0.8], loss.column)
    assert best_so_far(rows, loss) == [-0.9, -0.7, -0.7]
    floor = median_floor([rows] * 4, loss)
    assert falls_behind(history([1.0], loss.column), floor, loss)
    assert not falls_behind(history([0.9], loss.column), floor, loss)
    assert not falls_behind([], floor, loss)
    assert median_floor([rows] * 3, loss) == ()
