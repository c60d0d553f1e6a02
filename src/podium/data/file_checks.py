"""What is known of each picture, remembered between runs by the bytes of its file."""

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

FORMAT: Final = 3
"""To be raised whenever other verdicts would come out: formats that are read, what is measured."""


@dataclass(frozen=True)
class Verdict:
    """One file.

    Attributes:
        digest: SHA-256 of its bytes; '' where they could not be read.
        width: pixels.
        height: pixels.
        grey: whether it is stored without colour.
        error: why it cannot be read, or ''.
        values: of grey deeper than 8 bit.
        deep_colour: whether its colours have 16 bits, of which the upper 8 are read.
    """

    digest: str = ""
    width: int = 0
    height: int = 0
    grey: bool = False
    error: str = ""
    values: GreyValues | None = None
    deep_colour: bool = False


class _File(BaseModel):
    format: Literal[3]
    files: dict[str, Verdict]


class VerdictCache:
    """Verdicts on the pictures of one folder, by the SHA-256 of their bytes.

    Decoding is what takes long, so that is what the cache saves; every file is still read. Size
    and time of change say too little: two files that changed places after an archive, an image
    layer or `rsync -t` gave them one time would have each other's verdict. Inodes and times of
    status would tell on some file systems, but not on Windows, FAT or network drives.

    A cache that is damaged or cannot be written costs time, never correctness.
    """

    def __init__(self, root: Path, folder: Path | None = None) -> None:
        place = folder or cache_root() / "index"
        key = hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
        self.path = place / f"{key[:16]}.json"
        self.known: dict[str, Verdict] = {}
        with contextlib.suppress(OSError, ValueError):
            self.known = _File.model_validate_json(self.path.read_bytes()).files

    def put(self, verdict: Verdict) -> None:
        """Remember a sound picture; a faulty one is looked at again, perhaps by a better codec."""
        if not verdict.error:
            self.known[verdict.digest] = verdict

    def keep(self, verdicts: Iterable[Verdict]) -> None:
        """Forget all but these: of files that are gone, nothing is kept for ever."""
        self.known = {one.digest: one for one in verdicts if not one.error}

    def save(self) -> None:
        """Write the cache, if the folder can be written."""
        with contextlib.suppress(OSError, UnicodeEncodeError):
            file = _File(format=FORMAT, files=self.known)
            write_text(self.path, file.model_dump_json(exclude_defaults=True))
