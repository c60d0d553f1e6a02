"""The record of a tuning, `tuning.json`: the trials of every contender, and what was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from podium.config.tuning import with_settings
from podium.errors import RunFolderError
from podium.runtime.files import read_json, write_json

if TYPE_CHECKING:
    from podium.config.settings import StudySpec

FORMAT = 1
State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """One training of a contender with settings that were tried."""

    number: int
    """From 1; the first has the settings that the contender is written with."""
    settings: Mapping[str, Any]
    """What was drawn for it and has an effect; empty: its own settings."""
    state: State
    """`pruned`: ended early, see `tune.prune`; `failed`: its loss was no longer finite, so that it
    has no score."""
    score: float | None
    """Validation score of its best epoch, by the study's metric; None: it failed."""
    valid_accuracy: float | None
    """Of the same epoch, 0..1."""
    best_epoch: int | None
    epochs: int
    """Epochs that were trained."""
    seconds: float
    """Of training and validation."""
    why: str = ""
    """Why it failed; empty string: it did not."""


@dataclass(frozen=True)
class TunedContender:
    """The trials of one contender."""

    trials: tuple[Trial, ...]
    """In order of number."""
    chosen: int
    """Number of the best one, whose settings the contender is trained with."""
    recipe: Mapping[str, Any]
    """The contender as it was written then, as plain values."""

    @property
    def best(self) -> Trial:
        """The trial that was chosen."""
        return self.trials[self.chosen - 1]


@dataclass(frozen=True)
class Tuning:
    """The content of `tuning.json`."""

    tune: Mapping[str, Any]
    """The study's `tune`, as plain values."""
    metric: Mapping[str, Any]
    """The metric that chose, as in `done.json`."""
    contenders: Mapping[str, TunedContender] = field(default_factory=dict)
    """Those that are tuned so far, by name."""


def tuning_file(study: Path) -> Path:
    """Where a study keeps the record of its tuning.

    Args:
        study: the study's folder.
    """
    return study / "tuning.json"


def trials_folder(study: Path) -> Path:
    """The folder of the trials: that of a study whose contenders they are.

    Args:
        study: the study's folder.
    """
    return study / "tuning"


def read_tuning(study: Path) -> Tuning | None:
    """The record of a study's tuning; None: nothing is tuned yet.

    Args:
        study: the study's folder.

    Raises:
        RunFolderError: the file is damaged.
    """
    file = tuning_file(study)
    if not file.is_file():
        return None
    values = read_json(file)
    try:
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']}")
        contenders = {
            name: TunedContender(
                tuple(Trial(**trial) for trial in one["trials"]), one["chosen"], one["recipe"]
            )
            for name, one in values["contenders"].items()
        }
        return Tuning(values["tune"], values["metric"], contenders)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunFolderError(
            f"{file} is damaged, or of another version ({error!r}). Restore it from a copy; or "
            "remove it and the folders of the study's runs, and run the study again: the trials in "
            "tuning/ are kept."
        ) from None


def write_tuning(study: Path, tuning: Tuning) -> None:
    """Write the record of a study's tuning.

    Args:
        study: the study's folder.
        tuning: its content.
    """
    write_json(tuning_file(study), {"format": FORMAT, **asdict(tuning)})


def chosen_of(spec: StudySpec, study: Path) -> dict[str, TunedContender]:
    """The contenders of a study that are tuned, as it asks for and as they are written.

    Args:
        spec: the study as written.
        study: its folder.

    Raises:
        RunFolderError: the record of the tuning is damaged.
    """
    tuning = read_tuning(study) if spec.tune is not None else None
    if tuning is None or not _is_of(tuning, spec):
        return {}
    return {
        name: one
        for name, one in tuning.contenders.items()
        if name in spec.contenders and not spec.contenders[name].changes_from(one.recipe)
    }


def _is_of(tuning: Tuning, spec: StudySpec) -> bool:
    """Whether a study asks for this tuning, by the metric that chose."""
    asked = None if spec.tune is None else spec.tune.model_dump(mode="json")
    return tuning.tune == asked and tuning.metric.get("name") == spec.metric


def with_chosen(spec: StudySpec, study: Path) -> StudySpec:
    """A study as it is trained: each tuned contender with the settings that were chosen for it.

    Args:
        spec: the study as written.
        study: its folder.

    Raises:
        RunFolderError: the record of the tuning is damaged.
    """
    tuned = {
        name: with_settings(spec.contenders[name], one.best.settings)[0]
        for name, one in chosen_of(spec, study).items()
    }
    return spec.model_copy(update={"contenders": {**spec.contenders, **tuned}}) if tuned else spec


def how_tuned(spec: StudySpec, study: Path, contender: str) -> dict[str, Any] | None:
    """How a contender's settings were chosen, for `done.json`; None: they were not.

    Args:
        spec: the study as it is trained.
        study: its folder.
        contender: name of the contender.

    Raises:
        RunFolderError: the record of the tuning is damaged.
    """
    tuning = read_tuning(study)
    if tuning is None or not _is_of(tuning, spec) or contender not in tuning.contenders:
        return None
    found = tuning.contenders[contender]
    return {
        "trials": len(found.trials),
        "chosen": found.chosen,
        "settings": dict(found.best.settings),
        "score": found.best.score,
        "sampler": tuning.tune["sampler"],
    }
