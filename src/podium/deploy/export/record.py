"""Metadata of an exported file: strings by name, in the format's own metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from podium.__about__ import __version__
from podium.data.grey import AS_BEFORE_WINDOWS, StoredWindows
from podium.deploy.export.verify import Check
from podium.errors import RunFolderError
from podium.evaluation.trained import TrainedModel
from podium.runtime.files import utc_now
from podium.statistics.conformal import KnownRule, SetRule

FORMATS = ("onnx", "torchscript", "pt2", "openvino")

Format = Literal["onnx", "torchscript", "pt2", "openvino"]
Precision = Literal["fp32", "bf16", "int8"]

_VERSION = 1
_PLAIN = ("format", "precision", "podium_version", "created", "quantization")

_PREPROCESSING = (
    "RGB image, rotated by its EXIF orientation, transparent pixels on white; grey deeper than "
    "8 bit first to 0..255, from the two values of grey_windows on; resize to "
    "(image_size, image_size) with Pillow's Image.Resampling.BILINEAR; uint8 of shape "
    "(n, image_size, image_size, 3). Everything after that is in the model."
)


_PREPROCESSING_OF_CHANNELS = (
    "TIFF or .npy image of {channels} channels; values deeper than 8 bit first to 0..255, from the "
    "two values of grey_windows on; every channel resized to (image_size, image_size) with "
    "Pillow's Image.Resampling.BILINEAR; uint8 of shape (n, image_size, image_size, {channels}). "
    "Everything after that is in the model."
)


class StoredSets(BaseModel):
    """How an export makes sets of classes: by thresholds on the probabilities."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    coverage: float = Field(ge=0.5, lt=1)
    by_class: bool
    images: int = Field(ge=1)
    """Validation images that the thresholds come from."""
    least: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)]
    """Least probability of a class in a set: of each class, or one for all."""

    @classmethod
    def of(cls, rule: SetRule) -> StoredSets:
        """From the rule itself."""
        least = rule.least.tolist()
        least = least[:1] if len(set(least)) == 1 else least
        return cls(coverage=rule.coverage, by_class=rule.by_class, images=rule.images, least=least)

    def rule(self, classes: int) -> SetRule:
        """The rule itself, for a number of classes."""
        least = np.broadcast_to(np.asarray(self.least), classes)
        return SetRule(self.coverage, least, self.images, self.by_class)


class StoredKnown(BaseModel):
    """How an export tells images of none of its classes: by a threshold on the similarity."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    keep: float = Field(ge=0.5, lt=1)
    images: int = Field(ge=1)
    """Validation images that the threshold comes from."""
    least: float = Field(ge=-1, le=1)
    """Least similarity of an image that is not none of the classes."""

    @classmethod
    def of(cls, rule: KnownRule) -> StoredKnown:
        """From the rule itself."""
        return cls(keep=rule.keep, images=rule.images, least=rule.least)

    def rule(self) -> KnownRule:
        """The rule itself."""
        return KnownRule(self.keep, self.least, self.images)


class ExportRecord(BaseModel):
    """Metadata of an exported model; validated whenever it is read from a file."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    format: Format
    precision: Precision
    """Default precision at run time."""
    class_names: Annotated[tuple[str, ...], Field(min_length=1)]
    image_size: int = Field(ge=1, le=4096)
    temperature: float = Field(gt=0, allow_inf_nan=False)
    flip_test: bool
    name: str = Field(max_length=300)
    """Display name: the contender."""
    source_run: str = Field(max_length=2000)
    """Study, contender and seed of the model."""
    podium_version: str = Field(max_length=100)
    created: str = Field(max_length=100)
    grey_windows: StoredWindows = AS_BEFORE_WINDOWS
    """Mapping of grey values deeper than 8 bit before the model sees them, and the channels."""
    checks: dict[str, Check] = {}
    """By precision, how it agreed with the model in PyTorch; only checks that passed."""
    quantization: str = Field(default="", max_length=2000)
    """How int8 was made; empty string for others."""
    sets: StoredSets | None = None
    """How the output `prediction_set` is made; None: it has none."""
    known: StoredKnown | None = None
    """How the output `none_of_these` is made; None: it has none."""

    @model_validator(mode="after")
    def _one_threshold_or_one_per_class(self) -> ExportRecord:
        if self.sets is not None and len(self.sets.least) not in (1, len(self.class_names)):
            raise ValueError(f"sets: expected 1 or {len(self.class_names)} thresholds")
        return self

    @field_validator("class_names", mode="before")
    @classmethod
    def _list_as_tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("class_names")
    @classmethod
    def _classes_differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names) or not all(names):
            raise ValueError("expected class names that are not empty and all different")
        return names

    def strings(self) -> dict[str, str]:
        """As metadata: each value as JSON in ASCII; Podium's own texts unchanged."""
        values = self.model_dump(mode="json")
        told = {name: json.dumps(value) for name, value in values.items()}
        for name in _PLAIN:
            told[name] = values[name]
        return {
            "podium_export": str(_VERSION),
            **told,
            "preprocessing": _PREPROCESSING
            if self.grey_windows.channels is None
            else _PREPROCESSING_OF_CHANNELS.format(channels=self.grey_windows.channels),
            "input": f"images: uint8 (n, image_size, image_size, {self.grey_windows.inputs})",
            "outputs": "probabilities, logits: float32 (n, classes)"
            + ("; prediction_set: bool (n, classes)" if self.sets is not None else "")
            + ("; similarity: float32 (n,); none_of_these: bool (n,)" if self.known else ""),
        }

    @classmethod
    def parse(cls, strings: Mapping[str, str], path: object) -> ExportRecord:
        """Parse the result of `strings`.

        Args:
            strings: the file's metadata.
            path: path of the file, for the message.

        Raises:
            RunFolderError: it is not an export by Podium, of another version, or damaged.
        """
        version = strings.get("podium_export")
        if version is None:
            raise RunFolderError(
                f"{path} has no metadata by Podium: expected a file written by `podium export`."
            )
        if version != str(_VERSION):
            raise RunFolderError(
                f"{path} has version {version[:20]} of the export format; this Podium reads "
                f"{_VERSION}. Use the Podium that wrote it."
            )
        try:
            values: dict[str, Any] = {}
            for name in cls.model_fields:
                if name in strings:
                    text = strings[name]
                    values[name] = text if name in _PLAIN else json.loads(text)
            return cls.model_validate(values)
        except ValidationError as error:
            told = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3]]
            raise RunFolderError(f"{path} is a damaged export ({'; '.join(told)}).") from None
        except (ValueError, RecursionError) as error:
            raise RunFolderError(f"{path} is a damaged export ({error}).") from None


def describe(
    model: TrainedModel,
    kind: Format,
    precision: Precision,
    name: str,
    source: str,
    sets: SetRule | None,
    known: KnownRule | None,
) -> ExportRecord:
    """The metadata of a model that is about to be exported, without checks yet."""
    return ExportRecord(
        format=kind,
        precision=precision,
        class_names=model.class_names,
        image_size=model.image_size,
        temperature=float(model.temperature),
        flip_test=model.flip_test,
        grey_windows=model.windows,
        name=name,
        source_run=source,
        podium_version=__version__,
        created=utc_now(),
        sets=None if sets is None else StoredSets.of(sets),
        known=None if known is None else StoredKnown.of(known),
    )
