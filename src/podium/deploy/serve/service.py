"""From the bytes of a picture to answers: decoding, the models, Grad-CAM pictures."""

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
from podium.data.images import decode_rgb
from podium.deploy.predictor import Predictor
from podium.deploy.serve.batching import NO_MAP, TOP_CLASS, Outcome, Worker
from podium.deploy.serve.limits import Admission, ApiError, Limits
from podium.deploy.serve.models import Served, best_of
from podium.deploy.serve.uploads import UploadKind, picture_bytes
from podium.errors import ConfigError, UnreadableImageError, UserError
from podium.runtime.threads import usable_cores

_SHOWN = 640  # pixels of the longer side of a Grad-CAM picture
_CALLED = "The picture"

Result = TypeVar("Result")


@dataclass(frozen=True)
class PredictionRequest:
    """What a request wants to know.

    Attributes:
        models: their places.
        top: classes of each answer.
        gradcam: with a picture of where the model looked.
        explain: for this class instead of the likeliest.
    """

    models: tuple[int, ...]
    top: int = 5
    gradcam: bool = False
    explain: str | None = None


_View = tuple[int, GreyWindows]


def _view(predictor: Predictor) -> _View:
    """What models must have in common to see the same pixels."""
    return predictor.image_size, predictor.windows


@dataclass(frozen=True)
class _Seen:
    """A picture once it is decoded: what each kind of model sees, and a copy to draw on."""

    size: tuple[int, int]
    pixels: dict[_View, npt.NDArray[np.uint8]]
    shown: Image.Image | None


class Service:
    """The models of a server at work.

    Decoding has a thread a core, so that no more pictures are unpacked at once; the models have
    one thread between them, see `Worker`. Nothing of a picture outlives its answer.

    Args:
        models: at least one.
        limits: of what is taken on.

    Attributes:
        explains: of each model, whether it can say where it looked.
    """

    def __init__(self, models: Sequence[Served], limits: Limits) -> None:
        if not models:
            raise ConfigError("A server needs one model at least, got none.")
        self.models, self.limits = tuple(models), limits
        self.default = best_of(models)
        self.admission = Admission(limits)
        self._places = {one.name: place for place, one in enumerate(self.models)}
        self._pool = ThreadPoolExecutor(max(2, usable_cores()), "podium-decode")
        self._worker = Worker(self.models)
        self.explains = tuple(self._warm_up(place) for place in range(len(self.models)))

    def _warm_up(self, place: int) -> bool:
        """One grey picture: what a first picture needs is loaded now; and can it be explained?"""
        side = self.models[place].predictor.image_size
        grey = np.full((side, side, 3), 128, np.uint8)
        if self.models[place].model is not None:
            try:
                outcome = self._worker.submit(place, grey, TOP_CLASS).result()
                _draw(Image.fromarray(grey), outcome)
                return True
            except UserError:  # it has no layer that keeps places
                pass
        self._worker.submit(place, grey).result()
        return False

    def close(self) -> None:
        """Finish what is under way and end the threads."""
        self._pool.shutdown()
        self._worker.close()

    def request(
        self, names: Sequence[str], top: int, gradcam: bool, explain: str | None
    ) -> PredictionRequest:
        """What a request asks for.

        Raises:
            ApiError: 404 for a model that is not there; 422 for a class that none of them knows.
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
        """An answer for each model, as `podium.deploy.serve.schemas.Answer` describes it.

        Args:
            body: of the request.
            kind: how it holds the picture.
            wanted: see there.

        Raises:
            ApiError: 400, 413, 415 or 422: the upload is not one picture that can be decoded.
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
        # decoded once, but for models of several data sets with deep grey values
        pictures: dict[GreyWindows, Image.Image] = {}
        for place in wanted.models:
            predictor = self.models[place].predictor
            if predictor.windows not in pictures:
                pictures[predictor.windows] = self._decode(content, predictor.windows)
            if _view(predictor) not in pixels:
                # a copy: what it gives may be a view of the whole picture
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
        explained = None if outcome.explained is None else predictor.class_names[outcome.explained]
        return {
            "model": served.name,
            "predictions": [{"class": one.name, "probability": one.probability} for one in best],
            "image": {"width": size[0], "height": size[1]},
            "milliseconds": took,
            "gradcam": picture,
            "explained": explained,
        }


def _draw_all(picture: Image.Image, outcomes: Sequence[Outcome]) -> list[str | None]:
    return [_draw(picture, one) for one in outcomes]


def _draw(picture: Image.Image, outcome: Outcome) -> str | None:
    """The picture with the heat laid over it, as a data URL."""
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
            "This is not a picture that can be read here. JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF "
            "and PNM can.",
        )
    if "more than the limit" in reason:
        return ApiError(422, "too_many_pixels", f"{_CALLED} is too large: {reason}.")
    return ApiError(422, "undecodable", f"{_CALLED} cannot be decoded: {reason}.")
