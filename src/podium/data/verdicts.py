"""What is known of each file, remembered between runs as long as the file does not change."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import astuple, dataclass
from pathlib import Path

from podium.data.places import cache_root
from podium.store import write_text

__all__ = ["Verdict", "VerdictCache"]

FORMAT = 2


@dataclass(frozen=True)
class Verdict:
    """One file: SHA-256 of its bytes, its size in pixels, and why it cannot be read (or '')."""

    digest: str = ""
    width: int = 0
    height: int = 0
    grey: bool = False
    suffix: str = ""
    error: str = ""


class VerdictCache:
    """Verdicts of one folder, keyed by path, size and time of change.

    A cache that is damaged or cannot be written costs time, never correctness.
    """

    def __init__(self, root: Path, folder: Path | None = None) -> None:
        self.root = root
        place = folder or cache_root() / "index"
        key = hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
        self.path = place / f"{key[:16]}.json"
        self.known: dict[str, list[object]] = {}
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            if stored["format"] == FORMAT and isinstance(stored["files"], dict):
                self.known = stored["files"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass

    def _state(self, path: str) -> list[int] | None:
        try:  # a Path for each of a million files would take longer than to ask for its state
            status = os.stat(f"{self.root}/{path}")  # noqa: PTH116
        except OSError:
            return None
        return [status.st_size, status.st_mtime_ns]

    def get(self, path: str) -> Verdict | None:
        """The verdict on the file as it is now, if there is one."""
        entry = self.known.get(path)
        try:
            if entry is None or entry[:2] != self._state(path):
                return None
            digest, width, height, grey, suffix, error = entry[2:]
            return Verdict(
                str(digest), int(str(width)), int(str(height)), bool(grey), str(suffix), str(error)
            )
        except (TypeError, ValueError):
            return None

    def put(self, path: str, verdict: Verdict) -> None:
        """Remember a verdict; what could not even be opened is looked at again next time."""
        state = self._state(path)
        if state is not None and verdict.digest:
            self.known[path] = [*state, *astuple(verdict)]

    def save(self) -> None:
        """Write the cache, if the folder can be written."""
        with contextlib.suppress(OSError, UnicodeEncodeError):
            write_text(self.path, json.dumps({"format": FORMAT, "files": self.known}))
