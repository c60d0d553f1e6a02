"""Predictions of many images on other machines, a part of them at a time."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace

from podium.data.place import is_address
from podium.deploy.predict.look import FilePrediction, Look, in_lists, is_readable
from podium.deploy.predict.sources import Source
from podium.deploy.predictor import Computation, Predictor
from podium.errors import DataError
from podium.runtime.parts import SEEN_BY_ALL, Parts

PART = 512
"""Images that a machine gets at a time, rounded up to whole batches."""


def predict_elsewhere(
    predictor: Predictor, sources: Iterator[Source], top: int, size: int, parts: Parts
) -> Iterator[FilePrediction]:
    """Predict many images on other machines, in the batches that one machine would make.

    Args:
        predictor: of a run.
        sources: consumed as the work proceeds.
        top: classes per image, 1 or more.
        size: images per batch.
        parts: what computes there.

    Raises:
        DataError: another machine does not see an image that this one can read.
    """
    work = PartOfImages(replace(predictor, network=None), top, size, parts.device)
    shares = in_lists(sources, -(-PART // size) * size)
    with contextlib.closing(parts.map(work, shares)) as results:
        for found, host, unread in results:
            if unread is not None and is_readable(unread):
                raise DataError(f"{host} does not see {unread.path}. {SEEN_BY_ALL}")
            yield from found


@dataclass
class PartOfImages:
    """Predicts a part of the images; sent to other machines.

    Args:
        predictor: of a run.
        top: classes per image.
        size: images per batch.
        device: kind of the device that computes.
    """

    predictor: Predictor
    top: int
    size: int
    device: str

    def __call__(self, sources: list[Source]) -> tuple[list[FilePrediction], str, Source | None]:
        """Predict images.

        Args:
            sources: the images.

        Returns:
            `(predictions, host, unread)`: the name of this machine, and the first image of a file
            system that cannot be read here; None: there is none.
        """
        look = self._look
        found = list(look.over(sources))
        pairs = zip(sources, found, strict=True)
        files = (one for one, its in pairs if its.error and not one.error)
        unread = (one for one in files if not is_address(one.path) and not is_readable(one))
        return found, socket.gethostname(), next(unread, None)

    @functools.cached_property
    def _look(self) -> Look:
        compute = self.predictor.compute
        assert isinstance(compute, Computation)
        here = replace(self.predictor, compute=compute.on(self.device))
        return Look(here, self.top, self.size, self.device == "cpu")
