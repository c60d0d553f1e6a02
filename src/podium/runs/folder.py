"""The run folder: what is where, and how it is read and written.

A study's folder holds `study.yaml`, `data.json`, `audit.json`, `thumbnails-test.parquet`,
`audit-pictures.parquet`, `test-scorings.jsonl` (see `podium.runs.ledger`) and one folder for each
contender and seed:

    <contender>/seed-<n>/
        config.yaml                  the recipe, and the seed
        history.csv                  one row an epoch
        probe.csv                    penalties of a linear probe, and what each gave
        last.ckpt                    everything that resuming needs
        best.safetensors             weights of the best epoch
        model.json                   what the weights need: classes, input size, temperature
        predictions-valid.parquet    path, label, logits
        predictions-test.parquet
        done.json                    written last: with it, the run is finished
        explanations-test.parquet    path, jpeg: where a finished run looked, for the test images
                                     that the report shows (see `podium.study.explain`)

Everything downstream (compare, report, deploy) reads these files and nothing else. This module
does not import torch, so that a report can be made on any machine.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podium.errors import RunFolderError, one_line
from podium.runs.pictures import read_pictures, write_pictures
from podium.runs.predictions import Predictions, SplitName
from podium.runtime.files import (
    read_json,
    write_text,
)

if TYPE_CHECKING:
    from podium.config.settings import StudySpec


HISTORY_COLUMNS = (
    "epoch",  # from 1
    "lr",
    "train_loss",  # mean over images, nats
    "train_accuracy",  # 0 to 1
    "valid_loss",
    "valid_accuracy",
    "seconds",  # wall time of the epoch, training and validation
    "images_per_second",  # of the training part
)


@dataclass(frozen=True)
class RunFolder:
    """One contender with one seed: where its files are (`docs/reference/run-folder.md`)."""

    path: Path
    contender: str
    seed: int

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def history(self) -> Path:
        return self.path / "history.csv"

    @property
    def probe(self) -> Path:
        """The penalties that a linear probe tried, a row each; only where there was one."""
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
        """Heat maps over test images: `<path>`, of the class that was predicted; `<path>#label`,
        of the true class where that is another one. May be missing: nothing is read from it."""
        return self.path / "explanations-test.parquet"

    @property
    def done(self) -> Path:
        return self.path / "done.json"

    @property
    def failed(self) -> Path:
        """Why the last attempt ended, where it did; removed when the run is tried again."""
        return self.path / "failed.json"

    def read_config(self) -> dict[str, Any]:
        """The recipe with which the run was begun, under `recipe`, and its `model_used`.

        Raises:
            RunFolderError: it is missing or no such file.
        """
        import yaml

        try:
            values = yaml.safe_load(self.config.read_text(encoding="utf-8"))
            if not isinstance(values["recipe"], dict):
                raise TypeError("its recipe is no mapping")
            if not isinstance(values.setdefault("model_used", values["recipe"].get("model")), str):
                raise TypeError("its model is no name")
            return dict(values)
        except FileNotFoundError:
            raise RunFolderError(f"{self.config} is missing; was the run started?") from None
        except (OSError, ValueError, TypeError, KeyError, RecursionError, yaml.YAMLError) as error:
            raise RunFolderError(
                f"{self.config} is no recipe of Podium's ({one_line(error)}). "
                "Restore it, or remove the run's folder to start it afresh."
            ) from None

    def predictions(self, split: SplitName) -> Path:
        """The file of what the best epoch said of each image of `valid` or `test`."""
        return self.path / f"predictions-{split}.parquet"

    @property
    def study(self) -> StudyFolder:
        """The study's folder that this one lies in, if it still does."""
        return StudyFolder(self.path.resolve().parent.parent)

    def is_done(self) -> bool:
        return self.done.is_file()

    def read_predictions(self, split: SplitName) -> Predictions:
        return Predictions.read(self.predictions(split))

    def read_done(self) -> dict[str, Any]:
        """The closing record: `best_epoch`, `seconds`, `parameters`, `precision`, `device`..."""
        return dict(read_json(self.done))

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write the whole history, one row an epoch; see `HISTORY_COLUMNS`.

        A study's metric that is not accuracy has a column of its own behind them.
        """
        out = io.StringIO()
        further = [name for name in (rows[0] if rows else ()) if name not in HISTORY_COLUMNS]
        writer = csv.DictWriter(out, [*HISTORY_COLUMNS, *further], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.history, out.getvalue())

    def read_history(self) -> list[dict[str, float]]:
        """The history, one dict an epoch; numbers as floats.

        Raises:
            RunFolderError: it is missing or is not such a table.
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
            raise RunFolderError(f"{self.history} is no history of Podium's ({error}).") from None


@dataclass(frozen=True)
class StudyFolder:
    """A study's folder, `runs/<study>/`."""

    path: Path

    @property
    def spec(self) -> Path:
        return self.path / "study.yaml"

    @property
    def data(self) -> Path:
        """What was found in the folder of images; see `DataIndex.summary`."""
        return self.path / "data.json"

    @property
    def audit(self) -> Path:
        """What was found wrong with the images; see `podium.auditing`."""
        return self.path / "audit.json"

    @property
    def audit_pictures(self) -> Path:
        return self.path / "audit-pictures.parquet"

    @property
    def thumbnails(self) -> Path:
        return self.path / "thumbnails-test.parquet"

    @property
    def report(self) -> Path:
        return self.path / "report"

    def run(self, contender: str, seed: int) -> RunFolder:
        return RunFolder(self.path / contender / f"seed-{seed}", contender, seed)

    def read_spec(self) -> StudySpec:
        """The study that this folder belongs to.

        Raises:
            RunFolderError: the folder is no study's.
        """
        from podium.config.studyfile import load_study

        if not self.spec.is_file():
            raise RunFolderError(
                f"{self.path} is no study folder: expected a {self.spec.name} in it. "
                "Give the folder that `podium run` printed, such as runs/sports100."
            )
        return load_study(self.spec, stored=True)

    def read_data(self) -> dict[str, Any]:
        return dict(read_json(self.data))

    def runs(self, spec: StudySpec) -> list[RunFolder]:
        """Every run of the study, finished or not, contender by contender."""
        return [self.run(name, seed) for name in spec.contenders for seed in spec.seeds]

    def write_thumbnails(self, pictures: Iterable[tuple[str, bytes]]) -> None:
        """Store small JPEGs of test images by relative path, so that reports need no data set."""
        write_pictures(self.thumbnails, pictures)

    def read_thumbnails(self) -> dict[str, bytes]:
        """Relative path -> JPEG bytes; empty where the study stored none."""
        return read_pictures(self.thumbnails)
