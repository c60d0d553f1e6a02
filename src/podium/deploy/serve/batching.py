"""One thread that computes for all clients: images that wait at the same time share a batch."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from podium.deploy.serve.models import Served

NO_MAP, TOP_CLASS = -2, -1
"""In place of the class to explain: no map, or the most likely class."""


@dataclass(frozen=True)
class Outcome:
    """A model's result for one image.

    Attributes:
        probabilities: calibrated, shape (classes,), float64.
        foreign: whether the image is none of the classes; None: that is not asked for.
        heat: Grad-CAM, shape (S, S), float32, 0 to 1; None: not requested.
        explained: the class that `heat` is for.
    """

    probabilities: npt.NDArray[np.float64]
    heat: npt.NDArray[np.float32] | None = None
    explained: int | None = None
    foreign: bool | None = None


@dataclass
class _Job:
    number: int
    pixels: npt.NDArray[np.uint8]
    explain: int
    future: Future[Outcome] = field(default_factory=Future)


class Worker:
    """A thread that processes waiting images, one batch per model at a time.

    While one batch is computed the next images gather, so there is no deliberate waiting: with a
    wait of 5 ms for more images, 16 clients got fewer answers per second than without, and a
    single client got later ones. There is only one thread, since PyTorch spreads each batch over
    the cores itself.

    Args:
        models: the models; jobs refer to them by index.
        batch: most images per batch; bounds memory.
    """

    def __init__(self, models: Sequence[Served], *, batch: int = 16) -> None:
        self._models, self._batch = models, batch
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="podium-inference", daemon=True)
        self._thread.start()

    def submit(
        self, number: int, pixels: npt.NDArray[np.uint8], explain: int = NO_MAP
    ) -> Future[Outcome]:
        """Submit one image to one model.

        Args:
            number: index of the model.
            pixels: the result of its predictor's `pixels`, shape (S, S, 3).
            explain: the class to make a Grad-CAM for, or `NO_MAP`, or `TOP_CLASS`.
        """
        job = _Job(number, pixels, explain)
        self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """Finish the waiting jobs, then end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        ended = False
        while not ended:
            jobs, ended = self._take()
            groups: dict[tuple[int, bool], list[_Job]] = {}
            for job in jobs:
                if job.future.set_running_or_notify_cancel():
                    groups.setdefault((job.number, job.explain != NO_MAP), []).append(job)
            for (number, explain), group in groups.items():
                try:
                    outcomes = list(self._compute(self._models[number], group, explain))
                except BaseException as error:  # the thread must survive it: other jobs wait
                    for job in group:
                        job.future.set_exception(error)
                else:
                    for job, outcome in zip(group, outcomes, strict=True):
                        job.future.set_result(outcome)
            del jobs, groups  # keep no image in memory until the next one arrives

    def _take(self) -> tuple[list[_Job], bool]:
        """The waiting jobs, at least one; and whether the last one is among them."""
        first = self._jobs.get()
        if first is None:
            return [], True
        jobs = [first]
        while len(jobs) < self._batch:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    @staticmethod
    def _compute(served: Served, jobs: Sequence[_Job], explain: bool) -> Iterable[Outcome]:
        pixels = np.stack([job.pixels for job in jobs])
        logits = served.predictor.compute(pixels)
        rows = served.predictor.probabilities(logits)
        found = served.predictor.foreign(logits)
        foreign: list[bool | None] = [None] * len(rows) if found is None else found.tolist()
        if not explain or served.model is None:
            return [Outcome(row, foreign=one) for row, one in zip(rows, foreign, strict=True)]
        from podium.evaluation.gradcam import grad_cam

        top = rows.argmax(axis=1)
        asked = np.asarray([job.explain for job in jobs], dtype=np.int64)
        targets = np.where(asked == TOP_CLASS, top, asked)
        heat, _ = grad_cam(served.model, pixels, targets)
        return [
            Outcome(row, one, int(target), none)
            for row, one, target, none in zip(rows, heat, targets, foreign, strict=True)
        ]
