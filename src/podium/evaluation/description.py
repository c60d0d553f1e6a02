"""The description of a model in `model.json`, validated before anything is built from it.

A run's folder may come from anybody. Its weights are safetensors, which hold only numbers, and
this file is plain JSON, every value of which is checked here: neither can run code, refer to a
file elsewhere, or request more memory than the weights file itself needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from podium.config.means import MOST_MEMBERS
from podium.config.registry import MODELS
from podium.config.settings import Pooling
from podium.data.grey import AS_BEFORE_WINDOWS, StoredWindows
from podium.data.transforms import Normalization
from podium.errors import ConfigError, PodiumError, RunFolderError
from podium.evaluation.ensemble import Ensemble, Prepared
from podium.models import build_model, rebuild_model
from podium.runtime.files import read_json

DESCRIPTION_FORMAT = 1

Channel = Annotated[float, Field(ge=-1e3, le=1e3, allow_inf_nan=False)]
Deviation = Annotated[float, Field(gt=0, le=1e3, allow_inf_nan=False)]


class Conformity(BaseModel):
    """The probability that the model gives the true class of each validation image."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    labels: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """Index of the true class of each image."""
    probabilities: list[Annotated[float, Field(ge=0, le=1)]]
    """Of that class, in the same order."""


class Part(BaseModel):
    """How to rebuild a network, or several that differ in weights, and what images it takes."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=(), strict=True)

    model: str = Field(min_length=1, max_length=200)
    pooling: Pooling = "own"
    image_size: int = Field(ge=1, le=4096)
    """Side of its input images, pixels."""
    mean: tuple[Channel, ...] | None
    std: tuple[Deviation, ...] | None
    """Per channel, of inputs in 0..1; None: inputs are not normalised."""
    flip_test: bool = False
    """Whether its logits are averaged with those of the mirror image."""
    members: int = Field(default=1, ge=1, le=100_000)
    """Number of models that an ensemble averages; 1: a single model."""

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _list_as_tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @property
    def normalization(self) -> Normalization:
        return None if self.mean is None or self.std is None else (self.mean, self.std)


