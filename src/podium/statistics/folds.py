"""Cross-validation: what the scores of folds say about the recipes that were trained in them.

The models of a cross-validation share most of their training images, so the scores of folds are
not independent, and a plain t-test over them finds winners where there are none. Nadeau & Bengio
(2003) correct the variance of their mean for that overlap; Bouckaert & Frank (2004) apply it to
repeated folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from podium.errors import DataError
from podium.statistics.paired import SeedEffect

Numbers = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Folds:
    """In which fold each image was tested, in each repeat of a cross-validation.

    Examples:
        >>> import numpy as np
        >>> from podium.statistics.folds import Folds
        >>> folds = Folds(np.array([[0, 1, 2, 0, 1, 2], [0, 0, 1, 1, 2, 2]]))
        >>> folds.repeats, folds.count, folds.overlap
        (2, 6, 0.5)
        >>> folds.means(np.array([[1, 1, 0, 1, 1, 1], [1, 1, 1, 0, 1, 1]])).tolist()
        [1.0, 1.0, 0.5, 1.0, 0.5, 1.0]
    """

    number: Indices
    """Fold of each image in each repeat, from 0; shape (repeats, images)."""

    def __post_init__(self) -> None:
        for row in self.number:
            sizes = np.bincount(row)
            if len(sizes) < 2 or not sizes.all():
                raise DataError(
                    "Expected two folds or more, numbered from 0 and each with images; got the "
                    f"sizes {', '.join(map(str, sizes.tolist()))}."
                )

    @property
    def repeats(self) -> int:
        """How often the images were shared out among folds."""
        return int(self.number.shape[0])

    @property
    def count(self) -> int:
        """Folds of all repeats together: the number of models trained with each seed."""
        return sum(len(sizes) for sizes in self.sizes)

    @property
    def sizes(self) -> list[Indices]:
        """Images in each fold of each repeat."""
        return [np.bincount(row) for row in self.number]

    @property
    def overlap(self) -> float:
        """Test images over training images of a fold: 1 / (K - 1) with K folds."""
        return 1 / (self.count / self.repeats - 1)

    def means(self, values: Numbers) -> Numbers:
        """The mean of each fold.

        Args:
            values: of each image in each repeat, such as 1 where it is classified correctly;
                shape (repeats, images).

        Returns:
            Shape (count,), repeat after repeat.
        """
        rows = zip(values, self.number, self.sizes, strict=True)
        return np.concatenate([np.bincount(fold, row) / size for row, fold, size in rows])

    def units(self, scores: Numbers) -> Numbers:
        """Scores of folds, weighted such that folds of unequal size count by their images.

        The mean of the result is the mean over images; its variance is that of a ratio, linearised
        as for groups of images.

        Args:
            scores: of each fold, shape (count,), repeat after repeat.

        Returns:
            Shape (count,).
        """
        parts = np.split(scores, np.cumsum([len(sizes) for sizes in self.sizes])[:-1])
        found = []
        for part, sizes in zip(parts, self.sizes, strict=True):
            weights = sizes / sizes.mean()
            mean = float(np.average(part, weights=weights))
            found.append(mean + weights * (part - mean))
        return np.concatenate(found)


def fold_effect(scores: Numbers, overlap: float) -> SeedEffect:
    """The mean of fold scores with its corrected variance (Nadeau & Bengio, 2003).

    The variance of the mean of J scores is estimated as (1 / J + test / train) times their
    variance, and its quantile is Student's t with J - 1 degrees of freedom.

    Args:
        scores: of each fold, or the differences of two recipes; shape (J,), 2 or more.
        overlap: test images over training images of a fold.

    Returns:
        An effect with `interval()` and `p_value()`.

    Examples:
        >>> import numpy as np
        >>> from podium.statistics.folds import fold_effect
        >>> effect = fold_effect(np.array([0.02, 0.05, 0.01, 0.04, 0.03]), overlap=1 / 4)
        >>> low, high = effect.interval()
        >>> round(effect.mean, 3), round(low, 3), round(high, 3), round(effect.p_value(), 3)
        (0.03, 0.001, 0.059, 0.047)
    """
    count = len(scores)
    return SeedEffect(
        mean=float(scores.mean()),
        seed_square=0.0,
        image_square=(1 / count + overlap) * float(scores.var(ddof=1)),
        rest_square=0.0,
        seeds=1,
        count=1,
        freedom=1,
        image_freedom=count - 1,
    )


def common_folds(folds: Sequence[Indices | None]) -> tuple[Folds, list[list[Indices]]] | None:
    """The folds that all contenders share, and which of each contender's rows belong to a repeat.

    Rows of a contender with the same folds are its seeds within a repeat.

    Args:
        folds: of each contender, the fold of each image in each of its rows, shape (rows, images);
            None: it was tested on images that none of its models was trained on.

    Returns:
        None where no contender has folds; else the folds, and for each contender and repeat the
        numbers of its rows.

    Raises:
        DataError: some contenders have folds and others have none, or they have different folds.
    """
    if all(one is None for one in folds):
        return None
    keys: list[bytes] = []
    rows: list[list[Indices]] = []
    for one in folds:
        if one is None:
            raise DataError(
                "Some contenders are scored in cross-validation and others on a test split: their "
                "models saw different training images, so no paired test holds. Compare contenders "
                "of one kind."
            )
        own = [row.tobytes() for row in one]
        keys = keys or list(dict.fromkeys(own))
        if set(own) != set(keys):
            raise DataError(
                "The contenders are cross-validated with different folds, so they cannot be paired "
                "fold by fold. Compare contenders of one study, or studies with the same images, "
                "folds, repeats and split_seed."
            )
        rows.append([np.flatnonzero([each == key for each in own]) for key in keys])
    first = folds[0]
    assert first is not None
    return Folds(np.stack([first[at[0]] for at in rows[0]])), rows
