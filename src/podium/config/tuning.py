"""Tuning: the settings that are searched, those of them that matter to a contender, mistakes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PlainValidator, TypeAdapter, ValidationError, WithJsonSchema

from podium.config.fields import Strict
from podium.config.shortcuts import SHORTCUT_MODELS
from podium.config.text import did_you_mean, listed

if TYPE_CHECKING:
    Recipe = Any  # a RunSpec, whose module imports this one

OF_THE_CONTENDER = (
    *("model", "pretrained", "weights", "if_unavailable", "mean_of", "label", "train_share"),
)
"""What a contender is, rather than how it is trained: another value is another contender."""
OF_A_PROBE = (
    *("pooling", "image_size", "normalize", "class_weights", "effective_beta", "flip_test"),
    *("freeze", "linear_probe"),
)
"""The settings that matter where a linear probe is the whole run: nothing is descended."""
LONGEST_NAME = 88
"""Characters of a contender that is tuned: the names of its trials are longer."""
_MOST_LISTED = 1000  # combinations of choices that are counted one by one
_FORMS = "expected a list of choices, or {log: [low, high]} or {uniform: [low, high]}"


def _dimension(value: Any) -> Any:
    """A list of choices, or a mapping of `log` or `uniform` to two numbers."""
    if isinstance(value, list | tuple):
        if len({repr(one) for one in value}) < max(2, len(value)):
            raise ValueError("expected two or more choices, all different")
        return list(value)
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ValueError(_FORMS)
    scale, ends = next(iter(value.items()))
    if scale not in ("log", "uniform"):
        raise ValueError(_FORMS)
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError):
        raise ValueError(f"{scale} expected two numbers, [low, high]") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{scale} expected two numbers, the first below the second")
    if scale == "log" and low <= 0:
        raise ValueError(
            f"log needs numbers above 0, and {low:g} is not; give the lowest that matters, or use "
            "uniform"
        )
    return {scale: [low, high]}


_ENDS = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
Dimension = Annotated[
    Any,
    PlainValidator(_dimension),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "minItems": 2},
                *(
                    {
                        "type": "object",
                        "properties": {scale: _ENDS},
                        "required": [scale],
                        "additionalProperties": False,
                    }
                    for scale in ("log", "uniform")
                ),
            ]
        }
    ),
]


class Tune(Strict):
    """A search for better settings of every contender, on training and validation images alone.

    Examples:
        >>> from podium.config.tuning import Tune
        >>> Tune(trials=12, space={"lr": {"log": [1e-4, 3e-2]}}).sampler
        'random'
    """

    trials: int = Field(ge=2, le=1000)
    """Trainings of each contender; the first is the contender as it is written. A contender for
    which the space has fewer different settings gets one trial of each."""
    space: dict[str, Dimension] = Field(min_length=1)
    """Setting of a contender -> a list of choices, or `{log: [low, high]}` or `{uniform: [low,
    high]}` for a number. Where a setting has no effect on a contender, its own value stays."""
    sampler: Literal["random", "tpe"] = "random"
    """`random`: independent draws, all of which can be trained at a time. `tpe`: after 10 random
    trials, each draw follows what those before it came to (Optuna's tree-structured Parzen
    estimator), so the trials of a contender are trained one after the other."""
    prune: Literal["none", "median"] = "none"
    """`median`, a median stopping rule: end a trial after an epoch if its best validation score so
    far is worse than the median of the best scores so far of the complete trials before it, 4 or
    more, after as many epochs. It counts as a trial. The trials of a contender are then trained one
    after the other."""
    seed: int = Field(default=1000, ge=0, lt=2**31)
    """Seed of the draws and of every trial. It must not be one of the study's `seeds`."""

    @property
    def is_sequential(self) -> bool:
        """Whether a trial depends on those before it."""
        return self.sampler != "random" or self.prune != "none"


@dataclass(frozen=True)
class Range:
    """The values that a setting is searched over."""

    choices: tuple[Any, ...] = ()
    """One of these; empty: a number from `low` to `high`."""
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    """Whether it is a whole number."""

    @property
    def samples(self) -> tuple[Any, ...]:
        """Every choice, or the two ends."""
        return self.choices or (self.low, self.high)

    @property
    def size(self) -> float:
        """The number of different values."""
        if self.choices:
            return len(self.choices)
        return self.high - self.low + 1 if self.whole else math.inf


def ranges_of(tune: Tune, kind: type[Recipe], *, stored: bool = False) -> dict[str, Range]:
    """The space with values of the settings' own types, by name in alphabetical order.

    Args:
        tune: of a study.
        kind: `RunSpec`.
        stored: as in `load_study`.

    Raises:
        ValueError: a setting or a value of it does not exist; one mistake per line.
    """
    found, wrong = {}, []
    for name, given in sorted(tune.space.items()):
        try:
            found[name] = _range(kind, name, given, stored)
        except ValueError as error:
            wrong += [f"tune.space.{name}: {line}" for line in str(error).split("\n")]
    if wrong:
        raise ValueError("\n".join(wrong))
    return found


