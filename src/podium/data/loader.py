"""Batches of images, decoded by worker processes."""

from __future__ import annotations

import functools
import signal
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from podium.data.dataset import ImageDataset
from podium.data.device_images import DeviceImages
from podium.data.transforms import Normalization, prepare
from podium.runtime.spawn import Place, runs_again
from podium.runtime.threads import own_cores, use_cores

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _collate(samples: Sequence[Any]) -> Batch | Exception:
    # A worker's exception reaches the main process only as the text of a traceback. Returning it
    # as a value keeps its type, and with it which file and why.
    for sample in samples:
        if isinstance(sample, Exception):
            return sample
    images, labels, numbers = zip(*samples, strict=True)
    if images[0].ndim == 1:  # plans for images that are on the device
        stacked = torch.stack(images)
    else:  # channels last in memory; stacking them that way takes a fifth of the time
        stacked = torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)
    return stacked, torch.tensor(labels), torch.tensor(numbers)


class _Guarded(torch.utils.data.Dataset[Any]):
    """Returns an error instead of raising it, so that it keeps its type across processes."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.dataset[key]
        except Exception as error:
            return error


def _worker_started(_: int, cores: frozenset[int]) -> None:
    # Ctrl-C reaches the whole process group. The main process handles it: it finishes the step,
    # and needs its workers for that.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    use_cores(cores)  # the process that started it may be on one of them


def _raise_lost_workers_between_steps() -> None:
    """Raise the error of a killed worker when the next batch is requested, and nowhere else.

    By default PyTorch raises it from a signal handler, at any point of the training: a half-done
    optimizer step cannot be resumed. Without that handler the loader detects it within 5 seconds
    (`MP_STATUS_CHECK_INTERVAL`).
    """
    from torch.utils.data._utils import signal_handling

    signal_handling._SIGCHLD_handler_set = True  # PyTorch would set the handler once


_warned: set[Place] = set()


def _warn_missing_guard(script: Place, workers: int) -> None:
    if script in _warned:  # a training makes several loaders
        return
    _warned.add(script)
    warnings.warn_explicit(
        f"{workers} decoding processes would each run this script again from its top. Images are "
        "decoded in the training process instead, which is slower. Put the script's work under "
        '`if __name__ == "__main__":` to use decoding processes.',
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
    """Make a loader of uint8 batches: by `batch_sampler` (training), or in order (evaluation).

    Args:
        dataset: the images.
        workers: number of decoding processes; 0 decodes in this one.
        device: where batches will go; memory is pinned for a GPU.
        batch_size: images per batch, without a `batch_sampler`; None: 32.
        indices: images to load, without a `batch_sampler`; None: all of them.
        batch_sampler: yields lists of keys of `dataset`; None: the images in order.
    """
    if workers and (script := runs_again()) is not None:
        _warn_missing_guard(script, workers)
        workers = 0
    if workers:
        _raise_lost_workers_between_steps()
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
        worker_init_fn=functools.partial(_worker_started, cores=own_cores()),
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        pin_memory=device.type == "cuda",
    )


def batches(
    loader: DataLoader[Any],
    device: torch.device,
    normalization: Normalization,
    kept: DeviceImages | None = None,
) -> Iterator[Batch]:
    """Iterate over the batches of a loader, normalised, on the device.

    Its processes are started by this call, not with the first batch.

    Args:
        loader: from `make_loader`.
        device: where the batches go.
        normalization: of the inputs.
        kept: the images, if they are on the device and the loader only has plans for them.

    Returns:
        An iterator over `(inputs, labels, numbers)`: float32 of shape (n, 3, h, w), channels last,
        and int64 of shape (n,) twice.

    Raises:
        UnreadableImageError: from the iterator: an image can no longer be read; the message names
            it.
    """
    return _on_device(iter(loader), device, normalization, kept)


def _on_device(
    loaded: Iterator[Batch | Exception],
    device: torch.device,
    normalization: Normalization,
    kept: DeviceImages | None,
) -> Iterator[Batch]:
    mean, std = normalization or (None, None)
    for batch in loaded if kept is None else _varied(loaded, kept):
        if isinstance(batch, Exception):
            raise batch
        images, labels, numbers = batch
        images = images.to(device, non_blocking=True)
        inputs = prepare(images, mean, std).contiguous(memory_format=torch.channels_last)
        yield inputs, labels.to(device, non_blocking=True), numbers


_AT_ONCE = 1 << 25
"""Bytes of images: augmenting launches some hundred kernels, for many images as for one."""


def _varied(loaded: Iterator[Batch | Exception], kept: DeviceImages) -> Iterator[Batch | Exception]:
    """Augment the images of several batches of plans at once; errors come in their place."""
    most = _AT_ONCE // kept.pixels[0].numel()
    while True:
        group: list[Batch] = []
        last: Batch | Exception | None = None
        while not group or sum(len(plans) for plans, _, _ in group) < most:
            last = next(loaded, None)
            if last is None or isinstance(last, Exception):
                break
            group.append(last)
        if group:
            plans, _, numbers = (torch.cat(parts) for parts in zip(*group, strict=True))
            images = kept.vary(plans, numbers)
            sizes = [len(labels) for _, labels, _ in group]
            for own, (_, labels, rows) in zip(torch.split(images, sizes), group, strict=True):
                yield own, labels, rows
        if last is None:
            return
        if isinstance(last, Exception):
            yield last
