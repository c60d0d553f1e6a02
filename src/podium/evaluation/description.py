"""What `model.json` says of a model: checked before anything is built from it.

A run's folder may come from anybody. Its weights are safetensors, which hold numbers alone, and
this file is plain JSON whose every value is checked here: neither can run code, name a file
elsewhere, or ask for more memory than the weights' file itself is worth.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from podium.config.settings import Pooling
from podium.data.grey import AS_BEFORE_WINDOWS, StoredWindows
from podium.data.transforms import Normalization
from podium.errors import PodiumError, RunFolderError
from podium.models import rebuild_model
from podium.runtime.files import read_json

DESCRIPTION_FORMAT = 1

Channel = Annotated[float, Field(ge=-1e3, le=1e3, allow_inf_nan=False)]
Deviation = Annotated[float, Field(gt=0, le=1e3, allow_inf_nan=False)]


class ModelDescription(BaseModel):
    """How a trained model is built again, and how it wants its images."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=(), strict=True)

    model: str = Field(min_length=1, max_length=200)
    pooling: Pooling = "own"
    class_names: Annotated[list[str], Field(min_length=1)]
    image_size: int = Field(ge=1, le=4096)
    """Side of its images, pixels."""
    mean: tuple[Channel, Channel, Channel] | None
    std: tuple[Deviation, Deviation, Deviation] | None
    """Of the inputs, in 0..1; none: they are taken as they are."""
    flip_test: bool = False
    """Whether its logits are averaged with those of the mirror image."""
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """What logits are divided by before softmax; 1 before it is fitted."""
    best_epoch: int | None = None
    grey_windows: StoredWindows = AS_BEFORE_WINDOWS
    """What became of grey values deeper than 8 bit; not given by runs from before."""

    @field_validator("class_names")
    @classmethod
    def _classes_differ(cls, names: list[str]) -> list[str]:
        if len(set(names)) != len(names) or not all(names):
            raise ValueError("names that are there, and all different")
        return names

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _list_as_tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @property
    def normalization(self) -> Normalization:
        return None if self.mean is None or self.std is None else (self.mean, self.std)


def read_description(path: Path) -> ModelDescription:
    """Read a `model.json`.

    Raises:
        RunFolderError: it is missing, of another format, or says something impossible.
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
            raise ValueError("no format is given")
        return ModelDescription.model_validate(values)
    except ValidationError as error:
        told = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:3]]
        raise RunFolderError(f"{path} is no description of a model ({'; '.join(told)}).") from None
    except ValueError as error:
        raise RunFolderError(f"{path} is no description of a model ({error}).") from None


def rebuild(description: ModelDescription, weights: Path) -> nn.Module:
    """The model with its weights, in evaluation mode.

    Args:
        description: of the model.
        weights: the safetensors file that lies beside it.

    Raises:
        RunFolderError: the model does not exist, or the weights are damaged or not its own.
    """
    try:
        _refuse_misfit(description, weights)
        module = rebuild_model(description.model, len(description.class_names), description.pooling)
        module.load_state_dict(load_file(weights))
    except RunFolderError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RunFolderError(f"{weights} does not hold the model's weights ({error}).") from None
    except PodiumError as error:
        raise RunFolderError(f"{weights.parent}: the model cannot be built. {error}") from None
    return module.eval()


def _refuse_misfit(description: ModelDescription, weights: Path) -> None:
    """Compare shapes before memory is taken: a few lines of JSON can name a huge model."""
    with safe_open(weights, framework="pt") as file:
        names = file.keys()
        given = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    try:
        with torch.device("meta"):
            module = rebuild_model(
                description.model, len(description.class_names), description.pooling
            )
    except (NotImplementedError, RuntimeError):  # a model that computes with its own weights
        return
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
