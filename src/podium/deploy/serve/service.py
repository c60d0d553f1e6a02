"""From the bytes of an image to answers: decoding, the models, Grad-CAM images."""

from __future__ import annotations

import asyncio
import base64
import io
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from podium.data.grey import GreyWindows
from podium.data.images import TOO_MANY_PIXELS, decode_rgb
from podium.deploy.predictor import Guess, Predictor
from podium.deploy.serve.batching import NO_MAP, TOP_CLASS, Outcome, Worker
from podium.deploy.serve.limits import Admission, ApiError, Limits
from podium.deploy.serve.models import Served, best_of
from podium.deploy.serve.uploads import UploadKind, picture_bytes
from podium.errors import ConfigError, UnreadableImageError, UserError
from podium.runtime.threads import usable_cores

_SHOWN = 640  # longer side of a Grad-CAM image in pixels
_CALLED = "The image"

Result = TypeVar("Result")


@dataclass(frozen=True)
class PredictionRequest:
    """The parameters of a prediction request.

    Attributes:
        models: indices of the models.
        top: classes per answer.
        gradcam: whether to include a heat map.
        explain: class of the heat map; None: the most likely.
    """

    models: tuple[int, ...]
    top: int = 5
    gradcam: bool = False
    explain: str | None = None


_View = tuple[int, GreyWindows]


def _view(predictor: Predictor) -> _View:
    """What models must have in common to use the same pixels."""
    return predictor.image_size, predictor.windows


@dataclass(frozen=True)
class _Seen:
    """A decoded image: the input of each kind of model, and a copy to draw on."""

    size: tuple[int, int]
    pixels: dict[_View, npt.NDArray[np.uint8]]
    shown: Image.Image | None


