"""Unpacks untrusted archives: only plain files, only below the target folder."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from podium.errors import DataError
from podium.runtime.events import Notify, Progress, silent

MOST_BYTES = 20 * 2**30
MOST_FILES = 2_000_000


def unpack(archive: Path, into: Path, notify: Notify = silent) -> None:
    """Unpack a zip into an existing, empty folder.

    Args:
        archive: the zip file.
        into: the target folder; nothing is written outside of it.
        notify: receives the progress: number of files unpacked.

    Raises:
        DataError: the archive is damaged, too large, or contains links or paths that lead outside.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [member for member in packed.infolist() if not member.is_dir()]
            if len(members) > MOST_FILES or sum(m.file_size for m in members) > MOST_BYTES:
                raise DataError(
                    f"{archive.name} was refused: it would unpack to more than {MOST_BYTES >> 30} "
                    f"GiB or {MOST_FILES:,} files. Unpack it by hand if you trust it."
                )
            targets = [_target(archive, into, member) for member in members]
            for done, (member, target) in enumerate(zip(members, targets, strict=True), 1):
                target.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(member) as source, open(target, "wb") as out:
                    shutil.copyfileobj(source, out)
                notify(Progress("unpack", done, len(members)))
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{archive} is not a complete zip file ({error}). Download it again."
        ) from None


def _target(archive: Path, into: Path, member: zipfile.ZipInfo) -> Path:
    path = PurePosixPath(member.filename.replace("\\", "/"))
    mode = member.external_attr >> 16
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise DataError(
            f"{archive.name} was refused: {member.filename!r} is a path outside of the target."
        )
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise DataError(f"{archive.name} was refused: {member.filename!r} is a link or a device.")
    return into.joinpath(*path.parts)
