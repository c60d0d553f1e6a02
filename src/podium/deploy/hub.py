"""A run to the Hugging Face Hub and back: weights, description, card; never code, never a token.

What is uploaded is one commit. Nothing of it names a folder or a user of this machine, but for
what the author wrote into names and exports. The token comes from a file, from `HF_TOKEN` or from
the hub's own login, and is shown nowhere.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from podium.__about__ import __version__
from podium.data.places import cache_root
from podium.deploy.card import card
from podium.deploy.card_background import public_recipe
from podium.deploy.card_subject import Subject, read_subject
from podium.deploy.choose import choose_run
from podium.deploy.hub_errors import check_repo_id, in_words, refuse_offline
from podium.errors import ConfigError, RunFolderError, UserError
from podium.files import atomic_write, read_json
from podium.network import hub_answers_fast
from podium.reporting.labels import labels
from podium.store import RunFolder

__all__ = [
    "Package",
    "Upload",
    "fetch_run",
    "pack",
    "push",
    "quiet_unless_terminal",
    "read_token",
]

WEIGHTS = "model.safetensors"
FIGURES = {"confusion": "confusion", "curves": "learning-curves", "reliability": "reliability"}
LARGEST_FIGURE = 4_000_000  # bytes
TOKEN = re.compile(r"[!-~]{8,512}")
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Upload:
    """A file for the repository: its name there, and its bytes or where they lie."""

    name: str
    content: bytes | Path

    @property
    def size(self) -> int:
        """Bytes."""
        found = self.content
        return len(found) if isinstance(found, bytes) else found.stat().st_size


@dataclass(frozen=True)
class Package:
    """All that one commit uploads."""

    repo_id: str
    title: str
    card: str
    files: tuple[Upload, ...]


def pack(
    run: RunFolder | str | Path,
    repo_id: str,
    *,
    license: str | None = None,
    dataset: str | None = None,
    lang: str = "en",
    with_predictions: bool = False,
    with_exports: bool = False,
    tell: Tell = lambda text: None,
) -> Package:
    """Put together what `push` uploads. Asks no network.

    Args:
        run: what `choose_run` takes; its training must be finished.
        repo_id: `OWNER/NAME`.
        license: as for `card`.
        dataset: as for `card`.
        lang: of the card.
        with_predictions: add `predictions-test.parquet`, which holds the names of the test images.
        with_exports: add what lies in the run's `export/`.
        tell: called with a sentence on what was chosen, or should be looked at.

    Raises:
        ConfigError: the repository's name, the licence, the data set or the language cannot be.
        RunFolderError: the run is not finished, or a file of it is missing or damaged.
    """
    check_repo_id(repo_id)
    folder = run if isinstance(run, RunFolder) else choose_run(run, tell)
    if not folder.is_done():
        raise RunFolderError(
            f"{folder.path} is not finished: there is nothing to publish yet. The same "
            "`podium run` goes on with it."
        )
    _check_description(folder)
    subject = read_subject(folder, labels(lang))
    exports = _exports(folder, tell) if with_exports else []
    drawn = _figures(subject)
    text = card(
        folder,
        license=license,
        dataset=dataset,
        repo_id=repo_id,
        lang=lang,
        exports=[one.name for one in exports],
        pictures={key: one.name for key, one in drawn.items()},
        tell=tell,
    )
    files = [
        Upload("README.md", text.encode("utf-8")),
        Upload(WEIGHTS, folder.best),
        Upload("model.json", folder.model),
        Upload("config.yaml", _public_config(subject).encode("utf-8")),
        *drawn.values(),
        *exports,
    ]
    if with_predictions:
        predictions = folder.predictions("test")
        if not predictions.is_file():
            raise RunFolderError(f"--with-predictions: {predictions} is missing.")
        files.append(Upload(predictions.name, predictions))
    return Package(repo_id, subject.label, text, tuple(files))


def _check_description(folder: RunFolder) -> None:
    from podium.description import read_description  # imports torch

    read_description(folder.model)


def _public_config(subject: Subject) -> str:
    """`config.yaml` as a run holds it, without the folders of this machine."""
    values = {
        "contender": subject.folder.contender,
        "seed": subject.folder.seed,
        "model_used": subject.model,
        "recipe": yaml.safe_load(public_recipe(subject)),
    }
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _figures(subject: Subject) -> dict[str, Upload]:
    """Figures of the run from its study's report, unless the report is older than the run."""
    if subject.study is None or subject.result is None:
        return {}
    report, done = subject.study.folder.report, subject.folder.done
    index = report / "index.html"
    if not index.is_file() or index.stat().st_mtime < done.stat().st_mtime:
        return {}
    found = {}
    for key, name in FIGURES.items():
        path = report / "figures" / f"{subject.result.slug}-{name}.png"
        if path.is_file() and path.stat().st_size <= LARGEST_FIGURE:
            found[key] = Upload(f"figures/{name}.png", path)
    return found


