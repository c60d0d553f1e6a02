"""The settings that a tuning tries, drawn by Optuna: the same whenever and wherever they are asked.

A draw depends on the seed of the tuning, the contender, the number of the trial and, with `tpe`,
on the trials before it, told in order of number. Nothing of Optuna's is kept: a tuning that goes
on after a kill tells it the finished trials again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from podium.config.settings import RunSpec
from podium.config.tuning import Range, Tune, every_drawing, tunable, with_settings
from podium.errors import ConfigError
from podium.runs.tuning import State

if TYPE_CHECKING:
    import optuna

MOST_DRAWS = 200  # for settings that no earlier trial of the contender had; then an untried one
RANDOM_AT_FIRST = 10  # trials of `tpe`, as Optuna has it
_DIGITS = 3  # of a number that is drawn: more would be noise


class Suggestions:
    """The settings of one contender's trials, in order of number.

    Args:
        tune: of the study.
        name: of the contender.
        recipe: of the contender, as written.
        ranges: of the study.

    Raises:
        ConfigError: Optuna is not installed.
    """

    def __init__(self, tune: Tune, name: str, recipe: RunSpec, ranges: Mapping[str, Range]) -> None:
        self.tune, self.name, self.recipe = tune, name, recipe
        self.ranges = tunable(recipe, ranges)
        self.settings: list[dict[str, Any]] = [{}]
        """Of the trials that are known: what was drawn and has an effect; of the first, nothing."""
        self.recipes: list[RunSpec] = [recipe]
        """What they train."""
        self._optuna = require_optuna()
        level = self._optuna.logging.get_verbosity()
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self._study = self._optuna.create_study(direction="maximize")
        self._optuna.logging.set_verbosity(level)
        self._distributions = {name: self._distribution(one) for name, one in self.ranges.items()}
        self._asked: list[optuna.Trial | None] = [None]

    def draw(self, begun: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Draw the next trial's settings; with `tpe`, those before it must have been told.

        No trial repeats an earlier one while an untried combination is left, unless it was begun
        so: an earlier version of Podium drew no further then.

        Args:
            begun: the recipe that this trial was begun with, as stored; None: it was not begun.
        """
        number = len(self.settings) + 1
        for attempt in range(MOST_DRAWS):
            seed = _seed(self.tune.seed, self.name, number, attempt)
            asked, used, made = self._ask(seed)
            if made not in self.recipes or attempt == MOST_DRAWS - 1:
                break
            self._discard(asked)
        if made in self.recipes and (begun is None or made.changes_from(begun)):
            untried = [params for params, one in self._every if one not in self.recipes]
            if untried:
                self._discard(asked)
                self._study.enqueue_trial(untried[seed % len(untried)])
                asked, used, made = self._ask(seed)
        self.recipes.append(made)
        self.settings.append(used)
        self._asked.append(asked)
        return used

    def _ask(self, seed: int) -> tuple[optuna.Trial, dict[str, Any], RunSpec]:
        """Optuna's next trial; what of it has an effect; what that trains."""
        self._study.sampler = self._sampler(seed)
        asked = self._study.ask(self._distributions)
        drawn = {name: self._value(name, asked.params[name]) for name in self.ranges}
        made, used = with_settings(self.recipe, drawn)
        return asked, used, made

    def _discard(self, asked: optuna.Trial) -> None:
        self._study.tell(asked, state=self._optuna.trial.TrialState.FAIL)

    @cached_property
    def _every(self) -> list[tuple[dict[str, Any], RunSpec]]:
        """All combinations as Optuna has them, with what each trains; none of too large a space."""
        return [
            (
                {
                    name: one.choices.index(drawn[name]) if one.choices else drawn[name]
                    for name, one in self.ranges.items()
                },
                with_settings(self.recipe, drawn)[0],
            )
            for drawn in every_drawing(self.ranges) or ()
        ]

    def tell(self, number: int, state: State, merits: Sequence[float]) -> None:
        """Tell what a trial came to; call it in order of number.

        Args:
            number: of the trial, from 1.
            state: how it ended.
            merits: its validation score so far after each epoch, higher is better.
        """
        states, asked = self._optuna.trial.TrialState, self._asked[number - 1]
        if asked is None:
            self._tell_own(state, merits)
        elif state == "complete":
            self._study.tell(asked, merits[-1])
        elif state == "pruned":
            for epoch, merit in enumerate(merits, 1):
                asked.report(merit, epoch)
            self._study.tell(asked, state=states.PRUNED)
        else:
            self._study.tell(asked, state=states.FAIL)

    def _tell_own(self, state: State, merits: Sequence[float]) -> None:
        """Tell the trial of the contender's own settings, if the space has them."""
        own: dict[str, float] = {}
        for name, one in self.ranges.items():
            value = getattr(self.recipe, name)
            if one.choices and value in one.choices:
                own[name] = one.choices.index(value)
            elif (
                not one.choices and isinstance(value, int | float) and one.low <= value <= one.high
            ):
                own[name] = value
        if state == "complete" and len(own) == len(self.ranges):
            self._study.add_trial(
                self._optuna.trial.create_trial(
                    params=own, distributions=self._distributions, value=merits[-1]
                )
            )

    def _sampler(self, seed: int) -> Any:
        samplers = self._optuna.samplers
        if self.tune.sampler == "tpe":
            return samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_AT_FIRST)
        return samplers.RandomSampler(seed=seed)

    def _distribution(self, one: Range) -> Any:
        kinds = self._optuna.distributions
        if one.choices:  # by number: Optuna knows no lists and mappings
            return kinds.CategoricalDistribution(range(len(one.choices)))
        if one.whole:
            return kinds.IntDistribution(int(one.low), int(one.high), log=one.log)
        return kinds.FloatDistribution(one.low, one.high, log=one.log)

    def _value(self, name: str, drawn: Any) -> Any:
        one = self.ranges[name]
        if one.choices:
            return one.choices[drawn]
        if one.whole:
            return drawn
        digits = _DIGITS - 1 - math.floor(math.log10(abs(drawn))) if drawn else 0
        return min(max(round(drawn, digits), one.low), one.high)


def require_optuna() -> Any:
    """Import Optuna.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "tune: needs Optuna, which is not installed. Install it with: "
            "pip install 'podium[tune]'"
        ) from None
    return optuna


def _seed(seed: int, name: str, number: int, attempt: int) -> int:
    """A seed for one draw: a hash, so that neighbouring numbers give unrelated draws."""
    text = f"{seed} {name} {number} {attempt}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
