"""Faults caused by the machine or the user, produced through the real command.

For each: the command's message and exit code, what was kept, and whether the same command continued
from there once the fault was fixed.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from podium.training.checkpoint import read_checkpoint
from torture.studies import write_images

__all__ = ["SCENARIOS", "FaultResult", "torture_faults"]

SECONDS = 180.0  # allowed for one command
EPOCHS = 16
NO_MOUNTS = "not tried: this user cannot mount"

STUDY = """
name: study
data: {data}
contenders:
  one:
    model: simple_resnet
    epochs: {epochs}
    batch_size: 8
    image_size: 32
    augmentation: randaugment
    lr: {lr}
"""


@dataclass(frozen=True)
class FaultResult:
    """Result of one fault."""

    name: str
    what: str
    expected_code: int
    code: int | None
    """Exit code of the command; None: it hung."""
    message: str
    kept: str
    sound: bool
    """Code and message are as expected, no traceback was shown, and the promised state is kept."""


class _Scene:
    """A folder with images and a study, and the command on it."""

    def __init__(self, folder: Path, lr: float = 1e-3, epochs: int = EPOCHS) -> None:
        self.last_epoch = epochs
        self.folder, self.data, self.runs = folder, folder / "data", folder / "runs"
        folder.mkdir(parents=True)
        write_images(self.data)
        self.image = self.data / "train" / "disc" / "3.png"
        self.study = folder / "study.yaml"
        self.study.write_text(STUDY.format(data=self.data, lr=lr, epochs=epochs))
        self.run = self.runs / "study" / "one" / "seed-0"

    def command(self, *more: str) -> list[str]:
        arguments = ["run", str(self.study), "--runs", str(self.runs), "--device", "cpu"]
        # decoded again in every epoch, so that images and workers matter to the end
        fixed = ["--precision", "fp32", "--cache-limit", "0", "--no-audit"]
        fixed += ["--only", "one"]  # writes no report, which would take longest
        workers = [] if "--workers" in more else ["--workers", "0"]
        return [sys.executable, "-m", "podium", *arguments, *fixed, *workers, *more]

    def call(self, *more: str, prefix: Sequence[str] = ()) -> tuple[int | None, str]:
        with self.started(*more, prefix=prefix) as process:
            return _end(process)

    @contextlib.contextmanager
    def started(
        self, *more: str, prefix: Sequence[str] = (), limit: Callable[[], None] | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        environment = {**os.environ, "PODIUM_CACHE": str(self.folder / "cache")}
        process = subprocess.Popen(
            [*prefix, *self.command(*more)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
            preexec_fn=limit,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def disturbed(
        self, disturb: Callable[[subprocess.Popen[str]], object], *more: str
    ) -> tuple[int | None, str]:
        """Start the command, disturb it in its first epochs, and return its code and output."""
        with self.started(*more) as process:
            self.wait_for_epochs(process)
            disturb(process)
            return _end(process)

    def wait_for_epochs(self, process: subprocess.Popen[str], count: int = 3) -> None:
        until = time.monotonic() + SECONDS
        while self.epochs() < count and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)

    def epochs(self) -> int:
        """Number of epochs in the history."""
        history = self.run / "history.csv"
        return len(history.read_text().splitlines()) - 1 if history.is_file() else 0

    def saved(self) -> int:
        """Number of epochs in the saved state; -1: there is none."""
        last = self.run / "last.ckpt"
        return len(read_checkpoint(last)["rows"]) if last.is_file() else -1

    def goes_on(self) -> bool:
        """Whether the same command now succeeds without training any saved epoch again."""
        history = self.run / "history.csv"
        # with the seconds of every epoch, which would differ if it were trained again
        kept = history.read_text().splitlines()[: self.saved() + 1] if history.is_file() else []
        code, _ = self.call()
        now = history.read_text().splitlines() if history.is_file() else []
        return code == 0 and len(now) == self.last_epoch + 1 and now[: len(kept)] == kept


def _end(process: subprocess.Popen[str]) -> tuple[int | None, str]:
    try:
        said, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return None, ""
    return process.returncode, said


def _result(
    name: str, what: str, expected: tuple[int, str], came: tuple[int | None, str], kept: str,
    sound: bool = True,
) -> FaultResult:  # fmt: skip
    (wanted, words), (code, said) = expected, came
    lines = [" ".join(line.split()) for line in said.splitlines() if words in line]
    right = code == wanted and bool(lines) and "Traceback" not in said
    message = lines[-1] if lines else " / ".join(said.strip().splitlines()[-3:])
    return FaultResult(name, what, wanted, code, message, kept, sound and right)


def _mended(scene: _Scene) -> tuple[str, bool]:
    """What was kept, and whether the same command continues from it."""
    saved = scene.saved()
    well = scene.goes_on()
    state = f"the state of epoch {saved}" if saved > 0 else "nothing was trained yet"
    return f"{state}; mended, the same command {'went on to the end' if well else 'FAILED'}", well


def disk_full(folder: Path) -> FaultResult:
    """A disk with room for the first files but not for the state."""
    scene = _Scene(folder)
    scene.runs.mkdir()
    if not _mounts():
        return FaultResult("disk-full", "disk full", 1, None, NO_MOUNTS, "-", True)
    with _mounted(scene.runs, "size=24m"):
        (scene.runs / "ballast").write_bytes(bytes(4 << 20))
        first = scene.call()
        (scene.runs / "ballast").unlink(missing_ok=True)
        _remount(scene.runs, "size=400m")
        kept, well = _mended(scene)
    return _result("disk-full", "disk full", (1, "No space left"), first, kept, well)


def read_only(folder: Path) -> FaultResult:
    """A read-only folder for runs."""
    scene = _Scene(folder)
    scene.runs.mkdir()
    if not _mounts():
        return FaultResult("read-only", "read-only folder", 2, None, NO_MOUNTS, "-", True)
    with _mounted(scene.runs, "ro"):
        first = scene.call()
    return _result("read-only", "read-only folder", (2, "cannot be written"), first,
                   "nothing was begun")  # fmt: skip


def image_deleted(folder: Path) -> FaultResult:
    """A training image is removed during training."""
    scene = _Scene(folder)
    content = scene.image.read_bytes()
    first = scene.disturbed(lambda _: scene.image.unlink())
    scene.image.write_bytes(content)
    kept, well = _mended(scene)
    return _result("image-deleted", "image deleted during training",
                   (1, "train/disc/3.png"), first, kept, well)  # fmt: skip


def image_changed(folder: Path) -> FaultResult:
    """The content of a training image changes during training."""
    scene = _Scene(folder)
    content = scene.image.read_bytes()
    other = (scene.data / "train" / "bars" / "3.png").read_bytes()
    first = scene.disturbed(lambda _: scene.image.write_bytes(other))
    second, said = scene.call()
    scene.image.write_bytes(content)
    kept, well = _mended(scene)
    refused = second == 2 and "are not those that" in said
    return _result("image-changed", "image changed during training",
                   (1, "changed since it was checked"), first, kept, well and refused)  # fmt: skip


def worker_killed(folder: Path) -> FaultResult:
    """The processes that decode images are killed, as when memory runs out."""

    def kill(process: subprocess.Popen[str]) -> None:
        for child in _children(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    scene = _Scene(folder)
    first = scene.disturbed(kill, "--workers", "2")
    well = scene.epochs() == scene.last_epoch
    return _result("worker-killed", "data-loading worker killed", (0, "decoding process was lost"),
                   first, "everything: it went on without workers, to the end", well)  # fmt: skip


def out_of_memory(folder: Path) -> FaultResult:
    """An address space too small for the step."""
    scene = _Scene(folder)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))

    with scene.started("--image-size", "1024", "--name", "big", limit=limit) as process:
        first = _end(process)
    return _result("out-of-memory", "out of memory", (1, "Memory ran out"), first,
                   "the last saved state, where there was one")  # fmt: skip


def interrupted(folder: Path) -> FaultResult:
    """Ctrl-C, which reaches the whole group of processes."""
    scene = _Scene(folder)
    first = scene.disturbed(lambda one: os.killpg(one.pid, signal.SIGINT), "--workers", "2")
    kept, well = _mended(scene)
    return _result("ctrl-c", "Ctrl-C", (130, "resumes from there"), first, kept, well)


def terminated(folder: Path) -> FaultResult:
    """SIGTERM, as a cluster's scheduler sends it before the time limit."""
    scene = _Scene(folder)
    first = scene.disturbed(subprocess.Popen.terminate)
    kept, well = _mended(scene)
    return _result("sigterm", "SIGTERM", (130, "resumes from there"), first, kept, well)


