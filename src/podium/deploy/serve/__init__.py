"""`podium serve`: a web page to try images on, and the same over HTTP for programs.

It uses FastAPI and uvicorn with a small page of its own rather than Gradio, whose page loads fonts
and analytics from outside and whose uploads stay in a shared temporary folder. Here an image is
held in memory only until its answer is given, no other machine is contacted, and the installation
is a hundredth of the size.

To host the models in another server than Podium's own:

    # app.py, then: uvicorn app:app
    from podium.deploy.serve import create_app

    app = create_app(["runs/sports100"], hosts=["pictures.example.org"])

Limits on connections and on the time for a request's head belong to Podium's own server
(`podium.deploy.serve.listen`); all others belong to the application.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from podium.deploy.serve.limits import Limits
from podium.errors import ConfigError

if TYPE_CHECKING:
    from podium.deploy.serve.guard import Guard
    from podium.deploy.serve.models import Served

__all__ = ["Limits", "create_app", "need_extra"]


def create_app(
    sources: Iterable[str | Path],
    *,
    device: str = "auto",
    coverage: float | None = None,
    by_class: bool = False,
    keep: float | None = None,
    examples: str | Path | None = None,
    limits: Limits | None = None,
    hosts: Iterable[str] = (),
    addresses: bool = False,
    token: str | None = None,
    log: Callable[[str], None] | None = None,
    fault: Callable[[str], None] = print,
    loaded: Callable[[tuple[Served, ...]], None] = lambda models: None,
) -> Guard:
    """Create an ASGI application that serves the models of runs, contenders, studies or exports.

    Args:
        sources: folder of a run, of a contender (its best seed by validation accuracy), or of a
            study (the same for each contender with weights), or a file or folder written by
            `podium export`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        coverage: probability that the set of classes in an answer contains the true one, 0.5 to
            below 1; None: answers have no sets.
        by_class: promise it for the images of each class, not only for all together.
        keep: share of images like the validation images, 0.5 to below 1, that are not called "none
            of these": images less similar to training images than all but these; None: none is.
        examples: folder of example images; None: small copies of the study's test images.
        limits: limits on requests; None: the defaults.
        hosts: host names of the server besides localhost; others are refused.
        addresses: whether any numeric address is accepted as host, such as from a phone.
        token: token that requests below /v1 must carry, as `Authorization: Bearer TOKEN`; None:
            no token is required.
        log: called with one line per request, without any of the upload; None: no log.
        fault: called with one line for each failure of the server itself.
        loaded: called with the models once they are loaded.

    Raises:
        UserError: a source is none of these, its validation images are too few to promise the
            coverage, or the extra is not installed.
    """
    need_extra()
    from podium.deploy.serve.app import build_app
    from podium.deploy.serve.examples import folder_examples, study_examples
    from podium.deploy.serve.guard import Rules
    from podium.deploy.serve.models import load_models
    from podium.deploy.sets import Wanted

    wanted = Wanted.of(coverage, by_class, keep)
    models, title = load_models(sources, device=device, wanted=wanted, tell=fault)
    loaded(models)
    if examples is None:
        shown, source = study_examples(models), "test images"
    else:
        classes = [name for one in models for name in one.predictor.class_names]
        shown, source = (
            folder_examples(Path(examples), classes, windows=models[0].predictor.windows),
            "folder",
        )
    return build_app(
        models,
        title=title,
        examples=shown,
        examples_from=source,
        limits=limits,
        rules=Rules(hosts, addresses=addresses, token=token),
        log=log,
        fault=fault,
    )


def need_extra() -> None:
    """Raise an error with instructions if the server's libraries are not installed.

    Raises:
        ConfigError: one is missing.
    """
    from importlib.util import find_spec

    missing = [name for name in ("fastapi", "uvicorn", "python_multipart") if not find_spec(name)]
    if missing:
        raise ConfigError(
            f"The server needs {', '.join(missing)}, which is not installed. Install it with: "
            "pip install 'podium[serve]'"
        )
