"""Limits how many pixels the threads of a process decode at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """Limits the pixels that threads decode at once: a few huge images must not fill memory."""

    def __init__(self, total: int) -> None:
        self.total = self.free = total
        self.changed = threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Wait until so many pixels are free, and reserve them for the block."""
        taken = min(pixels, self.total)
        with self.changed:
            self.changed.wait_for(lambda: self.free >= taken)
            self.free -= taken
        try:
            yield
        finally:
            with self.changed:
                self.free += taken
                self.changed.notify_all()


def affordable_pixels(least: int) -> int:
    """Pixels that fit in a twentieth of memory, at 11 bytes each: RGBA, blended RGBA, RGB.

    Args:
        least: returned if fewer fit.
    """
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not available on Windows
        memory = 8 << 30
    return max(least, memory // 20 // 11)
