"""Which runs a path names: a run, contender or study folder. One rule for all commands.

A run folder names that run. A contender folder with several seeds names the seed that is best on
the validation images; a study folder names the best seed of the contender with the best mean
validation score. Finished runs are preferred to unfinished ones, and ties go to the first. Test
images are never used to choose: the test score of a run chosen by it would be biased upwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

from podium.errors import RunFolderError
from podium.runs.folder import RunFolder, StudyFolder

if TYPE_CHECKING:
    from podium.config.settings import StudySpec


class Found(NamedTuple):
    """The runs that a path names, finished or not, in the order of contenders and seeds."""

    path: Path
    runs: list[RunFolder]
    spec: StudySpec | None = None
    """The study's specification; None unless `path` is a study folder."""
    is_run: bool = False


def find_runs(path: str | Path) -> Found:
    """Find the runs that a path names, without opening any of them.

    Args:
        path: a run, contender or study folder.

    Returns:
        The runs; none where `path` is not one of these folders.
    """
    folder = Path(path)
    folder = folder if folder.name else folder.resolve()  # "." has no name
    study = StudyFolder(folder)
    if study.spec.is_file():
        spec = study.read_spec()
        return Found(folder, study.runs(spec), spec)
    if (fold := _number(folder, "fold")) is not None:
        above = folder.resolve().parent
        if (seed := _seed(above)) is not None:
            run = RunFolder(folder, above.parent.name, seed, fold)
            return Found(folder, [run], None, True)
    if (seed := _seed(folder)) is not None:
        return Found(folder, [RunFolder(folder, folder.resolve().parent.name, seed)], None, True)
    seeds = {seed: one for one in folder.glob("seed-*") if (seed := _seed(one)) is not None}
    name = folder.resolve().name
    return Found(folder, [RunFolder(seeds[seed], name, seed) for seed in sorted(seeds)])


def _seed(folder: Path) -> int | None:
    """The seed of a folder `seed-<n>`."""
    return _number(folder, "seed")


def _number(folder: Path, kind: str) -> int | None:
    """The number of a folder `<kind>-<n>`."""
    name, _, number = folder.name.partition("-")
    return int(number) if name == kind and number.isdecimal() and folder.is_dir() else None


def run_folder(path: str | Path) -> RunFolder:
    """Open a run folder, `runs/<study>/<contender>/seed-<n>`.

    Args:
        path: the run folder.

    Raises:
        RunFolderError: it is not a run folder, or the run has no weights yet.
    """
    found = find_runs(path)
    if not found.is_run:
        raise RunFolderError(
            f"{path} is not a run folder: expected something like "
            "runs/sports100/simple_resnet/seed-0."
        )
    return _with_weights(found.runs[0])


def choose_run(
    path: RunFolder | str | Path, tell: Callable[[str], None] = lambda text: None
) -> RunFolder:
    """Choose the one run that a path names, by the rule above, without reading a model.

    Args:
        path: a run, contender or study folder.
        tell: called with a sentence that names the run where there were several to choose from.

    Raises:
        RunFolderError: it is none of these, or holds no usable run.
    """
    if isinstance(path, RunFolder):
        return path
    found = find_runs(path)
    if not found.path.is_dir():
        what = "is a file" if found.path.exists() else "does not exist"
        raise RunFolderError(
            f"{path} {what}: expected a run folder (runs/sports100/simple_resnet/seed-0), a "
            "contender folder or a study folder."
        )
    if found.spec is not None:
        usable = [run for run in found.runs if run.is_done()]
        none = "holds no finished run. Finish one with `podium run`, or name a run folder."
    elif found.runs and not found.is_run:
        usable = [run for run in found.runs if run.best.is_file()]
        none = "holds no run with weights yet: no epoch has finished."
    else:
        return run_folder(found.path)
    if not usable:
        raise RunFolderError(f"{path} {none}")
    run = _best_seed(_best_contender(usable))
    if len(usable) > 1:
        tell(
            f"{path}: using {run.contender}, seed {run.seed}, the best on the validation "
            f"images{_valid_words(run)}."
        )
    return _with_weights(run)


def _with_weights(run: RunFolder) -> RunFolder:
    if not run.best.is_file() and run.is_done():
        raise RunFolderError(
            f"{run.path} holds no {run.best.name}: the weights of a tuning's trials are not kept. "
            "Give the study's folder, or that of one of its contenders."
        )
    if not run.best.is_file():
        raise RunFolderError(f"{run.path} holds no {run.best.name}: no epoch has finished yet.")
    return run


def by_contender(runs: Sequence[RunFolder]) -> list[list[RunFolder]]:
    """Group runs by contender, keeping their order.

    Args:
        runs: of one study.
    """
    names = dict.fromkeys(run.contender for run in runs)
    return [[run for run in runs if run.contender == name] for name in names]


def _best_contender(runs: Sequence[RunFolder]) -> list[RunFolder]:
    return max(by_contender(runs), key=lambda theirs: mean(map(_merit, theirs)))


def best_seed(runs: Sequence[RunFolder]) -> RunFolder | None:
    """The best usable run of a contender; None where none has weights yet.

    Args:
        runs: of one contender, one per seed.
    """
    trained = [run for run in runs if run.best.is_file() and run.model.is_file()]
    return _best_seed(trained) if trained else None


def _best_seed(runs: Sequence[RunFolder]) -> RunFolder:
    return max(runs, key=lambda run: (run.is_done(), _merit(run)))


def _merit(run: RunFolder) -> float:
    merit = valid_merit(run)
    return -math.inf if merit is None else merit


def valid_merit(run: RunFolder) -> float | None:
    """The validation score of the best epoch, its sign flipped where lower is better.

    Args:
        run: finished or not.

    Returns:
        The score of the study's metric; None where it is unknown.
    """
    if run.is_done():
        noted = run.read_done().get("metric")
        if isinstance(noted, dict) and noted.get("name") != "accuracy":
            value = noted.get("valid")
            if not isinstance(value, (int, float)):
                return None
            return float(value) if noted.get("greater_is_better", True) else -float(value)
    return valid_accuracy(run)


def valid_accuracy(run: RunFolder) -> float | None:
    """The validation accuracy of the best epoch, 0..1; None where it is unknown.

    It is read from the closing record, else from the predictions, else from the history.

    Args:
        run: finished or not.
    """
    if run.is_done():
        accuracy = run.read_done().get("valid_accuracy")
        if isinstance(accuracy, (int, float)):
            return float(accuracy)
        if run.predictions("valid").is_file():  # an older run, which did not record it
            found = run.read_predictions("valid")
            return float((found.predicted == found.labels).mean())
    if run.history.is_file():
        return max((row["valid_accuracy"] for row in run.read_history()), default=None)
    return None


def _valid_words(run: RunFolder) -> str:
    """The score that a run was chosen by, for a sentence."""
    noted, merit = run.read_done().get("metric") if run.is_done() else None, valid_merit(run)
    if merit is None:
        return ""
    if not isinstance(noted, dict) or noted.get("name") == "accuracy":
        return f" ({100 * merit:.1f} %)"
    value = noted["valid"]
    text = f"{100 * value:.1f} %" if noted.get("percent") else f"{value:.4g}"
    return f" ({noted.get('title') or noted.get('name')} {text})"
