"""The cells of a study: one contender with one seed each, identified by `contender/seed-1`.

With cross-validation, a contender with a seed has one cell per fold, `contender/seed-1/fold-0`,
and then `contender/seed-1`, which pools the folds and makes the model that is used afterwards.
A contender that is a mean of others has cells as they have; each needs those of its members.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from podium.config.settings import StudySpec
from podium.config.text import did_you_mean, listed
from podium.config.tuning import earlier_trials
from podium.errors import ConfigError
from podium.training.schedule import training_size


@dataclass(frozen=True)
class Cell:
    """One contender with one seed, or one fold of it: the unit of training and scoring.

    `str(cell)` is its name, which is also its folder below the study's folder and the argument of
    `podium run --only`.

    Examples:
        >>> import podium
        >>> cell = podium.Cell("fast", 1, "Fast, seed 1", cost=1_505_280)
        >>> str(cell)
        'fast/seed-1'
    """

    contender: str
    """Name of the contender in the study."""
    seed: int
    """Seed of the run, 0 or more."""
    title: str
    """Display name: the contender's label, with the seed if the study has several, and the fold."""
    cost: int
    """Cost relative to other cells: pixels per training image, summed over all epochs. The
    model's own cost per pixel is not included."""
    fold: int | None = None
    """Number of the fold, from 0 through all repeats; None: the run as a whole."""
    needs: tuple[Cell, ...] = field(default=(), compare=False, repr=False)
    """The cells that must be done first: the folds that it pools, the members that it averages, the
    trials that decide whether it is ended early."""

    def __str__(self) -> str:
        whole = f"{self.contender}/seed-{self.seed}"
        return whole if self.fold is None else f"{whole}/fold-{self.fold}"


def cells_of(spec: StudySpec) -> tuple[Cell, ...]:
    """Every cell that a study may have, ordered by contender, means after all that are trained; a
    run's folds come before the run as a whole."""
    found: dict[tuple[str, int, int | None], Cell] = {}
    folds = (spec.data.folds or 0) * spec.data.repeats
    for name in sorted(spec.contenders, key=lambda one: bool(spec.contenders[one].mean_of)):
        recipe = spec.contenders[name]
        sides = [
            training_size(recipe, epoch, recipe.image_size or 224)
            for epoch in range(1, recipe.most_epochs + 1)
        ]
        cost = sum(side**2 for side in sides)
        for seed in spec.every_seed:
            label = spec.label(name)
            title = label if len(spec.every_seed) == 1 else f"{label}, seed {seed}"
            for fold in range(folds):
                members = tuple(found[member, seed, fold] for member in recipe.mean_of)
                titled = f"{title}, fold {fold + 1} of {folds}"
                found[name, seed, fold] = Cell(name, seed, titled, cost, fold, members)
            pooled = [found[name, seed, fold] for fold in range(folds)]
            others = [*recipe.mean_of, *earlier_trials(spec, name)]
            averaged = [found[member, seed, None] for member in others]
            closing = 0 if folds and spec.final_model == "ensemble" else cost
            titled = f"{title}, all folds" if folds else title
            found[name, seed, None] = Cell(name, seed, titled, closing, needs=(*pooled, *averaged))
    return tuple(found.values())


def chosen(cells: Sequence[Cell], only: Iterable[str]) -> tuple[Cell, ...]:
    """Select cells by name, in the study's order; all if no name is given.

    Args:
        cells: all cells of the study.
        only: names of cells (`fast/seed-1/fold-0`), of runs (`fast/seed-1`: all folds) or of
            contenders (`fast`: all seeds).

    Raises:
        ConfigError: a name is neither.
    """
    wanted = [only] if isinstance(only, str) else list(only)
    names = {name for cell in cells for name in _names(cell)}
    for name in wanted:
        if name not in names:
            hint = did_you_mean(name, sorted(names), most=1)
            names_of_cells = listed([str(cell) for cell in cells], most=20)
            raise ConfigError(
                f"--only {name}: the study has no such cell.{hint} Expected CONTENDER/seed-N (with "
                f"folds also CONTENDER/seed-N/fold-K), or "
                f"CONTENDER for all of its seeds. Its cells are: {names_of_cells}."
            )
    return tuple(cell for cell in cells if not wanted or _names(cell) & set(wanted))


def _names(cell: Cell) -> set[str]:
    """What selects a cell: its own name, its run's and its contender's."""
    return {str(cell), f"{cell.contender}/seed-{cell.seed}", cell.contender}
