"""Code as a user would write it, in files and as an installed package; forgotten after a test."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# ours are registered when these are imported, and must not be forgotten with a test's
import podium.data.folder
import podium.data.transforms
import podium.models.registry
import podium.statistics.scoring
import podium.study.executors
import podium.study.trackers.listen
import podium.training.losses  # noqa: F401
from podium.config import registry
from podium.config.registry import (
    AUGMENTATIONS,
    EXECUTORS,
    LOSSES,
    METRICS,
    MODELS,
    SOURCES,
    TRACKERS,
    Registry,
)

SEAMS = (MODELS, AUGMENTATIONS, LOSSES, METRICS, SOURCES, EXECUTORS, TRACKERS)

NETWORKS = '''
import torch
from torch import nn

import podium
from parts import block


class Tiny(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(*block(3, 8), *block(8, 16))
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(16, num_classes)

    def forward(self, x):
        return self.head(self.drop(self.body(x).mean((2, 3))))


def tiny(num_classes):
    """Two convolutions and a linear layer."""
    return Tiny(num_classes)


@podium.register_model("registered_tiny", image_size=32, title="Tiny, registered")
def registered(num_classes):
    return Tiny(num_classes)


SPEC = podium.ModelSpec(
    "spec", tiny, image_size=32, title="Tiny, with a title", licence="MIT",
    citation="Me (2026), Tiny networks", source="my own weights",
    fetch=lambda: Tiny(7).state_dict(), normalization=((0.5,) * 3, (0.25,) * 3),
)
'''
PARTS = """
from torch import nn


def block(inputs, outputs):
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
"""


def write_networks(folder: Path) -> Path:
    """`my_networks.py`, and `parts.py` beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "my_networks.py").write_text(NETWORKS, encoding="utf-8")
    (folder / "parts.py").write_text(PARTS, encoding="utf-8")
    return folder


def install(folder: Path, module: str, text: str, group: str, **offers: str) -> Path:
    """A package as an installer leaves it; `folder` has to be put on `sys.path`.

    Args:
        folder: stands for site-packages.
        module: the one module of the package.
        text: its source.
        group: the entry-point group.
        offers: name -> attribute of the module.
    """
    about = folder / f"{module}-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / f"{module}.py").write_text(text, encoding="utf-8")
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = [f"{name} = {module}:{attribute}" for name, attribute in offers.items()]
    (about / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    return folder


@contextlib.contextmanager
def forgotten(folder: Path, *registries: Registry[Any]) -> Iterator[None]:
    """What is imported from `folder` within, allowed and registered, is gone afterwards.

    As in another process, which would take seconds to start.
    """
    path, tables = list(sys.path), [registry._ALLOWED, registry._IMPORTED]
    for one in registries:
        tables += [one._found, one._origin, one._home]
    before = [dict(table) for table in tables]
    try:
        yield
    finally:
        sys.path[:] = path
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file is not None and Path(file).is_relative_to(folder):
                del sys.modules[name]
        for table, old in zip(tables, before, strict=True):
            table.clear()
            table.update(old)
