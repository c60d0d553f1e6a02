"""Speed of several models on the same pixels, measured in alternation."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

Speed = tuple[float, float]
"""Milliseconds per single image, and images per second in batches of 32."""

BATCH = 32


def measure(
    ways: Mapping[str, Callable[[Pixels], Any]], pixels: Pixels, rounds: int
) -> dict[str, Speed]:
    """Time each model in each round (A B C, A B C, ...), so that other load affects all alike.

    Args:
        ways: functions from pixels to logits, by name.
        pixels: real images, shape (n, S, S, channels); repeated to fill a batch.
        rounds: number of rounds; the result is their median.
    """
    many = np.resize(pixels, (BATCH, *pixels.shape[1:]))
    one = many[:1]
    for way in ways.values():  # the first calls create plans, caches and threads
        for batch in (one, one, many, many):
            way(batch)
    single: dict[str, list[float]] = {name: [] for name in ways}
    whole: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            single[name].append(min(_seconds(way, one) for _ in range(3)))
            whole[name].append(_seconds(way, many))
    return {
        name: (1000 * statistics.median(single[name]), BATCH / statistics.median(whole[name]))
        for name in ways
    }


def _seconds(way: Callable[[Pixels], Any], batch: Pixels) -> float:
    began = time.perf_counter()
    way(batch)
    return time.perf_counter() - began
