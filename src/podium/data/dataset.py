"""Images as tensors, in an order and with an augmentation that only the seed and epoch decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from podium.data.images import load_rgb
from podium.data.index import DataIndex
from podium.transforms import sample_seed, seeded

__all__ = ["EpochSampler", "ImageDataset"]


class ImageDataset(Dataset[tuple[torch.Tensor, int, int]]):
    """One split of an index. Items are `(image, label, number)`.

    `image` is uint8 of shape (3, S, S). The key is a number (evaluation), or a pair
    `(number, epoch)` (training): then the transform draws from a generator that is seeded with
    the study's seed, the epoch and the number, whichever process does the work.
    """

    def __init__(
        self,
        index: DataIndex,
        split: str,
        transform: Callable[[Any], torch.Tensor],
        seed: int | None,
    ) -> None:
        self.root = index.root
        self.paths = index.splits[split].paths
        self.labels = index.splits[split].labels
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[torch.Tensor, int, int]:
        number, epoch = key if isinstance(key, tuple) else (key, None)
        path = self.paths[number]
        image = load_rgb(self.root / path, name=path)
        if epoch is None or self.seed is None:
            tensor = self.transform(image)
        else:
            with seeded(sample_seed(self.seed, epoch, number)):
                tensor = self.transform(image)
        return tensor, int(self.labels[number]), number


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of `(number, epoch)`: a shuffle that depends on (seed, epoch) alone.

    With several processes every one of them sees the same global batches and takes its part of
    each: `batch[rank::world]`. The last global batch is as large as what is left; where that is
    fewer than two images a process (batch norm cannot train on one), it joins the batch before.

    Args:
        n: number of images.
        seed: of the run.
        batch_size: images a step, over all processes.
        rank: of this process.
        world: number of processes.
    """

    def __init__(
        self, n: int, *, seed: int, batch_size: int, rank: int = 0, world: int = 1
    ) -> None:
        self.n, self.seed, self.batch_size = n, seed, batch_size
        self.rank, self.world = rank, world
        self.epoch, self.start_batch = 1, 0
        starts = list(range(0, n, batch_size))
        if len(starts) > 1 and n - starts[-1] < 2 * world:
            starts.pop()
        self.bounds = list(zip(starts, [*starts[1:], n], strict=True))

    @property
    def steps(self) -> int:
        """Steps of a whole epoch."""
        return len(self.bounds)

    def global_batch(self, step: int) -> int:
        """Images that all processes together take in step `step` (from 0)."""
        first, last = self.bounds[step]
        return last - first

    def set_epoch(self, epoch: int, *, start_batch: int = 0) -> None:
        """Choose the epoch (from 1), and how many of its steps are done already."""
        self.epoch, self.start_batch = epoch, start_batch

    def __len__(self) -> int:
        return self.steps - self.start_batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        random = np.random.default_rng(sample_seed(self.seed, self.epoch, -1))
        order = random.permutation(self.n)
        for first, last in self.bounds[self.start_batch :]:
            yield [(int(i), self.epoch) for i in order[first:last][self.rank :: self.world]]
