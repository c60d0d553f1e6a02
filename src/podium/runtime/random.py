"""Random numbers that depend on what is drawn for, never on who draws or when."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """A seed for one sample of one epoch: the three numbers, thoroughly mixed.

    SplitMix64's finaliser (Steele et al., 2014) after each number, so that neighbours share
    nothing.

    Returns:
        A whole number from 0 to 2**63 - 1.
    """
    mask = (1 << 64) - 1
    state = 0
    for number in (seed, epoch, index):
        state = (state + (number & mask) + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state >> 1


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator, and put its state back afterwards."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
