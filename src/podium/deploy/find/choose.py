"""Which run a folder stands for: the run itself, a contender's only one, or a study's best."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from podium.errors import RunFolderError
from podium.runs.find import run_folder
from podium.runs.folder import RunFolder, StudyFolder
from podium.statistics.metrics import scores
from podium.statistics.scoring import Noted, noted

# one slash where a command made a path of it
_HOSTED = re.compile(r"hf:/{1,2}(?P<repo>[^@]+?)/?(?:@(?P<revision>.+))?")


def choose_run(path: str | Path, tell: Callable[[str], None] = lambda text: None) -> RunFolder:
    """The run that a folder stands for. Reads no model.

    Of a study it is the contender with the best mean accuracy on the validation images, or
    whatever the study's metric is, of several seeds the best one there; of equals the first. The
    test images have no say: what was chosen by them would look better on them than it is.

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
    words: dict[Path, str] = {}
    for run in study.runs(spec):
        if run.is_done():
            known = _noted(run)
            found.setdefault(run.contender, []).append((known.valid_merit or 0.0, run))
            words[run.path] = known.metric.text(known.valid or 0.0)
            if not known.metric.is_accuracy:
                words[run.path] = f"{known.metric.title} {words[run.path]}"
    if not found:
        raise RunFolderError(
            f"{study.path} holds no finished run. Finish it with `podium run`, or name a run's "
            "folder."
        )
    means = {name: sum(one for one, _ in runs) / len(runs) for name, runs in found.items()}
    best = max(means, key=lambda name: means[name])
    _, run = max(found[best], key=lambda one: one[0])
    if sum(map(len, found.values())) > 1:
        tell(
            f"{study.path}: {best}, seed {run.seed}, which is the best on the validation images "
            f"({words[run.path]})."
        )
    return run_folder(run.path)


def _noted(run: RunFolder) -> Noted:
    """What the run was chosen by, as it noted it; of an older one, accuracy by its predictions."""
    try:
        known = noted(run.read_done())
    except (TypeError, ValueError) as error:
        raise RunFolderError(f"{run.done} is damaged ({error}). Restore it.") from None
    if known.valid is None:
        return replace(known, valid=scores(run.read_predictions("valid")).accuracy)
    return known
