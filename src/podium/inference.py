"""Batches of images through a model: what training, evaluation and prediction share."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import DataLoader, Sampler

from podium.config import RunSpec
from podium.data.dataset import ImageDataset
from podium.events import StopRequest
from podium.faults import Place, runs_again
from podium.models import BuiltModel
from podium.transforms import Normalization, prepare

__all__ = ["Batch", "batches", "input_normalization", "make_loader", "predict", "score"]

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


def predict(
    module: nn.Module,
    loader: DataLoader[Any],
    device: torch.device,
    normalization: Normalization,
    progress: Callable[[int], None] | None = None,
    *,
    flip: bool = False,
    stop: StopRequest | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Logits of every image of `loader`, in its order.

    Always in fp32, whatever the arithmetic of training: the figures of the report are then those
    that the saved weights give on any machine.

    Args:
        module: the model; left in evaluation mode.
        loader: the images.
        device: where the model is.
        normalization: of the inputs.
        progress: called with the number of images of every batch.
        flip: score the mirror images too, and average the logits.
        stop: asked after every batch.

    Returns:
        `(logits, labels)`: float32 of shape (n, classes), int64 of shape (n,).

    Raises:
        KeyboardInterrupt: `stop` was set.
        UnreadableImageError: an image can no longer be read; the message names it.
    """
    module.eval()
    found, labels = [], []
    with torch.inference_mode():
        for inputs, target, _ in batches(loader, device, normalization):
            logits = score(module, inputs, flip=flip)
            found.append(logits.cpu().numpy())
            labels.append(target.cpu().numpy())
            if progress is not None:
                progress(len(target))
            if stop is not None and stop.is_set():
                raise KeyboardInterrupt
    return np.concatenate(found), np.concatenate(labels).astype(np.int64)


def score(module: nn.Module, inputs: torch.Tensor, *, flip: bool = False) -> torch.Tensor:
    """Logits of shape (n, classes), float32, of inputs of shape (n, 3, h, w).

    Args:
        module: the model, in evaluation mode.
        inputs: as `podium.transforms.prepare` gives them.
        flip: score the mirror images too, and average the logits.
    """
    logits: torch.Tensor = module(inputs).float()
    return (logits + module(inputs.flip(3)).float()) / 2 if flip else logits


def input_normalization(recipe: RunSpec, built: BuiltModel) -> Normalization:
    """Mean and std of the weights, unless the recipe wants plain values in [0, 1]."""
    if recipe.normalize == "none" or built.mean is None or built.std is None:
        return None
    return built.mean, built.std
