"""The cells of a study: one contender with one seed each, told apart by `contender/seed-1`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from podium.config.settings import StudySpec
from podium.errors import ConfigError
from podium.training.schedule import training_size


@dataclass(frozen=True)
class Cell:
    """One contender with one seed: what is trained and scored as a whole.

    Its text is its name, which is also its folder below the study's and what `podium run --only`
    takes.

    Examples:
        >>> import podium
        >>> cell = podium.Cell("fast", 1, "Fast, seed 1", cost=1_505_280)
        >>> str(cell)
        'fast/seed-1'
    """

    contender: str
    """Its name in the study."""
    seed: int
    """0 or more."""
    title: str
    """For people: the contender's label, with the seed where the study has several."""
    cost: int
    """How long it takes compared with other cells: pixels that are trained on, over all epochs,
    for each training image. What the model costs per pixel is not in it."""

    def __str__(self) -> str:
        return f"{self.contender}/seed-{self.seed}"


def cells_of(spec: StudySpec) -> tuple[Cell, ...]:
    """Every cell of a study, contender by contender."""
    found = []
    for name, recipe in spec.contenders.items():
        sides = [
            training_size(recipe, epoch, recipe.image_size or 224)
            for epoch in range(1, recipe.most_epochs + 1)
        ]
        cost = sum(side**2 for side in sides)
        for seed in spec.seeds:
            label = spec.label(name)
            title = label if len(spec.seeds) == 1 else f"{label}, seed {seed}"
            found.append(Cell(name, seed, title, cost))
    return tuple(found)


def chosen(cells: Sequence[Cell], only: Iterable[str]) -> tuple[Cell, ...]:
    """The cells that are named, in the study's order; all where nothing is.

    Args:
        cells: of the study.
        only: names of cells (`fast/seed-1`) or of contenders (`fast`: all seeds).

    Raises:
        ConfigError: a name is neither.
    """
    wanted = [only] if isinstance(only, str) else list(only)
    names = {str(cell) for cell in cells} | {cell.contender for cell in cells}
    for name in wanted:
        if name not in names:
            close = difflib.get_close_matches(name, sorted(names), n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            listed = ", ".join(map(str, cells))
            raise ConfigError(
                f"--only {name}: the study has no such cell.{hint} Expected CONTENDER/seed-N, or "
                f"CONTENDER for all of its seeds. Its cells are: {listed}."
            )
    return tuple(
        cell for cell in cells if not wanted or str(cell) in wanted or cell.contender in wanted
    )
