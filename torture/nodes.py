"""Clusters on this machine for tests: Ray in network namespaces, Slurm with two daemons.

Each node of Ray has a network namespace of its own, joined by a bridge that reaches nothing else:
its processes can be killed, stopped or cut off together, as those of a machine can.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["RayNodes", "SlurmNodes", "wait_for"]

_BRIDGE, _PREFIX = "podiumbr0", "podium-"
_PORT = 6399
_NUMBERS = {"head": 254, "a": 1, "b": 2}  # last byte of the node's address


def wait_for(what: str, look: Callable[[], Any], seconds: float = 180.0) -> Any:
    """Look until there is something.

    Args:
        what: for the message.
        look: returns something true once it is there.
        seconds: allowed for it.

    Returns:
        what `look` returned.

    Raises:
        TimeoutError: it did not come.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.05)
    raise TimeoutError(f"{what}: not after {seconds:.0f} s")


def _run(*words: str, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


class RayNodes:
    """A Ray cluster: a head without cores, on which the command is given, and nodes `a` and `b`.

    Args:
        folder: an empty folder with a short path, since it holds sockets.
    """

    engine = "ray"

    def __init__(self, folder: Path) -> None:
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        self.folder = folder
        self.environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
        }
        self.address = f"10.89.0.{_NUMBERS['head']}:{_PORT}"
        self.on = ["--on", f"ray:{self.address}", "--cpus", "1"]
        self.starts: list[subprocess.Popen[bytes]] = []
        self.hidden: Path | None = None
        """A folder that nodes which are started from now on see empty; None: they see all."""
        self.roots: dict[str, Path] = {}
        """Name of a node -> the file system as it sees it."""

    @staticmethod
    def missing() -> str:
        """Why there can be no such cluster here; empty string: there can."""
        try:
            import ray  # noqa: F401
        except ImportError:
            return "Ray is not installed"
        if shutil.which("ip") is None or os.geteuid() != 0:
            return "network namespaces need root and the command ip"
        return ""

    def __enter__(self) -> RayNodes:
        self._remove()  # what an earlier process left that was killed
        _run("ip", "link", "add", _BRIDGE, "type", "bridge")
        _run("ip", "link", "set", _BRIDGE, "up")
        for name, number in _NUMBERS.items():
            space, outside = _PREFIX + name, f"podium{name}"
            _run("ip", "netns", "add", space)
            _run(*f"ip link add {outside} type veth peer name eth0 netns {space}".split())
            _run(*f"ip link set {outside} master {_BRIDGE} up".split())
            inside = ("ip", "-n", space)
            _run(*inside, "addr", "add", f"10.89.0.{number}/24", "dev", "eth0")
            _run(*inside, "link", "set", "eth0", "up")
            _run(*inside, "link", "set", "lo", "up")
        for name in _NUMBERS:
            self.start(name)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.starts:
            process.terminate()
        self._remove()
        for process in self.starts:
            process.wait(timeout=30)

    def command(self, words: Sequence[str]) -> list[str]:
        """Words that run a command on the head."""
        return ["ip", "netns", "exec", _PREFIX + "head", *words]

    def start(self, name: str) -> None:
        """Start Ray on a node, and wait until the cluster knows it.

        Args:
            name: `head`, `a` or `b`.
        """
        number, log = _NUMBERS[name], self.folder / f"{name}.log"
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        words += ["--disable-usage-stats", "--node-ip-address", f"10.89.0.{number}"]
        words += ["--object-store-memory", "100000000", "--temp-dir", str(self.folder / "ray")]
        if name == "head":
            words += ["--head", f"--port={_PORT}", "--include-dashboard=false", "--num-cpus=0"]
        else:
            words += ["--address", self.address, "--num-cpus=1"]
        space = ["ip", "netns", "exec", _PREFIX + name]
        if self.hidden is not None:
            mount = 'mount -t tmpfs none "$0" && exec "$@"'
            space += ["unshare", "--mount", "sh", "-c", mount, str(self.hidden)]
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [*space, *words],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.starts.append(process)
        self.roots[name] = Path(f"/proc/{process.pid}/root")

        def runs() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"ray start on {name}: {log.read_text(errors='replace')}")
            return "Ray runtime started" in log.read_text(errors="replace")

        wait_for(f"Ray on {name}", runs)

    def where(self, pid: int) -> str:
        """The node that a process runs on."""
        return _run("ip", "netns", "identify", str(pid)).strip().removeprefix(_PREFIX)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to all processes of a node, Ray's and ours.

        Args:
            name: of the node.
            number: SIGKILL is a power cut, SIGSTOP and SIGCONT a machine that is frozen for a time.
        """
        for pid in _run("ip", "netns", "pids", _PREFIX + name).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), number)

    def cut(self, name: str, off: bool) -> None:
        """Cut a node off from the others, or put it back."""
        _run("ip", "link", "set", f"podium{name}", "down" if off else "up")

    def _remove(self) -> None:
        there = _run("ip", "netns", "list").split()
        for name in _NUMBERS:
            if _PREFIX + name in there:
                self.signal(name, signal.SIGKILL)
                _run("ip", "netns", "del", _PREFIX + name)
            subprocess.run(["ip", "link", "del", f"podium{name}"], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", _BRIDGE], capture_output=True, check=False)


class SlurmNodes:
    """A Slurm cluster: munged, slurmctld and two slurmds of one core each, `a` and `b`.

    Args:
        folder: an empty folder.
    """

    engine = "slurm"

    def __init__(self, folder: Path) -> None:
        self.folder, self.on = folder, ["--on", "slurm"]
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    @staticmethod
    def missing() -> str:
        """Why there can be no such cluster here; empty string: there can."""
        try:
            import submitit  # noqa: F401
        except ImportError:
            return "submitit is not installed"
        for name in ("munged", "slurmctld", "slurmd", "sbatch", "srun"):
            if shutil.which(name) is None:
                return f"there is no command {name}"
        return "" if os.geteuid() == 0 else "slurmd needs root"

    def __enter__(self) -> SlurmNodes:
        ports = iter(_free_ports(3))
        key, munge = self.folder / "munge.key", self.folder / "munge.sock"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        host, control = socket.gethostname(), next(ports)
        lines = [
            "ClusterName=podium", f"SlurmctldHost={host}(127.0.0.1)", f"SlurmctldPort={control}",
            "SlurmUser=root", "AuthType=auth/munge", f"AuthInfo=socket={munge}",
            "CredType=cred/munge", "ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none",
            "SelectType=select/cons_tres", "SelectTypeParameters=CR_Core",
            "ReturnToService=2", "SlurmdTimeout=20", "KillWait=20", "MpiDefault=none",
            "SchedulerParameters=requeue_delay=0,sched_interval=5",
            f"StateSaveLocation={self.folder}/state", f"SlurmdSpoolDir={self.folder}/spool-%n",
            f"SlurmctldPidFile={self.folder}/control.pid", f"SlurmdPidFile={self.folder}/%n.pid",
            *(f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={next(ports)} CPUs=1 "
              "RealMemory=4000" for name in "ab"),
            "PartitionName=p Nodes=a,b Default=YES MaxTime=INFINITE State=UP",
        ]  # fmt: skip
        (self.folder / "slurm.conf").write_text("\n".join(lines) + "\n")
        (self.folder / "state").mkdir()
        self._daemon(
            "munged",
            *("munged", "--foreground", "--force", "--key-file", str(key), "--socket", str(munge)),
            *("--pid-file", f"{self.folder}/munge.pid", "--log-file", f"{self.folder}/munge.log"),
            *("--seed-file", f"{self.folder}/munge.seed"),
        )
        wait_for("munged", munge.exists, 20)
        self._daemon("slurmctld", "slurmctld", "-D")
        for name in "ab":
            self.start(name)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):
            _run("scancel", "--user=root", environment=self.environment)
            wait_for("an empty queue", lambda: not self.queue(), 60)
        for process in reversed(self.daemons.values()):
            process.terminate()
        for process in self.daemons.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()

    def _daemon(self, name: str, *words: str) -> None:
        with open(self.folder / f"{name}.log", "ab") as output:
            self.daemons[name] = subprocess.Popen(
                words,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def command(self, words: Sequence[str]) -> list[str]:
        """Words that run a command on the machine from which jobs are submitted."""
        return list(words)

    def start(self, name: str) -> None:
        """Start slurmd for a node, and wait until the controller uses it."""
        self._daemon(name, "slurmd", "-D", "-N", name)
        words = ("sinfo", "--noheader", "--Node", f"--nodes={name}", "--format=%T")

        def up() -> bool:
            with contextlib.suppress(RuntimeError):
                state = _run(*words, environment=self.environment).strip()
                return state in ("idle", "allocated", "mixed")
            return False

        wait_for(f"slurmd {name}", up)

    def queue(self) -> dict[str, tuple[str, str]]:
        """Job number -> its state and its node."""
        said = _run(
            "squeue", "--noheader", "--array", "--format=%i|%T|%N", environment=self.environment
        )
        rows = (line.split("|") for line in said.splitlines())
        return {number: (state, node) for number, state, node in rows}

    def running_on(self, name: str) -> str:
        """The number of the job on a node; empty string: none."""
        found = (job for job, at in self.queue().items() if at == ("RUNNING", name))
        return next(found, "")

    def where(self, pid: int) -> str:
        """The node that a process runs on."""
        for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if entry.startswith(b"SLURMD_NODENAME="):
                return entry.partition(b"=")[2].decode()
        return ""

    def requeue(self, job: str) -> None:
        """Have Slurm stop a job and queue it again, as an administrator would."""
        _run("scontrol", "requeue", job, environment=self.environment)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to slurmd of a node and to all that it started: SIGKILL is a power cut."""
        import psutil

        victims = [psutil.Process(self.daemons[name].pid)]
        for process in psutil.process_iter(["cmdline", "environ"]):
            words, variables = process.info["cmdline"] or [], process.info["environ"] or {}
            ours = variables.get("SLURM_CONF") == self.environment["SLURM_CONF"]
            step = bool(words) and words[0].startswith("slurmstepd") and self._is_of(process, name)
            if step or (ours and variables.get("SLURMD_NODENAME") == name):
                victims.append(process)
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.send_signal(number)
        if number == signal.SIGKILL:
            self.daemons[name].wait()

    def _is_of(self, process: object, name: str) -> bool:
        """Whether a step daemon runs a job of that node: its children say so."""
        import psutil

        assert isinstance(process, psutil.Process)
        with contextlib.suppress(psutil.NoSuchProcess):
            return any(self.where(one.pid) == name for one in process.children())
        return False


def _free_ports(count: int) -> Iterator[int]:
    """Ports of the loopback interface on which nothing listens."""
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        found = [server.getsockname()[1] for server in servers]
    yield from found
