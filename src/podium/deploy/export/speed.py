"""How fast several models are on the same pixels, measured in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

Speed = tuple[float, float]
"""Milliseconds of one picture by itself, and pictures a second in batches of 32."""

BATCH = 32


def measure(
    ways: Mapping[str, Callable[[Pixels], Any]], pixels: Pixels, rounds: int
) -> dict[str, Speed]:
    """Time each way in each round (A B C, A B C, ...): what else the machine does meets all alike.

    Args:
        ways: from pixels to logits.
        pixels: real ones, shape (n, S, S, 3); repeated up to a batch.
        rounds: their median counts.
    """
    many = np.resize(pixels, (BATCH, *pixels.shape[1:]))
    one = many[:1]
    for way in ways.values():  # plans, caches and threads are made in the first calls
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
