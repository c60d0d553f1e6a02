"""Augmentations by name, and how a user registers one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn.functional import interpolate

from podium.config.registry import AUGMENTATIONS
from podium.data.images import squeeze
from podium.errors import ConfigError, TrainingError, one_line
from podium.runtime.random import seeded_everywhere

Pixels = npt.NDArray[np.uint8]
"""An image in memory: shape (h, w, 3)."""

Vary = Callable[[Image.Image], Image.Image | torch.Tensor]
"""Augments an RGB image: returns an RGB image, or a uint8 tensor of shape (3, h, w)."""


@dataclass(frozen=True)
class Augmentation:
    """An augmentation of training images, under the name that a study's `augmentation` uses.

    Args:
        name: the name in studies.
        title: the name in reports.
        make: called without arguments when a training starts. What it returns is called with each
            image: an RGB PIL image, a square of `source_scale` times the model's input size. It
            returns an RGB image or a uint8 tensor of shape (3, h, w), as the transforms of
            `torchvision.transforms.v2` do, which is then resized to the model's input size. The
            global generators of torch, numpy and Python's `random` are seeded for every image by
            (seed, epoch, image); an augmentation that uses another generator is refused.
        source_scale: 1 to 4; more than 1 keeps crops sharp.

    Raises:
        ConfigError: `source_scale` is out of range.

    Examples:
        >>> from torchvision.transforms import v2
        >>> mirror = Augmentation("mirror", "mirror images", make=v2.RandomHorizontalFlip)
        >>> mirror.source_size(128)
        128
        >>> Augmentation("crop", "crops", lambda: v2.RandomCrop(100), 1.25).source_size(128)
        160
    """

    name: str
    title: str
    make: Callable[..., Any]
    source_scale: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.source_scale <= 4:
            raise ConfigError(
                f"augmentation {self.name}: source_scale: expected a number from 1 to 4, got "
                f"{self.source_scale}."
            )

    def source_size(self, image_size: int) -> int:
        """Side in pixels of the square that is augmented; even, unless it is `image_size`.

        Args:
            image_size: side of the model's input, pixels.
        """
        return _scaled(image_size, self.source_scale)


def _scaled(size: int, scale: float) -> int:
    return size if scale == 1 else 2 * round(scale * size / 2)


class OfUser:
    """Applies a user's augmentation with every global generator seeded."""

    def __init__(self, augmentation: Augmentation) -> None:
        # not the augmentation itself: this is pickled, and factories may be lambdas
        self.name, self.scale = augmentation.name, augmentation.source_scale
        try:
            self.vary: Vary = augmentation.make()
        except Exception as error:
            raise ConfigError(
                f"augmentation {self.name} cannot be created ({type(error).__name__}: "
                f"{one_line(error)})."
            ) from error
        if not callable(self.vary):
            raise ConfigError(
                f"augmentation {self.name}: expected its factory to return a function of an image, "
                f"got {type(self.vary).__name__}."
            )

    def __call__(self, pixels: Pixels, size: int, draw: object = None) -> torch.Tensor:
        picture = squeeze(Image.fromarray(pixels), _scaled(size, self.scale))
        # from torch's generator, so that seeding it also seeds the other two
        with seeded_everywhere(int(torch.randint(2**62, ()))):
            try:
                varied = self.vary(picture)
            except Exception as error:
                raise TrainingError(
                    f"augmentation {self.name} fails on an image of {picture.width} x "
                    f"{picture.height} pixels ({type(error).__name__}: {one_line(error)})."
                ) from error
        return self.square(varied, size)

    def square(self, varied: object, size: int) -> torch.Tensor:
        """Convert the user's result to uint8 of shape (3, size, size)."""
        if isinstance(varied, Image.Image):
            if varied.mode != "RGB":
                raise self.refused(f"an image of mode {varied.mode}")
            return as_tensor(np.array(squeeze(varied, size)))
        if not isinstance(varied, torch.Tensor):
            raise self.refused(type(varied).__name__)
        fits = varied.ndim == 3 and varied.shape[0] == 3 and varied.numel()
        if varied.dtype != torch.uint8 or not fits:
            raise self.refused(f"{varied.dtype} of shape {tuple(varied.shape)}")
        plain = varied.as_subclass(torch.Tensor)
        if plain.shape[1:] != (size, size):
            plain = interpolate(plain[None], (size, size), mode="bilinear", antialias=True)[0]
        return plain

    def refused(self, got: str) -> TrainingError:
        return TrainingError(
            f"augmentation {self.name}: expected an RGB image (PIL), or a torch.uint8 tensor of "
            f"shape (3, height, width), got {got}. Leave out scaling to [0, 1] and normalisation: "
            "Podium does both later."
        )


def as_tensor(pixels: Pixels) -> torch.Tensor:
    """View an image of shape (h, w, 3) as a tensor of shape (3, h, w), without a copy."""
    return torch.from_numpy(pixels).permute(2, 0, 1)


def register_augmentation(
    name: str, *, title: str | None = None, source_scale: float | None = None
) -> Callable[[Any], Any]:
    """Register an augmentation under a name that studies can use: a decorator.

    It decorates either a function or class that is called without arguments, once per training,
    and returns a function of an image; or a function of one argument, the image.

    Args:
        name: the name in a study's `augmentation`.
        title: the name in reports; None: `name`.
        source_scale: side of the square image that is augmented, as a multiple of the model's
            input size, 1 to 4; more than 1 keeps crops sharp. None: 1.

    Returns:
        The decorator, which returns the decorated object unchanged.

    Raises:
        ConfigError: the name is Podium's or not valid, `source_scale` is out of range, or the
            decorated object is neither.

    Examples:
        >>> @register_augmentation("upside_down", title="upside down")
        ... def turn(picture):
        ...     return picture.rotate(180)
        >>> from podium.config.registry import AUGMENTATIONS
        >>> AUGMENTATIONS["upside_down"].title
        'upside down'
    """

    def decorate(offered: Any) -> Any:
        found = _of_user(name, offered)
        if title is not None:
            found = replace(found, title=title)
        if source_scale is not None:
            found = replace(found, source_scale=source_scale)
        AUGMENTATIONS.register(name, found, offered)
        return offered

    return decorate


def _of_user(name: str, offered: Any) -> Augmentation:
    """Convert what a package, a file or a decorator registers to an `Augmentation`."""
    if isinstance(offered, Augmentation):
        return replace(offered, name=name)
    if not callable(offered):
        raise ConfigError(
            f"augmentation {name}: expected a function, a class or a podium.Augmentation, got "
            f"{type(offered).__name__}."
        )
    title = name.partition(":")[2] or name
    if isinstance(offered, torch.nn.Module):  # a transform of torchvision's
        return Augmentation(name, title, lambda: offered)
    needed = [
        one.name
        for one in inspect.signature(offered).parameters.values()
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if len(needed) > 1 or (needed and isinstance(offered, type)):
        raise ConfigError(
            f"augmentation {name}: expected a function or class without required arguments that "
            "returns a function of an image, or a function of one argument, the image; got one "
            f"that requires {', '.join(needed)}."
        )
    return Augmentation(name, title, (lambda: offered) if needed else offered)


AUGMENTATIONS.convert = _of_user