def not_a_number(folder: Path) -> FaultResult:
    """A learning rate at which the loss soon becomes non-finite."""
    scene = _Scene(folder, lr=100.0)
    first = scene.call("--set", "contenders.one.optimizer=sgd")
    last = scene.run / "last.ckpt"
    finite = True
    if last.is_file():
        model = read_checkpoint(last)["model"]
        finite = all(bool(torch.isfinite(value).all()) for value in model.values())
    kept = f"a finite state of epoch {scene.saved()}" if last.is_file() else "no state was good yet"
    return _result("nan", "loss not finite", (1, "no longer finite"), first, kept, finite)


def future_checkpoint(folder: Path) -> FaultResult:
    """A checkpoint written by a later version."""

    def later(path: Path) -> None:
        state = read_checkpoint(path)
        torch.save({**state, "format": 99}, path)

    return _other_checkpoint(
        folder, "future", "checkpoint of a later version", later, "has format 99"
    )


def foreign_checkpoint(folder: Path) -> FaultResult:
    """Another program's file in place of the checkpoint."""
    return _other_checkpoint(
        folder, "foreign", "checkpoint of another program",
        lambda path: torch.save({"state_dict": {}, "epoch": 3}, path),
        "cannot be read as a checkpoint",
    )  # fmt: skip


