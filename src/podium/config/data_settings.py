"""Settings of a study's images: where they are, what belongs together, how they are split."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    FiniteFloat,
    JsonValue,
    ValidationInfo,
    field_validator,
    model_validator,
)

from podium.config.fields import SourceName, Strict


class SplitSpec(Strict):
    """How images are split anew, whatever splits the source assigns."""

    by: Literal["group", "image"] = "group"
    """`group`: all images of a group are in the same split. `image`: single images are drawn,
    which flatters every model where the images of a group are alike."""
    stratify: Literal["label", "none"] = "label"
    """`label`: every split has each class's share of images, as nearly as the groups allow."""


class DataSpec(Strict):
    """Where the images are, what belongs together, and how they are split."""

    path: str
    """A folder, a table, an archive, a pack or its address (`s3://BUCKET/NAME`), COCO's JSON,
    `torchvision:NAME`, `hf:OWNER/NAME`, or a built-in name: `sports100`, `demo`. A `source` of
    your own interprets it itself."""
    source: SourceName = "auto"
    """What lists and reads the images: `auto` chooses among the others by the path; your own by
    its name or as `module:name`."""
    label: str | None = None
    """What gives the class of an image: a column of a table, or a regular expression on the
    image's path with a named group `(?P<label>...)`; None: the source's own rule."""
    group: str | None = None
    """What gives the group that an image belongs to, such as a patient or a video: a column; a
    regular expression on its path with `(?P<group>...)`; `parent`, the folder that holds it;
    `duplicates`, the near-duplicates that the audit finds; or `capture`, what one camera took with
    pauses of 10 s or less (`capture:60`: 60 s), by EXIF. None: the source's own groups, if any."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Further arguments of the source, by name."""
    split: SplitSpec | None = None
    """Split all images anew; None: keep the source's splits, and hold out those that are missing,
    by whole groups where images have one."""
    folds: int | None = Field(default=None, ge=2, le=1000)
    """Cross-validation: all images are shared out among this many folds, and each is tested once,
    by a model trained without its fold; the source's splits are not used. None: one split."""
    repeats: int = Field(default=1, ge=1, le=100)
    """How often the images are shared out among `folds` anew; each repeat tests every image
    once more, and counts as one more seed in comparisons."""
    split_seed: int = Field(default=0, ge=0)
    """Seed of every split that Podium makes."""
    valid_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of each class held out for validation if there is no validation split."""
    test_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of each class held out for testing if there is no test split."""
    score_on: Literal["test", "valid", "nothing"] = "test"
    """`valid`: leave the test images alone. Runs are scored on the validation images instead, and
    `valid_fraction` of the training images chooses epochs and penalties; with `folds`, all but the
    test images are shared out. For what is tried often, such as learning curves. (`nothing`: of
    the trials of `tune`, which have no test images; not for study files.)"""
    min_images: int | None = Field(default=None, ge=1)
    """Leave out classes with fewer training images than this, and report them; None: a class too
    small to hold images out of is an error."""
    window: tuple[FiniteFloat, FiniteFloat] | None = None
    """Grey values of images deeper than 8 bit that become black and white, such as [-1000, 400]
    Hounsfield units; None: chosen from the training images, and reported."""
    slices: tuple[str, ...] | None = None
    """What the report also compares the contenders within, such as cameras or sites: columns, whose
    numbers are cut into quarters where they have more than 12 values; or regular expressions on the
    path, each of whose named groups, as in `(?P<camera>...)`, is a column. None: all columns of 2
    to 12 values; []: none."""
    channels: int | None = Field(default=None, ge=1, le=64)
    """Channels of each image, such as 13 of a multispectral satellite: TIFF and `.npy` files are
    then read with all of them, by models that take them. None: every image is used as RGB."""

    @property
    def in_groups(self) -> bool:
        """Whether images that belong together stay together, where that is known."""
        return self.split is None or self.split.by == "group"

    @field_validator("score_on")
    @classmethod
    def _studies_are_scored(cls, value: str, info: ValidationInfo) -> str:
        if value == "nothing" and not (info.context or {}).get("stored"):
            raise ValueError("expected 'test' or 'valid'")
        return value

    @model_validator(mode="after")
    def _repeats_need_folds(self) -> DataSpec:
        if self.repeats > 1 and self.folds is None:
            raise ValueError(
                f"repeats: {self.repeats} repeats the folds, and there are none. Set folds too, "
                "or use seeds to train several times on one split"
            )
        return self

    @field_validator("slices")
    @classmethod
    def _patterns_have_names(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for pattern in (one for one in value or () if "(?P<" in one):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"'{pattern}' is not a regular expression ({error})") from None
        return value

    @field_validator("window")
    @classmethod
    def _window_rises(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError("expected two values, [black, white], the first below the second")
        return value


def as_mapping(value: Any) -> Any:
    """What a study gives as its data, with a path or a name as the mapping that it stands for.

    Args:
        value: as given.

    Raises:
        ValueError: it is something that a study could not find again.
    """
    if not isinstance(value, str | Path | Mapping | DataSpec | list | int | float | None):
        raise ValueError(
            f"expected a path, a name or a mapping, got {type(value).__name__}. A study must find "
            "its images again, in other processes too: write a data frame to a file; register a "
            "source of your own, and name it"
        )
    return {"path": str(value)} if isinstance(value, str | Path) else value
