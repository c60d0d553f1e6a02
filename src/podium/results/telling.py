"""Three test images that tell most about a study, each chosen by a rule."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from podium.results.study import StudyResults

Kind = Literal["all_wrong", "only_best", "disputed", "hard"]
MOST = 3


@dataclass(frozen=True)
class TellingImage:
    """A test image, and what the contenders said about it."""

    kind: Kind
    """`all_wrong`: no run is right; `only_best`: every run of the best contender is right, and no
    other; `disputed`: no image is given more different classes; `hard`: some run is wrong."""
    path: str
    true: str
    said: tuple[str, ...]
    """The wrong classes that it was taken for, most frequent first."""
    own: float
    """Mean calibrated probability of the true class over all runs, 0..1."""


def telling_images(results: StudyResults, stored: Collection[str]) -> list[TellingImage]:
    """Three images, or as many as some run is wrong about: one of each kind, then hard ones.

    Of several that fit, it is the one whose true class the runs find least probable on average,
    with calibrated probabilities; for `only_best` the most disputed one comes first.

    Args:
        results: the study.
        stored: paths of the images that can be shown.
    """
    table = results.table
    if table is None:
        return []
    answers = {one.name: one.predicted for one in table.contenders}
    best = results.ranking[0].name
    every = np.concatenate(list(answers.values()))
    others = [one for name, one in answers.items() if name != best]
    own = _own_probability(results, table.paths)
    distinct = 1 + (np.diff(np.sort(every, axis=0), axis=0) != 0).sum(axis=0)
    shown = np.array([path in stored for path in table.paths], bool)
    some_wrong = (every != table.labels).any(axis=0)
    fits: list[tuple[Kind, npt.NDArray[np.bool_]]] = [("hard", some_wrong)] * MOST
    if others:
        alone = (answers[best] == table.labels).all(axis=0)
        fits = [
            ("all_wrong", (every != table.labels).all(axis=0)),
            ("only_best", alone & (np.concatenate(others) != table.labels).all(axis=0)),
            ("disputed", (distinct > 1) & (distinct == distinct[shown].max(initial=0))),
            *fits,
        ]
    found: list[TellingImage] = []
    for kind, fitting in fits:
        taken = {one.path for one in found}
        left = [
            at for at in np.flatnonzero(fitting & shown).tolist() if table.paths[at] not in taken
        ]
        if not left or len(found) == MOST:
            continue
        spread = distinct if kind == "only_best" else np.zeros_like(distinct)
        at = min(left, key=lambda one: (-spread[one], own[one], table.paths[one]))
        wrong = every[every[:, at] != table.labels[at], at]
        classes, counts = np.unique(wrong, return_counts=True)
        said = [table.class_names[classes[place]] for place in np.argsort(-counts, kind="stable")]
        true = table.class_names[table.labels[at]]
        found.append(TellingImage(kind, table.paths[at], true, tuple(said), float(own[at])))
    return found


def _own_probability(results: StudyResults, paths: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Mean calibrated probability of the true class of each image, over all runs."""
    total = np.zeros(len(paths))
    for run in results.runs:
        own = run.top_classes.own
        if run.test.paths != paths:
            of = dict(zip(run.test.paths, own.tolist(), strict=True))
            own = np.array([of[path] for path in paths])
        total += own
    return total / len(results.runs)
