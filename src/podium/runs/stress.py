"""What contenders predict on corrupted images: `stress-valid.parquet` in a study's folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from podium.errors import RunFolderError
from podium.runs.predictions import SplitName
from podium.runtime.files import atomic_write

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Condition = tuple[str, int, float]
"""Name of the corruption, its strength (from 1) and the value that it stands for."""


@dataclass(frozen=True, eq=False)
class StressPredictions:
    """Predicted classes of some runs on images in several conditions.

    Attributes:
        class_names: of the study.
        paths: of the images.
        labels: class index of each image, shape (images,).
        conditions: the images as they are, then every corruption in every strength.
        predicted: (contender, seed) -> class indices, shape (conditions, images).
    """

    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    conditions: tuple[Condition, ...]
    predicted: dict[tuple[str, int], npt.NDArray[np.int64]]

    def write(self, file: Path) -> None:
        """Write a Parquet file, one row per image and condition.

        Args:
            file: the file.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        count, images = len(self.conditions), len(self.paths)
        runs = [*self.predicted]
        told = {
            "class_names": json.dumps(self.class_names),
            "conditions": json.dumps(self.conditions),
            "runs": json.dumps(runs),
        }
        table = pa.table(
            {
                "path": pa.array(self.paths * count, pa.string()),
                "label": pa.array(np.tile(self.labels, count), pa.int32()),
                "condition": pa.array(np.repeat(np.arange(count), images), pa.int16()),
                **{
                    f"{name}@{seed}": pa.array(self.predicted[name, seed].ravel(), pa.int32())
                    for name, seed in runs
                },
            },
            metadata=told,
        )
        atomic_write(file, lambda out: pq.write_table(table, out))

    @classmethod
    def read(cls, file: Path) -> StressPredictions:
        """Read a file written by `write`.

        Args:
            file: the file.

        Raises:
            RunFolderError: the file is missing or damaged.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(file)
            told = table.schema.metadata
            conditions = tuple((n, s, v) for n, s, v in json.loads(told[b"conditions"]))
            images = len(table) // len(conditions)
            shape = len(conditions), images
            return cls(
                tuple(json.loads(told[b"class_names"])),
                tuple(table["path"][:images].to_pylist()),
                table["label"][:images].to_numpy().astype(np.int64),
                conditions,
                {
                    (name, seed): table[f"{name}@{seed}"].to_numpy().astype(np.int64).reshape(shape)
                    for name, seed in json.loads(told[b"runs"])
                },
            )
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise RunFolderError(
                f"{file} is not a file of predictions on corrupted images ({error}). Remove it, "
                "and call podium stress again."
            ) from None


def stress_file(study: Path, split: SplitName) -> Path:
    """Where a study's predictions on corrupted images are.

    Args:
        study: the study's folder.
        split: of the images.
    """
    return study / f"stress-{split}.parquet"
