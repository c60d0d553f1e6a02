"""`last.ckpt`: read without running code, and only where it belongs to this very run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from podium.__about__ import __version__
from podium.config import RunSpec
from podium.errors import RunFolderError

__all__ = ["CHECKPOINT_FORMAT", "read_checkpoint", "refuse_another"]

CHECKPOINT_FORMAT = 1


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a `last.ckpt`, without running code that it may hold.

    Raises:
        RunFolderError: it is damaged, or of a format that this version does not know.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        version = state["format"]
    except Exception as error:  # torch raises many kinds for one cause: not a file of ours
        raise RunFolderError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}: {error}). "
            "Remove the run's folder to start it afresh."
        ) from None
    if version != CHECKPOINT_FORMAT:
        raise RunFolderError(
            f"{path} has format {version}; this Podium ({__version__}) reads format "
            f"{CHECKPOINT_FORMAT}. Use the version that wrote it, or remove the run's folder."
        )
    return dict(state)


def refuse_another(path: Path, state: Mapping[str, Any], recipe: RunSpec, fingerprint: str) -> None:
    """Refuse a checkpoint of another recipe or of other images.

    Raises:
        RunFolderError: it is one; the message says what differs.
    """
    mine, theirs = recipe.model_dump(mode="json"), state["recipe"]
    changed = [f"{key}: {theirs.get(key)} -> {mine[key]}" for key in mine
               if key != "label" and theirs.get(key) != mine[key]]  # fmt: skip
    if changed:
        problem = f"another recipe ({', '.join(changed)})"
    elif state["fingerprint"] != fingerprint:
        problem = f"other images (fingerprint {state['fingerprint'][:12]}, now {fingerprint[:12]})"
    else:
        return
    raise RunFolderError(
        f"{path} was written with {problem}. Give the study another name (--name), or remove "
        "the run's folder to start it afresh."
    )