class ModelDescription(Part):
    """How to rebuild a trained model, and how to prepare its images."""

    class_names: Annotated[list[str], Field(min_length=1)]
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Divides the logits before softmax; 1 until it is fitted."""
    best_epoch: int | None = None
    trained_by: Literal["run", "refit", "ensemble", "mean"] = "run"
    """`run`: on the training images. After cross-validation: `refit`, on all images, or
    `ensemble`, the mean of the folds' models. `mean`: of the models of other contenders, `parts`.
    """
    parts: Annotated[tuple[Part, ...], Field(max_length=MOST_MEMBERS)] = ()
    """Of a mean: the models that it averages, each with as many members as the others. It takes
    images of its own size, in 0..1, and each part resizes and normalises them."""
    grey_windows: StoredWindows = AS_BEFORE_WINDOWS
    """How grey values deeper than 8 bits are mapped, and the number of channels if images are not
    decoded to RGB; missing in runs of earlier versions."""
    conformity: Conformity | None = None
    """What its sets of classes are calibrated with; only in published models, which come without
    the predictions of the validation images."""

    @field_validator("class_names")
    @classmethod
    def _classes_differ(cls, names: list[str]) -> list[str]:
        if len(set(names)) != len(names) or not all(names):
            raise ValueError("expected non-empty names that are all different")
        return names

    @field_validator("parts", mode="before")
    @classmethod
    def _objects_as_parts(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        return tuple(Part.model_validate(one) if isinstance(one, dict) else one for one in value)

    @model_validator(mode="after")
    def _normalizes_every_channel(self) -> ModelDescription:
        channels = self.grey_windows.inputs
        for part in (self, *self.parts):
            for name, values in (("mean", part.mean), ("std", part.std)):
                if values is not None and len(values) != channels:
                    raise ValueError(f"expected {channels} values of {name}, got {len(values)}")
        return self

    @model_validator(mode="after")
    def _conformity_is_of_its_classes(self) -> ModelDescription:
        found = self.conformity
        if found is not None and len(found.labels) != len(found.probabilities):
            raise ValueError("conformity: expected as many labels as probabilities")
        if found is not None and max(found.labels) >= len(self.class_names):
            raise ValueError(f"conformity: expected labels below {len(self.class_names)}")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> ModelDescription:
        parts = self.parts
        if self.trained_by != "mean":
            if parts:
                raise ValueError(f"parts are those of a mean, not of a {self.trained_by}")
            return self
        if len(parts) < 2 or len({part.members for part in parts}) > 1:
            raise ValueError("expected two or more parts with equally many members")
        if self.members != sum(part.members for part in parts):
            raise ValueError("expected as many members as those of its parts together")
        if self.flip_test or self.normalization is not None:
            raise ValueError("its parts, and not the mean, normalise and mirror images")
        return self


def read_description(path: Path) -> ModelDescription:
    """Read a `model.json`.

    Args:
        path: the file.

    Raises:
        RunFolderError: it is missing, of another format, or has an invalid value.
    """
    values = read_json(path)
    found: object = values.get("format") if isinstance(values, dict) else None
    if isinstance(found, int) and found != DESCRIPTION_FORMAT:
        raise RunFolderError(
            f"{path} has format {found}; this Podium reads format {DESCRIPTION_FORMAT}. "
            "Use the version that wrote it."
        )
    try:
        if found != DESCRIPTION_FORMAT:
            raise ValueError("format is missing")
        return ModelDescription.model_validate(values)
    except ValidationError as error:
        invalid = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:3]]
        raise RunFolderError(
            f"{path} is not a valid model description ({'; '.join(invalid)})."
        ) from None
    except ValueError as error:
        raise RunFolderError(f"{path} is not a valid model description ({error}).") from None


def rebuild(description: ModelDescription, weights: Path) -> nn.Module:
    """Build the model and load its weights; returns it in evaluation mode.

    Args:
        description: of the model.
        weights: the safetensors file next to the description.

    Raises:
        RunFolderError: the model does not exist, or the weights are damaged or do not fit it.
    """
    try:
        _refuse_misfit(description, weights)
        module = _build(description)
        module.load_state_dict(load_file(weights))
    except RunFolderError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RunFolderError(f"{weights} does not hold the model's weights ({error}).") from None
    except PodiumError as error:
        raise RunFolderError(f"{weights.parent}: the model cannot be built. {error}") from None
    return module.eval()


def classifier_of(description: ModelDescription) -> str:
    """The dotted name of the part of a single model that computes the logits.

    Args:
        description: of the model.
    """
    return build_model(
        description.model,
        len(description.class_names),
        pooling=description.pooling,
        channels=description.grey_windows.inputs,
    ).classifier


def _build(description: ModelDescription) -> nn.Module:
    """The architecture; its weights are yet to be loaded."""

    def network(part: Part) -> nn.Module:
        return rebuild_model(
            part.model,
            len(description.class_names),
            part.pooling,
            description.grey_windows.inputs,
        )

    if description.trained_by not in ("ensemble", "mean"):
        return network(description)
    parts = [part for part in description.parts or [description] for _ in range(part.members)]
    members = [network(part) for part in parts]
    if description.parts:
        members = [
            Prepared(member, description.image_size, part.image_size, part.normalization)
            for member, part in zip(members, parts, strict=True)
        ]
    return Ensemble(members, [1.0] * len(parts), [part.flip_test for part in parts])


def _refuse_misfit(description: ModelDescription, weights: Path) -> None:
    """Compare shapes before memory is allocated: a few lines of JSON can name a huge model."""
    with safe_open(weights, framework="pt") as file:
        names = file.keys()
        given = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    many = "temperatures" in given and given["temperatures"] == (description.members,)
    averages = description.trained_by in ("ensemble", "mean")
    if averages and not many:  # before as many models are built
        raise RunFolderError(
            f"{weights} does not hold an ensemble of {description.members} models."
        )
    try:
        with torch.device("meta"):
            module = _build(description)
    except RuntimeError:  # a model that computes with its own weights
        return
    except ConfigError:
        parts = description.parts or (description,)
        if any(part.model in MODELS for part in parts):  # a user's, which may fail on meta
            return
        raise
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    wrong = [name for name in wanted if given.get(name) != wanted[name]]
    if wrong or len(given) != len(wanted):
        name = (wrong or sorted(given.keys() - wanted.keys()))[0]
        raise RunFolderError(
            f"{weights} does not hold the weights of {description.model} with "
            f"{len(description.class_names)} classes: {name} has shape "
            f"{given.get(name, 'of nothing')}, expected {wanted.get(name, 'none')} "
            f"(and {max(0, len(wrong) - 1)} more)."
        )
