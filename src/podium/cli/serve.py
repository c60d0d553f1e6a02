"""The command that serves models: it parses, loads, reports its address, and ends cleanly."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from podium.cli.options import ByClassOption, CoverageOption, KeepOption, share_of
from podium.cli.terminal import err, out
from podium.config.text import decode_text
from podium.errors import ConfigError, one_line

if TYPE_CHECKING:
    from podium.deploy.serve.models import Served

app = typer.Typer()

_TOKEN = (16, 512)  # least and most characters of a token


@app.command()
def serve(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...|STUDY",
            help="Runs, contenders, whole studies, or models that `podium export` wrote.",
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 allows other machines.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any free port.")] = 7860,
    examples: Annotated[
        Path | None,
        typer.Option(help="Folder of example images, instead of the study's test images."),
    ] = None,
    coverage: CoverageOption = None,
    by_class: ByClassOption = False,
    keep: KeepOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    max_megabytes: Annotated[
        float, typer.Option(min=0.001, max=1000, help="Limit per upload (1 MB = 1,000,000 bytes).")
    ] = 20,
    max_megapixels: Annotated[
        float, typer.Option(min=0.001, max=100, help="Limit per image.")
    ] = 40,
    queue: Annotated[
        int,
        typer.Option(min=1, max=10_000, help="Images in progress; further ones are refused (503)."),
    ] = 64,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=600, help="Seconds that an upload may stall.")
    ] = 10,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that requests must carry.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Host name of the server; repeatable."),
    ] = None,
    log: Annotated[
        bool, typer.Option("--log", help="Print one line per request: method, path, status, time.")
    ] = False,
) -> None:
    """Show trained models on a web page, and answer programs over HTTP.

    On the page, an image is dropped, pasted, chosen or taken with a phone's camera; every model
    shows its five most likely classes and a heat map. /api on the server describes the API for
    programs. Images are held in memory until they are answered, and are never stored.
    """
    from podium.deploy.serve import Limits, create_app, need_extra

    need_extra()
    from podium.deploy.serve.listen import bind, is_loopback, run, url_of

    limits = Limits(
        max_bytes=round(max_megabytes * 1e6),
        max_pixels=round(max_megapixels * 1e6),
        requests=queue,
        idle_seconds=timeout,
        head_seconds=timeout,
        body_seconds=6 * timeout,
        bytes_at_once=max(256_000_000, round(max_megabytes * 1e6)),
    )
    token = None if token_file is None else _read_token(token_file)
    local = is_loopback(host)
    # bound before anything is loaded: a port in use is reported at once
    with closing(bind(host, port)) as listening:
        application = create_app(
            sources,
            device=device,
            coverage=share_of(coverage),
            by_class=by_class,
            keep=share_of(keep),
            examples=examples,
            limits=limits,
            hosts=[*(allow_host or []), *([] if local else _own_names(host))],
            addresses=not local,
            token=token,
            log=out.tell if log else None,
            fault=_fault,
            loaded=_tell_models,
        )
        url = url_of(listening, host)

        def ready() -> None:
            out.tell(f"Serving on {url} (Ctrl-C to stop)")
            if not local:
                _warn(host, listening.getsockname()[1], token is not None)
            out.file.flush()

        run(application, listening, limits, ready=ready)
    out.tell("Stopped. No image was kept.")


def _tell_models(models: tuple[Served, ...]) -> None:
    from podium.deploy.serve.models import best_of
    from podium.deploy.sets import kept, promise

    predictors = [one.predictor for one in models]
    best = best_of(models)
    for one in models:
        accuracy = one.test_accuracy
        known = "" if accuracy is None else f", test {100 * accuracy:.1f} %"
        mark = " (the default)" if one is best and len(models) > 1 else ""
        out.tell(
            f"  {one.name}: {len(one.predictor.class_names)} classes, "
            f"{one.weights / 1e6:.1f} MB of weights{known}{mark}"
        )
    told = [promise(one.sets, one.class_names) for one in predictors if one.sets is not None]
    told += [kept(one.known) for one in predictors if one.known is not None]
    for line in dict.fromkeys(told):
        out.tell(f"  {line}")
    held = _resident()
    many = "1 model" if len(models) == 1 else f"{len(models)} models"
    size = "" if held is None else f"; this process holds {held / 1e6:,.0f} MB of memory"
    out.tell(f"{many} loaded{size}")


def _resident() -> int | None:
    """Bytes of memory that this process holds now; None: the system does not report it."""
    import os

    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _own_names(host: str) -> list[str]:
    import socket

    name = socket.gethostname()
    return [host, name, f"{name}.local"]


def _warn(host: str, port: int, token: bool) -> None:
    import socket

    address = host
    if host in ("0.0.0.0", "::", ""):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))  # sends nothing: it only selects an interface
                address = probe.getsockname()[0]
            except OSError:
                address = socket.gethostname()
    whom = "who has the token" if token else "who can reach this machine"
    err.tell(
        f"WARNING: everyone {whom} can use this server: http://{address}:{port}. Nothing is "
        "encrypted"
        + ("" if token else ", and no password is required (--token-file)")
        + ". Outside a trusted network, put a reverse proxy with TLS in front of it.",
        style="yellow",
    )


def _read_token(path: Path) -> str:
    least, most = _TOKEN
    try:
        text = decode_text(path.read_bytes()).strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"--token-file {path} cannot be read ({one_line(error)}).") from None
    if not (least <= len(text) <= most and text.isascii() and text.isprintable()) or " " in text:
        raise ConfigError(
            f"--token-file {path}: expected {least} to {most} letters, digits and symbols on one "
            "line, such as those of `openssl rand -hex 32`."
        )
    return text


def _fault(line: str) -> None:
    err.tell(line, style="red")
