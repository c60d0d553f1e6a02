"""The tracker protocol, and the registration of the user's own trackers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from podium.config.registry import TRACKERS
from podium.config.settings import StudySpec
from podium.errors import ConfigError
from podium.runs.folder import RunFolder, StudyFolder
from podium.runtime.events import Event, RunEvent


@dataclass(frozen=True)
class StudyInfo:
    """The study that a tracker follows.

    Attributes:
        spec: the study: its name, contenders and seeds.
        folder: folder of the study, `runs/<study>`.
        classes: names of the classes, in the order of the models' outputs.
        fingerprint: hash of the images and their splits, 64 hex digits.

    Examples:
        >>> from pathlib import Path
        >>> import podium
        >>> spec = podium.load_study("demo")
        >>> study = podium.StudyInfo(spec, podium.StudyFolder(Path("runs/demo")), ("a", "b"), "")
        >>> study.spec.contenders["simple_resnet"].model
        'simple_resnet'
    """

    spec: StudySpec
    folder: StudyFolder
    classes: tuple[str, ...]
    fingerprint: str

    def run(self, event: RunEvent) -> RunFolder:
        """The folder of the run, or of the fold of a run, that an event belongs to.

        Args:
            event: any event of a run of this study.
        """
        return self.folder.run(event.contender, event.seed, event.fold)


@runtime_checkable
class Tracker(Protocol):
    """Follows a study: any class with these three methods; nothing needs to be inherited.

    It lives in the process that runs the study, for all of its runs; events of several contenders
    may be interleaved. One thread calls it at a time. If it raises, a warning is shown once, and
    the study continues without it.

    Examples:
        >>> import podium
        >>> class Best:
        ...     def start(self, study):
        ...         self.best = 0.0
        ...     def notify(self, event):
        ...         if isinstance(event, podium.EpochDone):
        ...             self.best = max(self.best, event.row["valid_accuracy"])
        ...     def close(self):
        ...         print(self.best)
        >>> isinstance(Best(), podium.Tracker)
        True
    """

    def start(self, study: StudyInfo) -> None:
        """Called once, before all events.

        Args:
            study: the study that starts or is resumed.
        """

    def notify(self, event: Event) -> None:
        """Called with every event from then on; the training waits until it returns.

        Args:
            event: an instance of a subclass of `podium.Event`; ignore unknown kinds.
        """

    def close(self) -> None:
        """Called once at the end, also if the study was interrupted or failed."""


TrackerFactory = Callable[[], Tracker]

Offered = TypeVar("Offered", bound=TrackerFactory)


def register_tracker(name: str) -> Callable[[Offered], Offered]:
    """A decorator that registers a tracker's class, for `Machine.trackers` and `--tracker`.

    Args:
        name: letters, digits, `_`, `-` and `.`.

    Returns:
        The decorator; it returns the class unchanged.

    Raises:
        ConfigError: the name is one of Podium's, or the decorated object makes no tracker.

    Examples:
        >>> import podium
        >>> @podium.register_tracker("quiet")
        ... class Quiet:
        ...     def start(self, study): pass
        ...     def notify(self, event): pass
        ...     def close(self): pass
        >>> podium.Machine(trackers=("quiet",)).trackers
        ('quiet',)
    """

    def register(offered: Offered) -> Offered:
        TRACKERS.register(name, _converted(name, offered), offered)
        return offered

    return register


def _converted(name: str, offered: Any) -> TrackerFactory:
    """Convert what a user registers: a class, or a function without arguments that makes one."""
    wanted = ("start", "notify", "close")
    missing = [one for one in wanted if not callable(getattr(offered, one, None))]
    if isinstance(offered, type) and not missing:
        return offered
    if callable(offered) and not isinstance(offered, type):
        made: TrackerFactory = offered
        return made
    lacks = f" without {', '.join(missing)}" if isinstance(offered, type) else ""
    raise ConfigError(
        f"tracker {name!r} is not a tracker: expected a class with the methods start(study), "
        f"notify(event) and close(), or a function that makes one; got "
        f"{'the class ' + offered.__qualname__ if lacks else repr(offered)}{lacks}."
    )


TRACKERS.convert = _converted