def _range(kind: type[Recipe], name: str, given: Any, stored: bool) -> Range:
    tunable = [one for one in kind.model_fields if one not in OF_THE_CONTENDER]
    if name in OF_THE_CONTENDER:
        raise ValueError(
            f"{name} says what a contender is, not how it is trained. Write one contender for each "
            "value, so that the study compares them"
        )
    if name not in tunable:
        raise ValueError(f"there is no such setting.{did_you_mean(name, tunable)}")
    if isinstance(given, list):
        values, wrong = [], []
        for one in given:
            try:
                values.append(_typed(kind, name, one, stored))
            except ValueError as error:
                wrong.append(str(error))
        if wrong:
            raise ValueError("\n".join(wrong))
        return Range(tuple(values))
    ((scale, ends),) = given.items()
    low, high = (_typed(kind, name, end, stored, number=True) for end in ends)
    return Range((), low, high, scale == "log", isinstance(low, int))


def _typed(kind: type[Recipe], name: str, value: Any, stored: bool, *, number: bool = False) -> Any:
    """A value as the recipe has it, whatever it may exclude."""
    context = {"stored": stored}
    field = kind.model_fields[name]
    try:
        try:
            made = kind.model_validate({"model": "", "epochs": 1, name: value}, context=context)
            found = getattr(made, name)
        except ValidationError as error:
            if any(one["loc"][:1] == (name,) for one in error.errors()):
                raise
            # it excludes other settings, of which some contender may have another value
            annotation = Annotated[field.annotation, field, *field.metadata]  # type: ignore[name-defined]
            found = TypeAdapter(annotation).validate_python(value, context=context)
    except ValidationError as error:
        first = next(one for one in error.errors() if one["loc"][:1] in ((name,), ()) or one)
        told = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        wanted = told if first["msg"].startswith("Value error") else f"expected {told}"
        got = f"{value:g}" if isinstance(value, float) else repr(value)
        raise ValueError(told if got in told else f"{wanted}; got {got}") from None
    if number and (isinstance(found, bool) or not isinstance(found, int | float)):
        raise ValueError("is not a number: give a list of choices")
    return found


