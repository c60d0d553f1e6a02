"""The sealed test set: every scoring of it is recorded and reported.

A test accuracy is unbiased only if nothing was chosen by it. Podium cannot prevent a second
scoring, but it records each one: a line in `test-scorings.jsonl` next to the study folders, keyed
by the content of the images, so renaming a study or deleting its folder does not hide it. Each
study keeps a copy of the lines about its own images.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from podium.config.settings import RunSpec
from podium.errors import StorageError
from podium.runs.folder import RunFolder
from podium.runtime.files import sha256_of, write_text
from podium.runtime.lock import locked_briefly

LEDGER = "test-scorings.jsonl"


@dataclass(frozen=True)
class Scoring:
    """One scoring of test images."""

    at: str
    """ISO 8601, UTC."""
    study: str
    contender: str
    seed: int
    recipe: dict[str, Any]
    weights: str
    """SHA-256 of the weights file."""
    images: str
    """Fingerprint of the test images and their labels; see `DataIndex.split_fingerprint`."""
    n: int
    accuracy: float
    """0..1."""
    by: Literal["run", "evaluate", "stress"]

    @property
    def line(self) -> str:
        """Its line in the ledger."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True) + "\n"


@dataclass(frozen=True)
class Rescoring:
    """A contender that had been scored before with different weights."""

    before: Scoring
    now: Scoring
    changes: tuple[str, ...]
    """Settings that differ, as 'key: old -> new'; empty: retrained with the same recipe."""


def record(
    run: RunFolder,
    *,
    images: str,
    n: int,
    accuracy: float,
    at: str,
    recipe: dict[str, Any],
    by: Literal["run", "evaluate", "stress"],
) -> None:
    """Record one scoring in the ledger shared by all studies next to the run's study.

    Args:
        run: the run that was scored.
        images: fingerprint of the test images.
        n: number of test images.
        accuracy: test accuracy, 0..1.
        at: time of the scoring, ISO 8601 in UTC.
        recipe: of the run, as plain values.
        by: the command that scored it.
    """
    scoring = Scoring(
        at=at,
        study=run.study.path.name,
        contender=run.contender,
        seed=run.seed,
        recipe=recipe,
        weights=sha256_of(run.best),
        images=images,
        n=n,
        accuracy=accuracy,
        by=by,
    )
    _append(run.study.path.parent / LEDGER, scoring)


def _append(ledger: Path, scoring: Scoring) -> None:
    """Append one line, safely while other processes or machines append theirs."""
    with locked_briefly(ledger.with_name(f".{ledger.stem}.lock")):
        _write_at_the_end(ledger, scoring)


def _write_at_the_end(ledger: Path, scoring: Scoring) -> None:
    try:
        descriptor = os.open(ledger, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"  # the disk was full
            line = (("\n" if torn else "") + scoring.line).encode("utf-8")
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageError(ledger, error) from None


def read_scorings(study: Path, images: str) -> list[Scoring]:
    """All recorded scorings of a set of test images, oldest first.

    Args:
        study: a study folder; its own copy and the ledger next to it are read.
        images: fingerprint of the test images.
    """
    found: dict[str, Scoring] = {}
    for ledger in (study.resolve().parent / LEDGER, study / LEDGER):
        for scoring in _read(ledger):
            if scoring.images == images:
                found[scoring.line] = scoring
    return sorted(found.values(), key=lambda scoring: scoring.at)


def _read(ledger: Path) -> Iterable[Scoring]:
    try:
        lines = ledger.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield Scoring(**json.loads(line))
        except (ValueError, TypeError):  # a truncated last line, or another version's
            continue


def keep_copy(study: Path, images: str) -> None:
    """Copy the scorings of a study's test images into its folder, for reports on other machines.

    Args:
        study: the study folder.
        images: fingerprint of the test images.
    """
    scorings = read_scorings(study, images)
    if scorings:
        write_text(study / LEDGER, "".join(one.line for one in scorings))


def rescorings(scorings: Sequence[Scoring], study: str) -> list[Rescoring]:
    """Which contenders of a study had been scored before with different weights.

    Contenders count as the same if they share name and seed, in any study: changing a contender
    takes a new study or an emptied folder.

    Args:
        scorings: of one set of test images, oldest first.
        study: name of the reported study.

    Returns:
        The earlier scorings, oldest first, each with what changed since.
    """
    last = {(one.contender, one.seed): one for one in scorings if one.study == study}
    found = []
    for (contender, seed), now in last.items():
        seen = {now.weights}
        for before in scorings:
            same = (before.contender, before.seed) == (contender, seed)
            if same and before.at <= now.at and before.weights not in seen:
                seen.add(before.weights)
                found.append(Rescoring(before, now, _changes(before, now)))
    return sorted(found, key=lambda one: one.before.at)


def _changes(before: Scoring, now: Scoring) -> tuple[str, ...]:
    try:
        return tuple(
            RunSpec.model_validate(now.recipe, context={"stored": True}).changes_from(before.recipe)
        )
    except ValueError:  # settings of another version
        keys = sorted({*before.recipe, *now.recipe})
        return tuple(
            f"{key}: {before.recipe.get(key)} -> {now.recipe.get(key)}"
            for key in keys
            if before.recipe.get(key) != now.recipe.get(key)
        )
