"""Images as tensors, in an order and with an augmentation that only the seed and epoch decide."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, Sampler

from podium.data.index import DataIndex, load_checked
from podium.data.pixels import CachedPixels
from podium.data.transforms import Draw, Transform
from podium.runtime.random import sample_seed

EpochKey = tuple[int, int] | tuple[int, int, int]
"""What training asks a dataset for: number, epoch and perhaps size."""

Key = int | EpochKey
"""What a dataset is asked for: see `ImageDataset`."""


class ImageDataset(Dataset[tuple[torch.Tensor, int, int]]):
    """One split of an index. Items are `(image, label, number)`.

    `image` is uint8 of shape (3, S, S). The key is a number (evaluation), a pair
    `(number, epoch)` (training): then the transform draws from a generator that is seeded with
    the study's seed, the epoch and the number, whichever process does the work; or a triple
    `(number, epoch, size)`: the same at another size than the transform's.

    Args:
        index: the images.
        split: `train`, `valid` or `test`.
        transform: from a picture to a tensor.
        seed: of the run; empty: nothing is drawn.
        cached: decoded pictures of this split; empty: every picture is decoded anew.

    Raises:
        ValueError: the cached pictures are not of the transform's source size.
    """

    def __init__(
        self,
        index: DataIndex,
        split: str,
        transform: Transform,
        seed: int | None,
        cached: CachedPixels | None = None,
    ) -> None:
        if cached is not None and cached.size != transform.source_size:
            raise ValueError(f"cached at {cached.size} px, needed at {transform.source_size} px")
        self.root = index.root
        self.paths = index.splits[split].paths
        self.labels = index.splits[split].labels
        self.digests = [index.digests.get(path) for path in self.paths]
        self.windows = index.windows
        self.transform = transform
        self.seed = seed
        self.cached = cached

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, int, int]:
        number, *rest = key if isinstance(key, tuple) else (key,)
        size = rest[1] if len(rest) > 1 else None
        draw = Draw(self.seed, rest[0], number) if rest and self.seed is not None else None
        tensor = self.transform.vary(self._source(number), draw, size)
        return tensor, int(self.labels[number]), number

    def _source(self, number: int) -> npt.NDArray[np.uint8]:
        kept = None if self.cached is None else self.cached.get(number)
        if kept is not None:
            return kept
        path = self.paths[number]
        return self.transform.source(
            load_checked(self.root / path, path, self.digests[number], self.windows)
        )


class EpochSampler(Sampler[list[EpochKey]]):
    """Batches of `(number, epoch)`: a shuffle that depends on (seed, epoch) alone.

    Where `set_epoch` was told a size, the keys are `(number, epoch, size)`.

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
        self.size: int | None = None
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

    def set_epoch(self, epoch: int, *, start_batch: int = 0, size: int | None = None) -> None:
        """Choose the epoch (from 1), how many of its steps are done already, and its image size.

        Args:
            epoch: from 1.
            start_batch: steps that are done already.
            size: side of its images in pixels; empty: the transform's own.
        """
        self.epoch, self.start_batch, self.size = epoch, start_batch, size

    def __len__(self) -> int:
        return self.steps - self.start_batch

    def __iter__(self) -> Iterator[list[EpochKey]]:
        random = np.random.default_rng(sample_seed(self.seed, self.epoch, -1))
        order = random.permutation(self.n)
        rest = (self.epoch,) if self.size is None else (self.epoch, self.size)
        for first, last in self.bounds[self.start_batch :]:
            yield [(int(i), *rest) for i in order[first:last][self.rank :: self.world]]
