"""Unpack an archive that nobody vouches for: only plain files, only below the target."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from podium.errors import DataError

MOST_BYTES = 20 * 2**30
MOST_FILES = 2_000_000


def unpack(archive: Path, into: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Unpack a zip into an existing, empty folder.

    Args:
        archive: the zip.
        into: where to; nothing is written outside of it.
        progress: called with (files unpacked, files).

    Raises:
        DataError: it is damaged, too large, or holds links or paths that lead outside.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [member for member in packed.infolist() if not member.is_dir()]
            if len(members) > MOST_FILES or sum(m.file_size for m in members) > MOST_BYTES:
                raise DataError(
                    f"{archive.name} would unpack to more than {MOST_BYTES >> 30} GiB or "
                    f"{MOST_FILES:,} files; refused. Unpack it by hand if you trust it."
                )
            targets = [_target(archive, into, member) for member in members]
            for done, (member, target) in enumerate(zip(members, targets, strict=True), 1):
                target.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(member) as source, open(target, "wb") as out:
                    shutil.copyfileobj(source, out)
                if progress is not None:
                    progress(done, len(members))
    except zipfile.BadZipFile as error:
        raise DataError(f"{archive} is no whole zip file ({error}). Fetch it again.") from None


def _target(archive: Path, into: Path, member: zipfile.ZipInfo) -> Path:
    path = PurePosixPath(member.filename.replace("\\", "/"))
    mode = member.external_attr >> 16
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise DataError(f"{archive.name} holds {member.filename!r}, a path outside; refused.")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise DataError(f"{archive.name} holds {member.filename!r}, a link or device; refused.")
    return into.joinpath(*path.parts)
