"""One trained model's predictions on every image of a split, in memory and as a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from podium.errors import RunFolderError
from podium.runtime.files import (
    atomic_write,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


SplitName = Literal["valid", "test"]


@dataclass(frozen=True)
class Predictions:
    """One trained model's predictions on every image of a split.

    `logits` has shape (n, classes), float32; `labels` (n,) holds indices into `class_names`;
    `paths` are relative to the data set's root, with '/'.

    Examples:
        >>> import numpy as np
        >>> import podium
        >>> predictions = podium.Predictions(
        ...     class_names=("cat", "dog"),
        ...     paths=("test/cat/1.jpg", "test/dog/1.jpg"),
        ...     labels=np.array([0, 1]),
        ...     logits=np.array([[2, 0], [1, 0]], np.float32),
        ... )
        >>> predictions.predicted.tolist()
        [0, 0]
        >>> predictions.probabilities.round(2).tolist()
        [[0.88, 0.12], [0.73, 0.27]]
    """

    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    logits: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.logits.shape != (len(self.paths), len(self.class_names)):
            raise ValueError(
                f"expected logits of shape ({len(self.paths)}, {len(self.class_names)}), one row "
                f"per image and one column per class, got {self.logits.shape}"
            )
        if self.labels.shape != (len(self.paths),):
            raise ValueError(
                f"expected labels of shape ({len(self.paths)},), one per image, got "
                f"{self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """Index of the largest logit of each image, shape (n,)."""
        import numpy as np

        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """Softmax of the logits, shape (n, classes), in double precision."""
        return softmax(self.logits)

    def write(self, path: Path) -> None:
        """Write a Parquet file with the columns path, label (a class name) and logits.

        Args:
            path: the file to write.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = np.asarray(self.class_names, dtype=object)
        flat = pa.array(np.ascontiguousarray(self.logits, dtype=np.float32).reshape(-1))
        table = pa.table(
            {
                "path": pa.array(list(self.paths), pa.string()),
                "label": pa.array(list(names[self.labels]), pa.string()),
                "logits": pa.FixedSizeListArray.from_arrays(flat, len(self.class_names)),
            },
            metadata={"class_names": json.dumps(self.class_names)},
        )
        atomic_write(path, lambda file: pq.write_table(table, file))

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read a file written by `write`.

        Args:
            path: the file.

        Raises:
            RunFolderError: the file is missing, or is not a predictions file.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
            names = tuple(json.loads(table.schema.metadata[b"class_names"]))
            index = {name: number for number, name in enumerate(names)}
            labels = [index[name] for name in table.column("label").to_pylist()]
            flat = table.column("logits").combine_chunks().flatten().to_numpy()
            return cls(
                class_names=names,
                paths=tuple(table.column("path").to_pylist()),
                labels=np.asarray(labels, dtype=np.int64),
                logits=flat.reshape(len(table), len(names)).astype(np.float32),
            )
        except FileNotFoundError:
            raise RunFolderError(f"{path} is missing; is the run finished?") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as e:
            raise RunFolderError(f"{path} is not a Podium predictions file ({e}).") from None


def softmax(logits: npt.NDArray[np.float32], temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Softmax of logits / temperature, in double precision.

    Args:
        logits: shape (n, classes).
        temperature: what to divide the logits by.

    Returns:
        Probabilities, shape (n, classes).
    """
    from scipy import special

    found: npt.NDArray[np.float64] = special.softmax(logits.astype("float64") / temperature, axis=1)
    return found
