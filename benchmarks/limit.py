"""What the processor can do at most, and what a training step asks of it.

    python -m benchmarks.limit --out FILE

A product of two large square matrices is the work that a processor is best at; convolutions are
computed as such products. Its rate is the limit that no way to train can pass.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from podium.models import build_model
from podium.runtime.device import has_fast_bf16

__all__ = ["flops_per_image", "main", "matrix_rate"]

SIDE = 4096
SECONDS = 3.0  # of each precision


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure fp32, and bf16 where the processor has it; write operations per second as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    found = {"fp32": matrix_rate(torch.float32)}
    if has_fast_bf16("cpu"):  # emulated, a product takes a minute
        found["bf16"] = matrix_rate(torch.bfloat16)
    given.out.write_text(json.dumps(found), encoding="utf-8")
    return 0


def matrix_rate(dtype: torch.dtype, side: int = SIDE, seconds: float = SECONDS) -> float:
    """Operations a second of a matrix product, the best of those that fit into `seconds`."""
    a, b = (torch.rand(side, side).to(dtype) for _ in "ab")
    out = a @ b
    best, ends = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < ends or best == float("inf"):
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def flops_per_image(model: str, size: int, classes: int, batch: int = 2) -> float:
    """Operations of a training step, forwards and backwards, an image; counted, not timed."""
    module = build_model(model, classes).module.train()
    images, labels = torch.rand(batch, 3, size, size), torch.zeros(batch, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        nn.functional.cross_entropy(module(images), labels).backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops()) / batch


if __name__ == "__main__":
    raise SystemExit(main())
