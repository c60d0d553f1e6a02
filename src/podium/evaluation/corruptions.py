"""Corruptions of an image in five strengths: what a camera, a file or a bad day does to it.

They are torchvision's operations, and Pillow's JPEG. Each is applied to the image itself, at most
256 pixels on its shorter side, before a contender resizes it to its own input: all contenders see
the same corrupted image. Noise and signs depend on nothing but the image's bytes, and are the same
in all strengths.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

SHORT = 256  # pixels: the shorter side of a larger image, and what lengths below refer to
CLEAN = "clean"

Pixels = npt.NDArray[np.uint8]
Change = Callable[[torch.Tensor, float, np.random.Generator], torch.Tensor]


@dataclass(frozen=True)
class Corruption:
    """A kind of corruption.

    Attributes:
        name: of it.
        values: its five strengths, the weakest first.
        apply: takes an image, uint8 of shape (3, h, w), a value and a generator, and returns an
            image of the same shape and type.
    """

    name: str
    values: tuple[float, ...]
    apply: Change


def _blur(image: torch.Tensor, value: float, random: np.random.Generator) -> torch.Tensor:
    sigma = value * min(image.shape[1:]) / SHORT
    reach = min(math.ceil(3 * sigma), min(image.shape[1:]) - 1)
    blurred: torch.Tensor = functional.gaussian_blur(image, [2 * reach + 1] * 2, [sigma] * 2)
    return blurred


def _noise(image: torch.Tensor, value: float, random: np.random.Generator) -> torch.Tensor:
    noise = torch.from_numpy(random.standard_normal(tuple(image.shape), dtype=np.float32))
    return _to_8_bit(image.float() + 255 * value * noise)


def _jpeg(image: torch.Tensor, value: float, random: np.random.Generator) -> torch.Tensor:
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=round(value))
    with Image.open(file) as opened:
        return torch.from_numpy(np.array(opened)).permute(2, 0, 1)


def _brightness(image: torch.Tensor, value: float, random: np.random.Generator) -> torch.Tensor:
    return _to_8_bit(image.float() * (value if random.random() < 0.5 else 1 / value))


def _rotation(image: torch.Tensor, value: float, random: np.random.Generator) -> torch.Tensor:
    """Rotated either way; corners show the mirrored image, not black."""
    angle = value if random.random() < 0.5 else -value
    height, width = image.shape[1:]
    margin = math.ceil(0.5 * math.sin(math.radians(value)) * max(height, width))
    margin = min(margin, height - 1, width - 1)
    wide = functional.pad(image, [margin] * 4, padding_mode="reflect")
    turned = functional.rotate(wide, angle, interpolation=InterpolationMode.BILINEAR)
    inner: torch.Tensor = turned[:, margin : margin + height, margin : margin + width]
    return inner


def _rescaling(image: torch.Tensor, value: float, random: np.random.Generator) -> torch.Tensor:
    """Fewer pixels, and then as many as before."""
    small = [max(1, round(side / value)) for side in image.shape[1:]]
    given = image[None].float()
    coarse = interpolate(given, size=small, mode="bilinear", antialias=True)
    return _to_8_bit(interpolate(coarse, size=image.shape[1:], mode="bilinear")[0])


def _to_8_bit(values: torch.Tensor) -> torch.Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


CORRUPTIONS = (
    Corruption("blur", (1.0, 1.5, 2.5, 4.0, 6.0), _blur),
    Corruption("noise", (0.04, 0.08, 0.12, 0.18, 0.26), _noise),
    Corruption("jpeg", (50, 30, 20, 10, 5), _jpeg),
    Corruption("brightness", (1.2, 1.4, 1.7, 2.2, 3.0), _brightness),
    Corruption("rotation", (3, 6, 10, 15, 25), _rotation),
    Corruption("rescaling", (1.5, 2.0, 3.0, 4.0, 6.0), _rescaling),
)
"""Units: standard deviation in pixels of an image with a shorter side of 256; standard deviation as
a share of the range; JPEG quality; factor or its inverse; degrees either way; factor on the sides.
"""
CONDITIONS = (
    (CLEAN, 0, 0.0),
    *(
        (one.name, strength, float(value))
        for one in CORRUPTIONS
        for strength, value in enumerate(one.values, 1)
    ),
)
"""Corruption, strength from 1 and its value; the unchanged image first."""


def corrupted(picture: Image.Image) -> Iterator[Image.Image]:
    """The image in all `CONDITIONS`.

    Args:
        picture: an RGB image.

    Yields:
        Images of one size.

    Examples:
        >>> from PIL import Image
        >>> from podium.evaluation.corruptions import CONDITIONS, corrupted
        >>> found = list(corrupted(Image.new("RGB", (600, 300), "green")))
        >>> len(found) == len(CONDITIONS), found[0].size, found[-1].size
        (True, (512, 256), (512, 256))
    """
    scale = SHORT / min(picture.size)
    if scale < 1:
        width, height = (max(1, round(scale * side)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    yield picture
    pixels = np.array(picture)
    digest, image = hashlib.sha256(pixels.tobytes()), torch.from_numpy(pixels).permute(2, 0, 1)
    for one in CORRUPTIONS:
        own = hashlib.sha256(digest.digest() + one.name.encode())
        seed = int.from_bytes(own.digest(), "big")
        for value in one.values:
            random = np.random.default_rng(seed)
            changed = one.apply(image, value, random).permute(1, 2, 0)
            yield Image.fromarray(np.ascontiguousarray(changed.numpy()))
