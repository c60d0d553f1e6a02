"""Connects to a Ray cluster that admits only who has its token."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from podium.config.machine import Machine
from podium.errors import ConfigError
from podium.runtime.threads import usable_cores

LOCAL = "local"
"""Ray's name for a cluster of this machine alone, on its loopback interface."""
AUTH = "RAY_AUTH_MODE"
_CONNECTING = 15.0  # seconds
_STORE = 100_000_000  # bytes of Ray's object store on this machine: little is put into it


@contextlib.contextmanager
def connected(machine: Machine) -> Iterator[tuple[Any, str]]:
    """Ray, connected to a cluster that admits only who has its token, and the cluster's address.

    Args:
        machine: settings of the machine: `address` and `insecure`.

    Raises:
        ConfigError: Ray is not installed, the cluster cannot be used, or it has no token.
    """
    address = address_of(machine)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # Ray would report its use to its makers
    if not machine.insecure:
        os.environ.setdefault(AUTH, "token")
    given: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == LOCAL:
        # its name also means "use the loopback interface": nobody else reaches this cluster
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        # by default every other program of the machine goes before Ray's workers
        os.environ.setdefault("RAY_worker_niceness", "0")
        given |= {"num_cpus": usable_cores(), "include_dashboard": False}
        given |= {"object_store_memory": _STORE}
    if ":" in address:
        _refuse_silence(address)
    try:
        import ray
    except ImportError:
        raise ConfigError("--on ray needs Ray: pip install 'podium[ray]'.") from None
    before = os.umask(0o077)  # Ray would write its token for everyone to read
    try:
        ray.init(address=address, **given)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"--on ray: the cluster at {address!r} cannot be used ({reason}). Run this on one of "
            "its machines, with its token in ~/.ray/auth_token. RAY_ADDRESS=local starts a "
            "cluster of this machine alone."
        ) from None
    finally:
        os.umask(before)
    try:
        if address != LOCAL and not machine.insecure:
            _refuse_open_cluster(ray.get_runtime_context().gcs_address)
        _close_token()
        yield ray, address
    finally:
        ray.shutdown()


def address_of(machine: Machine) -> str:
    """The address of the cluster that the settings name; `LOCAL`: one of this machine alone."""
    return machine.address or os.environ.get("RAY_ADDRESS") or _cluster_here()


def _cluster_here() -> str:
    """`auto` where `ray start` has made this machine a part of a cluster, else `local`."""
    place = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray"
    return "auto" if (place / "ray_current_cluster").is_file() else LOCAL


def _refuse_silence(address: str) -> None:
    """Refuse an address where nothing listens: Ray would try for many minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECTING).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"--on ray: nothing answers at {address} ({error}). Expected the HOST:PORT that "
            "`ray start --head` printed."
        ) from None


def _refuse_open_cluster(address: str) -> None:
    """Refuse a cluster that answers somebody without a token: everybody could run code there."""
    asking = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    without = {**os.environ, AUTH: "disabled"}
    answered = subprocess.run(asking, env=without, capture_output=True, check=False)
    if answered.returncode == 0:
        raise ConfigError(
            f"--on ray: the cluster at {address} has no token: whoever reaches it can run any "
            "program there, as you (CVE-2023-48022). Start it with RAY_AUTH_MODE=token on every "
            "machine, see docs/cluster.md; or give --insecure if only you can reach it."
        )


def _close_token() -> None:
    """Have only the user read the file with Ray's token."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    with contextlib.suppress(OSError):  # it may be another user's, or in the environment alone
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
