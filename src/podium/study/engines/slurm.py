"""Cells as jobs of a Slurm cluster, submitted through submitit."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from podium.config.machine import Machine
from podium.errors import ConfigError
from podium.runs.folder import StudyFolder
from podium.study.cells import Cell
from podium.study.engines.children import ending, running
from podium.study.engines.driver import Engine, ProcessExecutor, Task
from podium.study.engines.files import NODE, START
from podium.study.engines.shares import Node, share
from podium.study.work import Work

if TYPE_CHECKING:
    import submitit

_MOST = 1_000  # jobs handed over at a time: MaxArraySize is 1,001 if nobody changed it
_LOOK_EVERY = 5.0  # seconds between two calls of squeue, which all users share
_NOT_THERE_YET = 30.0  # seconds in which a job may be missing from the queue: it is just entering
_DAY = 24 * 60  # minutes: the time limit of a job if the user gives none
_ALIVE = {
    *("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "STOPPED"),
    *("REQUEUE_HOLD", "REQUEUE_FED", "RESIZING", "SIGNALING", "STAGE_OUT", "SPECIAL_EXIT"),
    *("RESV_DEL_HOLD", "PREEMPTED"),  # what is preempted is queued again
}


class Slurm(ProcessExecutor):
    """Trains cells as jobs of the Slurm cluster that this machine submits to."""

    @contextlib.contextmanager
    def open(self, work: Work, cells: Sequence[Cell]) -> Iterator[tuple[Engine, Machine]]:
        for command in ("sbatch", "squeue", "scancel", "srun"):  # submitit wants the last
            if shutil.which(command) is None:
                raise ConfigError(
                    f"--on slurm: there is no command {command} here. Run this on a machine from "
                    "which jobs are submitted, such as the login node."
                )
        if work.machine.gpus is not None and work.machine.gpus != int(work.machine.gpus):
            raise ConfigError("--gpus: Slurm gives whole GPUs; expected 0, 1, 2...")
        _refuse_unused_gpus(work.machine)
        # what the nodes have is not known here: a core for each cell, unless the user says more
        machine = share(work.machine, work.folder, cells=len(cells), nodes=[Node(1, 0)])
        exclude = machine.slurm.get("exclude", "")
        yield _Jobs(_executor(work.folder, machine), exclude), machine


def _refuse_unused_gpus(machine: Machine) -> None:
    """Refuse options of `sbatch` for GPUs that cells would not use."""
    asked = [
        f"{key}={value}"
        for key, value in machine.slurm.items()
        if key.startswith("gpus") or (key.startswith(("gres", "tres")) and "gpu" in value)
    ]
    if asked and not machine.gpus and machine.device == "auto":
        raise ConfigError(
            f"--slurm {asked[0]}: cells train on the CPU if they have no GPUs. Also give --gpus 1, "
            "or as many as each cell needs."
        )


def _executor(folder: StudyFolder, machine: Machine) -> submitit.SlurmExecutor:
    """What submits the jobs, with the options of `sbatch` that all of them share."""
    try:
        import submitit
    except ImportError:
        raise ConfigError("--on slurm needs submitit: pip install 'podium[slurm]'.") from None
    place = folder.processes.resolve() / "jobs"
    executor = submitit.SlurmExecutor(place, max_num_timeout=_MOST)
    options = {key: value for key, value in machine.slurm.items() if key != "exclude"}
    executor.update_parameters(
        job_name=f"podium-{folder.path.name}",
        time=_minutes(options.pop("time", str(_DAY))),
        cpus_per_task=machine.cpus,
        gres=options.pop("gres", f"gpu:{int(machine.gpus)}" if machine.gpus else None),
        array_parallelism=_MOST,
        stderr_to_stdout=True,
        additional_parameters={"requeue": True, **options},
    )
    return executor


@dataclass
class CellJob:
    """What a job does: runs the process of a cell; on a time limit it is queued again.

    submitit calls `checkpoint` when the time ends or the job is preempted, and submits what it
    returns under the same number.
    """

    task: Task
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __call__(self) -> int:
        """Run the process to its end and return its exit code."""
        variables = {START: os.environ.get("SLURM_RESTART_COUNT", "0")}
        if node := os.environ.get("SLURMD_NODENAME"):
            variables[NODE] = node
        with running(self.task, **variables) as self.process:
            code = self.process.wait()
        if code:  # squeue says only that the job was completed
            with open(self.task.output, "a", encoding="utf-8") as output:
                output.write(f"{ending(code)}\n")
        return code

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Have the process save its state, and queue the same cell again."""
        import submitit

        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=60)
        return submitit.helpers.DelayedSubmission(CellJob(self.task))


