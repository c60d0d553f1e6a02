"""The model that a path stands for: that of a run, or an exported one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from podium.deploy.find.choose import choose_run
from podium.deploy.predictor import Predictor, asked_for, load_predictor
from podium.deploy.sets import Wanted
from podium.errors import ConfigError
from podium.evaluation.trained import TrainedModel
from podium.runs.find import find_runs
from podium.runs.folder import RunFolder


def load_any(
    run: RunFolder | str | Path,
    *,
    device: str = "auto",
    wanted: Wanted | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[Predictor, TrainedModel | None]:
    """Load a predictor: a run's model, or an exported one.

    Args:
        run: folder of a run, contender or study, the `hf://` address of a pushed run, or the file
            or folder of an export, or a folder of exports.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; only `auto` for an export.
        wanted: what is wanted beside probabilities; None: nothing.
        tell: called with a sentence if there was a choice.

    Returns:
        `(predictor, model)`; `model` is None for an export, whose layers are not accessible.

    Raises:
        RunFolderError: `run` holds no trained model, or a damaged one.
        ConfigError: the device is not available, or cannot be chosen; or these sets cannot be
            promised.
    """
    if isinstance(run, RunFolder) or not _may_be_export(Path(run)):
        return load_predictor(choose_run(run, tell), device=device, wanted=wanted, tell=tell)
    if device != "auto":
        raise ConfigError(
            f"--device {device}: {run} is an export, whose library chooses the device. "
            "Omit --device."
        )
    from podium.deploy.export.load import find_export, load_exported

    place = find_export(Path(run), tell)
    predictor = load_exported(place)
    if wanted is not None:
        wanted.refuse_another(predictor.sets, predictor.known, place)
    return asked_for(predictor, wanted), None


def _may_be_export(path: Path) -> bool:
    """Whether it is a file, or a folder that is not a run's, contender's or study's."""
    if not path.is_dir():
        return path.is_file()
    return not find_runs(path).runs and not (path / "best.safetensors").is_file()
