"""Settings of the machine: device, precision, processes, and what trains the cells of a study.

They affect the speed. What of them decides rounding, such as the number of threads, is settled
once for a study and kept in its folder.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from podium.config.fields import ExecutorName, Strict, TrackerName


class Machine(Strict):
    """Settings of the machine that runs a study. They change a run's speed, not its recipe.

    Examples:
        >>> import podium
        >>> podium.Machine(tensorboard=True).tracker_names
        ('tensorboard',)
    """

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `mps`, or `cuda` with an index, `cuda:1`."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of training. `auto`: bf16 if the processor supports it and a check passes."""
    devices: int = Field(default=1, ge=1, le=1024)
    """Data-parallel processes (gloo on CPUs, NCCL on GPUs)."""
    workers: int | None = Field(default=None, ge=0, le=1024)
    """Processes per device that decode images; None: chosen from the number of cores."""
    cache_limit: float = Field(default=16.0, ge=0, le=1e6)
    """GB that decoded images may take on disk, all data sets together; 0: keep none."""
    checkpoint_every: float = Field(default=300.0, ge=0, le=1e9)
    """Seconds of training after which the state is also saved within an epoch; 0: every step."""
    tensorboard: bool = False
    """Write TensorBoard event files beside the history: short for the tracker of that name."""
    trackers: tuple[TrackerName, ...] = ()
    """Trackers of the training: `tensorboard`, `mlflow`, or your own."""
    executor: ExecutorName = "serial"
    """`serial` trains cell after cell in this process; `local`, `ray` and `slurm` train each in a
    process of its own, several at a time; your own: its name, or `module:name`."""
    address: str = ""
    """`HOST:PORT` of a Ray cluster; empty string: the one that this machine belongs to, else a new
    one on this machine."""
    cpus: int | None = Field(default=None, ge=1, le=1024)
    """Cores of each cell, and threads of its arithmetic, whose number decides the last bits. None:
    as the study was begun; at first all cores, shared out among the cells trained at a time."""
    gpus: float | None = Field(default=None, ge=0, le=64)
    """GPUs of each cell in a process of its own; below 1: that share of one. None: one where
    there are any, none under Slurm."""
    slurm: dict[str, str] = Field(default_factory=dict)
    """Options of `sbatch`, such as `{"partition": "gpu", "time": "240"}`."""
    insecure: bool = False
    """Use a Ray cluster that lets in everyone who reaches it: it has no token."""

    @property
    def tracker_names(self) -> tuple[str, ...]:
        """Each tracker once, including `tensorboard` if that is set."""
        short = ("tensorboard",) if self.tensorboard else ()
        return tuple(dict.fromkeys([*self.trackers, *short]))

    @field_validator("gpus")
    @classmethod
    def _gpus_are_whole_or_a_share(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError(f"expected a whole number, or a share of one below 1, got {value:g}")
        return value

    @field_validator("address", "slurm", "insecure")
    @classmethod
    def _belongs_to_the_executor(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name == "address" and value and not re.fullmatch(r"[^\s:/]+:\d{1,5}", value):
            raise ValueError(f"expected HOST:PORT, as in --on ray:HOST:PORT, got {value!r}")
        executor = "slurm" if info.field_name == "slurm" else "ray"
        if value and (given := info.data.get("executor")) != executor:
            raise ValueError(f"is a setting of --on {executor}; cells are trained by {given}")
        return value
