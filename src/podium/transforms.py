"""From a picture to the model's input: named policies for training, one way for evaluation.

Both end in a uint8 tensor of shape (3, S, S). Scaling to [0, 1] and normalisation happen in
`prepare`, a batch at a time on the device: the same numbers for a quarter of the traffic.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

__all__ = [
    "POLICIES",
    "eval_transform",
    "mix_batch",
    "prepare",
    "sample_seed",
    "seeded",
    "train_transform",
]

POLICIES = {
    "none": "the picture as it is",
    "autoaugment": "AutoAugment, the ImageNet policy (Cubuk et al., 2019); the paper's",
    "randaugment": "RandAugment: 2 random operations of magnitude 9 (Cubuk et al., 2020)",
    "trivialaugment": "TrivialAugment Wide: 1 random operation (Mueller and Hutter, 2021)",
    "augmix": "AugMix: mixed chains of operations (Hendrycks et al., 2020)",
    "crop_flip": "random crop of 35 to 100 % of the area, and a mirror image half the time",
}
"""Augmentation policies by name, with a line about each."""

Transform = Callable[[Image.Image], torch.Tensor]


class _Resize:
    """Both sides to `size` pixels, bilinear and antialiased; a picture of that size stays as is.

    A class, not a lambda: loaders send transforms to other processes.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: Image.Image) -> Image.Image:
        if image.size == (self.size, self.size):
            return image
        return image.resize((self.size, self.size), Image.Resampling.BILINEAR)


def _composed(*steps: Callable[[Image.Image], Image.Image]) -> Transform:
    transform: Transform = v2.Compose([*steps, v2.PILToTensor()])
    return transform


def eval_transform(image_size: int) -> Transform:
    """Resize alone: what validation, test and prediction see.

    Args:
        image_size: side of the square, pixels. Pictures that are not square are squeezed, as
            the paper's resize does, so that nothing at their borders is lost.

    Returns:
        A function from an RGB picture to uint8 of shape (3, image_size, image_size).
    """
    return _composed(_Resize(image_size))


def train_transform(policy: str, image_size: int) -> Transform:
    """Resize, then the augmentation policy: what training sees.

    Random choices come from torch's global generator; `seeded` fixes them.

    Args:
        policy: a key of `POLICIES`.
        image_size: side of the square, pixels.

    Returns:
        A function from an RGB picture to uint8 of shape (3, image_size, image_size).

    Raises:
        KeyError: there is no such policy.
    """
    if policy == "crop_flip":  # crops the full picture: a crop of the small one would be blurred
        crop = v2.RandomResizedCrop(image_size, scale=(0.35, 1.0), antialias=True)
        return _composed(crop, v2.RandomHorizontalFlip())
    policies: dict[str, Callable[[], list[Callable[[Image.Image], Image.Image]]]] = {
        "none": list,
        "autoaugment": lambda: [v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET)],
        "randaugment": lambda: [v2.RandAugment()],
        "trivialaugment": lambda: [v2.TrivialAugmentWide()],
        "augmix": lambda: [v2.AugMix()],
    }
    return _composed(_Resize(image_size), *policies[policy]())


def prepare(
    images: torch.Tensor, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> torch.Tensor:
    """Scale uint8 images to [0, 1] and normalise them.

    Args:
        images: uint8 of shape (n, 3, h, w).
        mean: of each channel, subtracted; empty: nothing is.
        std: of each channel, divided by; goes with `mean`.

    Returns:
        float32 of the same shape, on the same device.
    """
    scaled = images.to(torch.float32).div_(255)  # as ToTensor does, to the last bit
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
        images: float of shape (n, 3, h, w).
        labels: int64 of shape (n,).
        classes: number of classes.
        mixup: alpha of mixup; 0 is off.
        cutmix: alpha of CutMix; 0 is off. With both on, either is taken half the time.
        seed: decides the shares and boxes, and which of the two ways. The partner is the
            neighbour in the batch, and the batch is shuffled.

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


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """A seed for one sample of one epoch: the three numbers, thoroughly mixed.

    SplitMix64's finaliser (Steele et al., 2014) after each number, so that neighbours share
    nothing.

    Returns:
        A whole number from 0 to 2**63 - 1.
    """
    mask = (1 << 64) - 1
    state = 0
    for number in (seed, epoch, index):
        state = (state + (number & mask) + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state >> 1


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator, and put its state back afterwards."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