def _exports(folder: RunFolder, tell: Tell) -> list[Upload]:
    place = folder.path / "export"
    found = [
        Upload(f"export/{path.relative_to(place).as_posix()}", path)
        for path in sorted(place.rglob("*"))
        if path.is_file()
        and not path.is_symlink()
        and not any(part.startswith(".") for part in path.relative_to(place).parts)
    ]
    if not found:
        raise RunFolderError(
            f"--with-exports: {place} holds no file. Make one with "
            f"podium export {folder.path} --format onnx."
        )
    ours = {os.fsencode(str(one)) for one in (Path.home(), folder.path.resolve().parents[2])}
    for one in found:
        if any(len(name) > 3 and name in one.content.read_bytes() for name in ours):  # type: ignore[union-attr]
            tell(f"{one.name} names folders of this machine, as some libraries' exports do.")
    return found


def push(
    package: Package,
    *,
    token: str,
    private: bool = False,
    revision: str | None = None,
    tell: Tell = lambda text: None,
) -> str:
    """Upload a package as one commit; the repository is made if it is not there.

    Args:
        package: from `pack`.
        token: of the Hub, with the right to write; see `read_token`.
        private: make the repository private. One that is there and public is refused.
        revision: the branch, which is made if it is not there; empty: `main`.
        tell: called with what the Hub remarks.

    Returns:
        The address of the commit.

    Raises:
        UserError: the Hub refuses the token, the right, the name or the card; or it is to be left
            alone (`HF_HUB_OFFLINE`).
        PodiumError: the Hub cannot be reached, is too busy, or failed.
    """
    refuse_offline()
    from huggingface_hub import CommitOperationAdd, HfApi

    api, repo_id = HfApi(token=token), package.repo_id
    operations = [
        CommitOperationAdd(
            one.name, one.content if isinstance(one.content, bytes) else str(one.content)
        )
        for one in package.files
    ]
    with in_words(f"{repo_id} on the Hub", token), _remarks(tell):
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            raise UserError(
                f"--private: {repo_id} is there already and everybody can read it, so nothing was "
                "uploaded. Make it private in its settings, or give another name."
            )
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.create_commit(
            repo_id,
            operations,
            commit_message=f"Upload {package.title} with Podium {__version__}",
            revision=revision,
        )
    return str(commit.commit_url)


@contextmanager
def _remarks(tell: Tell) -> Iterator[None]:
    """What the hub's library warns of, told; but not that a data file lies beside a model."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for one in caught:
        text = " ".join(str(one.message).split())
        if "about to commit a data file" not in text:
            tell(text)


def read_token(file: Path | None) -> str:
    """The token from a file, else from `HF_TOKEN`, else from the hub's own login.

    Raises:
        UserError: there is none, or it cannot be one. The message never shows it.
    """
    from huggingface_hub import get_token

    if file is not None:
        try:
            found: str | None = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise ConfigError(f"--token-file {file}: cannot be read ({reason}).") from None
        where = f"--token-file {file}"
    else:
        found, where = get_token(), "The token of HF_TOKEN or of the login"
    if not found:
        raise UserError(
            f"{where}: the file is empty."
            if file is not None
            else "The Hub wants to know who uploads, and nobody is logged in. Run `hf auth login`, "
            "set HF_TOKEN, or give --token-file FILE with a token that may write "
            "(https://huggingface.co/settings/tokens)."
        )
    if not TOKEN.fullmatch(found):
        raise UserError(f"{where}: expected one token of 8 or more signs and nothing else.")
    return found


def fetch_run(repo_id: str, revision: str | None = None) -> RunFolder:
    """A run that `podium push` uploaded: its weights and description, once, into Podium's cache.

    Two files are fetched, safetensors and JSON, whatever else the repository holds. Neither can
    run code, and both are checked before a model is built from them.

    Args:
        repo_id: `OWNER/NAME`.
        revision: a branch, tag or commit; empty: `main`.

    Returns:
        A folder that predicts, exports and serves like one that was trained here.

    Raises:
        ConfigError: the name cannot be one.
        UserError: there is no such repository, or it holds no model of Podium's.
        PodiumError: the Hub cannot be reached, and nothing of it is on this machine.
    """
    check_repo_id(repo_id)
    from huggingface_hub import hf_hub_download

    with in_words(f"{repo_id} on the Hub", ""), hub_answers_fast():
        described = Path(hf_hub_download(repo_id, "model.json", revision=revision))
        commit = described.parent.name  # .../snapshots/<commit>/model.json
        weights = Path(hf_hub_download(repo_id, WEIGHTS, revision=commit))
    seed = read_json(described).get("seed")
    number = seed if isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 else 0
    name = repo_id.partition("/")[2]
    place = cache_root() / "hub" / repo_id.replace("/", "--") / commit / name / f"seed-{number}"
    run = RunFolder(place, name, number)
    for source, target in ((described, run.model), (weights, run.best)):
        if not target.is_file() or target.stat().st_size != source.stat().st_size:
            _copy(source, target)
    _check_description(run)
    return run


def _copy(source: Path, target: Path) -> None:
    with open(source, "rb") as file:
        atomic_write(target, lambda to: shutil.copyfileobj(file, to))


def quiet_unless_terminal() -> None:
    """Show the hub's progress bars on a terminal alone."""
    if not sys.stderr.isatty():
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
