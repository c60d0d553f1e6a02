"""What becomes of freed memory: reused between batches, or returned to the system."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import sys
import threading
from collections.abc import Iterator

# Parameters of mallopt(3), glibc's <malloc.h>
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4

_WHILE = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20}
# The values that glibc's own adjustment reaches with large blocks (setting them switches it off)
_AFTER = {
    _MMAP_MAX: 65_536,
    _MMAP_THRESHOLD: 32 * 2**20,
    _TRIM_THRESHOLD: 64 * 2**20,
    _TOP_PAD: 128 * 2**10,
}

_users = 0
"""Number of `recycled_memory` that are open: the setting is the process's."""
_changing = threading.Lock()


@contextlib.contextmanager
def recycled_memory() -> Iterator[bool]:
    """Keep freed blocks for reuse, instead of returning them to the system.

    By default glibc maps every large block anew and unmaps it when it is freed, so the kernel
    zeroes each activation of each batch page by page: in fp32, that is more than half of the time
    of a prediction. Here they come from the heap, where the previous batch left them. Results do
    not change. The memory is returned when nothing in this process asks for it any more.

    Yields:
        Whether it takes effect: only with glibc; elsewhere nothing happens.
    """
    global _users
    libc = _glibc()
    if libc is None:
        yield False
        return
    with _changing:
        _users += 1
        taken = [libc.mallopt(name, value) for name, value in _WHILE.items()]
    try:
        yield all(taken)
    finally:
        with _changing:
            _users -= 1
            if not _users:
                for name, value in _AFTER.items():
                    libc.mallopt(name, value)
                libc.malloc_trim(0)


def return_memory() -> None:
    """Return freed blocks of the heap to the system, after work that took many; only with glibc."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
