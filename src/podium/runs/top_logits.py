"""The largest logits of each image, and sums over all classes: what is kept of many classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

KEPT = 20
"""Largest logits of each image that are kept."""

_CHUNK = 4_000_000  # logits processed at a time


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over classes of p = softmax(logits / temperature); float64 of shape (n,) each.

    `log_total`: log-sum-exp of logits / temperature, less the largest of them: 0 where the
    predicted class has all of the probability, and precise beside it. `squares`: sum of p^2 over
    all classes but the predicted one. `surprise`: mean of -log p over the same classes, weighted
    with p.
    """

    log_total: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]
    surprise: npt.NDArray[np.float64]

    @classmethod
    def of(cls, logits: npt.NDArray[np.float32], temperature: float) -> Moments:
        """Compute them.

        Args:
            logits: shape (n, classes).
            temperature: what to divide the logits by.
        """
        import numpy as np
        from scipy import special

        found = np.empty((3, len(logits)))
        for part in _parts(logits):
            scaled = logits[part].astype(np.float64) / temperature
            rows, predicted = np.arange(len(scaled)), scaled.argmax(axis=1)
            scaled -= scaled[rows, predicted][:, None]
            others = np.exp(scaled)
            others[rows, predicted] = 0.0
            total = np.log1p(others.sum(axis=1))
            logs = scaled - total[:, None]
            # not divided by 1 - p of the predicted class, which rounds to 0
            scaled[rows, predicted] = -np.inf
            weights = special.softmax(scaled, axis=1)
            squares = np.square(others * np.exp(-total)[:, None]).sum(axis=1)
            found[:, part] = total, squares, -(weights * logs).sum(axis=1)
        return cls(*found)

    def take(self, rows: npt.NDArray[np.int64] | slice) -> Moments:
        """Those of some of the images."""
        return Moments(self.log_total[rows], self.squares[rows], self.surprise[rows])


@dataclass(frozen=True, eq=False)
class TopLogits:
    """The largest logits of n images, and sums over all classes.

    `classes` (n, k) int32 and `logits` (n, k) float32: the largest first, ties by class. `label`
    (n,) float32: the logit of the label. `moments`: at temperature 1, and at `temperature`.
    """

    classes: npt.NDArray[np.int32]
    logits: npt.NDArray[np.float32]
    label: npt.NDArray[np.float32]
    temperature: float
    moments: tuple[Moments, Moments]

    def __len__(self) -> int:
        return len(self.classes)

    @classmethod
    def of(
        cls, logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], temperature: float
    ) -> TopLogits:
        """Keep the `KEPT` largest logits of each image.

        Args:
            logits: shape (n, classes), of at least `KEPT` classes.
            labels: shape (n,).
            temperature: of the second moments.
        """
        import numpy as np

        classes = np.empty((len(logits), KEPT), dtype=np.int32)
        for part in _parts(logits):  # ties go to the first class, as in `argmax`
            classes[part] = np.argsort(-logits[part], axis=1, kind="stable")[:, :KEPT]
        return cls._at(logits, labels, classes, temperature)

    @classmethod
    def _at(
        cls,
        logits: npt.NDArray[np.float32],
        labels: npt.NDArray[np.int64],
        classes: npt.NDArray[np.int32],
        temperature: float,
    ) -> TopLogits:
        import numpy as np

        return cls(
            classes,
            np.take_along_axis(logits, classes, axis=1),
            logits[np.arange(len(logits)), labels],
            temperature,
            (Moments.of(logits, 1.0), Moments.of(logits, temperature)),
        )

    def as_known_of(
        self, logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
    ) -> TopLogits:
        """Other logits of the same images, known for the same classes only.

        Args:
            logits: shape (n, classes).
            labels: shape (n,).
        """
        return self._at(logits, labels, self.classes, self.temperature)

    def take(self, rows: npt.NDArray[np.int64] | slice) -> TopLogits:
        """Those of some of the images.

        Args:
            rows: their places, or a slice.
        """
        first, second = (one.take(rows) for one in self.moments)
        return TopLogits(
            self.classes[rows],
            self.logits[rows],
            self.label[rows],
            self.temperature,
            (first, second),
        )

    def at(self, temperature: float) -> Moments | None:
        """The moments at a temperature; None: they were not kept."""
        known = dict(zip((self.temperature, 1.0), reversed(self.moments), strict=True))
        return known.get(temperature)

    def spread(self, labels: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float32]:
        """Logits of all classes, with the remaining probability spread evenly over the unknown.

        Args:
            labels: shape (n,).
            count: number of classes.

        Returns:
            float32 of shape (n, count); known logits unchanged.
        """
        import numpy as np

        rows = np.arange(len(self))
        outside = (self.classes != labels[:, None]).all(axis=1)
        total = self.logits[:, 0] + self.moments[0].log_total
        known = np.exp(self.logits - total[:, None]).sum(axis=1)
        known += np.where(outside, np.exp(self.label - total), 0.0)
        unknown = count - self.classes.shape[1] - outside
        with np.errstate(divide="ignore"):  # nothing remains
            even = total + np.log(np.maximum(1 - known, 0) / np.maximum(unknown, 1))
        # beyond double precision nothing is known but that it is small
        even = np.maximum(even, total - 745)
        even = np.minimum(even, self.logits[:, -1])
        found = np.repeat(even.astype(np.float32)[:, None], count, axis=1)
        found[rows, labels] = self.label
        np.put_along_axis(found, self.classes.astype(np.int64), self.logits, axis=1)
        return found

    def columns(self) -> dict[str, Any]:
        """The columns of a table, without path and label."""
        import pyarrow as pa

        return {
            "top": list_column(self.classes),
            "logits": list_column(self.logits),
            "label_logit": pa.array(self.label),
            **{
                f"{name}{'_calibrated' * at}": pa.array(getattr(one, name))
                for at, one in enumerate(self.moments)
                for name in ("log_total", "squares", "surprise")
            },
        }

    @classmethod
    def from_table(cls, table: pa.Table, temperature: float) -> TopLogits:
        """Read the columns of a table.

        Args:
            table: with the columns of `columns`.
            temperature: of the second moments.

        Raises:
            KeyError, ValueError: a column is missing or of another shape.
        """
        plain, calibrated = (
            Moments(
                *(
                    table[f"{name}{after}"].to_numpy()
                    for name in ("log_total", "squares", "surprise")
                )
            )
            for after in ("", "_calibrated")
        )
        return cls(
            read_list_column(table, "top", KEPT),
            read_list_column(table, "logits", KEPT),
            table["label_logit"].to_numpy(),
            temperature,
            (plain, calibrated),
        )


def list_column(values: npt.NDArray[Any]) -> Any:
    """An array of shape (n, k) as a column of lists."""
    import numpy as np
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def read_list_column(table: pa.Table, name: str, width: int) -> npt.NDArray[Any]:
    """A column of lists as an array of shape (n, width)."""
    flat: npt.NDArray[Any] = table.column(name).combine_chunks().flatten().to_numpy()
    return flat.reshape(len(table), width)


def _parts(logits: npt.NDArray[np.float32]) -> list[slice]:
    """Slices of a few million logits: in double precision, all at once could exhaust memory."""
    step = max(1, _CHUNK // max(1, logits.shape[1]))
    return [slice(at, at + step) for at in range(0, len(logits), step)]
