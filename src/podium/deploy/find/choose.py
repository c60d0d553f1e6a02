"""Which run a folder stands for: the run itself, a contender's only one, or a study's best."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from podium.errors import RunFolderError
from podium.runs.find import run_folder
from podium.runs.folder import RunFolder, StudyFolder
from podium.statistics.metrics import scores

__all__ = ["choose_run"]

# one slash where a command made a path of it
_HOSTED = re.compile(r"hf:/{1,2}(?P<repo>[^@]+?)/?(?:@(?P<revision>.+))?")


def choose_run(path: str | Path, tell: Callable[[str], None] = lambda text: None) -> RunFolder:
    """The run that a folder stands for. Reads no model.

    Of a study it is the contender with the best mean accuracy on the validation images, of
    several seeds the best one there; of equals the first. The test images have no say: what was
    chosen by them would look better on them than it is.

    Args:
        path: a run's folder, a contender's that holds one run, or a study's; or one that was
            pushed to the Hugging Face Hub, `hf://OWNER/NAME` or `hf://OWNER/NAME@REVISION`.
        tell: called with a sentence where there was something to choose.

    Raises:
        RunFolderError: it is none of these, holds no finished run, or several of one contender.
    """
    folder = Path(path)
    hosted = _HOSTED.fullmatch(str(path))
    if hosted and not folder.exists():
        from podium.deploy.find.hub import fetch_run

        return fetch_run(hosted["repo"], hosted["revision"])
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise RunFolderError(
            f"{folder} {what}: expected a run's folder (runs/sports100/simple_resnet/seed-0), or "
            "that of a contender or a study."
        )
    study = StudyFolder(folder)
    if study.spec.is_file():
        return _best_of(study, tell)
    name = folder.resolve().name
    seeds = [one for one in folder.iterdir() if one.is_dir() and _number(one) is not None]
    if _number(folder) is not None or not seeds:
        return run_folder(folder if folder.name else folder.resolve())
    trained = sorted(
        (one for one in seeds if (one / "best.safetensors").is_file()),
        key=lambda one: _number(one) or 0,
    )
    if not trained:
        raise RunFolderError(f"No run of {folder} has weights yet: no epoch has ended there.")
    if len(trained) > 1:
        raise RunFolderError(
            f"{folder} holds {len(trained)} runs of {name} "
            f"({', '.join(one.name for one in trained[:8])}{', ...' * (len(trained) > 8)}). "
            f"Name one of them, such as {trained[0]}."
        )
    return run_folder(trained[0])


def _number(folder: Path) -> int | None:
    """The seed of a folder `seed-<n>`."""
    name, _, number = folder.name.partition("-")
    return int(number) if name == "seed" and number.isdecimal() else None


def _best_of(study: StudyFolder, tell: Callable[[str], None]) -> RunFolder:
    spec = study.read_spec()
    found: dict[str, list[tuple[float, RunFolder]]] = {}
    for run in study.runs(spec):
        if run.is_done():
            found.setdefault(run.contender, []).append((_valid_accuracy(run), run))
    if not found:
        raise RunFolderError(
            f"{study.path} holds no finished run. Finish it with `podium run`, or name a run's "
            "folder."
        )
    means = {name: sum(one for one, _ in runs) / len(runs) for name, runs in found.items()}
    best = max(means, key=lambda name: means[name])
    accuracy, run = max(found[best], key=lambda one: one[0])
    if sum(map(len, found.values())) > 1:
        tell(
            f"{study.path}: {best}, seed {run.seed}, which is the best on the validation images "
            f"({100 * accuracy:.1f} %)."
        )
    return run_folder(run.path)


def _valid_accuracy(run: RunFolder) -> float:
    """0..1, as the run noted it, or from its predictions where an older one did not."""
    noted = run.read_done().get("valid_accuracy")
    if isinstance(noted, (int, float)):
        return float(noted)
    return scores(run.read_predictions("valid")).accuracy
