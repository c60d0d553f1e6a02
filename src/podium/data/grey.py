"""Maps grey values deeper than 8 bits to the network's 256 levels, the same for a whole data set.

A file declares how many bits a value has, not how many are used: cameras write 10 or 12 bits and
scanners Hounsfield units into 16. Scaled by the type's range, such images are nearly black.
Stretched by each image's own range, they are no longer comparable: exposure and density, which
often distinguish the classes, are lost, and one hot pixel darkens a whole image. So all images of
a data set share one window. It is computed from the training images and saved with the model, so
that prediction decodes images as training did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BeforeValidator, PlainSerializer

Window = tuple[float, float]
"""The values that are mapped to black and white."""

Kind = Literal["integers", "floats"]

_SAMPLE = 65_536  # values per image that its quantiles are computed from
_FEW_LEVELS = 32  # of 256; fewer cause a notice


@dataclass(frozen=True)
class GreyValues:
    """The range of the grey values of one image.

    Attributes:
        kind: `integers`, of more than 8 bits, or `floats`.
        low: lowest finite value.
        high: highest finite value.
        body: the 0.001 and 0.999 quantiles.
    """

    kind: Kind
    low: float
    high: float
    body: Window


@dataclass(frozen=True)
class GreyWindows:
    """How the files of a data set are decoded: its windows, and its number of channels.

    Attributes:
        integers: window of 16- and 32-bit integers; None: each image by its own range.
        floats: window of floats; None: each image by its own range.
        as_before: decode as Podium did before it had windows, for models trained that way.
        channels: that images are read with, 1 to 64; None: images are decoded to RGB.
    """

    integers: Window | None = None
    floats: Window | None = None
    as_before: bool = False
    channels: int | None = field(default=None, repr=False)  # `key` has it

    @property
    def inputs(self) -> int:
        """Number of channels of a model's input: 3, unless `channels` says otherwise."""
        return self.channels or 3

    @property
    def key(self) -> str:
        """All of it as text, for hashes: without `channels` the text that earlier versions used."""
        return f"{self}" if self.channels is None else f"{self} {self.channels} channels"

    @classmethod
    def of(
        cls,
        values: Sequence[GreyValues],
        window: Window | None = None,
        channels: int | None = None,
    ) -> GreyWindows:
        """Choose the windows for images with these values.

        Args:
            values: ranges of the training images.
            window: the user's window; None: chosen automatically.
            channels: that images are read with; None: RGB.
        """

        def chosen(kind: Kind) -> Window | None:
            those = [one for one in values if one.kind == kind]
            if not those or window is not None:
                return window if those else None
            return _natural(kind, min(one.low for one in those), max(one.high for one in those))

        return cls(chosen("integers"), chosen("floats"), channels=channels)

    def to_json(self) -> dict[str, Any] | None:
        """Plain values, for the model's description."""
        if self.as_before:
            return None
        pairs = {"integers": self.integers, "floats": self.floats}
        plain = {kind: None if pair is None else list(pair) for kind, pair in pairs.items()}
        return plain if self.channels is None else {**plain, "channels": self.channels}

    @classmethod
    def from_json(cls, plain: Any) -> GreyWindows:
        """Build the windows from what `to_json` returned.

        Args:
            plain: the plain values; None: decode as before windows.

        Raises:
            ValueError: they are not windows.
        """
        if plain is None or isinstance(plain, cls):
            return plain or AS_BEFORE_WINDOWS
        if not isinstance(plain, Mapping):
            raise ValueError("expected windows of integers and floats")
        channels = plain.get("channels")
        if channels is not None and (type(channels) is not int or not 1 <= channels <= 64):
            raise ValueError(f"expected 1 to 64 channels, got {str(channels)[:80]}")
        integers, floats = (_read_window(plain.get(kind)) for kind in ("integers", "floats"))
        return cls(integers, floats, channels=channels)


def _read_window(pair: Any) -> Window | None:
    if pair is None:
        return None
    match pair:
        case [int() | float() as low, int() | float() as high] if -1e30 < low < high < 1e30:
            return float(low), float(high)
    raise ValueError(f"expected [black, white] with black < white, got {str(pair)[:80]}")


OWN_WINDOWS = GreyWindows()
"""Each image by its own range, for images without a data set."""

AS_BEFORE_WINDOWS = GreyWindows(as_before=True)

StoredWindows = Annotated[
    GreyWindows, BeforeValidator(GreyWindows.from_json), PlainSerializer(GreyWindows.to_json)
]
"""For pydantic models: serialised as plain values, validated when read."""


def describe_grey(image: Image.Image) -> GreyValues | None:
    """The range of the values of an image deeper than 8 bits; None for other images."""
    kind = _kind(image)
    return None if kind is None else _described(np.asarray(image), kind)


def describe_values(values: npt.NDArray[Any]) -> GreyValues | None:
    """The range of integers or floats of any shape; None if they have 8 bits."""
    kind = _kind_of_array(values)
    return None if kind is None else _described(values, kind)


