"""The models that a server offers: those of runs, contenders, whole studies, and exports."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from podium.config.titles import model_title, stand_in_label
from podium.deploy.predictor import Predictor, asked_for, load_predictor
from podium.deploy.sets import Wanted
from podium.errors import ConfigError, DataError, RunFolderError
from podium.evaluation.trained import TrainedModel
from podium.runs.find import best_seed, by_contender, find_runs, run_folder, valid_accuracy
from podium.runs.folder import RunFolder
from podium.statistics.metrics import scores, wilson_interval
from podium.statistics.scoring import Noted, noted

if TYPE_CHECKING:
    from podium.config.settings import StudySpec


@dataclass(frozen=True)
class Served:
    """A model, and what is known of it."""

    name: str
    """Its name in requests, unique on the server."""
    label: str
    """Its display name."""
    predictor: Predictor
    model: TrainedModel | None = None
    """For Grad-CAM; None for an export, whose layers are not accessible."""
    weights: int = 0
    """Bytes in memory."""
    valid_accuracy: float | None = None
    """Validation accuracy, 0 to 1; None: not known."""
    test_correct: int | None = None
    test_images: int | None = None
    run: RunFolder | None = None
    noted: Noted | None = None
    """The metric that selected the run."""

    @property
    def test_accuracy(self) -> float | None:
        """Test accuracy, 0 to 1; None: not known."""
        if self.test_correct is None or not self.test_images:
            return None
        return self.test_correct / self.test_images

    @property
    def test_interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of the test accuracy, 0 to 1; None: not known."""
        if self.test_correct is None or not self.test_images:
            return None
        return wilson_interval(self.test_correct, self.test_images)


def load_models(
    sources: Iterable[str | Path],
    *,
    device: str = "auto",
    wanted: Wanted | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[tuple[Served, ...], str]:
    """Load everything that a server will offer; nothing is loaded later.

    Args:
        sources: folder of a run, of a contender (its best seed by validation accuracy), or of a
            study (the same for each contender with weights), or a file or folder written by
            `podium export`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`, for all of them.
        wanted: what each of them answers beside probabilities; None: nothing.
        tell: called with a sentence before training images are looked at.

    Returns:
        The models, and a title for them: the study's, or the only model's.

    Raises:
        UserError: a source is none of these, is damaged, or is given twice; or cannot promise the
            coverage of these sets.
    """
    found: list[Served] = []
    titles: list[str] = []
    for source in sources:
        path = Path(source)
        runs, title = _runs(path)
        titles.append(title)
        if runs:
            found += [_load_run(run, label, device, wanted, tell) for run, label in runs]
        else:
            found.append(_load_export(path, device, wanted))
    if not found:
        raise ConfigError("Expected at least one run, study or exported model, got none.")
    if several := [one.label for one in found if one.predictor.windows.channels is not None]:
        raise ConfigError(
            f"{several[0]} takes images of several channels, which browsers cannot show: the "
            "server takes RGB. Use podium predict, or an export."
        )
    places = Counter(one.run.path.resolve() for one in found if one.run is not None)
    if twice := [path for path, often in places.items() if often > 1]:
        raise ConfigError(f"{twice[0]} is given more than once.")
    named = tuple(_named(found))
    return named, titles[0] if len(titles) == 1 else f"{len(named)} models"


def best_of(models: Iterable[Served]) -> Served:
    """The best model on validation images, without regard to test images; of ties, the first.

    It compares the metric that selected all of them; if that differs, accuracy.

    Args:
        models: the models to compare.
    """
    several = list(models)
    metrics = {one.noted.metric.name for one in several if one.noted is not None}

    def merit(one: Served) -> float:
        if len(metrics) == 1 and one.noted is not None:
            known = one.noted.valid_merit
        else:
            known = one.valid_accuracy
        return -math.inf if known is None else known

    return max(several, key=merit)


def _runs(path: Path) -> tuple[list[tuple[RunFolder, str]], str]:
    """The runs that a source stands for, with their labels; empty for an export."""
    found = find_runs(path)
    if not path.exists():
        raise RunFolderError(
            f"{path} does not exist. Expected the folder of a study, contender or run, such as "
            "runs/sports100, or a model that `podium export` wrote."
        )
    if not found.runs:
        return [], path.resolve().name
    best = [run_folder(path)] if found.is_run else map(best_seed, by_contender(found.runs))
    runs = [(run, _label(run, found.spec)) for run in best if run is not None]
    if not runs:
        raise RunFolderError(f"{path} holds no trained model yet. `podium run` trains it.")
    return runs, found.spec.title or found.spec.name if found.spec else runs[0][1]


def _label(run: RunFolder, spec: StudySpec | None = None) -> str:
    """The contender's label, with the model that replaced the original, if one did."""
    if spec is None:
        spec = run.study.read_spec() if run.study.spec.is_file() else None
    known = spec is not None and run.contender in spec.contenders
    label = spec.label(run.contender) if spec is not None and known else run.contender
    done = run.read_done() if run.is_done() else {}
    if not done.get("stood_in_for"):
        return label
    wanted, used = (model_title(str(done[key])) for key in ("stood_in_for", "model"))
    return stand_in_label(label, wanted, used)


def _load_run(
    run: RunFolder, label: str, device: str, wanted: Wanted | None, tell: Callable[[str], None]
) -> Served:
    predictor, model = load_predictor(run, device=device, wanted=wanted, tell=tell)
    model.module.eval()
    tensors = [*model.module.parameters(), *model.module.buffers()]
    correct = images = None
    if run.predictions("test").is_file():
        found = scores(run.read_predictions("test"))
        correct, images = found.correct, found.n
    return Served(
        run.contender,
        label,
        predictor,
        model,
        sum(one.numel() * one.element_size() for one in tensors),
        valid_accuracy(run),
        correct,
        images,
        run,
        noted(run.read_done()) if run.is_done() else None,
    )


def _load_export(path: Path, device: str, wanted: Wanted | None) -> Served:
    from podium.deploy.export.load import find_export, load_exported

    path = find_export(path)
    if not path.is_file() and not (path / "model.xml").is_file():
        raise RunFolderError(
            f"{path} holds no run. Expected the folder of a study, contender or run, such as "
            "runs/sports100, or a model that `podium export` wrote."
        )
    predictor = load_exported(path, device)
    if wanted is not None:
        wanted.refuse_another(predictor.sets, predictor.known, path)
    predictor = asked_for(predictor, wanted)
    files = [path] if path.is_file() else [one for one in path.iterdir() if one.is_file()]
    weights = sum(one.stat().st_size for one in files)
    return Served(path.name, path.name, predictor, weights=weights)


def _named(models: list[Served]) -> Iterable[Served]:
    """Unique names and labels: with the seed, the study, or a number if needed."""
    often = Counter(one.name for one in models)
    taken: set[str] = set()
    for one in models:
        name, more = one.name, ""
        if often[name] > 1 and one.run is not None:
            study = one.run.study.path.name
            alike = [
                other
                for other in models
                if other.name == name and other.run and other.run.study.path.name == study
            ]
            more = f"seed {one.run.seed}" if len(alike) > 1 else study
            name = f"{name}/seed-{one.run.seed}" if len(alike) > 1 else f"{study}/{name}"
        number = 1
        while name in taken:
            number += 1
            name = f"{one.name}-{number}"
        taken.add(name)
        if one.predictor.class_names == ():
            raise DataError(f"{one.label} knows no classes.")
        yield replace(one, name=name, label=f"{one.label} ({more})" if more else one.label)
