"""Run another program unchanged and time its training steps, from inside its own process.

    python stopwatch.py --out FILE --steps N (--script PATH | --module NAME | --entry NAME) -- ...

PyTorch lets one hook see every step of every optimizer, so that all contenders are timed at the
same point, whatever loop they have: `images/s = batch size x steps / seconds between them`. The
first steps (worker start, compiled kernels, caches) are not counted. Once enough was seen the
times are written and the process ends. It needs only PyTorch, so that it works in an environment
without Podium; fastai, whose optimizers are its own, calls `STOPWATCH.tick` from a callback.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import runpy
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["Stopwatch", "main"]


class Stopwatch:
    """Counts training steps and ends the process when enough of them were seen.

    Args:
        out: file for the times, JSON.
        warmup: steps that are not counted.
        seconds: how long to count after them.
        steps: the last step that may be counted; keep it within one epoch, since what lies
            between two epochs (validation, checkpoints) is no training step.
    """

    def __init__(self, out: Path, warmup: int, seconds: float, steps: int) -> None:
        self.out, self.warmup, self.seconds, self.steps = out, warmup, seconds, steps
        self.began = time.perf_counter()
        self.process = os.getpid()
        self.times: list[float] = []

    def tick(self) -> None:
        """A training step has ended."""
        if os.getpid() != self.process:  # a forked worker has no part in it
            return
        last = len(self.times) + 1 >= self.steps
        if len(self.times) in (0, self.warmup - 1) or last:
            _wait_for_gpu()
        self.times.append(time.perf_counter())
        counted = self.times[-1] - self.times[min(self.warmup, len(self.times)) - 1]
        if len(self.times) > self.warmup and (last or counted >= self.seconds):
            self.finish()

    def finish(self) -> None:
        """Write what was seen, and end the process without its remaining work."""
        _wait_for_gpu()
        ended = time.perf_counter()
        found = {
            "first_step_seconds": self.times[0] - self.began,
            "steps": len(self.times) - self.warmup,
            "seconds": ended - self.times[self.warmup - 1],
        }
        temporary = self.out.with_suffix(".part")
        temporary.write_text(json.dumps(found), encoding="utf-8")
        temporary.replace(self.out)
        os._exit(0)


STOPWATCH: Stopwatch | None = None


def _wait_for_gpu() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main(arguments: Sequence[str]) -> None:
    """Start the watch, then the program that is named after the options."""
    parser = argparse.ArgumentParser(description="Time the training steps of a program.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--steps", type=int, required=True)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--script", type=Path)
    what.add_argument("--module")
    what.add_argument("--entry")
    split = arguments.index("--")
    given, rest = parser.parse_args(arguments[:split]), arguments[split + 1 :]
    if not 1 <= given.warmup < given.steps:
        parser.error(f"--warmup {given.warmup}: expected 1 or more, and less than --steps")

    from torch.optim.optimizer import register_optimizer_step_post_hook

    watch = Stopwatch(given.out, given.warmup, given.seconds, given.steps)
    # a program that imports this module gets the same watch, not a second copy of it
    sys.modules["stopwatch"] = sys.modules[__name__]
    globals()["STOPWATCH"] = watch

    def hook(optimizer: Any, args: Any, kwargs: Any) -> None:
        watch.tick()

    register_optimizer_step_post_hook(hook)
    sys.argv = [str(given.script or given.module or given.entry), *rest]
    if given.script:
        sys.path[0] = str(given.script.resolve().parent)  # as if it had been started itself
        runpy.run_path(str(given.script), run_name="__main__")
    elif given.module:
        sys.path[0] = str(Path.cwd())
        runpy.run_module(given.module, run_name="__main__", alter_sys=True)
    else:
        (entry,) = importlib.metadata.entry_points(group="console_scripts", name=given.entry)
        entry.load()()


if __name__ == "__main__":
    main(sys.argv[1:])
