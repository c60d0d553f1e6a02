"""Training: Lightning Fabric provides devices, mixed precision and data-parallel processes.

The epochs are in `podium.training.loop`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from podium.config.code import refuse_unreachable
from podium.config.registry import allow
from podium.errors import ConfigError, PodiumError
from podium.runtime.device import FABRIC_PRECISION
from podium.runtime.events import Notify, StopRequest, relay
from podium.runtime.files import fenced
from podium.runtime.memory import recycled_memory
from podium.runtime.spawn import runs_again
from podium.runtime.threads import let_waiting_threads_sleep
from podium.training.faults import despite_lost_workers
from podium.training.job import Job
from podium.training.loop import train
from podium.training.state import prepare

# Fabric logs what the progress display already shows. Here, not in `fit`: the processes that it
# starts log before they call any of our code.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


def fit(job: Job, notify: Notify, stop: StopRequest | None = None) -> None:
    """Train `job.recipe` to its end, resuming from the state in its folder.

    Writes `history.csv`, `last.ckpt`, `best.safetensors` and `model.json` to the folder.

    Args:
        job: the recipe, the images, and the run's folder.
        notify: called with an `Event` at every batch and epoch.
        stop: checked after every step; if it is set, the state is saved and KeyboardInterrupt is
            raised.

    Raises:
        KeyboardInterrupt: `stop` was set; the state is saved.
        TrainingError: the loss is no longer finite, or memory ran out.
        UnreadableImageError: an image vanished or changed since it was checked.
        StorageError: the state cannot be saved.
        ConfigError: several processes are requested, and each would run the caller's script again.
    """
    despite_lost_workers(
        lambda workers: _fit(replace(job, workers=workers), notify, stop),
        job.workers,
        job.recipe,
        notify,
    )


def _fit(job: Job, notify: Notify, stop: StopRequest | None) -> None:
    device = job.device
    if device.count > 1 and (script := runs_again("spawn")) is not None:
        raise ConfigError(
            f"{script}: each of {device.count} training processes would run this script again from "
            'its top. Put its work under `if __name__ == "__main__":`, or use 1 device.'
        )
    if device.count > 1:
        refuse_unreachable(job.recipe)
    fabric = Fabric(
        accelerator=device.kind,
        devices=list(range(device.index, device.index + device.count))
        if device.kind == "cuda"
        else device.count,
        # spawned, not re-executed: the caller may be a notebook's cell or another program
        strategy="auto" if device.count == 1 else "ddp_spawn",
        precision=FABRIC_PRECISION[job.precision],  # type: ignore[arg-type]
        # else, in a step of Slurm, that step's processes would count as those of this training
        plugins=[LightningEnvironment()],
    )
    if device.count == 1:
        fabric.launch()
        with recycled_memory():
            train(prepare(fabric, job, notify, stop))
    else:
        let_waiting_threads_sleep()  # in the processes that are started now
        with relay(notify, stop, device.count) as (pipes, stopping):
            # bound with partial: Fabric searches arguments for modules, and refuses frozen
            # dataclasses there
            fabric.launch(functools.partial(_in_process, job=job, pipes=pipes, stopping=stopping))


def _in_process(fabric: Fabric, job: Job, pipes: Sequence[Any], stopping: StopRequest) -> None:
    pipe = pipes[fabric.global_rank]
    notify: Notify = pipe.send if fabric.global_rank == 0 else lambda event: None
    try:
        for module, folder in job.allowed.items():
            allow(module, folder)
        if job.threads is not None:
            torch.set_num_threads(max(1, job.threads // job.device.count))
        with contextlib.ExitStack() as stack:
            if job.attempt is not None:  # what the process that started this one checks, too
                stack.enter_context(fenced(job.folder.path, job.attempt.before_write))
            stack.enter_context(recycled_memory())
            train(prepare(fabric, job, notify, stopping))
    except (PodiumError, KeyboardInterrupt, RuntimeError, MemoryError) as error:
        # The launcher passes on only the text of an error, and after an interrupt it would wait
        # for a result forever.
        pipe.send(error)
        raise SystemExit(1) from None
    # without this, gloo's threads may still run when the process ends, and abort it
    fabric.barrier()
    torch.distributed.destroy_process_group()
