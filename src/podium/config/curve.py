"""The study behind a learning curve: every contender with several shares of the training images."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from podium.config.settings import RunSpec, StudySpec
from podium.config.text import listed
from podium.errors import ConfigError

SHARES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
SEEDS = (0, 1, 2, 3, 4)


def curve_study(
    spec: StudySpec,
    shares: Sequence[float] = SHARES,
    seeds: Sequence[int] = SEEDS,
    folds: int | None = None,
) -> StudySpec:
    """The study `NAME-curve` that measures a study's learning curves, without its test images.

    Args:
        spec: the study.
        shares: of the training images, above 0 and at most 1; 1 is always among them.
        seeds: each draws its own images.
        folds: cross-validation on all but the test images; None: the study's own setting.

    Raises:
        ConfigError: a share is out of range, or the study has shares already, means or `tune`.

    Examples:
        >>> from podium.config.curve import curve_study
        >>> from podium.config.studyfile import load_study
        >>> found = curve_study(load_study("demo"), shares=[0.1, 0.5])
        >>> found.name, list(found.contenders)[:2], found.data.score_on
        ('demo-curve', ['simple_resnet-at-10', 'simple_resnet-at-50'], 'valid')
    """
    if has_shares(spec):
        raise ConfigError(
            f"{spec.name}: its contenders have a train_share already. Give the study without it; "
            "--shares sets it."
        )
    if means := [name for name, recipe in spec.contenders.items() if recipe.mean_of]:
        raise ConfigError(
            f"{spec.name}: {listed(means)} trains nothing, so it has no learning curve. Give the "
            "study without means of contenders."
        )
    if spec.tune is not None:
        raise ConfigError(
            f"{spec.name}: its settings are tuned, and a learning curve has the same ones for all "
            "shares. Leave out tune; tuning.json of the tuned study says what it chose."
        )
    if wrong := [one for one in shares if not 0 < one <= 1]:
        raise ConfigError(
            f"--shares: expected shares above 0 and at most 1, such as 0.1,0.3,1; got {wrong[0]:g}."
        )
    every = sorted({*shares, 1.0})
    if len(every) < 2:
        raise ConfigError("--shares: expected two or more, such as 0.1,0.3,1.")
    contenders = {}
    for name, recipe in spec.contenders.items():
        for share in every:
            label = (recipe.label or name)[:48]
            changes = {"train_share": share, "label": f"{label}, {100 * share:g} %"}
            if share == 1:
                changes["label"] = label
            contenders[f"{name}-at-{100 * share:g}"] = recipe.model_dump(mode="json") | changes
    values = spec.model_dump(mode="json", exclude_defaults=True)
    data = {**values["data"], "score_on": "valid"}
    if folds is not None:
        data["folds"] = folds
    values |= {"name": f"{spec.name}-curve", "data": data, "contenders": contenders}
    values |= {"seeds": list(seeds), "final_model": "ensemble" if data.get("folds") else "refit"}
    try:
        return StudySpec.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{spec.name}: no curve can be made of it. {where}: {first['msg']}."
        ) from None


def has_shares(spec: StudySpec) -> bool:
    """Whether some contender of a study learns from a share of the training images.

    Args:
        spec: the study.
    """
    return any(recipe.train_share < 1 for recipe in spec.contenders.values())


def without_share(recipe: RunSpec) -> RunSpec:
    """A recipe as that of all shares of its curve.

    Args:
        recipe: of a contender.
    """
    return recipe.model_copy(update={"train_share": 1.0, "label": None})
