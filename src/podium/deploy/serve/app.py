"""The application: its routes and their responses."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from podium.__about__ import __version__
from podium.deploy.serve.examples import Example
from podium.deploy.serve.guard import FAILED, Guard, Log, Rules
from podium.deploy.serve.limits import ApiError, Limits, error_json
from podium.deploy.serve.models import Served
from podium.deploy.serve.pages import ASSETS, asset, page
from podium.deploy.serve.schemas import Answer, Answers, ErrorAnswer, Examples, Health, Models
from podium.deploy.serve.service import Service
from podium.deploy.serve.uploads import FIELD, declared_size, read_body, upload_kind

_FILE = {"type": "string", "format": "binary"}
_UPLOAD = {
    "requestBody": {
        "required": True,
        "description": "One image. Its file name is never used.",
        "content": {
            "image/*": {"schema": _FILE},
            "multipart/form-data": {
                "schema": {"type": "object", "required": [FIELD], "properties": {FIELD: _FILE}}
            },
        },
    }
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in {
        400: "Malformed multipart, or a Host that is not this server's.",
        401: "The server requires a token.",
        403: "The request comes from a page of another site.",
        404: "There is no such model.",
        408: "The upload is too slow.",
        413: "The upload has too many bytes.",
        415: "It is not an image, or is not sent as one.",
        422: "The image is damaged or has too many pixels, or a parameter is wrong.",
        503: "Too many requests at once; Retry-After says when to try again.",
    }.items()
}


def build_app(
    models: Sequence[Served],
    *,
    title: str = "Podium",
    examples: Sequence[Example] = (),
    examples_from: str = "none",
    limits: Limits | None = None,
    rules: Rules | None = None,
    log: Log | None = None,
    fault: Log = print,
) -> Guard:
    """Create an ASGI application that serves models.

    Args:
        models: the loaded models; at least one.
        title: title of the page.
        examples: example images.
        examples_from: `test images`, `folder` or `none`.
        limits: limits on requests; None: the defaults.
        rules: access rules; None: only this machine's own names, without a token.
        log: called with one line per request: method, path, status, time; nothing of the upload.
        fault: called with one line for each failure of the server itself.
    """
    bounds, door = limits or Limits(), rules or Rules()
    service = Service(models, bounds)

    @contextlib.asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    # FastAPI's documentation pages load external scripts; /api documents everything without
    app = FastAPI(
        title=f"{title}: Podium's API",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=living,
    )
    _errors(app)
    _pages(app, service, title, bounds, door)
    _answers(app, service, title, bounds)
    _examples(app, examples, examples_from)
    return Guard(app, door, bounds, log=log, fault=fault)


def _errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def wrong_parameter(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
        return JSONResponse(error_json("bad_parameter", f"{where}: {first['msg']}."), 422)

    @app.exception_handler(HTTPException)
    async def of_http(_: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "wrong_method"}.get(error.status_code, "refused")
        return JSONResponse(
            error_json(code, f"{error.detail}."), error.status_code, dict(error.headers or {})
        )

    @app.exception_handler(Exception)
    async def fault(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse(FAILED.content(), FAILED.status)  # and it continues to the guard

    @app.exception_handler(ApiError)
    async def own(_: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.content(), error.status, error.headers)


def _pages(app: FastAPI, service: Service, title: str, limits: Limits, rules: Rules) -> None:
    files = {name: asset(name) for name in ASSETS}
    # of the same levels in all models
    sets, known = service.default.predictor.sets, service.default.predictor.known
    front = page(
        "page.html.j2",
        limits,
        title=title,
        count=len(service.models),
        coverage=None if sets is None else sets.coverage,
        by_class=sets is not None and sets.by_class,
        keep=None if known is None else known.keep,
    )
    names = [one.name for one in service.models]

    @app.get("/", include_in_schema=False)
    async def front_page() -> HTMLResponse:
        return HTMLResponse(front)

    @app.get("/api", include_in_schema=False)
    async def api_page(request: Request) -> HTMLResponse:
        return HTMLResponse(
            page(
                "api.html.j2",
                limits,
                title=title,
                base=f"{request.url.scheme}://{request.url.netloc}",
                models=names,
                default=service.default.name,
                token=rules.token is not None,
            )
        )

    @app.get("/assets/{name}", include_in_schema=False)
    async def of_page(name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        return Response(files[name].content, media_type=files[name].media_type)


def _answers(app: FastAPI, service: Service, title: str, limits: Limits) -> None:
    offered = {
        "title": title,
        "default": service.default.name,
        "models": [
            _told(one, explains)
            for one, explains in zip(service.models, service.explains, strict=True)
        ],
        "limits": {"max_bytes": limits.max_bytes, "max_pixels": limits.max_pixels},
    }

    @app.get("/healthz", summary="Whether the server is healthy.")
    async def health() -> Health:
        return Health(
            status="ok",
            version=__version__,
            models=len(service.models),
            under_way=service.admission.requests,
        )

    @app.get("/v1/models", response_model=Models, summary="The models, their classes and accuracy.")
    async def models() -> Any:
        return offered

    @app.post(
        "/v1/predict",
        response_model=Answer | Answers,
        responses=_ERRORS,
        openapi_extra=_UPLOAD,
        summary="Classify an image: one model's answer, or those of several.",
    )
    async def predict(
        request: Request,
        top: Annotated[int, Query(ge=1, le=100_000, description="Classes per answer.")] = 5,
        model: Annotated[
            list[str] | None,
            Query(description="A name of /v1/models, several (repeat it), or `all`."),
        ] = None,
        gradcam: Annotated[bool, Query(description="Include a Grad-CAM heat map.")] = False,
        explain: Annotated[
            str | None,
            Query(max_length=1000, description="Grad-CAM for this class, not the most likely."),
        ] = None,
    ) -> Any:
        kind = upload_kind(request.headers.get("content-type"))
        size = declared_size(request.headers.get("content-length"), kind, limits)
        names = model or []
        wanted = service.request(names, top, gradcam, explain)
        with service.admission.of(size):
            try:
                # nothing here keeps the upload: it is freed once it is decoded
                answers = await service.answer(
                    await read_body(request.stream(), size, limits), kind, wanted
                )
            except ClientDisconnect:
                return Response(status_code=400)  # the client is gone
        one = len(answers) == 1 and "all" not in names
        # unvalidated: checking thousands of numbers against the schema again would be slow
        return JSONResponse(answers[0] if one else {"answers": answers})


def _examples(app: FastAPI, examples: Sequence[Example], source: str) -> None:
    listed = {
        "source": source if examples else "none",
        "examples": [
            {"url": f"/v1/examples/{number}", "label": one.label}
            for number, one in enumerate(examples)
        ],
    }

    @app.get("/v1/examples", response_model=Examples, summary="Example images.")
    async def of_all() -> Any:
        return listed

    @app.get("/v1/examples/{number}", response_class=Response, summary="One example image, a JPEG.")
    async def one_of(number: int) -> Response:
        if not 0 <= number < len(examples):
            raise HTTPException(404)
        return Response(examples[number].jpeg, media_type="image/jpeg")


def _told(one: Served, explains: bool) -> dict[str, Any]:
    sets = one.predictor.sets
    return {
        "name": one.name,
        "label": one.label,
        "classes": list(one.predictor.class_names),
        "image_size": one.predictor.image_size,
        "gradcam": explains,
        "valid_accuracy": one.valid_accuracy,
        "test_accuracy": one.test_accuracy,
        "test_interval": one.test_interval,
        "test_images": one.test_images,
        "coverage": None if sets is None else sets.coverage,
        "keep": None if one.predictor.known is None else one.predictor.known.keep,
        "coverage_by_class": sets is not None and sets.by_class,
    }
