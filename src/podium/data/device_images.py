"""Decoded training images in the memory of a GPU, and augmented there.

A core augments about 1,500 images a second, a GPU trains on ten times as many. Where all images of
the split fit, only their numbers and random choices go to the device.
"""

from __future__ import annotations

import numpy as np
import torch

from podium.data.pixels import CachedPixels
from podium.data.transforms import Transform

SHARE = 0.25
"""Of the device's memory, at most so much holds images: several runs may share it, and the rest is
for the model. Of all its memory, not of what is free: a resumed run decides in the same way."""


class DeviceImages:
    """All images of a split on a device.

    Args:
        pixels: uint8 of shape (n, channels, source_size, source_size), on the device.
        transform: augments them; it must take batches.
    """

    def __init__(self, pixels: torch.Tensor, transform: Transform) -> None:
        self.pixels, self.transform = pixels, transform

    def vary(self, plans: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Augment some of the images.

        Args:
            plans: from `Transform.plan`, shape (b, k).
            numbers: of the images, shape (b,).

        Returns:
            uint8 of shape (b, channels, size, size), on the device.
        """
        own = self.pixels[numbers.to(self.pixels.device, non_blocking=True)]
        return self.transform.vary_batch(own, plans)


def memory_for_images(device: torch.device) -> int:
    """Bytes that decoded images may take on a device; 0 except on a CUDA device."""
    if device.type != "cuda":
        return 0
    return int(SHARE * torch.cuda.get_device_properties(device).total_memory)


def on_device(
    cached: CachedPixels | None, transform: Transform, device: torch.device
) -> DeviceImages | None:
    """Copy the images of a split to a device.

    Args:
        cached: the decoded images; None: there are none.
        transform: augments them.
        device: where they go.

    Returns:
        None where they are better augmented by the processor: they are not decoded, or too many,
        or the augmentation has no form for batches.
    """
    if cached is None or not transform.takes_batches or cached.size != transform.source_size:
        return None
    room = memory_for_images(device)
    first_image = cached.get(0) if room else None  # elsewhere, no file is opened
    if first_image is None or len(cached.rows) * first_image.size > room:
        return None
    count, (size, _, channels) = len(cached.rows), first_image.shape
    pixels = torch.empty((count, channels, size, size), dtype=torch.uint8, device=device)
    for first in range(0, count, 1024):
        part = [cached.get(number) for number in range(first, min(first + 1024, count))]
        images = [one for one in part if one is not None]
        if len(images) < len(part):  # the cache was emptied meanwhile
            return None
        pixels[first : first + len(part)] = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return DeviceImages(pixels, transform)
