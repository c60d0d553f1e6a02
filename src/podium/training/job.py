"""One training as a job: its recipe, images and folder; and its batches of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from podium.config.machine import Machine
from podium.config.registry import allowed
from podium.config.settings import RunSpec
from podium.data.dataset import EpochSampler, ImageDataset
from podium.data.device_images import DeviceImages, on_device
from podium.data.index import DataIndex
from podium.data.loader import make_loader
from podium.data.pixels import CachedPixels
from podium.data.transforms import eval_transform, train_transform, try_augmentation
from podium.features.frozen import features_are_fixed
from podium.runs.folder import RunFolder
from podium.runtime.attempt import Attempt
from podium.runtime.device import Device
from podium.training.losses import bind_loss
from podium.training.refit import Refit


@dataclass(frozen=True)
class Job:
    """Everything that one training needs; picklable, for other processes."""

    recipe: RunSpec
    index: DataIndex
    folder: RunFolder
    machine: Machine
    device: Device
    precision: str
    workers: int
    cached: Mapping[str, CachedPixels] = field(default_factory=dict)
    """Decoded images by split; images of other splits are decoded in every epoch."""
    allowed: Mapping[str, str] = field(default_factory=allowed)
    """The user's modules that other processes also import; see `podium.config.registry`."""
    threads: int | None = None
    """Threads of the arithmetic, all processes together; None: PyTorch's own number."""
    attempt: Attempt | None = None
    """What may forbid writing to the folder; None: this is the only process that may."""
    metric: str = "accuracy"
    """The study's metric: its best validation value selects the epoch."""
    refit: Refit | None = None
    """What to train without validation images, which would select the epoch; None: with them."""
    floor: tuple[float, ...] = ()
    """Of a trial: what it must have reached after each epoch not to be ended early; empty: it is
    trained to its end. See `podium.training.schedule.median_floor`."""


class Loaders(NamedTuple):
    """The images of one process of a training."""

    sampler: EpochSampler
    """Sets the epoch of `train`."""
    train: DataLoader[Any]
    valid: DataLoader[Any]
    """This process's share of the validation images, in order."""
    kept: DeviceImages | None
    """The training images, where they are augmented on the device: `train` then has only plans."""


def make_loaders(
    job: Job, image_size: int, device: torch.device, *, rank: int = 0, world: int = 1
) -> Loaders:
    """Make the sampler and the loaders of one process of a training.

    Args:
        job: its images, recipe and workers.
        image_size: side of the model's input, pixels.
        device: where batches will go.
        rank: of this process.
        world: number of processes.
    """
    recipe, seed = job.recipe, job.folder.seed
    labels = job.index.splits["train"].labels
    sampler = EpochSampler(
        len(labels),
        seed=seed,
        rank=rank,
        world=world,
        batch_size=recipe.batch_size,
        balance=labels if recipe.sampler == "balanced" else None,
    )
    varied = train_transform(
        recipe.augmentation, image_size, flip=recipe.flip, crop_scale=recipe.crop_scale
    )
    cached = job.cached.get("train")
    kept = None if features_are_fixed(recipe, world) else on_device(cached, varied, device)
    train = make_loader(
        ImageDataset(job.index, "train", varied, seed, cached, planned=kept is not None),
        workers=job.workers,
        device=device,
        batch_sampler=sampler,
    )
    plain = eval_transform(image_size)
    valid = make_loader(
        ImageDataset(job.index, "valid", plain, None, job.cached.get("valid")),
        workers=min(job.workers, 1),
        device=device,
        batch_size=max(1, recipe.batch_size // world),
        indices=range(rank, len(job.index.splits["valid"]), world),
    )
    return Loaders(sampler, train, valid, kept)


def try_code(recipe: RunSpec, index: DataIndex) -> None:
    """Try the user's augmentation, loss and class weights, before anything is trained.

    Args:
        recipe: of the training.
        index: the images.

    Raises:
        ConfigError: one of them does not exist, fails, or returns an unusable result.
    """
    try_augmentation(recipe.augmentation)
    bind_loss(recipe, index.splits["train"].labels, index.classes, torch.device("cpu"))
