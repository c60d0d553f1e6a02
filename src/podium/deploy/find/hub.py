"""Runs from the Hugging Face Hub, downloaded once into Podium's cache."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from podium.deploy.find.hub_errors import check_repo_id, translated_errors
from podium.runs.folder import RunFolder
from podium.runtime.cache import cache_root
from podium.runtime.files import atomic_write, read_json
from podium.runtime.network import hub_answers_fast


def fetch_run(repo_id: str, revision: str | None = None) -> RunFolder:
    """Fetch a run uploaded by `podium push`, its weights and description, into Podium's cache.

    Only JSON and safetensors are downloaded, whatever else the repository holds: the description,
    the weights, and what `keep` of `podium.predict` compares images with, if that was published.
    None of them can run code, and they are checked before a model is built from them.

    Args:
        repo_id: `OWNER/NAME`.
        revision: a branch, tag or commit; None: `main`.

    Returns:
        A folder that predicts, exports and serves like that of a run trained here.

    Raises:
        ConfigError: the name is not valid.
        UserError: there is no such repository, or it holds no Podium model.
        PodiumError: the Hub cannot be reached, and the run is not on this machine.

    Examples:
        >>> import podium
        >>> podium.fetch_run("no-owner")
        Traceback (most recent call last):
        ...
        podium.errors.ConfigError: 'no-owner' is not a valid repository name: expected OWNER/...
    """
    check_repo_id(repo_id)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    with translated_errors(f"{repo_id} on the Hub", ""), hub_answers_fast():
        described = Path(hf_hub_download(repo_id, "model.json", revision=revision))
        commit = described.parent.name  # .../snapshots/<commit>/model.json
        weights = Path(hf_hub_download(repo_id, WEIGHTS, revision=commit))
        known = None
        with contextlib.suppress(EntryNotFoundError):  # also where it is not on this machine
            known = Path(hf_hub_download(repo_id, KNOWN, revision=commit))
    seed = read_json(described).get("seed")
    number = seed if isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 else 0
    name = repo_id.partition("/")[2]
    place = cache_root() / "hub" / repo_id.replace("/", "--") / commit / name / f"seed-{number}"
    run = RunFolder(place, name, number)
    files = [(described, run.model), (weights, run.best)]
    files += [(known, run.path / KNOWN)] if known is not None else []
    for source, target in files:
        if not target.is_file() or target.stat().st_size != source.stat().st_size:
            _copy(source, target)
    check_description(run)
    return run


def _copy(source: Path, target: Path) -> None:
    with open(source, "rb") as file:
        atomic_write(target, lambda to: shutil.copyfileobj(file, to))


WEIGHTS = "model.safetensors"
KNOWN = "known.safetensors"
"""What the answer "none of these" needs; see `podium.deploy.known`, which needs torch."""


def check_description(folder: RunFolder) -> None:
    """Check that `model.json` describes a model.

    Args:
        folder: folder of the run.

    Raises:
        RunFolderError: it does not.
    """
    from podium.evaluation.description import read_description  # imports torch

    read_description(folder.model)
