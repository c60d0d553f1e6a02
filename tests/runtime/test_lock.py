"""One podium a folder: the second is refused, and no dead owner keeps it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from podium.errors import RunFolderError, StorageError
from podium.runtime.lock import is_in_use, locked_briefly, sole_owner

# owns a folder; a forked child, as a data-loading worker is, outlives it
OWNER = """
import os, sys, time
from pathlib import Path
from podium.runtime.lock import sole_owner
with sole_owner(Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_the_second_is_told_who_and_a_killed_owner_lets_go(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    child = int(owner.stdout.readline())
    try:
        with (
            pytest.raises(RunFolderError, match=rf"in use by another podium \(process {owner.pid}"),
            sole_owner(tmp_path),
        ):
            pass
        owner.kill()
        owner.wait()
        _take(tmp_path)
        os.kill(child, 0)  # the child is still there
    finally:
        owner.kill()
        os.kill(child, signal.SIGKILL)
        owner.stdout.close()
    assert [path.name for path in tmp_path.iterdir()] in ([".lock"], [])


def _take(folder: Path) -> None:
    """Own a folder for a moment; a child that was forked just now has yet to let go of it."""
    deadline = time.monotonic() + 5
    while True:
        try:
            with sole_owner(folder):
                return
        except RunFolderError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_an_owner_that_has_not_said_who_it_is(tmp_path: Path) -> None:
    with sole_owner(tmp_path / "deep" / "er"):
        (tmp_path / "deep" / "er" / ".owner.json").write_text("[")
        with (
            pytest.raises(RunFolderError, match=r"another podium\. Wait"),
            sole_owner(tmp_path / "deep" / "er"),
        ):
            pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"), sole_owner(tmp_path / "file"):
        pass
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / ".lock").mkdir()
    with pytest.raises(StorageError, match=r"\.lock"), sole_owner(tmp_path / "held"):
        pass


def test_one_who_waits_is_told_of_the_owner_and_gets_the_folder(tmp_path: Path) -> None:
    told: list[str] = []
    assert not is_in_use(tmp_path)
    with contextlib.ExitStack() as first:
        first.enter_context(sole_owner(tmp_path))
        assert is_in_use(tmp_path)

        def wait(owner: str) -> None:
            told.append(owner)
            first.close()

        with sole_owner(tmp_path, wait):
            assert is_in_use(tmp_path)
    assert told == [f"process {os.getpid()} on {socket.gethostname()}"]
    assert not is_in_use(tmp_path)


def test_one_who_waits_may_give_up(tmp_path: Path) -> None:
    def wait(owner: str) -> None:
        raise KeyboardInterrupt

    with sole_owner(tmp_path), pytest.raises(KeyboardInterrupt), sole_owner(tmp_path, wait):
        pass
    with sole_owner(tmp_path):
        pass


def test_a_brief_lock_goes_on_where_there_can_be_none(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()  # cannot be opened for writing
    with locked_briefly(tmp_path / "lock"):
        (tmp_path / "written").touch()
    assert (tmp_path / "written").is_file()
