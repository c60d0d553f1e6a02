"""The errors that Podium raises on purpose.

    PodiumError              something failed; the command exits with 1
    ├── UserError            the input was wrong; the command exits with 2
    │   ├── ConfigError      a study file, an override or a flag
    │   ├── DataError        a folder of images, or one image of it
    │   │   └── UnreadableImageError   one file that is no image we can decode
    │   ├── WeightsUnavailableError    pre-trained weights that cannot be had here
    │   └── RunFolderError   a run folder that is not what it should be
    ├── TrainingError        a run that cannot go on (a loss that is not finite)
    ├── ExportError          an exported model that does not say what its run says
    └── StorageError         a file that cannot be written: exit code 1 for a full or broken disk,
                             2 for a folder that may not be written

Every message says what was expected, what came, and what to do about it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator


class PodiumError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command returns."""

    exit_code = 1


class UserError(PodiumError):
    """The user's input is wrong, and the message says how to mend it."""

    exit_code = 2


class ConfigError(UserError):
    """A study file, an override or a flag does not say something possible."""


class DataError(UserError):
    """A folder of images cannot be used as it is."""


class UnreadableImageError(DataError):
    """One file cannot be decoded as an image. Carries `path` and `reason`."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[str, str]]:
        # The default pickles only the joined message, and worker processes send these back.
        return type(self), (self.path, self.reason)


class WeightsUnavailableError(UserError):
    """Pre-trained weights are neither on this machine nor downloadable from it."""


class RunFolderError(UserError):
    """A run folder is missing, unfinished, or holds another run than the one asked for."""


class TrainingError(PodiumError):
    """Training cannot go on; the last good state is kept."""


class ExportError(PodiumError):
    """An export failed its check against the model it was made of; no file of it is kept."""


_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StorageError(PodiumError, OSError):
    """A file could not be written; what stood in its place stays. Carries `path` and `reason`.

    It is an `OSError` too, so that a cache that cannot be written is passed over like any other.

    Args:
        path: what was to be written.
        cause: what the system said.
    """

    def __init__(self, path: str | os.PathLike[str], cause: OSError) -> None:
        self.path, self.reason, number = os.fspath(path), cause.strerror or str(cause), cause.errno
        if number in _FULL:
            what = "Free some space, or raise the quota"
        elif number in _FORBIDDEN:
            what, self.exit_code = "Make it writable, or give another folder", 2
        else:
            what = "Check the disk"
        super().__init__(
            f"{self.path} cannot be written ({self.reason}). {what}; what was there before is "
            "kept, and the same command goes on from it."
        )
        self.errno, self._cause = number, cause

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[type[StorageError], tuple[str, OSError]]:
        return type(self), (self.path, self._cause)


def chain(error: BaseException, end: BaseException | None = None) -> Iterator[BaseException]:
    """An error, what caused it or was under way when it came, and so on.

    Args:
        error: the first.
        end: where to stop, such as an error that the caller had at hand before.
    """
    at: BaseException | None = error
    while at is not None and at is not end:
        yield at
        at = at.__cause__ or at.__context__


def one_line(error: BaseException) -> str:
    """What an error says, without line ends and at most 200 characters: to quote in a message."""
    return " ".join(str(error).split())[:200]
