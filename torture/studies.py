"""Small studies, one per kind of training, and digests of what must be bit-identical."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from podium.runtime.device import has_fast_bf16
from podium.training.checkpoint import read_checkpoint

__all__ = ["KINDS", "Kind", "digests", "write_images"]


@dataclass(frozen=True)
class Kind:
    """A kind of training: settings of the contender and of the machine."""

    about: str
    recipe: Mapping[str, Any]
    machine: Mapping[str, Any] = field(default_factory=dict)
    audit: bool = False
    """Whether the images are audited first, which takes as long as everything else."""


_TINY = {"epochs": 2, "batch_size": 8, "image_size": 32, "lr": 1e-3}
_LITE = {"model": "efficientnet_lite0", "pretrained": True, **_TINY, "image_size": 64}
_FP32 = {"precision": "fp32", "workers": 0}

# an emulated bf16 step takes twenty times as long, and tests nothing that fp32 does not
_LOW = "bf16" if has_fast_bf16("cpu") else "fp32"

KINDS = {
    "scratch": Kind(
        "from scratch, AutoAugment, fp32, no workers, audited first",
        {"model": "simple_resnet", **_TINY, "augmentation": "autoaugment"},
        _FP32,
        audit=True,
    ),
    "workers": Kind(
        f"the same in {_LOW}, not audited, images decoded anew by two workers",
        {"model": "simple_resnet", **_TINY, "augmentation": "autoaugment"},
        {"precision": _LOW, "workers": 2, "cache_limit": 0},
    ),
    "fast": Kind(
        f"the recipe of the study fast, with mixing and a moving average, {_LOW}",
        {
            "model": "inception_resnet",
            **_TINY,
            "optimizer": "muon",
            "weight_decay": 0.05,
            "lr_schedule": "one_cycle",
            "augmentation": "crop_flip",
            "flip": "alternate",
            "progressive_sizes": [32, 48],
            "image_size": 48,
            "ema": 0.9,
            "mixup": 0.2,
            "cutmix": 1.0,
            "flip_test": True,
        },
        {"precision": _LOW, "workers": 0},
    ),
    "frozen": Kind(
        "a linear head by steps, on features of a frozen network",
        {**_LITE, "freeze": "backbone"},
        _FP32,
    ),
    "probe": Kind(
        "a linear probe over all stages",
        {**_LITE, "freeze": "backbone", "linear_probe": True, "pooling": "stages"},
        _FP32,
    ),
    "lpft": Kind(
        "fine-tuned from a linear probe, two workers",
        {**_LITE, "linear_probe": True, "layer_decay": 0.75, "augmentation": "randaugment"},
        {"precision": "fp32", "workers": 2},
    ),
}


def write_images(root: Path, each: int = 8, side: int = 40) -> None:
    """Write images of two classes.

    Args:
        root: data folder to create.
        each: training images per class; validation and test get half as many each.
        side: height and width in pixels.
    """
    chance = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side - 0.5
    for split, count in (("train", each), ("valid", each // 2), ("test", each // 2)):
        for label, shape in (("disc", np.hypot(x, y) < 0.3), ("bars", np.sin(25 * x) > 0)):
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                noise = chance.integers(0, 90, (side, side, 3))
                pixels = (shape[..., None] * chance.integers(80, 160, 3) + noise).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")


_CLOCK = {
    "seconds",
    "images_per_second",
    "latency_ms",
    "finished_at",
    "test_scored_at",
    "total_seconds",
    "looks",  # of a receipt: lines with the times of the scorings, which trials count themselves
}


def digests(study: Path) -> dict[str, str]:
    """Hash every file of a finished study, except for timings.

    For `last.ckpt` every tensor and number is hashed, not the archive around them.

    Args:
        study: the study's folder.

    Returns:
        path relative to the folder -> SHA-256.
    """
    found = {}
    for path in sorted(study.rglob("*")):
        name = path.relative_to(study).as_posix()
        if path.is_file() and path.name not in (".lock", "test-scorings.jsonl"):
            found[name] = hashlib.sha256(b"".join(_content(path))).hexdigest()
    return found


def _content(path: Path) -> Iterator[bytes]:
    if path.name == "last.ckpt":
        state = read_checkpoint(path)
        state["epoch_under_way"] = state["epoch_under_way"][:4]  # without its seconds
        yield from _values(state)
    elif path.suffix == ".csv":
        for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))):
            yield repr([(key, value) for key, value in row.items() if key not in _CLOCK]).encode()
    elif path.suffix == ".json":
        yield repr(_timeless(json.loads(path.read_text(encoding="utf-8")))).encode()
    else:
        yield path.read_bytes()


def _values(value: Any) -> Iterator[bytes]:
    if isinstance(value, Mapping):
        for key in value:
            if key not in _CLOCK:
                yield repr(key).encode()
                yield from _values(value[key])
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _values(one)
    elif isinstance(value, torch.Tensor):
        yield repr((value.dtype, tuple(value.shape))).encode()
        yield value.contiguous().flatten().view(torch.uint8).numpy().tobytes()
    else:
        yield repr(value).encode()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(one) for key, one in value.items() if key not in _CLOCK}
    return [_timeless(one) for one in value] if isinstance(value, list) else value