class _Jobs:
    """Jobs of a cluster; a handle is a job's number, `123` or `123_4` in an array.

    Without accounting Slurm forgets a job minutes after its end. What is not in the queue has
    ended, and whether the cell is done is for its folder to say.
    """

    capacity = _MOST

    def __init__(self, executor: submitit.SlurmExecutor, exclude: str) -> None:
        self.executor, self.exclude = executor, exclude
        self.submitted: dict[str, float] = {}
        self.looked = 0.0

    def start(self, tasks: Sequence[Task]) -> list[str]:
        together = [task for task in tasks if not task.avoid]
        numbers = dict(zip(map(id, together), self._submit(together, self.exclude), strict=True))
        for task in tasks:
            if task.avoid:
                numbers[id(task)] = self._submit_elsewhere(task)
        self.submitted |= dict.fromkeys(numbers.values(), time.monotonic())
        return [numbers[id(task)] for task in tasks]

    def _submit_elsewhere(self, task: Task) -> str:
        """Submit a job that must not run where it was lost, unless there is no other node."""
        exclude = ",".join(filter(None, [self.exclude, *sorted(task.avoid)]))
        try:
            return self._submit([task], exclude)[0]
        except ConfigError:  # nothing is left
            return self._submit([task], self.exclude)[0]

    def _submit(self, tasks: Sequence[Task], exclude: str) -> list[str]:
        if not tasks:
            return []
        self.executor.update_parameters(exclude=exclude or None)
        try:
            with self.executor.batch():  # one array: one call of sbatch
                jobs = [self.executor.submit(CellJob(task)) for task in tasks]
        except Exception as error:  # submitit wraps what sbatch says in errors of its own
            said = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise ConfigError(f"--on slurm: sbatch did not take the jobs: {said}") from None
        return [str(job.job_id) for job in jobs]

    def ended(self, running: Mapping[str, str]) -> Mapping[str, str]:
        now = time.monotonic()
        if not running or now - self.looked < _LOOK_EVERY:
            return {}
        self.looked = now
        numbers = ",".join(sorted({handle.partition("_")[0] for handle in running}))
        asking = ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T %R"]
        said = subprocess.run(
            [*asking, f"--jobs={numbers}"], capture_output=True, text=True, check=False
        )
        # an error that is not about these jobs is the controller's: it may be restarting
        if said.returncode and "Invalid job id" not in said.stderr:
            return {}
        found = dict(line.split(maxsplit=1) for line in said.stdout.splitlines())
        ended = {}
        for handle in running:
            state, _, reason = found.get(handle, "").partition(" ")
            new = now - self.submitted[handle] < _NOT_THERE_YET
            if state in _ALIVE or (not state and new):
                continue
            ended[handle] = f"{state} {reason}".strip() or "no longer in Slurm's queue"
        return ended

    def kill(self, handles: Sequence[str]) -> None:
        if handles:
            subprocess.run(["scancel", *handles], capture_output=True, check=False)


def _minutes(text: str) -> int:
    """A time limit of Slurm in minutes: `240`, `4:00:00` or `1-12:00:00`."""
    days, _, clock = text.rpartition("-")
    try:
        parts = [int(part) for part in clock.split(":")]
        if days:
            hours, minutes, *_ = [*parts, 0]
            return int(days) * 24 * 60 + hours * 60 + minutes
        return parts[0] * 60 + parts[1] if len(parts) == 3 else parts[0]
    except ValueError:
        raise ConfigError(
            f"--slurm time={text}: expected minutes, or a time such as 4:00:00 or 1-12:00:00."
        ) from None
