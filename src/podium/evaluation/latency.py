"""How long a trained model takes for one image."""

from __future__ import annotations

import statistics
import time

import torch

from podium.evaluation.trained import TrainedModel

WARM_UP = 3
ROUNDS = 20
LONGEST = 2.0  # seconds; a slow model is timed less often


@torch.inference_mode()
def latency(model: TrainedModel) -> float:
    """Time the model on one image at a time, without decoding.

    In single precision, on the device that the model is on, with the threads that PyTorch uses at
    the time; other load on the machine makes it slower.

    Args:
        model: ready to use; it is put into evaluation mode.

    Returns:
        The median in milliseconds, of up to 20 rounds after three to warm up.
    """
    device = next(model.module.parameters()).device
    side = model.image_size
    pixels = torch.zeros(1, model.windows.inputs, side, side, device=device)
    pixels = pixels.to(memory_format=torch.channels_last)
    model.module.eval()
    took: list[float] = []
    while len(took) < WARM_UP + 1 or (len(took) < WARM_UP + ROUNDS and sum(took) < 1000 * LONGEST):
        began = time.perf_counter()
        for _ in range(1 + model.flip_test):  # the image and its mirror image
            model.module(pixels)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took[WARM_UP:])
