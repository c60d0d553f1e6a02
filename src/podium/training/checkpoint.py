"""A run's saved state: `last.ckpt` for resuming, and the best epoch's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from podium.__about__ import __version__
from podium.config.settings import RunSpec
from podium.errors import RunFolderError, one_line
from podium.evaluation.description import DESCRIPTION_FORMAT
from podium.runs.folder import RunFolder
from podium.runtime.files import atomic_write, write_json

CHECKPOINT_FORMAT = 1

_KEYS = {
    *("recipe", "fingerprint", "precision", "rows", "epoch_under_way", "total_seconds"),
    *("trainable_parameters", "model", "optimizer", "average", "scaler"),
}


@dataclass
class Progress:
    """The progress of a run: everything in `last.ckpt` besides tensors."""

    rows: list[dict[str, float]] = field(default_factory=list)  # finished epochs
    step: int = 0  # finished steps of the current epoch
    loss: float = 0.0  # sums over this process's images of that epoch
    correct: float = 0.0
    seen: float = 0.0
    seconds: float = 0.0  # wall time of that epoch so far
    total_seconds: float = 0.0  # of all finished epochs


def write_best(folder: RunFolder, module: nn.Module, description: Mapping[str, Any]) -> None:
    """Write the weights, and everything needed to use them without Podium's other files.

    Args:
        folder: of the run.
        module: its tensors are written to `best.safetensors`.
        description: content of `model.json` besides the run's name: classes, preprocessing, epoch.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    atomic_write(folder.best, lambda file: file.write(save(state)))
    head = {
        "format": DESCRIPTION_FORMAT,
        "podium": __version__,
        "contender": folder.contender,
        "seed": folder.seed,
    }
    write_json(folder.model, {**head, **description})


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a `last.ckpt`, without running any code from it.

    Args:
        path: the file.

    Raises:
        RunFolderError: it is damaged, or of a format that this version does not know.
    """
    try:
        state = dict(torch.load(path, map_location="cpu", weights_only=True))
        version = state["format"]
        if version == CHECKPOINT_FORMAT and (missing := _KEYS - state.keys()):
            raise KeyError(*sorted(missing))
    except Exception as error:  # torch raises many exception types for files that are not ours
        raise RunFolderError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}: {error}). "
            "Remove the run's folder to start it again."
        ) from None
    if version != CHECKPOINT_FORMAT:
        raise RunFolderError(
            f"{path} has format {version}; this Podium ({__version__}) reads format "
            f"{CHECKPOINT_FORMAT}. Use the version that wrote it, or remove the run's folder."
        )
    return state


def refuse_another(
    path: Path,
    state: Mapping[str, Any],
    recipe: RunSpec,
    fingerprint: str,
    metric: str = "accuracy",
) -> None:
    """Refuse a checkpoint of another recipe, another metric or other images.

    Args:
        path: the file, for the message.
        state: its content.
        recipe: of the training.
        fingerprint: of the images.
        metric: of the study.

    Raises:
        RunFolderError: they differ; the message lists the differences.
    """
    try:
        changed = recipe.changes_from(state["recipe"])
    except ValueError as error:
        changed = [f"settings that this Podium does not support: {one_line(error)}"]
    before = state.get("metric", "accuracy")
    if before != metric:
        changed = [*changed, f"metric: {before} -> {metric}"]
    if changed:
        problem = f"another recipe ({', '.join(changed)})"
    elif state["fingerprint"] != fingerprint:
        problem = f"other images (fingerprint {state['fingerprint'][:12]}, now {fingerprint[:12]})"
    else:
        return
    raise RunFolderError(
        f"{path} was written with {problem}. Give the study another name (--name), or remove "
        "the run's folder to start it again."
    )
