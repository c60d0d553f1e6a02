"""Properties of each image file, cached between runs by the SHA-256 of its bytes."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel

from podium.data.grey import GreyValues
from podium.runtime.cache import cache_root
from podium.runtime.files import write_text

FORMAT: Final = 4
"""Increase it whenever verdicts change: formats that are read, properties that are measured."""


@dataclass(frozen=True)
class Verdict:
    """The properties of one file.

    Attributes:
        digest: SHA-256 of its bytes; '' if they could not be read.
        width: in pixels.
        height: in pixels.
        grey: whether it is stored without colour.
        error: why it cannot be read, or ''.
        values: range of grey values deeper than 8 bits; None for other images.
        deep_colour: whether its colour channels have 16 bits, of which the upper 8 are used.
        more_frames: whether it has more frames, pages or slices than the first, which is used.
    """

    digest: str = ""
    width: int = 0
    height: int = 0
    grey: bool = False
    error: str = ""
    values: GreyValues | None = None
    deep_colour: bool = False
    more_frames: bool = False


class _File(BaseModel):
    format: Literal[4]
    files: dict[str, Verdict]


class VerdictCache:
    """Verdicts on the images of one folder, by the SHA-256 of their bytes.

    The cache saves decoding, which is slow; every file is still read. Size and modification time
    are not enough: two files that are swapped after an archive, an image layer or `rsync -t` gave
    them the same time would get each other's verdict. Inodes and change times would work on some
    file systems, but not on Windows, FAT or network drives.

    A cache that is damaged or cannot be written costs time, never correctness.

    Args:
        root: the folder of images.
        folder: folder of the cache; None: `index` in Podium's cache.
        channels: that images must have; None: they are decoded to RGB.
    """

    def __init__(self, root: Path, folder: Path | None = None, channels: int | None = None) -> None:
        place = folder or cache_root() / "index"
        name = f"{root.resolve()}" if channels is None else f"{root.resolve()}\0{channels}"
        key = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
        self.path = place / f"{key[:16]}.json"
        self.known: dict[str, Verdict] = {}
        with contextlib.suppress(OSError, ValueError):
            self.known = _File.model_validate_json(self.path.read_bytes()).files

    def put(self, verdict: Verdict) -> None:
        """Cache a readable image; an unreadable one is decoded again, perhaps by a newer codec."""
        if not verdict.error:
            self.known[verdict.digest] = verdict

    def keep(self, verdicts: Iterable[Verdict]) -> None:
        """Drop all verdicts but these: those of removed files are not kept forever."""
        self.known = {one.digest: one for one in verdicts if not one.error}

    def save(self) -> None:
        """Write the cache, if the folder is writable."""
        with contextlib.suppress(OSError, UnicodeEncodeError):
            file = _File(format=FORMAT, files=self.known)
            write_text(self.path, file.model_dump_json(exclude_defaults=True))
