"""An augmentation by name: what it is, and how a user's own becomes one."""

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
"""A picture as it lies in memory: shape (h, w, 3)."""

Vary = Callable[[Image.Image], Image.Image | torch.Tensor]
"""What varies a picture: from an RGB one to an RGB one, or to uint8 of shape (3, h, w)."""


@dataclass(frozen=True)
class Augmentation:
    """A way to vary training images, under a name that a study's `augmentation` may give.

    Args:
        name: what a study writes.
        title: what reports print.
        make: called without arguments when a training begins. What it returns is called with
            each picture: an RGB PIL picture, a square of `source_scale` times the side that the
            model sees. It gives an RGB picture or a uint8 tensor of shape (3, h, w), as the
            transforms of `torchvision.transforms.v2` do, which is then resized to what the model
            sees. The global generators of torch, numpy and Python's `random` are seeded for every
            picture by (seed, epoch, image); a generator of its own is refused.
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
        """Side in pixels of the square that is varied; an even number, unless it is `image_size`.

        Args:
            image_size: side that the model sees, pixels.
        """
        return _scaled(image_size, self.source_scale)


def _scaled(size: int, scale: float) -> int:
    return size if scale == 1 else 2 * round(scale * size / 2)


class OfUser:
    """What a user's callable makes of a square, with every global generator seeded."""

    def __init__(self, augmentation: Augmentation) -> None:
        # not the augmentation itself: other processes get this, and factories may be lambdas
        self.name, self.scale = augmentation.name, augmentation.source_scale
        try:
            self.vary: Vary = augmentation.make()
        except Exception as error:
            raise ConfigError(
                f"augmentation {self.name} cannot be made ({type(error).__name__}: "
                f"{one_line(error)})."
            ) from error
        if not callable(self.vary):
            raise ConfigError(
                f"augmentation {self.name}: expected its factory to return something to call with "
                f"a picture, got {type(self.vary).__name__}."
            )

    def __call__(self, pixels: Pixels, size: int, draw: object = None) -> torch.Tensor:
        picture = squeeze(Image.fromarray(pixels), _scaled(size, self.scale))
        # from torch's generator, so that whatever seeds it seeds the other two as well
        with seeded_everywhere(int(torch.randint(2**62, ()))):
            try:
                varied = self.vary(picture)
            except Exception as error:
                raise TrainingError(
                    f"augmentation {self.name} fails on a picture of {picture.width} x "
                    f"{picture.height} pixels ({type(error).__name__}: {one_line(error)})."
                ) from error
        return self.square(varied, size)

    def square(self, varied: object, size: int) -> torch.Tensor:
        """The result as uint8 of shape (3, size, size)."""
        if isinstance(varied, Image.Image):
            if varied.mode != "RGB":
                raise self.refused(f"a picture of mode {varied.mode}")
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
            f"augmentation {self.name}: expected an RGB picture (PIL), or a torch.uint8 tensor of "
            f"shape (3, height, width), got {got}. Scaling to [0, 1] and normalisation come later: "
            "leave them out."
        )


def as_tensor(pixels: Pixels) -> torch.Tensor:
    """The same memory, as (3, h, w)."""
    return torch.from_numpy(pixels).permute(2, 0, 1)


def register_augmentation(
    name: str, *, title: str | None = None, source_scale: float | None = None
) -> Callable[[Any], Any]:
    """Give a way to vary training images a name: a decorator.

    Args:
        name: what a study's `augmentation` says.
        title: what reports print; None: the name.
        source_scale: see `Augmentation`; None: 1.

    Returns:
        What leaves the decorated thing as it is. That is either a function or class that is called
        without arguments, once a training, and returns what is called with each picture; or, if it
        takes one argument, the very function that is called with each picture.

    Raises:
        ConfigError: the name is one of ours or cannot be one, or what is decorated is neither.

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
    """What a package, a file or a decorator offers, as an `Augmentation`."""
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
            f"augmentation {name}: expected something to call without arguments, which returns "
            "what is called with each picture, or a function of one argument, the picture; got one "
            f"that needs {', '.join(needed)}."
        )
    return Augmentation(name, title, (lambda: offered) if needed else offered)


AUGMENTATIONS.convert = _of_user