def _described(values: npt.NDArray[Any], kind: Kind) -> GreyValues:
    values = values.reshape(-1)
    finite = values[np.isfinite(values)] if kind == "floats" else values
    if not len(finite):
        return GreyValues(kind, 0.0, 0.0, (0.0, 0.0))
    sample = finite[:: max(1, len(finite) // _SAMPLE)]
    low, high = np.quantile(sample, (0.001, 0.999), method="nearest")
    return GreyValues(kind, float(finite.min()), float(finite.max()), (float(low), float(high)))


def to_8_bit(image: Image.Image, windows: GreyWindows) -> Image.Image | None:
    """Convert an image deeper than 8 bits to RGB. Values that are not finite become black.

    Args:
        image: of any mode.
        windows: of its data set.

    Returns:
        An image of mode RGB; None if the image is not deeper than 8 bits.
    """
    kind = _kind(image)
    if kind is None:
        return None
    values = np.array(image, dtype=np.float32)
    before = _before(image, values) if windows.as_before else None
    return Image.fromarray(_mapped(values, kind, windows, before)).convert("RGB")


def values_to_8_bit(values: npt.NDArray[Any], windows: GreyWindows) -> npt.NDArray[np.uint8]:
    """Map integers or floats of any shape to 0 to 255. Values that are not finite become black.

    Args:
        values: uint8 is returned as it is.
        windows: of their data set.
    """
    kind = _kind_of_array(values)
    if kind is None:
        return values
    with np.errstate(over="ignore"):  # beyond float32 is infinite
        return _mapped(values.astype(np.float32), kind, windows)


def _mapped(
    values: npt.NDArray[np.float32], kind: Kind, windows: GreyWindows, before: Window | None = None
) -> npt.NDArray[np.uint8]:
    """Map values to 0 to 255 in place.

    Args:
        values: changed in place.
        kind: of the values.
        windows: of their data set.
        before: the window that Podium used before it had windows; None: those of the data set.
    """
    window = before or (windows.integers if kind == "integers" else windows.floats)
    if window is None:
        finite = values[np.isfinite(values)]
        extremes = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
        window = _natural(kind, *extremes)
    low, high = window
    no_value = 0.0 if before else low
    np.nan_to_num(values, copy=False, nan=no_value, posinf=no_value, neginf=no_value)
    values -= np.float32(low)
    values *= np.float32(255.0 / (high - low))
    return np.clip(np.rint(values, out=values), 0, 255, out=values).astype(np.uint8)


def grey_notices(
    train: Sequence[GreyValues],
    others: Sequence[GreyValues],
    windows: GreyWindows,
    images: int,
    *,
    chosen: bool,
) -> list[str]:
    """Write notices about the images deeper than 8 bits of a data set, one sentence each.

    Args:
        train: ranges of the deep training images.
        others: ranges of the deep validation and test images.
        windows: the windows that are used.
        images: total number of images, deep or not.
        chosen: whether the user chose the window.
    """
    notices = []
    for kind, window in (("integers", windows.integers), ("floats", windows.floats)):
        every = [one for one in (*train, *others) if one.kind == kind]
        if not every or window is None:
            continue
        low, high = window
        beyond = sum(one.low < low or one.high > high for one in every)
        learned = [one for one in train if one.kind == kind]
        seen = f", {_range(learned)} in training images" if learned else ""
        notices.append(
            f"{len(every):,} of {images:,} images have grey values deeper than 8 bits ({kind}"
            f"{seen}): {low:g} to {high:g} are mapped to 0 to 255 "
            f"({'data.window' if chosen else 'one window for all'}, saved with the model)"
            + (f"; {beyond:,} exceed it and are clipped." if beyond else ".")
        )
        if learned and not chosen:
            notices += _advice(kind, learned, window)
    return notices


def _advice(kind: str, learned: Sequence[GreyValues], window: Window) -> list[str]:
    """Suggest a narrower window if a few outliers make it so wide that images lose contrast."""
    low, high = window
    levels = np.median([255 * (one.body[1] - one.body[0]) / (high - low) for one in learned]) + 1
    bodies = np.asarray([one.body for one in learned])
    black, white = _natural(
        kind, float(np.quantile(bodies[:, 0], 0.05)), float(np.quantile(bodies[:, 1], 0.95))
    )
    if levels >= _FEW_LEVELS or white - black > (high - low) / 2:
        return []
    return [
        f"Half of those images use {max(2, round(float(levels)))} of 256 grey levels or fewer, "
        f"since nearly all of their values are from {black:g} to {white:g}. If values outside do "
        f"not matter, narrow the window in the study: data: {{path: ..., window: "
        f"[{black:g}, {white:g}]}}."
    ]


def _range(values: Sequence[GreyValues]) -> str:
    return f"{min(one.low for one in values):g} to {max(one.high for one in values):g}"


def _kind(image: Image.Image) -> Kind | None:
    if image.mode == "F":
        return "floats"
    return "integers" if image.mode.startswith("I") else None


def _kind_of_array(values: npt.NDArray[Any]) -> Kind | None:
    if values.dtype == np.uint8:
        return None
    return "floats" if values.dtype.kind == "f" else "integers"


def _natural(kind: str, low: float, high: float) -> Window:
    """The likely range of the device: 0 to 1, 255, 1023, 4095...

    If the values are negative or fill less than half of it, their own range.
    """
    top = 1.0 if kind == "floats" and high <= 1 else 255.0
    while high > top:
        top = 2 * top + 1
    if low < 0 or low < high < low + top / 2:
        return low, max(high, low + 1e-6)
    return 0.0, top


def _before(image: Image.Image, values: npt.NDArray[np.float32]) -> Window:
    """0 to 65535 for any values, except floats up to 1 and 32-bit values up to 255."""
    top = float(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).max(initial=0.0))
    if image.mode == "F" and top <= 1.0:
        return 0.0, 1.0
    if top <= 255.0 and image.mode in ("F", "I"):
        return 0.0, 255.0
    return 0.0, max(65535.0, top)
