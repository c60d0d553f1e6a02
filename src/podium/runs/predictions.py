"""One trained model's predictions on every image of a split, in memory and as a file.

With more than `MOST_WHOLE` classes, a file holds the 20 largest logits of each image, that of
its label, and the sums over all classes that likelihoods and calibration need: 250 bytes an image
instead of 4 KB at 1,000 classes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from podium.errors import RunFolderError
from podium.runs.top_logits import TopLogits, list_column, read_list_column
from podium.runtime.files import atomic_write

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


SplitName = Literal["valid", "test"]

MOST_WHOLE = 200
"""Classes up to which a run's files hold every logit."""


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

    def take(self, rows: npt.NDArray[np.int64] | slice) -> Predictions:
        """The predictions of some of the images.

        Args:
            rows: their places, or a slice.
        """
        import numpy as np

        paths = tuple(self.paths[row] for row in np.arange(len(self))[rows].tolist())
        return Predictions(self.class_names, paths, self.labels[rows], self.logits[rows])

    def reduced(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Other logits of the same images, with no more detail than these: to compare the two.

        Args:
            logits: shape (n, classes).
        """
        return logits

    def for_file(self, temperature: float = 1.0) -> Predictions:
        """What a run's file holds of them: everything, or `TopPredictions` of many classes.

        Args:
            temperature: calibration is computed at it, and at 1.
        """
        if len(self.class_names) <= MOST_WHOLE:
            return self
        return TopPredictions.of(self, temperature)

    def write(self, path: Path) -> None:
        """Write a Parquet file with the columns path, label (a class name) and logits.

        Args:
            path: the file to write.
        """
        self._write(path, {"logits": list_column(self.logits.astype("float32"))}, {})

    def _write(self, path: Path, columns: dict[str, Any], told: dict[str, str]) -> None:
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = np.asarray(self.class_names, dtype=object)
        table = pa.table(
            {
                "path": pa.array(list(self.paths), pa.string()),
                "label": pa.array(list(names[self.labels]), pa.string()),
                **columns,
            },
            metadata={"class_names": json.dumps(self.class_names), **told},
        )
        atomic_write(path, lambda file: pq.write_table(table, file))

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read a file written by `write`.

        Args:
            path: the file.

        Returns:
            The predictions; `TopPredictions` where not every logit is in the file.

        Raises:
            RunFolderError: the file is missing, or is not a predictions file.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq
        from pyarrow import compute

        try:
            table = pq.read_table(path)
            told = table.schema.metadata
            names = tuple(json.loads(told[b"class_names"]))
            labels = compute.index_in(table["label"], pa.array(names, pa.string()))
            if labels.null_count:
                raise ValueError("a label is not among its classes")
            paths = tuple(table.column("path").to_pylist())
            known = np.asarray(labels.to_numpy(), dtype=np.int64)
            if "top" in table.column_names:
                temperature = float(told[b"temperature"])
                return TopPredictions(names, paths, known, TopLogits.from_table(table, temperature))
            logits = read_list_column(table, "logits", len(names))
            return cls(names, paths, known, logits.astype(np.float32))
        except FileNotFoundError:
            raise RunFolderError(f"{path} is missing; is the run finished?") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as e:
            raise RunFolderError(f"{path} is not a Podium predictions file ({e}).") from None


class TopPredictions(Predictions):
    """Predictions of which only the largest logits are known, and that of the label.

    Exact, but for rounding, is what follows from these and from sums over all classes: predicted
    classes, the 20 likeliest, top-k accuracy for k up to 20, likelihoods, and calibration
    at the temperatures of `top`. In `logits`, the remaining probability is spread evenly over the
    other classes: anything else computed from it is an approximation.

    Args:
        class_names: names of all classes.
        paths: of the images.
        labels: class index of each image, shape (n,).
        top: what is known of their logits.
    """

    top: TopLogits

    def __init__(
        self,
        class_names: tuple[str, ...],
        paths: tuple[str, ...],
        labels: npt.NDArray[np.int64],
        top: TopLogits,
    ) -> None:
        if not len(paths) == len(labels) == len(top):
            raise ValueError(
                f"expected as many labels and logits as paths ({len(paths)}), got {len(labels)} "
                f"and {len(top)}"
            )
        if len(top) and not (top.classes.min() >= 0 and top.classes.max() < len(class_names)):
            raise ValueError(f"expected classes from 0 to {len(class_names) - 1}")
        known = {"class_names": class_names, "paths": paths, "labels": labels, "top": top}
        for name, value in known.items():
            object.__setattr__(self, name, value)  # frozen, like all predictions

    @classmethod
    def of(cls, whole: Predictions, temperature: float) -> TopPredictions:
        """Reduce predictions of which every logit is known.

        Args:
            whole: the predictions, of at least 20 classes.
            temperature: calibration is computed at it, and at 1.
        """
        top = TopLogits.of(whole.logits, whole.labels, temperature)
        return cls(whole.class_names, whole.paths, whole.labels, top)

    @property
    def logits(self) -> npt.NDArray[np.float32]:
        """Shape (n, classes), as an array of its own; `take` the images that are needed."""
        return self.top.spread(self.labels, len(self.class_names))

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        import numpy as np

        return np.asarray(self.top.classes[:, 0], dtype=np.int64)

    def take(self, rows: npt.NDArray[np.int64] | slice) -> TopPredictions:
        import numpy as np

        paths = tuple(self.paths[row] for row in np.arange(len(self))[rows].tolist())
        return TopPredictions(self.class_names, paths, self.labels[rows], self.top.take(rows))

    def reduced(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return self.top.as_known_of(logits, self.labels).spread(self.labels, logits.shape[1])

    def for_file(self, temperature: float = 1.0) -> TopPredictions:
        return self

    def write(self, path: Path) -> None:
        """Write a Parquet file: path, label and the columns of `TopLogits`.

        Args:
            path: the file to write.
        """
        self._write(path, self.top.columns(), {"temperature": repr(self.top.temperature)})


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
