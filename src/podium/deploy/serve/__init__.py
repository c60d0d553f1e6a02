"""`podium serve`: a page to show pictures to, and the same over HTTP for programs.

It is FastAPI and uvicorn with a small page of its own, and not Gradio, whose page asks outside for
fonts and analytics and whose uploads stay in a temporary folder that all share. Here a picture is
held in memory alone until its answer is given, nothing is asked of any other machine, and what has
to be installed is a hundredth of the size.

To host the models in another server than Podium's own:

    # app.py, then: uvicorn app:app
    from podium.deploy.serve import create_app

    app = create_app(["runs/sports100"], hosts=["pictures.example.org"])

Limits of connections and of the time that a request's head may take are those of Podium's own
server (`podium.deploy.serve.listen`); all others are the application's.
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
    examples: str | Path | None = None,
    limits: Limits | None = None,
    hosts: Iterable[str] = (),
    addresses: bool = False,
    token: str | None = None,
    log: Callable[[str], None] | None = None,
    fault: Callable[[str], None] = print,
    loaded: Callable[[tuple[Served, ...]], None] = lambda models: None,
) -> Guard:
    """An ASGI application that offers the models of runs, contenders, studies or exports.

    Args:
        sources: see `podium.deploy.serve.models.load_models`.
        device: as in `Machine`.
        examples: a folder of pictures to try; empty: small copies of the study's test images.
        limits: of what is taken on.
        hosts: names that it is reached by, besides localhost; others are refused.
        addresses: whether it may be reached by any numeric address, as a phone in the room does.
        token: what requests below /v1 must carry, as `Authorization: Bearer TOKEN`.
        log: called with a line a request; nothing of an upload is in it.
        fault: called with a line where the server itself failed.
        loaded: called with the models once they are there.

    Raises:
        UserError: a source is none of these, or the extra is not installed.
    """
    need_extra()
    from podium.deploy.serve.app import build_app
    from podium.deploy.serve.examples import folder_examples, study_examples
    from podium.deploy.serve.guard import Rules
    from podium.deploy.serve.models import load_models

    models, title = load_models(sources, device=device)
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
    """Refuse in words where the libraries of the server are not installed.

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
