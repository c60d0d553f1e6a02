"""The run folder: its layout, and how to read and write it.

A study folder holds `study.yaml`, `data.json`, `images.parquet`, `plan.json`, `audit.json`,
`thumbnails-test.parquet`, `audit-pictures.parquet`, `test-scorings.jsonl` (see
`podium.runs.ledger`), `verdict.json` (see `podium.results.receipt`), `tuning.json` (see
`podium.runs.tuning`) and one folder per contender and seed:

    <contender>/seed-<n>/
        fold-<k>/                    with cross-validation: a run folder of each fold
        config.yaml                  the recipe and the seed
        history.csv                  one row per epoch
        probe.csv                    penalties tried by a linear probe, and the score of each
        last.ckpt                    everything needed to resume
        best.safetensors             weights of the best epoch
        model.json                   what the weights need: classes, input size, temperature
        predictions-valid.parquet    path, label, logits
        predictions-test.parquet
        predictions-test-repeat-<r>.parquet   of the further repeats of the folds
        done.json                    written last: once it exists, the run is finished
        explanations-test.parquet    path, jpeg: Grad-CAM maps of a finished run for the test
                                     images shown in the report (see `podium.study.explain`)

With cross-validation, the files of `seed-<n>/` are made from those of its folds: the predictions
are of all images, each by the model of the fold that had not seen it; `history.csv` is the mean
over the folds; weights and `model.json` are of the model that is used afterwards. A mean of other
contenders has no `history.csv` and no `last.ckpt`: nothing is trained.

Everything downstream (compare, report, deploy) reads only these files. This module does not
import torch, so a report can be built on any machine.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podium.errors import RunFolderError, one_line
from podium.runs.images import image_rows
from podium.runs.pictures import read_pictures, write_pictures
from podium.runs.predictions import Predictions, SplitName
from podium.runtime.files import read_json, write_text

if TYPE_CHECKING:
    from podium.config.settings import StudySpec


HISTORY_COLUMNS = (
    "epoch",  # from 1
    "lr",
    "train_loss",  # mean over images, nats
    "train_accuracy",  # 0 to 1
    "valid_loss",
    "valid_accuracy",
    "seconds",  # wall-clock time of the epoch, training and validation
    "images_per_second",  # training only
)


@dataclass(frozen=True)
class RunFolder:
    """The files of one contender trained with one seed (`docs/reference/run-folder.md`).

    With cross-validation, each fold has a folder of this kind as well: `fold` is its number,
    counted through all repeats; None: the run as a whole.

    Examples:
        >>> from pathlib import Path
        >>> import podium
        >>> run = podium.RunFolder(Path("runs/sports100/simple_resnet/seed-0"), "simple_resnet", 0)
        >>> run.predictions("test").name
        'predictions-test.parquet'
        >>> run.is_done()
        False
    """

    path: Path
    contender: str
    seed: int
    fold: int | None = None

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def history(self) -> Path:
        return self.path / "history.csv"

    @property
    def probe(self) -> Path:
        """The penalties that a linear probe tried, one per row; only for runs with a probe."""
        return self.path / "probe.csv"

    @property
    def last(self) -> Path:
        return self.path / "last.ckpt"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def model(self) -> Path:
        return self.path / "model.json"

    @property
    def explanations(self) -> Path:
        """Heat maps over test images: `<path>` for the predicted class, `<path>#label` for the
        true class where the two differ. Optional: only the report uses it."""
        return self.path / "explanations-test.parquet"

    @property
    def done(self) -> Path:
        return self.path / "done.json"

    @property
    def failed(self) -> Path:
        """Why the last attempt failed; removed when the run is tried again."""
        return self.path / "failed.json"

    def read_config(self) -> dict[str, Any]:
        """The recipe with which the run was started, under `recipe`, and its `model_used`.

        Raises:
            RunFolderError: the file is missing, or is not a recipe.
        """
        import yaml

        try:
            values = yaml.safe_load(self.config.read_text(encoding="utf-8"))
            if not isinstance(values["recipe"], dict):
                raise TypeError("its recipe is not a mapping")
            if not isinstance(values.setdefault("model_used", values["recipe"].get("model")), str):
                raise TypeError("its model is not a name")
            return dict(values)
        except FileNotFoundError:
            raise RunFolderError(f"{self.config} is missing; was the run started?") from None
        except (OSError, ValueError, TypeError, KeyError, RecursionError, yaml.YAMLError) as error:
            raise RunFolderError(
                f"{self.config} is not a Podium recipe ({one_line(error)}). "
                "Restore it, or remove the run folder to start the run again."
            ) from None

    def predictions(self, split: SplitName, repeat: int = 0) -> Path:
        """The file of the best epoch's predictions.

        Args:
            split: `valid` or `test`.
            repeat: of the folds, from 0; only `test` has further ones.
        """
        again = f"-repeat-{repeat}" if repeat else ""
        return self.path / f"predictions-{split}{again}.parquet"

    @property
    def study(self) -> StudyFolder:
        """The study folder that contains this run, if it has not been moved out of it."""
        place = self.path.resolve() if self.fold is None else self.path.resolve().parent
        return StudyFolder(place.parent.parent)

    def is_done(self) -> bool:
        return self.done.is_file()

    @property
    def weights_size(self) -> int | None:
        """Size of the weights in bytes; None: they are not there."""
        return self.best.stat().st_size if self.best.is_file() else None

    def forget_weights(self) -> None:
        """Remove the weights and the state, as of a trial that is finished."""
        for file in (self.last, self.best, self.model):
            file.unlink(missing_ok=True)

    def read_predictions(self, split: SplitName, repeat: int = 0) -> Predictions:
        return Predictions.read(self.predictions(split, repeat))

    def read_repeats(self) -> list[tuple[int, Predictions]]:
        """The test predictions as replicates for comparisons, each with its number.

        Without repeats of the folds that is the seed; with them, the repeats of all seeds are
        numbered through.

        Raises:
            RunFolderError: a file is missing or damaged.
        """
        repeats = int(self.read_done().get("repeats") or 1)
        return [
            (self.seed * repeats + repeat, self.read_predictions("test", repeat))
            for repeat in range(repeats)
        ]

    def read_folds(self) -> list[dict[str, int]]:
        """The fold that each image was tested in, by its path, for each repeat.

        Raises:
            RunFolderError: the predictions of a fold are missing or damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        done = self.read_done()
        count, repeats = int(done["folds"]), int(done.get("repeats") or 1)
        found: list[dict[str, int]] = [{} for _ in range(repeats)]
        for fold in range(count * repeats):
            file = self.study.run(self.contender, self.seed, fold).predictions("test")
            try:
                paths = pq.read_table(file, columns=["path"]).column("path").to_pylist()
            except (OSError, ValueError, pa.ArrowException) as error:
                raise RunFolderError(
                    f"{file} cannot be read ({error}). Which image was tested in which fold is "
                    "needed to compare cross-validated contenders."
                ) from None
            found[fold // count] |= dict.fromkeys(paths, fold % count)
        return found

    def read_done(self) -> dict[str, Any]:
        """The closing record: `best_epoch`, `seconds`, `parameters`, `precision`, `device`...

        Raises:
            RunFolderError: the file is missing or damaged.
        """
        return dict(read_json(self.done))

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write the whole history.

        Args:
            rows: one per epoch, with the keys of `HISTORY_COLUMNS`; a study metric other than
                accuracy adds a column after them.
        """
        out = io.StringIO()
        further = [name for name in (rows[0] if rows else ()) if name not in HISTORY_COLUMNS]
        writer = csv.DictWriter(out, [*HISTORY_COLUMNS, *further], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.history, out.getvalue())

    def read_history(self) -> list[dict[str, float]]:
        """The history, one dict per epoch; numbers as floats.

        Raises:
            RunFolderError: the file is missing, or is not a history.
        """
        try:
            with open(self.history, encoding="utf-8", newline="") as file:
                table = csv.DictReader(file)
                head = table.fieldnames or ()
                columns = [*HISTORY_COLUMNS, *(n for n in head if n not in HISTORY_COLUMNS)]
                return [{column: float(row[column]) for column in columns} for row in table]
        except FileNotFoundError:
            raise RunFolderError(f"{self.history} is missing; was the run started?") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(f"{self.history} is not a Podium history ({error}).") from None


@dataclass(frozen=True)
class StudyFolder:
    """The files of a study, `runs/<study>/`.

    Examples:
        >>> from pathlib import Path
        >>> import podium
        >>> folder = podium.StudyFolder(Path("runs/sports100"))
        >>> folder.run("simple_resnet", seed=1).path.as_posix()
        'runs/sports100/simple_resnet/seed-1'
    """

    path: Path

    @property
    def spec(self) -> Path:
        return self.path / "study.yaml"

    @property
    def data(self) -> Path:
        """Description of the images: splits, classes, skipped files; see `DataIndex.summary`."""
        return self.path / "data.json"

    @property
    def images(self) -> Path:
        """Table of the images, one row per image; see `podium.data.record`."""
        return self.path / "images.parquet"

    @property
    def plan(self) -> Path:
        """What was settled once for all cells: threads and precision; see `study.arithmetic`."""
        return self.path / "plan.json"

    @property
    def processes(self) -> Path:
        """The folder of what cells in processes of their own leave: attempts, events, output."""
        return self.path / ".cells"

    @property
    def audit(self) -> Path:
        """Findings of the audit of the images; see `podium.auditing`."""
        return self.path / "audit.json"

    @property
    def audit_pictures(self) -> Path:
        return self.path / "audit-pictures.parquet"

    @property
    def thumbnails(self) -> Path:
        return self.path / "thumbnails-test.parquet"

    @property
    def receipt(self) -> Path:
        """What the verdicts follow from, with hashes; see `podium.results.receipt`."""
        return self.path / "verdict.json"

    @property
    def report(self) -> Path:
        return self.path / "report"

    def run(self, contender: str, seed: int, fold: int | None = None) -> RunFolder:
        """The folder of a run, or of one of its folds.

        Args:
            contender: key of the contender in the study.
            seed: of the run.
            fold: number of the fold, from 0 through all repeats; None: the run as a whole.
        """
        place = self.path / contender / f"seed-{seed}"
        return RunFolder(place if fold is None else place / f"fold-{fold}", contender, seed, fold)

    def read_spec(self) -> StudySpec:
        """The study that this folder belongs to, with the settings that a tuning has chosen.

        Raises:
            RunFolderError: it is not a study folder.
        """
        from podium.config.studyfile import load_study
        from podium.runs.tuning import with_chosen

        if not self.spec.is_file():
            raise RunFolderError(
                f"{self.path} is not a study folder: expected a {self.spec.name} in it. "
                "Give the folder that `podium run` printed, such as runs/sports100."
            )
        return with_chosen(load_study(self.spec, stored=True), self.path)

    def read_data(self) -> dict[str, Any]:
        return dict(read_json(self.data))

    def read_training_images(self) -> dict[str, list[str]]:
        """Class -> paths of the training images; empty: a study of an earlier version.

        Raises:
            RunFolderError: the table of images is damaged.
        """
        found: dict[str, list[str]] = {}
        for path, label, split in image_rows(self.images, "path", "label", "split"):
            if split == "train":
                found.setdefault(label, []).append(path)
        return found

    def read_groups(self) -> dict[str, str]:
        """Path -> group, of the images that have one; empty: a study of an earlier version.

        Raises:
            RunFolderError: the table of images is damaged.
        """
        rows = image_rows(self.images, "path", "group")
        return {path: group for path, group in rows if group is not None}

    def read_seen(self, split: SplitName) -> set[str]:
        """SHA-256 of the images that runs were trained on, or for `test` also validated on.

        Empty: a study of an earlier version. Raises `RunFolderError`: the table is damaged.

        Args:
            split: what is scored.
        """
        seen = ("train", "valid") if split == "test" else ("train",)
        return {one for one, where in image_rows(self.images, "sha256", "split") if where in seen}

    def runs(self, spec: StudySpec) -> list[RunFolder]:
        """Every run that a study may have, finished or not, contender by contender.

        Args:
            spec: the study, as `read_spec` returns it.
        """
        return [self.run(name, seed) for name in spec.contenders for seed in spec.every_seed]

    def cells(self, spec: StudySpec) -> list[RunFolder]:
        """Every folder that is trained in: the runs, each after its folds if it has any.

        Args:
            spec: the study.
        """
        return [cell for run in self.runs(spec) for cell in (*self.folds(run, spec), run)]

    def folds(self, run: RunFolder, spec: StudySpec) -> list[RunFolder]:
        """The folds of a run, of all repeats; none without cross-validation.

        Args:
            run: the run as a whole.
            spec: the study.
        """
        numbers = range((spec.data.folds or 0) * spec.data.repeats)
        return [self.run(run.contender, run.seed, number) for number in numbers]

    def write_thumbnails(self, pictures: Iterable[tuple[str, bytes]]) -> None:
        """Store small JPEGs of test images, so that reports do not need the data set.

        Args:
            pictures: relative path and JPEG bytes of each image.
        """
        write_pictures(self.thumbnails, pictures)

    def read_thumbnails(self) -> dict[str, bytes]:
        """The thumbnails, relative path -> JPEG bytes; empty where the study stored none."""
        return read_pictures(self.thumbnails)
