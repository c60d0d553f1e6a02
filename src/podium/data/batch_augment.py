"""Augments a whole batch at once, on any device.

`Recorder` asks a policy of torchvision what it would do to an image, and `apply_step` does that to
a batch of images as Pillow does it: the bytes are the same. `resized_crops` differs from Pillow's
and torch's resize by at most 2 of 255.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torchvision.transforms import v2


class Step(NamedTuple):
    """One operation of a policy, with its strength as torchvision draws it."""

    operation: int
    """Index into `OPERATIONS`."""
    magnitude: float


class Recorder:
    """Draws what a policy would do to an image, from torch's global generator, without doing it.

    It takes the same random numbers in the same order as the policy itself.

    Args:
        policy: AutoAugment, RandAugment or TrivialAugmentWide of `torchvision.transforms.v2`, with
            its default interpolation and fill.
    """

    def __init__(self, policy: v2.Transform) -> None:
        self.original, policy = policy, copy.deepcopy(policy)
        self.policy = policy
        self.steps: list[Step] = []
        # the method with which all of torchvision's policies apply an operation
        policy._apply_image_or_video_transform = self._note
        # their strengths depend only on the image's size, but take most of a draw's time
        policy._AUGMENTATION_SPACE = {
            name: (functools.cache(strengths), signed)
            for name, (strengths, signed) in policy._AUGMENTATION_SPACE.items()
        }

    def __reduce__(self) -> tuple[type[Recorder], tuple[v2.Transform]]:
        return type(self), (self.original,)  # the functions of torchvision's space do not pickle

    def _note(self, image: Any, operation: str, magnitude: float, **_: Any) -> Any:
        self.steps.append(Step(OPERATIONS.index(operation), magnitude))
        return image

    def draw(self, size: int) -> list[Step]:
        """The steps for the next image; none leaves it as it is.

        Args:
            size: side of the image, pixels.
        """
        self.steps = []
        self.policy(torch.empty(1, dtype=torch.uint8).expand(3, size, size))
        return self.steps


def apply_step(
    images: torch.Tensor, operations: Sequence[int], magnitudes: Sequence[float]
) -> torch.Tensor:
    """Apply to each image its own operation.

    Args:
        images: uint8 of shape (n, 3, size, size); it is not changed.
        operations: of each image, an index into `OPERATIONS`.
        magnitudes: of each image.

    Returns:
        uint8 of the same shape, on the same device.
    """
    found = images.clone()
    names = [OPERATIONS[one] for one in operations]
    for change in dict.fromkeys(_CHANGES[name] for name in names):
        rows = [row for row, name in enumerate(names) if _CHANGES[name] is change]
        if change is not None:
            at = torch.tensor(rows, device=images.device)
            own = [(names[row], magnitudes[row]) for row in rows]
            found[at] = change(images[at], own)
    return found


def resized_crops(images: torch.Tensor, boxes: torch.Tensor, size: int) -> torch.Tensor:
    """Cut a box out of each image, and resize it: bilinear and antialiased, as torch and Pillow do.

    Args:
        images: uint8 of shape (n, channels, side, side).
        boxes: top, left, height and width of each, pixels; shape (n, 4).
        size: side of the result, pixels.

    Returns:
        uint8 of shape (n, channels, size, size).
    """
    top, left, height, width = boxes.to(images.device, torch.float32).unbind(1)
    side = images.shape[-1]
    # first along the rows, rounded in between: as both do it
    across = images.float() @ _resizing(left, width, side, size).mT[:, None]
    down = _resizing(top, height, side, size)[:, None] @ across.add(0.5).floor()
    return down.add(0.5).floor().to(torch.uint8)


def _resizing(begin: torch.Tensor, extent: torch.Tensor, side: int, size: int) -> torch.Tensor:
    """Weights of each pixel of the image in each of the result, shape (n, size, side)."""
    place = torch.arange(side, device=begin.device)
    scale = extent / size
    centre = begin[:, None] + scale[:, None] * (torch.arange(size, device=begin.device) + 0.5)
    apart = (place + 0.5 - centre[..., None]).abs() / scale.clamp(min=1)[:, None, None]
    weights = (1 - apart).clamp(min=0)
    within = (place >= begin[:, None]) & (place < (begin + extent)[:, None])
    weights = weights * within[:, None]
    weights = weights / weights.sum(2, keepdim=True)
    # In 16 bits, so that sums of bytes are exact in fp32: they then do not depend on how many
    # images are resized at once, which decides in which order a GPU adds.
    return (weights * 65536).round() / 65536


_Drawn = Sequence[tuple[str, float]]
"""Name and magnitude of each image's operation."""


def _move(images: torch.Tensor, drawn: _Drawn) -> torch.Tensor:
    """Shear, translate, rotate: the nearest pixel, black outside, in Pillow's 16-bit fractions."""
    size = images.shape[-1]
    a, b, c, d, e, f = np.array([_matrix(*one, size) for one in drawn]).T
    begin = c + 0.5 * a + 0.5 * b, f + 0.5 * d + 0.5 * e
    terms = np.floor(np.stack([a, b, begin[0], d, e, begin[1]]) * 65536 + 0.5).astype(np.int64)
    fixed = torch.from_numpy(terms).to(images.device)[..., None, None].unbind(0)
    x = torch.arange(size, device=images.device)
    y = x[:, None]
    column = (fixed[2] + fixed[0] * x + fixed[1] * y) >> 16
    row = (fixed[5] + fixed[3] * x + fixed[4] * y) >> 16
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    place = torch.where(inside, row * size + column, 0).flatten(1)[:, None].expand(-1, 3, -1)
    return images.flatten(2).gather(2, place).view(images.shape) * inside[:, None]


