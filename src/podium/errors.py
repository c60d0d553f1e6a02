"""The errors that Podium raises on purpose.

    PodiumError              something failed; the command exits with 1
    ├── UserError            the input was wrong; the command exits with 2
    │   ├── ConfigError      a study file, an override or a flag
    │   ├── DataError        a folder of images, or one image of it
    │   │   └── UnreadableImageError   one file that is no image we can decode
    │   ├── WeightsUnavailableError    pre-trained weights that cannot be had here
    │   └── RunFolderError   a run folder that is not what it should be
    └── TrainingError        a run that cannot go on (a loss that is not finite)

Every message says what was expected, what came, and what to do about it.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DataError",
    "PodiumError",
    "RunFolderError",
    "TrainingError",
    "UnreadableImageError",
    "UserError",
    "WeightsUnavailableError",
]


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