def _other_checkpoint(
    folder: Path, name: str, what: str, change: Callable[[Path], None], words: str
) -> FaultResult:
    scene = _Scene(folder)
    scene.disturbed(subprocess.Popen.terminate)
    last = scene.run / "last.ckpt"
    own = last.read_bytes()
    change(last)
    other = last.read_bytes()
    first = scene.call()
    untouched = last.read_bytes() == other
    last.write_bytes(own)
    kept, well = _mended(scene)
    kept = f"the file as it was; own state put back: {kept}"
    return _result(f"{name}-checkpoint", what, (1, words), first, kept, well and untouched)


def second_podium(folder: Path) -> FaultResult:
    """The same command again, while the first one runs."""
    scene = _Scene(folder, epochs=4 * EPOCHS)  # it must last while the second one starts
    with scene.started() as process:
        scene.wait_for_epochs(process)
        second = scene.call()
        code, _ = _end(process)
    well = code == 0 and scene.epochs() == scene.last_epoch
    return _result("second-podium", "second podium on a study", (0, "is being trained by process"),
                   second, "everything: the first went on to its end", well)  # fmt: skip


SCENARIOS: dict[str, Callable[[Path], FaultResult]] = {
    work.__name__: work
    for work in (
        disk_full, read_only, image_deleted, image_changed, worker_killed, out_of_memory,
        interrupted, terminated, not_a_number, future_checkpoint, foreign_checkpoint,
        second_podium,
    )
}  # fmt: skip


def torture_faults(folder: Path, names: Sequence[str] | None = None) -> list[FaultResult]:
    """Produce faults one after the other, each in its own folder.

    Args:
        folder: where the scenes are built; each is removed afterwards.
        names: keys of `SCENARIOS`; None: all of them.

    Returns:
        one result per fault, in the order of the names.
    """
    found = []
    for name in names or list(SCENARIOS):
        place = folder / name
        found.append(SCENARIOS[name](place))
        shutil.rmtree(place, ignore_errors=True)
    return found


def _children(parent: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True,
                            text=True, check=False)  # fmt: skip
    return [int(number) for number in re.findall(r"\d+", listed.stdout)]


def _mounts() -> bool:
    """Whether this user may mount file systems, which a really full disk requires."""
    return hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("mount") is not None


@contextlib.contextmanager
def _mounted(place: Path, options: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)