def _matrix(operation: str, magnitude: float, size: int) -> list[float]:
    """From a place in the result to one in the image, as torchvision gives it to Pillow."""
    if operation == "ShearX":
        return [1, magnitude, 0, 0, 1, 0]
    if operation == "ShearY":
        return [1, 0, 0, magnitude, 1, 0]
    if operation == "TranslateX":
        return [1, 0, -int(magnitude), 0, 1, 0]
    if operation == "TranslateY":
        return [1, 0, 0, 0, 1, -int(magnitude)]
    angle, middle = -math.radians(magnitude % 360), size / 2
    cosine, sine = round(math.cos(angle), 15), round(math.sin(angle), 15)
    across = -middle * cosine - middle * sine + middle
    down = middle * sine - middle * cosine + middle
    return [cosine, sine, across, -sine, cosine, down]


def _with_tables(make: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> _Change:
    """An operation that gives each value of a channel another one, by a table of 256.

    Args:
        make: from images of shape (n, 3, size, size) and their magnitudes, shape (n, 1, 1), to
            tables that broadcast to (n, 3, 256).
    """

    def change(images: torch.Tensor, drawn: _Drawn) -> torch.Tensor:
        magnitudes = torch.tensor([m for _, m in drawn], dtype=torch.float64, device=images.device)
        tables = make(images, magnitudes[:, None, None]).to(torch.uint8)
        found = tables.expand(-1, 3, -1).gather(2, images.flatten(2).long())
        return found.view(images.shape)

    return change


def _with_another(make: Callable[[torch.Tensor], torch.Tensor]) -> _Change:
    """An operation that mixes an image with another one, which is made from it."""

    def change(images: torch.Tensor, drawn: _Drawn) -> torch.Tensor:
        magnitudes = torch.tensor([m for _, m in drawn], dtype=torch.float64, device=images.device)
        return _blend(make(images), images, magnitudes[:, None, None, None])

    return change


def _blend(other: torch.Tensor, images: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """`other + (1 + magnitude) * (images - other)`, cut to 0..255 and to whole numbers."""
    factor = (1 + magnitude).float()
    mixed = other.float() + factor * (images.float() - other.float())
    return mixed.clamp(0, 255).to(torch.uint8)


def _values(images: torch.Tensor) -> torch.Tensor:
    return torch.arange(256, device=images.device)


def _brightness(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    values = _values(images)
    return _blend(torch.zeros_like(values), values, magnitudes)


def _contrast(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    grey = _grey(images).flatten(1)
    mean = (2 * grey.sum(1) + grey.shape[1]) // (2 * grey.shape[1])  # rounded, halves up
    return _blend(mean[:, None, None], _values(images), magnitudes)


def _posterize(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    return _values(images) >> (8 - magnitudes.long()) << (8 - magnitudes.long())


def _solarize(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    values = _values(images)
    return torch.where(values < 255 * magnitudes, values, 255 - values)


def _autocontrast(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    low = images.flatten(2).amin(2).double()[..., None]
    high = images.flatten(2).amax(2).double()[..., None]
    values = _values(images).double()
    # a number divided by a tensor would be multiplied by its reciprocal, which rounds twice
    scale = torch.full_like(high, 255.0) / (high - low).clamp(min=1)
    stretched = (values * scale - low * scale).trunc().clamp(0, 255)
    return torch.where(high > low, stretched, values)


def _equalize(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    n, size = len(images), images.shape[-1]
    values = _values(images)
    part = torch.arange(n * 3, device=images.device)[:, None] * 256
    counts = torch.bincount(
        (images.reshape(n * 3, -1).long() + part).flatten(), minlength=n * 3 * 256
    ).view(n, 3, 256)
    last = counts.gather(2, images.flatten(2).amax(2)[..., None].long())  # of the brightest value
    step = (size * size - last) // 255
    before = counts.cumsum(2) - counts
    equal = ((step // 2 + before) // step.clamp(min=1)).clamp(max=255)
    return torch.where(step > 0, equal, values)


def _invert(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    return (255 - _values(images)).expand(len(images), 1, 256)


def _grey(images: torch.Tensor) -> torch.Tensor:
    """Luma of ITU-R 601 in Pillow's 16-bit fractions, int64 of shape (n, size, size)."""
    red, green, blue = images.long().unbind(1)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def _colourless(images: torch.Tensor) -> torch.Tensor:
    return _grey(images)[:, None]


def _smooth(images: torch.Tensor) -> torch.Tensor:
    """Pillow's SMOOTH filter: the middle weighs 5, its eight neighbours 1; borders are kept."""
    wide = images.long()
    total = 4 * wide[..., 1:-1, 1:-1]
    size = images.shape[-1]
    for down in range(3):
        for right in range(3):
            total = total + wide[..., down : size - 2 + down, right : size - 2 + right]
    wide[..., 1:-1, 1:-1] = (2 * total + 13) // 26  # rounded; thirteenths are never halves
    return wide


_Change = Callable[[torch.Tensor, _Drawn], torch.Tensor]
_CHANGES: dict[str, _Change | None] = {
    "Identity": None,
    **dict.fromkeys(("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"), _move),
    "Brightness": _with_tables(_brightness),
    "Contrast": _with_tables(_contrast),
    "Posterize": _with_tables(_posterize),
    "Solarize": _with_tables(_solarize),
    "AutoContrast": _with_tables(_autocontrast),
    "Equalize": _with_tables(_equalize),
    "Invert": _with_tables(_invert),
    "Color": _with_another(_colourless),
    "Sharpness": _with_another(_smooth),
}
OPERATIONS = tuple(_CHANGES)
"""Of torchvision's policies; a step names one by its place."""
