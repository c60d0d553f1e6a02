"""Batches of images, decoded by processes beside the one that computes."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from podium.data.dataset import ImageDataset
from podium.data.transforms import Normalization, prepare
from podium.runtime.spawn import Place, runs_again

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _collate(samples: Sequence[Any]) -> Batch | Exception:
    # A worker's exception reaches the main process as the text of a traceback, its type lost.
    # Handing it over as a value keeps "which file, and why".
    for sample in samples:
        if isinstance(sample, Exception):
            return sample
    images, labels, numbers = zip(*samples, strict=True)
    # pictures lie channels last in memory; stacked as they lie, it takes a fifth of the time
    stacked = torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)
    return stacked, torch.tensor(labels), torch.tensor(numbers)


class _Guarded(torch.utils.data.Dataset[Any]):
    """Returns the error instead of raising it; see `_collate`."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.dataset[key]
        except Exception as error:
            return error


def _worker_started(_: int) -> None:
    # Ctrl-C reaches the whole process group. The main process decides what it means: it finishes
    # the step, and for that it needs its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _tell_lost_workers_between_steps() -> None:
    """Let a killed worker be an error where the next batch is asked for, and nowhere else.

    By default PyTorch raises it out of a signal's handler, in the middle of whatever the training
    does: an optimizer's step that is half done cannot be gone on with. Without that handler the
    loader sees it within 5 seconds (`MP_STATUS_CHECK_INTERVAL`).
    """
    from torch.utils.data._utils import signal_handling

    signal_handling._SIGCHLD_handler_set = True  # it would set it once


_told: set[Place] = set()


def _tell_the_guard(script: Place, workers: int) -> None:
    if script in _told:  # a training makes several loaders
        return
    _told.add(script)
    warnings.warn_explicit(
        f"{workers} processes to decode images would each run this script again from its top. "
        "Images are decoded in the training's own process instead, which is slower. Put the "
        'script\'s work under `if __name__ == "__main__":` to have them.',
        UserWarning,
        script.file,
        script.line,
    )


def make_loader(
    dataset: ImageDataset,
    *,
    workers: int,
    device: torch.device,
    batch_size: int | None = None,
    indices: Sequence[int] | None = None,
    batch_sampler: Sampler[Any] | None = None,
) -> DataLoader[Any]:
    """A loader of uint8 batches: by `batch_sampler` (training), or in order (evaluation).

    Args:
        dataset: the images.
        workers: decoding processes; 0 decodes in this one.
        device: where batches will go; memory is pinned for a GPU.
        batch_size: images a batch, without a `batch_sampler`.
        indices: which images, without a `batch_sampler`; all of them if empty.
        batch_sampler: yields lists of the keys that `dataset` takes.
    """
    if workers and (script := runs_again()) is not None:
        _tell_the_guard(script, workers)
        workers = 0
    if workers:
        _tell_lost_workers_between_steps()
    if batch_sampler is None:
        keys = range(len(dataset)) if indices is None else indices
        size = batch_size or 32
        batch_sampler = [  # type: ignore[assignment]
            list(keys[at : at + size]) for at in range(0, len(keys), size)
        ]
    return DataLoader(
        _Guarded(dataset),
        batch_sampler=batch_sampler,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_worker_started,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        pin_memory=device.type == "cuda",
    )


def batches(
    loader: DataLoader[Any], device: torch.device, normalization: Normalization
) -> Iterator[Batch]:
    """Yield `(inputs, labels, indices)` on `device`; inputs are float, channels last.

    Raises:
        UnreadableImageError: an image can no longer be read; the message names it.
    """
    mean, std = normalization or (None, None)
    for batch in loader:
        if isinstance(batch, Exception):
            raise batch
        images, labels, numbers = batch
        images = images.to(device, non_blocking=True)
        inputs = prepare(images, mean, std).contiguous(memory_format=torch.channels_last)
        yield inputs, labels.to(device, non_blocking=True), numbers
