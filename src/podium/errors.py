"""The errors that Podium raises on purpose.

    PodiumError              something failed; the command exits with 1
    ├── UserError            the input was wrong; the command exits with 2
    │   ├── ConfigError      a study file, an override or a flag
    │   ├── DataError        a folder of images, or one image of it
    │   │   └── UnreadableImageError   a file that cannot be decoded as an image
    │   ├── WeightsUnavailableError    pre-trained weights that are not available here
    │   └── RunFolderError   a run folder that is not in the expected state
    ├── TrainingError        a run that cannot continue (a loss that is not finite)
    ├── ExportError          an exported model that does not agree with its run
    └── StorageError         a file that cannot be written: exit code 1 for a full or broken disk,
                             2 for a folder without write permission

Every message states what was expected, what was got, and what to do about it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator


class PodiumError(Exception):
    """Base of all errors raised on purpose; `exit_code` is the command's exit code.

    Examples:
        >>> import podium
        >>> issubclass(podium.TrainingError, podium.PodiumError)
        True
        >>> podium.PodiumError.exit_code, podium.UserError.exit_code
        (1, 2)
    """

    exit_code = 1


class UserError(PodiumError):
    """The user's input is wrong, and the message says how to correct it.

    Examples:
        >>> import podium
        >>> issubclass(podium.DataError, podium.UserError)
        True
    """

    exit_code = 2


class ConfigError(UserError):
    """A study file, an override or a flag has an invalid value.

    Examples:
        >>> import podium
        >>> try:
        ...     podium.load_study("no-such-study.yaml")
        ... except podium.ConfigError as error:
        ...     print(error.exit_code)
        2
    """


class DataError(UserError):
    """A folder of images cannot be used as it is.

    Examples:
        >>> import podium
        >>> try:
        ...     podium.build_index("no-such-folder")
        ... except podium.DataError as error:
        ...     print("no-such-folder" in str(error))
        True
    """


class UnreadableImageError(DataError):
    """One file cannot be decoded as an image.

    Args:
        path: path of the file.
        reason: why it cannot be decoded.

    Examples:
        >>> import podium
        >>> error = podium.UnreadableImageError("cat/1.jpg", "truncated")
        >>> error.path, str(error)
        ('cat/1.jpg', 'cat/1.jpg: truncated')
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[str, str]]:
        # The default pickles only the joined message; worker processes send these errors back.
        return type(self), (self.path, self.reason)


class WeightsUnavailableError(UserError):
    """Pre-trained weights are neither on this machine nor downloadable from it.

    Examples:
        >>> import podium
        >>> issubclass(podium.WeightsUnavailableError, podium.UserError)
        True
    """


class RunFolderError(UserError):
    """A run folder is missing, unfinished, or holds a run other than the one asked for.

    Examples:
        >>> import podium
        >>> try:
        ...     podium.report("no-such-study")
        ... except podium.RunFolderError as error:
        ...     print("no-such-study" in str(error))
        True
    """


class TrainingError(PodiumError):
    """Training cannot continue; the last good state is kept.

    Examples:
        >>> import podium
        >>> podium.TrainingError("The loss is not finite.").exit_code
        1
    """


class ExportError(PodiumError):
    """An export failed its check against the original model; no file of it is kept.

    Examples:
        >>> import podium
        >>> podium.ExportError("The export does not agree with the model.").exit_code
        1
    """


_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StorageError(PodiumError, OSError):
    """A file could not be written; the previous file stays. Carries `path` and `reason`.

    It is also an `OSError`, so that a cache that cannot be written is skipped like any other.

    Args:
        path: the file to be written.
        cause: the operating system's error.
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
            f"{self.path} cannot be written ({self.reason}). {what}; the existing files are "
            "kept, and the same command continues from them."
        )
        self.errno, self._cause = number, cause

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[type[StorageError], tuple[str, OSError]]:
        return type(self), (self.path, self._cause)


def chain(error: BaseException, end: BaseException | None = None) -> Iterator[BaseException]:
    """Yield an error, then its cause or context, and so on.

    Args:
        error: the first error.
        end: where to stop, such as an error that the caller was already handling.
    """
    at: BaseException | None = error
    while at is not None and at is not end:
        yield at
        at = at.__cause__ or at.__context__


def one_line(error: BaseException) -> str:
    """An error's message on one line, at most 200 characters, to quote in another message."""
    return " ".join(str(error).split())[:200]
