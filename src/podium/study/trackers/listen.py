"""The trackers of a running study, beside its other listener."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from functools import partial

from podium.config.registry import REFERENCE, TRACKERS, allow
from podium.errors import ConfigError, one_line
from podium.runtime.events import Event, Notify, WarningMessage

# each module registers its tracker
from podium.study.trackers import mlflow, tensorboard  # noqa: F401
from podium.study.trackers.tracker import StudyInfo, Tracker


class Listeners:
    """A `Notify` that passes every event on to `notify`, and to trackers once they are started.

    One thread calls them at a time. A tracker that raises is dropped, and `notify` gets a warning
    with the reason.

    Args:
        names: names of the trackers, as in `Machine.trackers`.
        notify: the other listener; its exceptions are passed on.
    """

    def __init__(self, names: Iterable[str], notify: Notify) -> None:
        self._names, self._notify = tuple(names), notify
        self._trackers: dict[str, Tracker] = {}
        self._turn = threading.RLock()

    def __enter__(self) -> Listeners:
        return self

    def __exit__(self, *_: object) -> None:
        with self._turn:
            while self._trackers:
                name, tracker = self._trackers.popitem()
                self._try(name, tracker.close)

    def __call__(self, event: Event) -> None:
        with self._turn:
            self._notify(event)
            for name, tracker in list(self._trackers.items()):
                self._try(name, partial(tracker.notify, event))

    def start(self, study: StudyInfo) -> None:
        """Create the trackers and start them.

        Args:
            study: the study that starts.

        Raises:
            ConfigError: there is no such tracker, or a package that it needs is missing.
        """
        with self._turn:
            makers = {name: _maker(name) for name in self._names}
            for name, make in makers.items():
                self._try(name, partial(self._add, name, make), mistakes=True)
            for name, tracker in list(self._trackers.items()):
                self._try(name, partial(tracker.start, study))

    def _add(self, name: str, make: Callable[[], Tracker]) -> None:
        self._trackers[name] = made = make()
        if not isinstance(made, Tracker):
            del self._trackers[name]
            raise ConfigError(
                f"tracker {name!r} is not a tracker: expected an object with the methods "
                f"start(study), notify(event) and close(), got {made!r}."
            )

    def _try(self, name: str, call: Callable[[], None], *, mistakes: bool = False) -> None:
        """Call a tracker; if it raises, close it, drop it, and warn.

        Args:
            name: name of the tracker.
            call: what to call.
            mistakes: raise a ConfigError: the study has not started, and the user can correct it.
        """
        try:
            call()
        except Exception as error:
            if mistakes and isinstance(error, ConfigError):
                raise
            tracker = self._trackers.pop(name, None)
            self._notify(
                WarningMessage(
                    f"The tracker {name} failed and is left out from now on; the study continues "
                    f"({type(error).__name__}: {one_line(error)})."
                )
            )
            if tracker is not None:
                with contextlib.suppress(Exception):
                    tracker.close()


def _maker(name: str) -> Callable[[], Tracker]:
    """What makes the tracker; a user's module is imported, since the user names it directly."""
    if REFERENCE.fullmatch(name):
        allow(name.partition(":")[0])
    made: Callable[[], Tracker] = TRACKERS[name]
    return made