def with_settings(recipe: Recipe, drawn: Mapping[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """A recipe with what was drawn for it, as far as that has an effect.

    A setting that others exclude, such as `crop_scale` beside `augmentation: none`, keeps the
    recipe's own value; so does one that nothing reads, such as the learning rate of a probe.

    Args:
        recipe: of the contender, as written.
        drawn: setting -> value.

    Returns:
        `(recipe, used)`: the recipe to train, and what of `drawn` it has.

    Examples:
        >>> from podium.config.settings import RunSpec
        >>> from podium.config.tuning import with_settings
        >>> plain = RunSpec(model="simple_resnet", epochs=2)
        >>> with_settings(plain, {"lr": 0.01, "crop_scale": 0.5})[1]
        {'lr': 0.01}
    """
    names = [*drawn]
    for size in range(len(names) + 1):
        for left_out in itertools.combinations(reversed(names), size):
            used = {name: drawn[name] for name in names if name not in left_out}
            if (made := _made(recipe, used)) is not None:
                idle = [name for name in used if not _has_effect(made, name)]
                if not idle:
                    return made, used
                return with_settings(recipe, {k: v for k, v in used.items() if k not in idle})
    raise AssertionError("a recipe with nothing changed is valid")


def _made(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe | None:
    try:
        values = {**recipe.model_dump(mode="json"), **changes}
        return type(recipe).model_validate(values, context={"stored": True})
    except ValidationError:
        return None


def _has_effect(recipe: Recipe, name: str) -> bool:
    """Whether anything reads a setting of a recipe; what excludes it is a mistake in a recipe."""
    if recipe.is_probe_alone:
        return name in OF_A_PROBE
    needs = {
        "lr_drop_factor": recipe.lr_drop is not None,
        "plateau_patience": recipe.lr_drop == "plateau",
        "warmup": recipe.lr_schedule == "one_cycle",
        "decay_norm_bias": recipe.weight_decay > 0,
    }
    return bool(needs.get(name, True))


def tunable(recipe: Recipe, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The part of a space that can have an effect on a contender; empty: it is not tuned.

    Args:
        recipe: of the contender.
        ranges: of the study.
    """
    if recipe.mean_of or recipe.model in SHORTCUT_MODELS:
        return {}
    return {name: one for name, one in ranges.items() if _applies(recipe, name, ranges)}


def _applies(recipe: Recipe, name: str, ranges: Mapping[str, Range]) -> bool:
    """Whether some value has an effect, perhaps beside another value of one other setting."""
    others: Iterator[dict[str, Any]] = (
        {other: value} for other in ranges if other != name for value in ranges[other].samples
    )
    for beside in itertools.chain([{}], others):
        base = _made(recipe, beside)
        for value in ranges[name].samples:
            made = None if base is None else _made(base, {name: value})
            if made is not None and made != base and _has_effect(made, name):
                return True
    return False


def trials_of(recipe: Recipe, ranges: Mapping[str, Range], most: int) -> int:
    """The number of trials that a contender gets: `most`, or all different settings if fewer.

    Args:
        recipe: of the contender.
        ranges: the part of the space that has an effect on it; empty: it is not tuned.
        most: trials of each contender.
    """
    if not ranges:
        return 0
    every = every_drawing(ranges)
    if every is None:
        return most
    different = {recipe.model_dump_json()}
    for drawn in every:
        made, _ = with_settings(recipe, drawn)
        different.add(made.model_dump_json())
    return min(most, len(different))


def every_drawing(ranges: Mapping[str, Range]) -> list[dict[str, Any]] | None:
    """All that can be drawn from a space; None: more than a thousand combinations.

    Args:
        ranges: the part of the space that has an effect on a contender.
    """
    if math.prod(one.size for one in ranges.values()) > _MOST_LISTED:
        return None
    values = [one.choices or range(int(one.low), int(one.high) + 1) for one in ranges.values()]
    return [dict(zip(ranges, one, strict=True)) for one in itertools.product(*values)]


def tune_mistakes(
    study: Any, kind: type[Recipe], context: Mapping[str, Any] | None = None
) -> list[str]:
    """What is wrong with the tuning of a study, one sentence each; empty if it has none.

    Args:
        study: a `StudySpec`.
        kind: `RunSpec`.
        context: of the validation, with `stored` as in `load_study`.
    """
    tune: Tune | None = study.tune
    if tune is None or study.data.score_on == "nothing":  # as that of the trials themselves
        return []
    recipes, stored = study.contenders, bool((context or {}).get("stored"))
    wrong = []
    if study.data.folds:
        wrong.append(
            "tune: needs one split. With data.folds every image is tested in some fold, so that "
            "settings chosen on any of them have seen test images; to choose them anew within "
            "every fold would take folds x trials trainings. Leave out folds, or tune in a study "
            "on one split and write what it chose into this one"
        )
    elif study.data.score_on == "valid":
        wrong.append(
            "tune: cannot choose on the images that data.score_on: valid scores on. Leave out one "
            "of the two"
        )
    if tune.seed in study.every_seed:
        wrong.append(
            f"tune.seed: {tune.seed} is one of the study's seeds. Give another, so that no judged "
            "training is one that the settings were chosen by"
        )
    wrong += [
        f"contenders.{name}: expected at most {LONGEST_NAME} characters in the name of a contender "
        f"that is tuned, got {len(name)}"
        for name in recipes
        if len(name) > LONGEST_NAME
    ]
    try:
        ranges = ranges_of(tune, kind, stored=stored)
    except ValueError as error:
        return [*wrong, *str(error).split("\n")]
    if not any(tunable(recipe, ranges) for recipe in recipes.values()):
        wrong.append(
            f"tune.space: {listed(sorted(ranges))} has no effect on any contender of this study"
        )
    return [*wrong, *_swept(recipes, ranges)]


def _swept(recipes: Mapping[str, Recipe], ranges: Mapping[str, Range]) -> Iterator[str]:
    """Contenders that the study compares by a setting that tuning would set for both."""
    for (first, one), (second, other) in itertools.combinations(recipes.items(), 2):
        if one.mean_of or other.mean_of:
            continue
        a, b = (recipe.model_dump(mode="json") for recipe in (one, other))
        differ = [key for key in a if key != "label" and a[key] != b[key]]
        if differ and all(key in ranges for key in differ):
            names = listed(sorted(differ))
            yield (
                f"tune.space.{differ[0]}: {first} and {second} differ only in {names}, which "
                "tuning would choose for both: the study could not compare them. Leave "
                f"{names} out of the space, or one of the two contenders out of the study"
            )


def trial_name(contender: str, number: int) -> str:
    """The name of a trial, a contender in the study of the trials.

    Args:
        contender: that is tuned.
        number: of the trial, from 1.
    """
    return f"{contender}-trial-{number}"


def earlier_trials(study: Any, name: str) -> list[str]:
    """The trials that decide whether a trial is ended early: those of the same contender before it.

    Args:
        study: a `StudySpec`, perhaps of trials.
        name: of a contender in it.
    """
    if study.data.score_on != "nothing" or study.tune.prune == "none":
        return []
    contender, _, number = name.rpartition("-trial-")
    return [trial_name(contender, before) for before in range(1, int(number))]
