"""The questions of a study: pairs of contenders that differ in one respect (and in what else)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from podium.config.settings import RunSpec

Kind = Literal["augmentation", "architecture", "transfer", "imbalance", "settings"]

AUGMENTATION = ("augmentation", "mixup", "cutmix")
START = ("pretrained", "weights")
IMBALANCE = ("class_weights", "effective_beta", "sampler", "logit_tau")
IGNORED = ("label", "if_unavailable", "model", *AUGMENTATION, *START)


@dataclass(frozen=True)
class Question:
    """How much `first` gains over `second`."""

    kind: Kind
    first: str
    """The contender with the treatment in question."""
    second: str
    also: tuple[str, ...]
    """Other settings that differ and may explain the difference."""


def questions(
    recipes: Mapping[str, RunSpec], valid_merit: Mapping[str, float | None] | None = None
) -> list[Question]:
    """Find the pairs of contenders that answer the questions of a study.

    - augmentation: same model and initialisation, with augmentation versus without;
    - architecture: different models under the same augmentation, both from scratch or both
      pre-trained; with many models, each versus the first;
    - transfer: each pre-trained contender versus the closest one trained from scratch: the same
      model, else the same augmentation, and of several the best on the validation images (never
      on the test images: that would select the difference);
    - imbalance: same model, augmentation and initialisation, with class weights, a balanced sampler
      or logit adjustment versus without;
    - settings: the same three, with other settings that differ.

    A mean of other contenders answers none: it has no settings of its own.

    Args:
        recipes: of every contender by name, in the study's order.
        valid_merit: validation score of every contender where it is known, higher is better.

    Returns:
        The questions, sorted by kind in the order above.
    """
    recipes = {name: recipe for name, recipe in recipes.items() if not recipe.mean_of}
    names = list(recipes)
    found: list[Question] = []
    for at, second in enumerate(names):
        for first in names[at + 1 :]:
            question = _question(first, second, recipes)
            if question is not None:
                found.append(question)
    found = _against_the_first_model(found, recipes)
    for name in names:
        partner = _from_scratch(name, recipes, valid_merit or {})
        if partner is not None:
            found.append(Question("transfer", name, partner, _also(name, partner, recipes, True)))
    order: tuple[Kind, ...] = get_args(Kind)
    return sorted(found, key=lambda question: order.index(question.kind))


def _question(first: str, second: str, recipes: Mapping[str, RunSpec]) -> Question | None:
    a, b = recipes[first], recipes[second]
    if _is_pretrained(a) != _is_pretrained(b):
        return None
    model, varied = a.model == b.model, _augmentation(a) == _augmentation(b)
    if model and varied:
        if _imbalance(a) != _imbalance(b):
            return _weighting(first, second, recipes)
        also = _also(first, second, recipes, False)
        return Question("settings", first, second, also) if also else None
    if model and _augmentation(a) != _augmentation(b):
        plain = [_augmentation(one) == ("none", 0.0, 0.0) for one in (a, b)]
        if plain == [True, False]:
            first, second = second, first
        elif plain == [False, False]:
            return None  # one policy versus another: covered by the table of pairs
        return Question("augmentation", first, second, _also(first, second, recipes, False))
    if varied:
        return Question("architecture", first, second, _also(first, second, recipes, False))
    return None


def _weighting(first: str, second: str, recipes: Mapping[str, RunSpec]) -> Question | None:
    plain = [_imbalance(recipes[name]) == _imbalance(None) for name in (first, second)]
    if plain == [False, False]:
        return None  # one remedy versus another: covered by the table of pairs
    if plain == [True, False]:
        first, second = second, first
    losses = {recipes[first].loss, recipes[second].loss}
    asked = {*IMBALANCE, *(("loss",) if losses == {"logit_adjusted", "cross_entropy"} else ())}
    also = _also(first, second, recipes, False)
    return Question("imbalance", first, second, tuple(key for key in also if key not in asked))


def _against_the_first_model(
    found: list[Question], recipes: Mapping[str, RunSpec]
) -> list[Question]:
    """Keep only the architecture pairs with the first model of their group."""
    kept = []
    for question in found:
        if question.kind == "architecture":
            second = recipes[question.second]
            group = [
                name
                for name, recipe in recipes.items()
                if _is_pretrained(recipe) == _is_pretrained(second)
                and _augmentation(recipe) == _augmentation(second)
            ]
            if question.second != group[0]:
                continue
        kept.append(question)
    return kept


def _from_scratch(
    name: str, recipes: Mapping[str, RunSpec], valid: Mapping[str, float | None]
) -> str | None:
    own = recipes[name]
    if not _is_pretrained(own):
        return None
    others = [other for other, recipe in recipes.items() if not _is_pretrained(recipe)]
    for alike in (
        [other for other in others if recipes[other].model == own.model],
        [other for other in others if _augmentation(recipes[other]) == _augmentation(own)],
        others,
    ):
        if alike:
            known = {other: merit for other in alike if (merit := valid.get(other)) is not None}
            return max(alike, key=lambda other: known.get(other, -math.inf))
    return None


def _also(first: str, second: str, recipes: Mapping[str, RunSpec], across: bool) -> tuple[str, ...]:
    """Names of other settings that differ; `across` includes model and augmentation."""
    a, b = recipes[first], recipes[second]
    keys = [key for key in RunSpec.model_fields if key not in IGNORED]
    if across:
        keys = ["model", *AUGMENTATION, *keys]
    return tuple(key for key in keys if getattr(a, key) != getattr(b, key))


def _is_pretrained(recipe: RunSpec) -> bool:
    return recipe.pretrained or recipe.weights is not None


def _augmentation(recipe: RunSpec) -> tuple[str, float, float]:
    return recipe.augmentation, recipe.mixup, recipe.cutmix


def _imbalance(recipe: RunSpec | None) -> tuple[Any, ...]:
    """How a recipe treats classes of unequal size; None: as one that does not."""
    if recipe is None:
        return "none", None, "shuffle", None
    return (
        recipe.class_weights,
        recipe.effective_beta if recipe.class_weights == "effective" else None,
        recipe.sampler,
        recipe.logit_tau if recipe.loss == "logit_adjusted" else None,
    )
