"""Damaged studies and run folders: each must be used, or refused with one of Podium's errors."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from podium.config.studyfile import built_in_studies, load_study, study_text
from podium.errors import PodiumError
from torture.mutate import mutate_bytes, mutate_text

__all__ = ["DocumentResult", "torture_runs", "torture_studies"]

SLOW = 20.0  # seconds allowed for one document
REPORT_EVERY = 9  # a full report takes seconds; coprime to the number of files


@dataclass
class DocumentResult:
    """Results for damaged documents of one kind."""

    kind: str
    documents: int = 0
    used: int = 0
    refused: int = 0
    crashes: list[str] = field(default_factory=list)
    """Errors that are not a `PodiumError`."""
    slow: int = 0
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        return not self.crashes and not self.slow

    def note(self, name: str, read: Callable[[], object]) -> None:
        began = time.monotonic()
        self.documents += 1
        try:
            read()
            self.used += 1
        except PodiumError:
            self.refused += 1
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            self.crashes.append(f"{name}: {type(error).__name__} at {place}: {error}"[:300])
        self.slow += time.monotonic() - began > SLOW


def torture_studies(folder: Path, count: int, seed: int = 0) -> DocumentResult:
    """Damage the YAML of the studies that come with Podium.

    Args:
        folder: where the files are written.
        count: number of damaged files.
        seed: random seed of the damage.

    Returns:
        how many were used and refused, and every crash.
    """
    chance, result, began = random.Random(seed), DocumentResult("studies"), time.monotonic()
    names = sorted(built_in_studies())
    for number in range(count):
        text, path = study_text(names[number % len(names)]), folder / "study.yaml"
        if chance.random() < 0.8:
            path.write_bytes(mutate_text(text, chance).encode("utf-8", "surrogatepass"))
        else:
            path.write_bytes(mutate_bytes(text.encode(), chance))
        result.note(f"{names[number % len(names)]}, damage {number}", partial(load_study, path))
    result.seconds = time.monotonic() - began
    return result


def torture_runs(folder: Path, study: Path, count: int, seed: int = 0) -> DocumentResult:
    """Damage one file of a finished study at a time, then read the study with every reader.

    Args:
        folder: where copies are written.
        study: folder of a finished study.
        count: number of damaged studies.
        seed: random seed of the damage.

    Returns:
        how many were used and refused, and every crash.
    """
    chance, result, began = random.Random(seed), DocumentResult("run folders"), time.monotonic()
    files = sorted(
        path.relative_to(study) for path in study.rglob("*")
        if path.is_file() and path.name not in (".lock",) and "report" not in path.parts
    )  # fmt: skip
    copy = folder / "runs" / study.name
    shutil.copytree(study, copy, ignore=shutil.ignore_patterns("report"))
    for number in range(count):
        name = files[number % len(files)]
        target, content = copy / name, (study / name).read_bytes()
        other = (study / chance.choice(files)).read_bytes()
        if chance.random() < 0.05:
            target.unlink()
        elif target.suffix in (".yaml", ".json", ".csv", ".jsonl") and chance.random() < 0.6:
            damaged = mutate_text(content.decode("utf-8"), chance)
            target.write_bytes(damaged.encode("utf-8", "surrogatepass"))
        else:
            target.write_bytes(mutate_bytes(content, chance, other))
        read = partial(_read_everything, copy, report=number % REPORT_EVERY == 0)
        result.note(f"{name}, damage {number}", read)
        target.write_bytes(content)
    shutil.rmtree(folder / "runs")
    result.seconds = time.monotonic() - began
    return result


def _read_everything(study: Path, report: bool) -> None:
    """Run all readers of a run folder; if one refuses it, the others still run."""
    import podium
    from podium.evaluation.trained import load_run
    from podium.reporting.build import build_report
    from podium.results.study import gather
    from podium.runs.find import run_folder
    from podium.runs.folder import StudyFolder
    from podium.training.checkpoint import read_checkpoint

    folder, refused = StudyFolder(study), None
    run = study / "one" / "seed-0"
    readers: list[Callable[[], object]] = [
        lambda: gather(folder),
        lambda: podium.compare(study),
        lambda: load_run(run_folder(run)),
        lambda: read_checkpoint(run / "last.ckpt"),
        lambda: run_folder(run).read_config(),
        lambda: folder.read_thumbnails(),
    ]
    if report:
        readers.append(lambda: build_report(folder, dpi=20, formats=("svg",), helpers=0))
    for read in readers:
        try:
            read()
        except PodiumError as error:
            refused = error
    with contextlib.suppress(OSError):
        shutil.rmtree(study / "report")
    if refused is not None:
        raise refused
