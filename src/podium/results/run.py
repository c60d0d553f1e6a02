"""A finished run, read once: its records, its test predictions, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from podium.config.settings import RunSpec
from podium.config.titles import model_title, stand_in_label
from podium.runs.folder import RunFolder
from podium.runs.pictures import read_pictures
from podium.runs.predictions import Predictions
from podium.statistics.calibration import Calibration, calibration, fit_temperature
from podium.statistics.classes import per_class_by_groups, significant_class_names
from podium.statistics.fold_tests import recipe_interval
from podium.statistics.folds import Folds
from podium.statistics.intervals import share_interval
from podium.statistics.likeliest import TopClasses, top_classes
from podium.statistics.metrics import ClassScores, Scores, scores
from podium.statistics.scoring import Noted, noted


@dataclass(frozen=True)
class RunResult:
    """A finished run: its records, its test predictions and what follows from them."""

    folder: RunFolder
    label: str  # the contender's, followed by the substitute model, if one was used
    named_seed: int | None  # its seed where the study has several; None: a single seed
    recipe: RunSpec
    done: Mapping[str, Any]
    history: list[dict[str, float]]
    test: Predictions
    scores: Scores
    classes: tuple[ClassScores, ...]
    valid_accuracy: float | None
    temperature: float  # fitted on the validation images; 1 where that was not possible
    valid_n: int = 0  # images the temperature was fitted on
    valid_mistakes: int = 0  # among them; without any, no temperature can be fitted
    groups: npt.NDArray[np.int64] | None = None  # of each test image; None: independent
    members: tuple[str, ...] = ()
    """Labels of the contenders that it averages; empty: it was trained."""
    replicates: tuple[tuple[int, Predictions], ...] = ()
    """Number and test predictions of each repeat of its folds; without folds, seed and `test`."""

    @cached_property
    def noted(self) -> Noted:
        """The study's metric and its values; accuracy is computed from the predictions."""
        found = noted(self.done)
        if found.metric.is_accuracy:
            return Noted(found.metric, self.valid_accuracy, self.scores.accuracy)
        return found

    @cached_property
    def calibration(self) -> tuple[Calibration, Calibration]:
        """Calibration on the test images: as trained, and with the temperature."""
        found = [
            calibration(self.test, temperature, groups=self.groups)
            for temperature in (1.0, self.temperature)
        ]
        return found[0], found[1]

    @cached_property
    def top_classes(self) -> TopClasses:
        """The likeliest classes of every test image, with calibrated probabilities."""
        return top_classes(self.test, temperature=self.temperature)

    @cached_property
    def explanations(self) -> dict[str, bytes]:
        """Grad-CAM maps of test images by key; empty where none were made."""
        return read_pictures(self.folder.explanations)

    @cached_property
    def told(self) -> frozenset[str]:
        """Names of the classes whose recall differs significantly from that of the others."""
        return significant_class_names(self.classes, self.test, self.groups)

    @property
    def slug(self) -> str:
        """Prefix of the names of this run's files."""
        return f"{self.folder.contender}-seed-{self.folder.seed}"

    @property
    def folds(self) -> int | None:
        """Number of folds; None: it was scored on a test split."""
        return self.done.get("folds")

    @property
    def model(self) -> str:
        """Display name of the trained model; empty: it is a mean of others."""
        return _title(self.done, self.recipe.model)

    @property
    def stood_in_for(self) -> str | None:
        wanted = self.done.get("stood_in_for")
        return model_title(str(wanted)) if wanted else None

    @property
    def best_epoch(self) -> int | None:
        best = self.done.get("best_epoch")
        return int(best) if best else None

    @property
    def train_accuracy(self) -> float | None:
        """Training accuracy in the best epoch, 0..1."""
        rows = {int(row["epoch"]): row["train_accuracy"] for row in self.history}
        return rows.get(self.best_epoch or 0)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the test accuracy, 0..1: Wilson's, or cluster-robust with groups; of a
        cross-validated run, that of the recipe from the scores of its folds."""
        if self.folds is not None:
            of = self.folder.read_folds()[0]
            folds = Folds(np.array([[of[path] for path in self.test.paths]], np.int64))
            right = (self.test.predicted == self.test.labels).astype(np.float64)
            found = recipe_interval(right[None], folds, self.groups)
            return found.low, found.high
        return share_interval(self.test.predicted == self.test.labels, self.groups)


def read_run(
    run: RunFolder,
    label: str,
    recipe: RunSpec,
    named_seed: int | None = None,
    groups: Mapping[str, str] | None = None,
) -> RunResult:
    """Read one finished run.

    Args:
        run: the run folder.
        label: the contender's label.
        recipe: the contender's recipe.
        named_seed: the run's seed where the study has several.
        groups: path -> group, of the images that have one; an image without is one of its own.

    Raises:
        RunFolderError, DataError: a file of the run is missing or damaged.
    """
    done = run.read_done()
    noted(done)  # a damaged record is reported here
    if done.get("stood_in_for"):
        # in every figure and table: the bare label would name a model that was not used
        wanted = model_title(str(done["stood_in_for"]))
        label = stand_in_label(label, wanted, _title(done, recipe.model))
    replicates = tuple(run.read_repeats())
    test = replicates[0][1]
    valid, valid_n, mistakes = None, 0, 0
    if run.predictions("valid").is_file():
        held_out = run.read_predictions("valid")
        found = scores(held_out)
        valid, valid_n, mistakes = found.accuracy, found.n, found.n - found.correct
    numbers = None
    if groups:
        units = [groups.get(path, path) for path in test.paths]
        numbers = np.unique(units, return_inverse=True)[1].astype(np.int64)
    return RunResult(
        folder=run,
        label=label,
        named_seed=named_seed,
        recipe=recipe,
        done=done,
        history=run.read_history() if run.history.is_file() else [],
        test=test,
        scores=scores(test),
        classes=tuple(per_class_by_groups(test, numbers)),
        valid_accuracy=valid,
        temperature=run_temperature(run),
        valid_n=valid_n,
        valid_mistakes=mistakes,
        groups=numbers,
        members=recipe.mean_of,
        replicates=replicates,
    )


def run_temperature(run: RunFolder) -> float:
    """What a run's logits are divided by before softmax, wherever its probabilities are shown.

    Args:
        run: a finished run.

    Returns:
        The temperature that was fitted on the validation images; 1 where that was not possible.

    Raises:
        RunFolderError, DataError: a file of the run is missing or damaged.
    """
    stored = run.read_done().get("temperature")
    if stored is None and run.predictions("valid").is_file():  # a run of an earlier version
        stored = fit_temperature(run.read_predictions("valid"))
    return float(stored or 1.0)


def _title(done: Mapping[str, Any], wanted: str) -> str:
    """Display name of a run's model: user models record theirs, built-in ones have a table."""
    about = done.get("about_model")
    told = about.get("title") if isinstance(about, Mapping) else None
    return str(told) if told else model_title(str(done.get("model") or wanted))
