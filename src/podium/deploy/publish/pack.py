"""Contents of a commit to the Hugging Face Hub: weights, description, recipe, card.

Files made here never contain folders or user names of this machine. Exports and predictions are
checked for them, and findings are reported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from podium.deploy.find.choose import choose_run
from podium.deploy.find.hub import KNOWN, WEIGHTS, check_description
from podium.deploy.find.hub_errors import check_repo_id
from podium.deploy.publish.card import compose
from podium.deploy.publish.card_background import public_recipe
from podium.deploy.publish.card_metadata import check_licence
from podium.deploy.publish.card_subject import Subject, read_subject
from podium.errors import RunFolderError
from podium.reporting.words.labels import labels
from podium.runs.folder import RunFolder
from podium.runtime.files import read_json

FIGURES = {"confusion": "confusion", "curves": "learning-curves", "reliability": "reliability"}
LARGEST_FIGURE = 4_000_000  # bytes
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Upload:
    """A file for the repository: its name there, and its bytes or local path."""

    name: str
    content: bytes | Path

    @property
    def size(self) -> int:
        """Bytes."""
        found = self.content
        return len(found) if isinstance(found, bytes) else found.stat().st_size


@dataclass(frozen=True)
class Package:
    """All files of one commit."""

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
    """Collect the files for `upload`. Uses no network.

    Args:
        run: folder of a run, or of a contender or study: the run with the best validation score;
            its training must be finished.
        repo_id: `OWNER/NAME`.
        license: licence of the weights, an id of the Hub such as `apache-2.0`; None: none stated.
        dataset: id of the images on the Hub, or a built-in name; None: taken from the study.
        lang: language of the card, `en` or `pt`.
        with_predictions: add `predictions-test.parquet`, which contains the names of the test
            images.
        with_exports: add the contents of the run's `export/`.
        tell: called with a sentence on each choice, or on what should be checked.

    Raises:
        ConfigError: the repository's name, the licence, the data set or the language is invalid.
        RunFolderError: the run is not finished, or a file of it is missing or damaged.
    """
    check_repo_id(repo_id)
    folder = choose_run(run, tell)
    if not folder.is_done():
        raise RunFolderError(
            f"{folder.path} is not finished: there is nothing to publish yet. The same "
            "`podium run` resumes it."
        )
    check_description(folder)
    say = labels(lang)
    if license is not None:
        check_licence(license)  # before the study is read
    subject = read_subject(folder, say)
    exports = _exports(folder, tell) if with_exports else []
    drawn = _figures(subject)
    text = compose(
        subject,
        say,
        license=license,
        dataset=dataset,
        repo_id=repo_id,
        exports=[one.name for one in exports],
        pictures={key: one.name for key, one in drawn.items()},
        tell=tell,
    )
    files = [
        Upload("README.md", text.encode("utf-8")),
        Upload(WEIGHTS, folder.best),
        Upload("model.json", _description(folder)),
        Upload("config.yaml", _public_config(subject).encode("utf-8")),
        *_known(folder),
        *drawn.values(),
        *exports,
    ]
    if with_predictions:
        predictions = folder.predictions("test")
        if not predictions.is_file():
            raise RunFolderError(f"--with-predictions: {predictions} is missing.")
        files.append(Upload(predictions.name, predictions))
    return Package(repo_id, subject.label, text, tuple(files))


def _description(folder: RunFolder) -> bytes:
    """`model.json`, with what sets of classes need of the validation images: no names of them."""
    from podium.deploy.sets import published, stored_scores  # imports torch

    found = read_json(folder.model)
    if folder.predictions("valid").is_file():
        found = {**found, "conformity": published(stored_scores(folder)).model_dump()}
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _known(folder: RunFolder) -> list[Upload]:
    """What `--keep` compares images with: features of classes, if they were computed once."""
    from podium.deploy.similarity import KnownImages  # imports torch

    place = folder.path / KNOWN
    return [Upload(KNOWN, place)] if KnownImages.read(place, folder.best) is not None else []


def _public_config(subject: Subject) -> str:
    """The run's `config.yaml`, without folders of this machine."""
    values = {
        "contender": subject.folder.contender,
        "seed": subject.folder.seed,
        "model_used": subject.recipe.model,
        "recipe": public_recipe(subject.recipe),
    }
    if subject.folder.config.is_file() and (code := subject.folder.read_config().get("code")):
        values["code"] = code
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
            f"--with-exports: {place} holds no file. Create one with "
            f"podium export {folder.path} --format onnx."
        )
    ours = {os.fsencode(str(one)) for one in (Path.home(), folder.path.resolve().parents[2])}
    for one in found:
        if any(len(name) > 3 and name in one.content.read_bytes() for name in ours):  # type: ignore[union-attr]
            tell(
                f"{one.name} contains folder names of this machine, as some libraries' exports do."
            )
    return found
