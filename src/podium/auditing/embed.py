"""Image embeddings for the audit: the same features that a study's linear probe learns from.

The network runs once. The audit uses the features of a frozen EfficientNet-Lite0, pooled over
all its stages, at the image size and precision of a study's linear probe (`podium run transfer`):
whichever runs first computes them, and the other reads them from the cache.
"""

from __future__ import annotations

import numpy as np
import torch

from podium.config.machine import Machine
from podium.data.index import DataIndex
from podium.features.disk import Floats
from podium.features.extract import Backbone
from podium.features.network import PrecisionOf
from podium.models import build_model
from podium.runtime.device import choose_device
from podium.runtime.events import Notify, of_part, silent
from podium.runtime.large_array import LargeArray
from podium.runtime.parts import Parts, once

BACKBONE = "efficientnet_lite0"
"""The network whose features are used; its ImageNet weights come with Podium."""


def embed(
    index: DataIndex,
    *,
    device: str = "auto",
    notify: Notify = silent,
    parts: Parts | None = None,
) -> LargeArray:
    """Compute the features of every image of every split, or read them from the cache.

    Args:
        index: the images.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        notify: receives the progress: number of images done.
        parts: what computes on other machines, on their devices; None: this one does.

    Returns:
        float32 of shape (n, d): the splits one after the other, each in its own order. Where there
        are too many for the memory, they are rounded to float16.

    Raises:
        ConfigError: the device is unknown or not available.
        UnreadableImageError: an image can no longer be read.
        WeightsUnavailableError: the bundled weights are not installed.
    """
    built = build_model(BACKBONE, 2, pretrained=True, pooling="stages")
    machine = Machine(device=device if parts is None else parts.device)
    chosen = choose_device(machine).torch if parts is None else torch.device(parts.device)
    backbone = Backbone(
        built,
        size=built.image_size,
        normalization=(built.mean, built.std) if built.mean and built.std else None,
        device=chosen,
        parts=parts,
    )
    total, done = sum(len(split) for split in index.splits.values()), 0
    found: LargeArray | None = None

    def keep(at: int, values: Floats) -> None:
        nonlocal found
        if found is None:
            found = LargeArray(total, values.shape[1:], np.float32, kept_as=np.float16)
        found[done + at : done + at + len(values)] = values

    for split in index.splits:
        precision = "fp32"
        if split == "train":
            choice = PrecisionOf(machine, built.image_size)
            wanted = choice(built.module) if parts is None else once(parts, choice, built.module)
            precision, _ = backbone.precision_for(index, split, wanted)
        progress = of_part(notify, done, total)
        backbone.each_part(index, split, keep, precision=precision, notify=progress)
        done += len(index.splits[split])
    assert found is not None  # an index has images
    return found
