"""From an image to the model's input: named policies for training, one transform for evaluation.

Each has two parts. The first resizes the image to a square, deterministically: its result is what
`podium.data.cache` stores. The second augments that square at random and depends only on it and
(seed, epoch, number): the pixels are the same whether the square is cached or decoded.

The result is a uint8 tensor of shape (channels, S, S). Scaling to [0, 1] and normalisation happen
in `prepare`, one batch at a time on the device: the same numbers for a quarter of the traffic.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch.nn.functional import interpolate
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from podium.config.registry import AUGMENTATIONS
from podium.config.titles import AUGMENTATION_TITLES
from podium.data.augmentation import Augmentation, OfUser, Pixels, as_tensor
from podium.data.bands import Picture, as_picture
from podium.data.batch_augment import Recorder, Step, apply_step, resized_crops
from podium.data.images import squeeze
from podium.errors import ConfigError, TrainingError
from podium.runtime.random import sample_seed, seeded

Normalization = tuple[tuple[float, ...], tuple[float, ...]] | None
"""Channel means and standard deviations of values in [0, 1]; None: not normalised."""

Flip = Literal["random", "alternate"]
"""When `crop_flip` mirrors: at random half of the time, or every image in every other epoch."""


class Draw(NamedTuple):
    """Identifies random choices: those of image `number` in `epoch` of the run with `seed`."""

    seed: int
    epoch: int
    number: int


class Transform:
    """Transforms an image to uint8 of shape (channels, image_size, image_size), in two parts.

    `source` is deterministic and returns a square of `source_size` pixels; `vary` turns it into
    the model's input. A class, not a closure: loaders send transforms to other processes.

    Args:
        image_size: side of the model's input, pixels.
        source_size: side of the square that is augmented, pixels.
        change: the augmentation.
    """

    def __init__(self, image_size: int, source_size: int, change: _Change) -> None:
        self.image_size, self.source_size, self.change = image_size, source_size, change

    def source(self, picture: Picture) -> Pixels:
        """Resize an image: uint8 of shape (source_size, source_size, channels)."""
        return np.asarray(squeeze(picture, self.source_size))

    def vary(
        self, pixels: Pixels, draw: Draw | None = None, size: int | None = None
    ) -> torch.Tensor:
        """Augment the square at random.

        Args:
            pixels: from `source`; not changed.
            draw: fixes the random choices; None: they come from torch's global generator.
            size: side of the result in pixels, at most `image_size`, for trainings that start
                with small images; None: `image_size`.

        Returns:
            uint8 of shape (channels, size, size).
        """
        size = size or self.image_size
        if draw is None:
            return self.change(pixels, size, None)
        with seeded(sample_seed(*draw)):
            return self.change(pixels, size, draw)

    @property
    def takes_batches(self) -> bool:
        """Whether `plan` and `vary_batch` can take the place of `vary`."""
        return isinstance(self.change, _OfBatches) and self.change.takes_batches

    def plan(self, draw: Draw | None, size: int | None = None) -> torch.Tensor:
        """Make the random choices of `vary`, with the same random numbers, without an image.

        Args:
            draw: fixes them; None: they come from torch's global generator.
            size: side of the result; None: `image_size`.

        Returns:
            What `vary_batch` needs of one image: float64 of shape (k,).
        """
        size = size or self.image_size
        assert isinstance(self.change, _OfBatches)
        with contextlib.nullcontext() if draw is None else seeded(sample_seed(*draw)):
            return torch.tensor([size, *self.change.plan(self.source_size, size, draw)]).double()

    def vary_batch(self, images: torch.Tensor, plans: torch.Tensor) -> torch.Tensor:
        """Augment a batch as `vary` does each image, on the device on which it lies.

        Args:
            images: uint8 of shape (n, channels, source_size, source_size).
            plans: from `plan`, all with one size; shape (n, k).

        Returns:
            uint8 of shape (n, channels, size, size). The bytes are those of `vary` if nothing is
            resized, else they differ by at most 2 of 255 before an augmentation's operations.
        """
        assert isinstance(self.change, _OfBatches)
        return self.change.on_batch(images, plans[:, 1:], int(plans[0, 0]))

    def __call__(self, picture: Picture, draw: Draw | None = None) -> torch.Tensor:
        """Apply both parts.

        Args:
            picture: an image of mode RGB, or of several channels.
            draw: fixes the random choices; None: they come from torch's global generator.
        """
        return self.vary(self.source(picture), draw)


_Change = Callable[[Pixels, int, Draw | None], torch.Tensor]


@runtime_checkable
class _OfBatches(Protocol):
    """A change that can also be made to whole batches, from random choices drawn before."""

    takes_batches: bool

    def plan(self, source: int, size: int, draw: Draw | None) -> list[float]: ...

    def on_batch(self, images: torch.Tensor, plans: torch.Tensor, size: int) -> torch.Tensor: ...


class _Policy:
    """Resize to the requested size, then apply a torchvision policy."""

    STEPS = 2  # operations that a policy applies at most

    def __init__(self, policy: v2.Transform | None = None, *, takes_batches: bool = True) -> None:
        self.policy, self.takes_batches = policy, takes_batches
        self.recorder = Recorder(policy) if takes_batches and policy is not None else None

    def plan(self, source: int, size: int, draw: Draw | None) -> list[float]:
        if self.recorder is None:
            return []
        steps = self.recorder.draw(size)
        return [
            value for step in [*steps, *[Step(0, 0.0)] * self.STEPS][: self.STEPS] for value in step
        ]

    def on_batch(self, images: torch.Tensor, plans: torch.Tensor, size: int) -> torch.Tensor:
        if images.shape[-1] != size:
            whole = torch.tensor([[0, 0, images.shape[-1], images.shape[-1]]])
            images = resized_crops(images, whole, size)
        for operations, magnitudes in zip(
            plans.T[::2].tolist(), plans.T[1::2].tolist(), strict=True
        ):
            images = apply_step(images, [int(one) for one in operations], magnitudes)
        return images

    def __call__(self, pixels: Pixels, size: int, draw: Draw | None) -> torch.Tensor:
        if self.policy is None and pixels.shape[0] == size:
            return as_tensor(pixels.copy())
        picture = squeeze(as_picture(pixels), size)
        varied = picture if self.policy is None else self.policy(picture)
        return as_tensor(np.array(varied))


class _CropFlip:
    """A random crop, resized, and mirrored half of the time (Szegedy et al., 2015).

    Same distribution, and with the same generator the same boxes, as torchvision's
    RandomResizedCrop and RandomHorizontalFlip. Those use Pillow's resize for PIL images; torch's
    is vectorised, three times as fast, and its pixels differ by at most 2 of 255.
    """

    RATIOS = (math.log(3 / 4), math.log(4 / 3))  # of width to height

    def __init__(self, least: float, flip: Flip) -> None:
        self.least, self.flip = least, flip

    def __call__(self, pixels: Pixels, size: int, draw: Draw | None) -> torch.Tensor:
        top, left, height, width = self.box(pixels.shape[0])
        crop = as_tensor(pixels[top : top + height, left : left + width].copy())
        small = interpolate(crop[None], (size, size), mode="bilinear", antialias=True)[0]
        return small.flip(-1) if self.mirrored(draw) else small

    takes_batches = True

    def plan(self, source: int, size: int, draw: Draw | None) -> list[float]:
        return [*self.box(source), self.mirrored(draw)]

    def on_batch(self, images: torch.Tensor, plans: torch.Tensor, size: int) -> torch.Tensor:
        crops = resized_crops(images, plans[:, :4], size)
        mirrored = plans[:, 4].bool().to(images.device)[:, None, None, None]
        return torch.where(mirrored, crops.flip(-1), crops)

    def box(self, side: int) -> tuple[int, int, int, int]:
        """Draw the top, left, height and width of a crop of a square."""
        for _ in range(10):
            area = side * side * torch.empty(1).uniform_(self.least, 1.0).item()
            ratio = torch.empty(1).uniform_(*self.RATIOS).exp_().item()
            width = round(math.sqrt(area * ratio))
            height = round(math.sqrt(area / ratio))
            if 0 < width <= side and 0 < height <= side:
                top = torch.randint(0, side - height + 1, (1,)).item()
                left = torch.randint(0, side - width + 1, (1,)).item()
                return int(top), int(left), height, width
        return 0, 0, side, side

    def mirrored(self, draw: Draw | None) -> bool:
        if self.flip == "alternate" and draw is not None:
            # epochs count from 1, so epoch 0 is free to seed which side is first
            return bool((sample_seed(draw.seed, 0, draw.number) + draw.epoch) & 1)
        return torch.rand(1).item() < 0.5


_OURS: dict[str, tuple[Callable[..., _Change], float]] = {
    # the image unchanged
    "none": (_Policy, 1),
    # the ImageNet policy (Cubuk et al., 2019); the paper's
    "autoaugment": (lambda: _Policy(v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET)), 1),
    # 2 random operations of magnitude 9 (Cubuk et al., 2020)
    "randaugment": (lambda: _Policy(v2.RandAugment()), 1),
    # 1 random operation, the wide space (Mueller and Hutter, 2021)
    "trivialaugment": (lambda: _Policy(v2.TrivialAugmentWide()), 1),
    # mixed chains of operations (Hendrycks et al., 2020)
    "augmix": (lambda: _Policy(v2.AugMix(), takes_batches=False), 1),
    # from a larger square: a crop of the small one would be blurred
    "crop_flip": (_CropFlip, 1.25),
}
for _name, (_make, _scale) in _OURS.items():
    AUGMENTATIONS.register(_name, Augmentation(_name, AUGMENTATION_TITLES[_name], _make, _scale))


def eval_transform(image_size: int) -> Transform:
    """Make the transform for validation, test and prediction: only a resize.

    Args:
        image_size: side of the square, pixels. Images that are not square are distorted, as in
            the paper's resize, so that nothing at their borders is lost.

    Returns:
        From an image to uint8 of shape (channels, image_size, image_size).
    """
    return Transform(image_size, image_size, _Policy())


def source_size(policy: str, image_size: int) -> int:
    """Side in pixels of the square that an augmentation needs, which the cache stores.

    Args:
        policy: name of the augmentation.
        image_size: side of the model's input, pixels.
    """
    found: Augmentation = AUGMENTATIONS[policy]
    return found.source_size(image_size)


def train_transform(
    policy: str, image_size: int, *, flip: Flip = "random", crop_scale: float = 0.35
) -> Transform:
    """Make the transform for training: a resize, then the augmentation.

    Args:
        policy: name of the augmentation.
        image_size: side of the model's input, pixels.
        flip: for `crop_flip`. `alternate`: every image is mirrored in every other epoch, starting
            with a random side per image (Jordan, 2024, "94% on CIFAR-10 in 3.29 Seconds"); without
            a `Draw` the side is random each time.
        crop_scale: for `crop_flip`: minimum share of the area in a crop, above 0, at most 1.

    Returns:
        From an image to uint8 of shape (channels, image_size, image_size).

    Raises:
        ConfigError: there is no such augmentation, or a user's cannot be created.
        ValueError: `crop_scale` is out of range.
    """
    if not 0 < crop_scale <= 1:
        raise ValueError(f"crop_scale: expected more than 0 and at most 1, got {crop_scale}")
    found: Augmentation = AUGMENTATIONS[policy]
    change: _Change
    if policy not in AUGMENTATIONS.built_in:
        change = OfUser(found)
    else:
        change = found.make(crop_scale, flip) if policy == "crop_flip" else found.make()
    return Transform(image_size, found.source_size(image_size), change)


def try_augmentation(name: str, image_size: int = 64) -> None:
    """Try a user's augmentation on a random image, so that errors appear before a training.

    Args:
        name: of the augmentation; Podium's are not tried.
        image_size: side of the model's input, pixels.

    Raises:
        ConfigError: it fails, does not return an image, or returns different pixels for the same
            seeds.
    """
    if name in AUGMENTATIONS.built_in:
        return
    transform = train_transform(name, image_size)
    side = transform.source_size
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    for number in range(8):  # some change only a few images
        try:
            first, again = (transform.vary(pixels, Draw(0, 1, number)) for _ in range(2))
        except TrainingError as error:
            raise ConfigError(str(error)) from error
        if not torch.equal(first, again):
            raise ConfigError(
                f"augmentation {name} returns different pixels for the same seed, so that no run "
                "with it could be resumed or reproduced. Draw from the global generators of torch, "
                "numpy.random or random, which are seeded for every image, not from another one."
            )


def prepare(
    images: torch.Tensor, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> torch.Tensor:
    """Scale uint8 images to [0, 1] and normalise them.

    Args:
        images: uint8 of shape (n, channels, h, w).
        mean: per channel, subtracted; None: not normalised.
        std: per channel, divided by; None: not normalised.

    Returns:
        float32 of the same shape, on the same device.
    """
    scaled = images.to(torch.float32).div_(255)  # bit-identical to ToTensor
    if mean is None or std is None:
        return scaled
    normalised: torch.Tensor = functional.normalize(scaled, list(mean), list(std), inplace=True)
    return normalised


def mix_batch(
    images: torch.Tensor,
    labels: torch.Tensor,
    classes: int,
    mixup: float,
    cutmix: float,
    seed: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix every image with another one of the batch (Zhang et al., 2018; Yun et al., 2019).

    Args:
        images: float of shape (n, channels, h, w).
        labels: int64 of shape (n,).
        classes: number of classes.
        mixup: alpha of mixup; 0 disables it.
        cutmix: alpha of CutMix; 0 disables it. With both enabled, each is used half of the time.
        seed: determines the shares and boxes, and which of the two is used. Each image is mixed
            with its neighbour in the batch, which is shuffled.

    Returns:
        `(images, targets)`: targets are float of shape (n, classes), each row sums to 1.
    """
    ways: list[torch.nn.Module] = []
    if mixup:
        ways.append(v2.MixUp(alpha=mixup, num_classes=classes))
    if cutmix:
        ways.append(v2.CutMix(alpha=cutmix, num_classes=classes))
    with seeded(seed):
        mixed, targets = v2.RandomChoice(ways)(images, labels)
    return mixed, targets
