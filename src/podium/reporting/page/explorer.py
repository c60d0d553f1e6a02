"""The data behind the page's explorer: every run's prediction for every listed test image.

It is one JSON block. Probabilities are calibrated, in thousandths; classes, images and
embedded pictures are numbers. With 10,000 images and many runs only some images are listed,
misclassified ones first; recalls are always over all images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from podium.reporting.figures.explanations import LABEL_MARK
from podium.reporting.page.image_store import ImageStore, storage_order
from podium.reporting.page.templating import script_json
from podium.reporting.words.labels import Labels
from podium.reporting.words.recipes import run_title
from podium.results.run import RunResult
from podium.results.study import StudyResults

MOST_ANSWERS = 200_000
"""Maximum images times runs that the page lists: 2.6 MB or less."""
MOST_TOP_ANSWERS = 50_000
"""With more images times runs, the page omits the second and third likeliest class."""


@dataclass(frozen=True, eq=False)
class RunPredictions:
    """One run's predictions as the explorer's class numbers; -1 for images it did not predict."""

    run: RunResult
    top: npt.NDArray[np.int64]  # (images, k)
    share: npt.NDArray[np.int64]  # (images, k), thousandths
    own: npt.NDArray[np.int64]  # (images,), thousandths
    correct: npt.NDArray[np.int64]  # (classes,), of all its images
    support: npt.NDArray[np.int64]  # (classes,)


class Explorer:
    """Classes and images by number, and the runs' predictions.

    Args:
        results: the study.
        most: maximum images times runs to list.
    """

    def __init__(self, results: StudyResults, most: int = MOST_ANSWERS) -> None:
        self.results = results
        # runs in a folder that was assembled by hand may differ in images and classes
        names = dict.fromkeys(name for run in results.runs for name in run.test.class_names)
        self.classes = {name: number for number, name in enumerate(names)}
        labels: dict[str, int] = {}
        wrong: dict[str, int] = {}
        for run in results.runs:
            numbers = self._numbers(run)
            test = run.test
            for path, label in zip(test.paths, numbers[test.labels].tolist(), strict=True):
                labels.setdefault(path, label)
            for number in np.flatnonzero(test.predicted != test.labels).tolist():
                wrong[test.paths[number]] = wrong.get(test.paths[number], 0) + 1
        self.total = len(labels)
        paths = sorted(labels, key=lambda path: (labels[path], path))
        listed = max(1, most // len(results.runs))
        if len(paths) > listed:
            missed = [path for path in paths if path in wrong]
            kept = [path for path in paths if path not in wrong]
            chosen = _spread(missed, listed)
            chosen |= _spread(kept, listed - len(chosen))
            paths = [path for path in paths if path in chosen]
        self.paths = paths
        self.images = {path: number for number, path in enumerate(paths)}
        self.labels = np.array([labels[path] for path in paths], np.int64)
        self.mistakes = np.array([wrong.get(path, 0) for path in paths], np.int64)
        depth = 3 if len(paths) * len(results.runs) <= MOST_TOP_ANSWERS else 1
        self.runs = [self._predictions(run, depth) for run in results.runs]

    def fill(self, store: ImageStore, thumbnails: Mapping[str, bytes]) -> None:
        """Store as many listed images as fit, then the runs' maps.

        Args:
            store: to fill.
            thumbnails: JPEGs of test images by path.
        """
        for number in storage_order(self.paths, self.labels, self.mistakes, thumbnails):
            path = self.paths[number]
            if store.put(thumbnails[path], path) is None:
                break
        for contender in self.results.ranking:
            for run in contender.runs:
                for key, jpeg in run.explanations.items():
                    path = key.removesuffix(LABEL_MARK)
                    if path in self.images and store.put(jpeg, key, run.slug) is None:
                        return

    def block(self, store: ImageStore, say: Labels) -> Markup:
        """The JSON block.

        Args:
            store: holds the images.
            say: the language.
        """
        support = self.runs[0].support
        data = {
            "lang": say.lang,
            "words": {key: text for key, text in say.words.items() if key.startswith("x_")},
            "classes": list(self.classes),
            "total": self.total,
            "support": support.tolist(),
            "paths": self.paths,
            "labels": self.labels.tolist(),
            "pictures": [_or_none(store.number(path)) for path in self.paths],
            "runs": [self._run(one, support, store, say) for one in self.runs],
        }
        return script_json(data)

    def _run(
        self,
        one: RunPredictions,
        support: npt.NDArray[np.int64],
        store: ImageStore,
        say: Labels,
    ) -> dict[str, Any]:
        run, wrong = one.run, one.top[:, 0] != self.labels
        maps = {}
        for key in run.explanations:
            path = key.removesuffix(LABEL_MARK)
            if key == path and path in self.images:
                pair = [
                    store.number(path, run.slug),
                    store.number(path + LABEL_MARK, run.slug),
                ]
                if pair[0] is not None:
                    maps[self.images[path]] = [_or_none(number) for number in pair]
        told: dict[str, Any] = {
            "slug": run.slug,
            "title": run_title(run, say),
            "contender": run.label,
            "seed": run.folder.seed,
            "correct": one.correct.tolist(),
            "top": [column.tolist() for column in one.top.T],
            "share": [column.tolist() for column in one.share.T],
            "own": one.own[wrong].tolist(),  # for correct predictions it is the first share
            "maps": maps,
        }
        if not np.array_equal(one.support, support):
            told["support"] = one.support.tolist()
        return told

    def _numbers(self, run: RunResult) -> npt.NDArray[np.int64]:
        """The explorer's number of each class of a run."""
        return np.array([self.classes[name] for name in run.test.class_names], np.int64)

    def _predictions(self, run: RunResult, depth: int) -> RunPredictions:
        numbers, test, said = self._numbers(run), run.test, run.top_classes
        depth = min(depth, said.top.shape[1])
        place = {path: row for row, path in enumerate(test.paths)}
        rows = np.array([place.get(path, -1) for path in self.paths], np.int64)
        seen = rows >= 0
        top = np.full((len(rows), depth), -1, np.int64)
        top[seen] = numbers[said.top[rows[seen], :depth]]
        share = np.zeros_like(top)
        share[seen] = np.rint(1000 * said.share[rows[seen], :depth])
        own = np.zeros(len(rows), np.int64)
        own[seen] = np.rint(1000 * said.own[rows[seen]])
        labels, size = numbers[test.labels], len(self.classes)
        right = test.predicted == test.labels
        return RunPredictions(
            run,
            top,
            share,
            own,
            np.bincount(labels[right], minlength=size),
            np.bincount(labels, minlength=size),
        )


def _spread(paths: list[str], most: int) -> set[str]:
    """At most `most` paths, evenly spaced, so that all classes are represented."""
    if most <= 0:
        return set()
    places = np.linspace(0, len(paths) - 1, min(most, len(paths))).astype(int)
    return {paths[place] for place in places}


def _or_none(number: int | None) -> int:
    return -1 if number is None else number
