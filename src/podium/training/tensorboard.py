"""TensorBoard event files beside the history, for those who watch several runs there."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from podium.errors import ConfigError


def require_tensorboard() -> None:
    """Find out before a study begins.

    Raises:
        ConfigError: the package tensorboard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigError(
            "--tensorboard needs the package tensorboard: pip install 'podium[tensorboard]'."
        )


class EpochLog:
    """Writes a row of the history as scalars; the history itself stays the record."""

    def __init__(self, folder: Path, epochs_done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        make: Any = SummaryWriter
        # what a killed run wrote of the epoch that is now done again is hidden
        self.writer = make(str(folder), purge_step=epochs_done + 1)

    def write(self, row: Mapping[str, float]) -> None:
        """Write one row; on disk when this returns."""
        for column, value in row.items():
            if column != "epoch":
                kind, _, what = column.partition("_")
                tag = f"{what}/{kind}" if kind in ("train", "valid") else column
                self.writer.add_scalar(tag, value, int(row["epoch"]))
        self.writer.flush()

    def close(self) -> None:
        """Close the files."""
        self.writer.close()
