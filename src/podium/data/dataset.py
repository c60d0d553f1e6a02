"""Images as tensors; order and augmentation depend only on the seed and the epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, Sampler

from podium.data.checking import load_checked
from podium.data.index import DataIndex
from podium.data.pixels import CachedPixels
from podium.data.transforms import Draw, Transform
from podium.runtime.random import sample_seed

EpochKey = tuple[int, int] | tuple[int, int, int] | tuple[int, int, int, int]
"""A dataset key in training: number and epoch, then optionally size, then optionally repeat."""

Key = int | EpochKey
"""A dataset key: a number in evaluation, an `EpochKey` in training."""


class ImageDataset(Dataset[tuple[torch.Tensor, int, int]]):
    """One split of an index. Items are `(image, label, number)`.

    `image` is uint8 of shape (channels, S, S); where the images are `planned`, it is what
    `Transform.plan` draws for it instead, float64 of shape (k,).

    The key is a number in evaluation. In training it is a pair `(number, epoch)`: the transform's
    generator is seeded with the run's seed, the epoch and the number, in whichever process it runs;
    or a triple `(number, epoch, size)`, for another size than the transform's; or
    `(number, epoch, size or 0, repeat)`, where an epoch has an image several times: each repeat,
    from 0, is augmented differently.

    Args:
        index: the images.
        split: `train`, `valid` or `test`.
        transform: from an image to a tensor.
        seed: of the run; None: no random augmentation.
        cached: decoded images of this split; None: every image is decoded each time.
        planned: only draw the random choices: the images themselves are on the device.

    Raises:
        ValueError: the cached images are not of the transform's source size.
    """

    def __init__(
        self,
        index: DataIndex,
        split: str,
        transform: Transform,
        seed: int | None,
        cached: CachedPixels | None = None,
        *,
        planned: bool = False,
    ) -> None:
        if cached is not None and cached.size != transform.source_size:
            raise ValueError(
                f"cached: expected images of {transform.source_size} px, got {cached.size} px"
            )
        self.reader = index.reader
        self.entries = index.splits[split].entries()
        self.windows = index.windows
        self.transform = transform
        self.seed = seed
        self.cached = cached
        self.planned = planned

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, int, int]:
        number, *rest = key if isinstance(key, tuple) else (key,)
        size = (rest[1] or None) if len(rest) > 1 else None
        repeat = rest[2] if len(rest) > 2 else 0
        draw = None
        if rest and self.seed is not None:
            draw = Draw(self.seed, rest[0], number + repeat * len(self))
        if self.planned:
            tensor = self.transform.plan(draw, size)
        else:
            tensor = self.transform.vary(self._source(number), draw, size)
        return tensor, int(self.entries.labels[number]), number

    def _source(self, number: int) -> npt.NDArray[np.uint8]:
        kept = None if self.cached is None else self.cached.get(number)
        if kept is not None:
            return kept
        path, digest = self.entries.paths[number], self.entries.digest(number)
        return self.transform.source(load_checked(self.reader, path, digest, self.windows))


class EpochSampler(Sampler[list[EpochKey]]):
    """Batches of `(number, epoch)`, shuffled depending only on (seed, epoch).

    If `set_epoch` sets a size, the keys are `(number, epoch, size)`. With `balance`, they are
    `(number, epoch, size or 0, repeat)`: the epoch has n images again, but equally many of
    every class. Where n is no multiple of the classes, those with one image more are drawn. A
    class goes through all of its images before it repeats one, so an image's expected number of
    draws is that of `torch.utils.data.WeightedRandomSampler`, with less variance.

    With several processes, all of them see the same global batches, and each takes its part:
    `batch[rank::world]`. The last global batch contains the remaining images; if these are fewer
    than two per process (batch norm cannot train on one), they join the previous batch.

    Args:
        n: number of images.
        seed: of the run.
        batch_size: images per step, over all processes.
        rank: of this process.
        world: number of processes.
        balance: label of each image, shape (n,), to draw equally many of each; None: every image
            once.

    Examples:
        >>> import numpy as np
        >>> labels = np.array([0, 0, 0, 0, 0, 1])
        >>> sampler = EpochSampler(6, seed=0, batch_size=6, balance=labels)
        >>> (batch,) = sampler
        >>> sorted(int(labels[number]) for number, *_ in batch)
        [0, 0, 0, 1, 1, 1]
    """

    def __init__(
        self,
        n: int,
        *,
        seed: int,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        balance: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.n, self.seed, self.batch_size, self.balance = n, seed, batch_size, balance
        self.rank, self.world = rank, world
        self.epoch, self.start_batch = 1, 0
        self.size: int | None = None
        starts = list(range(0, n, batch_size))
        if len(starts) > 1 and n - starts[-1] < 2 * world:
            starts.pop()
        self.bounds = list(zip(starts, [*starts[1:], n], strict=True))

    @property
    def steps(self) -> int:
        """Number of steps in a whole epoch."""
        return len(self.bounds)

    def global_batch(self, step: int) -> int:
        """Number of images of step `step` (from 0), over all processes."""
        first, last = self.bounds[step]
        return last - first

    def set_epoch(self, epoch: int, *, start_batch: int = 0, size: int | None = None) -> None:
        """Set the epoch, the number of its steps that are already done, and its image size.

        Args:
            epoch: from 1.
            start_batch: number of steps already done.
            size: side of its images in pixels; None: the transform's size.
        """
        self.epoch, self.start_batch, self.size = epoch, start_batch, size

    def __len__(self) -> int:
        return self.steps - self.start_batch

    def __iter__(self) -> Iterator[list[EpochKey]]:
        keys = self._keys()
        for first, last in self.bounds[self.start_batch :]:
            yield keys[first:last][self.rank :: self.world]

    def _keys(self) -> list[EpochKey]:
        """The keys of the whole epoch, in order."""
        random = np.random.default_rng(sample_seed(self.seed, self.epoch, -1))
        if self.balance is None:
            rest = (self.epoch,) if self.size is None else (self.epoch, self.size)
            return [(number, *rest) for number in random.permutation(self.n).tolist()]
        numbers, repeats = _equally_many(self.balance, random)
        drawn = zip(numbers.tolist(), repeats.tolist(), strict=True)
        return [(number, self.epoch, self.size or 0, repeat) for number, repeat in drawn]


def _equally_many(
    labels: npt.NDArray[np.int64], random: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """As many images as there are, equally many of each class, in random order.

    Args:
        labels: class index of each image.
        random: makes every choice.

    Returns:
        `(numbers, repeats)`: of each draw its image, and how often that was drawn before.
    """
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    quota, left_over = divmod(len(labels), len(members))
    extra = random.permutation(len(members)) < left_over
    numbers, repeats = [], []
    for own, one_more in zip(members, extra, strict=True):
        turns = np.arange(quota + one_more)
        numbers.append(random.permutation(own)[turns % len(own)])
        repeats.append(turns // len(own))
    order = random.permutation(len(labels))
    return np.concatenate(numbers)[order], np.concatenate(repeats)[order]