class Service:
    """The models of a running server.

    Decoding has one thread per core, which bounds the number of images decoded at once; the models
    share one thread, see `Worker`. Nothing of an image is kept after its answer.

    Args:
        models: at least one.
        limits: limits on requests.

    Attributes:
        explains: for each model, whether Grad-CAM is available.
    """

    def __init__(self, models: Sequence[Served], limits: Limits) -> None:
        if not models:
            raise ConfigError("A server needs at least one model, got none.")
        self.models, self.limits = tuple(models), limits
        self.default = best_of(models)
        self.admission = Admission(limits)
        self._places = {one.name: place for place, one in enumerate(self.models)}
        self._pool = ThreadPoolExecutor(max(2, usable_cores()), "podium-decode")
        self._worker = Worker(self.models)
        self.explains = tuple(self._warm_up(place) for place in range(len(self.models)))

    def _warm_up(self, place: int) -> bool:
        """Run one grey image, which loads what a first image needs; True if it can be explained."""
        side = self.models[place].predictor.image_size
        grey = np.full((side, side, 3), 128, np.uint8)
        if self.models[place].model is not None:
            try:
                outcome = self._worker.submit(place, grey, TOP_CLASS).result()
                _draw(Image.fromarray(grey), outcome)
                return True
            except UserError:  # it has no layer with spatial positions
                pass
        self._worker.submit(place, grey).result()
        return False

    def close(self) -> None:
        """Finish current work and end the threads."""
        self._pool.shutdown()
        self._worker.close()

    def request(
        self, names: Sequence[str], top: int, gradcam: bool, explain: str | None
    ) -> PredictionRequest:
        """Check and collect the parameters of a request.

        Args:
            names: names of the models, or `all`; empty: the default model.
            top: classes per answer.
            gradcam: whether to include a heat map.
            explain: class of the heat map; None: the most likely.

        Raises:
            ApiError: 404 for an unknown model; 422 for a class that none of them has.
        """
        if "all" in names and "all" not in self._places:
            places = tuple(range(len(self.models)))
        else:
            places = tuple(self._place(name) for name in dict.fromkeys(names))
        places = places or (self._places[self.default.name],)
        if explain is not None and not any(
            explain in self.models[place].predictor.class_names for place in places
        ):
            raise ApiError(
                422, "unknown_class", f"No class is called {explain[:80]!r}. /v1/models lists them."
            )
        return PredictionRequest(places, top, gradcam or explain is not None, explain)

    def _place(self, name: str) -> int:
        if name not in self._places:
            raise ApiError(
                404,
                "unknown_model",
                f"There is no model {name[:80]!r} here. /v1/models lists them; `all` means all.",
            )
        return self._places[name]

    async def answer(
        self, body: bytes, kind: UploadKind, wanted: PredictionRequest
    ) -> list[dict[str, Any]]:
        """An answer per model, in the format of `podium.deploy.serve.schemas.Answer`.

        Args:
            body: body of the request.
            kind: how it holds the image.
            wanted: parameters of the request.

        Raises:
            ApiError: 400, 413, 415 or 422: the upload is not one image that can be decoded.
        """
        began = time.perf_counter()
        seen = await self._in_pool(self._look, body, kind, wanted)
        del body
        work = []
        for place in wanted.models:
            pixels = seen.pixels[_view(self.models[place].predictor)]
            job = self._worker.submit(place, pixels, self._explained(place, wanted))
            work.append(asyncio.wrap_future(job))
        outcomes = await asyncio.gather(*work)
        drawn: list[str | None] = [None] * len(outcomes)
        if seen.shown is not None:
            drawn = await self._in_pool(_draw_all, seen.shown, outcomes)
        took = round(1000 * (time.perf_counter() - began), 1)
        return [
            self._told(self.models[place], outcome, picture, seen.size, wanted.top, took)
            for place, outcome, picture in zip(wanted.models, outcomes, drawn, strict=True)
        ]

    async def _in_pool(self, work: Callable[..., Result], *given: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *given)

    def _explained(self, place: int, wanted: PredictionRequest) -> int:
        if not wanted.gradcam or not self.explains[place]:
            return NO_MAP
        if wanted.explain is None:
            return TOP_CLASS
        names = self.models[place].predictor.class_names
        return names.index(wanted.explain) if wanted.explain in names else NO_MAP

    def _look(self, body: bytes, kind: UploadKind, wanted: PredictionRequest) -> _Seen:
        content = picture_bytes(body, kind, self.limits)
        pixels: dict[_View, npt.NDArray[np.uint8]] = {}
        # decoded once, except for models with different windows for deep grey values
        pictures: dict[GreyWindows, Image.Image] = {}
        for place in wanted.models:
            predictor = self.models[place].predictor
            if predictor.windows not in pictures:
                pictures[predictor.windows] = self._decode(content, predictor.windows)
            if _view(predictor) not in pixels:
                # a copy: the result may be a view of the whole image
                pixels[_view(predictor)] = np.array(predictor.pixels(pictures[predictor.windows]))
        picture = next(iter(pictures.values()))
        size = picture.size
        explained = any(self._explained(place, wanted) != NO_MAP for place in wanted.models)
        if explained:
            picture.thumbnail((_SHOWN, _SHOWN), Image.Resampling.LANCZOS)
        return _Seen(size, pixels, picture if explained else None)

    def _decode(self, content: bytes, windows: GreyWindows) -> Image.Image:
        try:
            limit = self.limits.max_pixels
            return decode_rgb(content, _CALLED, max_pixels=limit, windows=windows)
        except UnreadableImageError as error:
            raise _undecodable(error.reason) from None

    @staticmethod
    def _told(
        served: Served,
        outcome: Outcome,
        picture: str | None,
        size: tuple[int, int],
        top: int,
        took: float,
    ) -> dict[str, Any]:
        predictor = served.predictor
        best = predictor.best(outcome.probabilities, top)
        inside = predictor.candidates(outcome.probabilities)
        explained = None if outcome.explained is None else predictor.class_names[outcome.explained]
        return {
            "model": served.name,
            "predictions": _listed(best),
            "set": _listed(inside) or None,
            "none_of_these": outcome.foreign,
            "image": {"width": size[0], "height": size[1]},
            "milliseconds": took,
            "gradcam": picture,
            "explained": explained,
        }


def _listed(guesses: Sequence[Guess]) -> list[dict[str, Any]]:
    return [{"class": one.name, "probability": one.probability} for one in guesses]


def _draw_all(picture: Image.Image, outcomes: Sequence[Outcome]) -> list[str | None]:
    return [_draw(picture, one) for one in outcomes]


def _draw(picture: Image.Image, outcome: Outcome) -> str | None:
    """The image with the heat map over it, as a data URL."""
    if outcome.heat is None:
        return None
    from podium.evaluation.gradcam import overlay

    out = io.BytesIO()
    overlay(picture, outcome.heat).convert("RGB").save(out, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _undecodable(reason: str) -> ApiError:
    if "not an image" in reason:
        return ApiError(
            415,
            "not_an_image",
            "This is not an image that can be read here. JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF "
            "and PNM can.",
        )
    if TOO_MANY_PIXELS in reason:
        return ApiError(422, "too_many_pixels", f"{_CALLED} is too large: {reason}.")
    return ApiError(422, "undecodable", f"{_CALLED} cannot be decoded: {reason}.")
