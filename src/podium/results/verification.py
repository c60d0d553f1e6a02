"""Verifies a receipt: makes it again from the study's files, without images, and compares.

Besides, the files are compared with each other: predictions with the table of images, recipes of
runs with the study's, closing records and the ledger with the predictions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from podium.__about__ import __version__
from podium.config.text import listed
from podium.errors import RunFolderError, UserError
from podium.results.receipt import FORMAT, receipt_of, stored_recipe
from podium.results.run import RunResult
from podium.results.study import StudyResults, gather
from podium.runs.folder import StudyFolder
from podium.runs.images import image_rows
from podium.runs.ledger import Scoring
from podium.runs.tuning import how_tuned
from podium.runtime.files import read_json, sha256_of

Topic = Literal["images", "recipes", "tuning", "predictions", "weights", "looks", "verdict"]

DIGITS = 1e-6
"""Relative difference up to which two numbers agree: processors round differently."""

MISSING = object()


@dataclass(frozen=True)
class Difference:
    """Something that does not agree."""

    topic: Topic
    text: str


@dataclass(frozen=True)
class Verification:
    """What verifying a receipt found.

    Examples:
        >>> from pathlib import Path
        >>> import podium
        >>> receipt = Path("runs/mine/verdict.json")
        >>> podium.Verification(receipt, "5f" * 32, "mine", "1.0", {}, (), ()).agrees
        True
    """

    receipt: Path
    sha256: str
    """Of the receipt's text. Whoever has published it can be held to it."""
    study: str
    podium: str
    """The version that wrote the receipt."""
    compared: Mapping[Topic, str]
    """By topic, what was compared."""
    differences: tuple[Difference, ...]
    """All that does not agree; empty: everything does."""
    notes: tuple[str, ...]
    """What a reader should know, one sentence each."""

    @property
    def agrees(self) -> bool:
        """Whether everything does."""
        return not self.differences


def verify(receipt: str | Path, study: str | Path | None = None) -> Verification:
    """Verify a receipt by the files of its study; no images are needed.

    Args:
        receipt: `verdict.json`, or the folder that holds it.
        study: folder of the study; None: the folder of the receipt.

    Returns:
        What was compared, and what does not agree.

    Raises:
        RunFolderError: the receipt is missing or cannot be read, or there is no study.
        UserError: it is not a receipt, or is one of a later version.

    Examples:
        >>> import podium
        >>> podium.verify("no-such-study/verdict.json")
        Traceback (most recent call last):
        ...
        podium.errors.RunFolderError: no-such-study/verdict.json is missing; ...
    """
    path = Path(receipt)
    path = StudyFolder(path).receipt if path.is_dir() else path
    stored = _read(path)
    folder = StudyFolder(path.parent if study is None else Path(study))
    if not folder.spec.is_file():
        raise RunFolderError(
            f"{folder.path} is not a study folder: expected the study that {path} is about, with "
            f"its {folder.spec.name}. Give its folder with --study."
        )
    folder.read_spec()  # a damaged study file is a mistake of its own
    version = str(stored.get("podium"))
    try:
        results = gather(folder)
    except RunFolderError as error:
        return Verification(
            path,
            sha256_of(path),
            str(stored.get("study")),
            version,
            {},
            (Difference("predictions", str(error)),),
            (),
        )
    now = receipt_of(results)
    missing, later = _looks(stored.get("looks"), now["looks"])
    notes = [one for one in (_other_version(version), later) if one]
    damaged = (one for one in results.unfinished if one.state == "damaged")
    notes += [f"{one.label} cannot be read: {one.message}" for one in damaged]
    known = {key: value for key, value in stored.items() if key not in ("podium", "looks")}
    made = {key: value for key, value in now.items() if key not in ("podium", "looks")}
    differences = []
    for place, before, after in _differences(known, made):
        if place[-1] == "weights" and after is None:
            notes.append(f"{'/'.join((place[1], place[3]))}: its weights are not here.")
        elif place == ("tuning",) and before is MISSING:
            notes.append(
                "The receipt, of an earlier version, has no hash of tuning.json: a change in the "
                "trials since then is not found. `podium report` writes a new receipt."
            )
        else:
            differences.append(_in_words(place, before, after))
    differences += [Difference("looks", text) for text in missing]
    differences += _contradictions(results, now)
    return Verification(
        path,
        sha256_of(path),
        str(stored.get("study")),
        version,
        _compared(now),
        tuple(sorted(differences, key=lambda one: TOPICS.index(one.topic))),
        tuple(notes),
    )


TOPICS: tuple[Topic, ...] = get_args(Topic)


def _read(path: Path) -> dict[str, Any]:
    stored = read_json(path)
    if not isinstance(stored, dict) or not isinstance(stored.get("format"), int):
        raise UserError(
            f"{path} is not a receipt: expected the verdict.json that `podium run` and `podium "
            "report` write into a study's folder."
        )
    if stored["format"] != FORMAT:
        raise UserError(
            f"{path} has format {stored['format']}; this version of Podium verifies format "
            f"{FORMAT}. Use the version that wrote it ({stored.get('podium')}), or a later one."
        )
    return stored


def _other_version(written: str) -> str:
    if written == __version__:
        return ""
    return (
        f"The receipt was written by Podium {written}, and this is {__version__}: if numbers "
        "differ and no hash does, verify it with that version."
    )


def _compared(now: Mapping[str, Any]) -> dict[Topic, str]:
    """How much there is of each topic."""
    runs = [run for one in now["contenders"].values() for run in one["runs"].values()]
    splits = [f"{one['n']:,} {name}" for name, one in now["images"].items()]
    files = sum(len(run["predictions"]) for run in runs)
    pairs = 0 if now["tests"] is None else now["tests"]["pairs"]
    return {
        "images": f"hashes of {' and '.join(splits)} images" if splits else "no table of images",
        "recipes": _counted(len(now["contenders"]), "recipe"),
        **({"tuning": "hash of tuning.json"} if "tuning" in now else {}),
        "predictions": f"{_counted(len(runs), 'run')}, {_counted(files, 'file')}",
        "weights": _counted(sum(run["weights"] is not None for run in runs), "file"),
        "looks": _counted(len(now["looks"]), "scoring"),
        "verdict": f"{_counted(pairs, 'pair')}, recomputed",
    }


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _differences(
    before: Any, after: Any, place: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """The places at which two trees of plain values differ, with both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            pair = before.get(key, MISSING), after.get(key, MISSING)
            yield from _differences(*pair, (*place, str(key)))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        if not all(_same(*pair) for pair in zip(before, after, strict=True)):
            yield place, before, after
    elif not _same(before, after):
        yield place, before, after


def _same(before: Any, after: Any) -> bool:
    numbers = isinstance(before, float | int) and isinstance(after, float | int)
    if numbers and not isinstance(before, bool) and not isinstance(after, bool):
        return math.isclose(before, after, rel_tol=DIGITS, abs_tol=1e-9)
    return type(before) is type(after) and bool(before == after)


def _in_words(place: tuple[str, ...], before: Any, after: Any) -> Difference:
    """Name what differs, and how."""
    told = f"{_value(before)} in the receipt, {_value(after)} now"
    match place:
        case ("images", *rest):
            what = {"images": "bytes or labels", "rows": "paths, labels or groups"}
            where = ", ".join(what.get(one, one) for one in rest)
            return Difference("images", f"{where or 'table'}: {told}")
        case ("contenders", name, "recipe" | "model" as what):
            return Difference("recipes", f"{name}, {what} in study.yaml: {told}")
        case ("contenders", name, "runs", seed, "recipe" | "code" as what):
            return Difference("recipes", f"{name}/{seed}/config.yaml, {what}: {told}")
        case ("tuning",):
            return Difference("tuning", f"tuning.json: {told}")
        case ("contenders", name, "runs", seed, "weights"):
            return Difference("weights", f"{name}/{seed}/best.safetensors: {told}")
        case ("contenders", name, "runs", seed, "predictions", file):
            return Difference("predictions", f"{name}/{seed}/{file}: {told}")
        case ("contenders", name, *rest):
            where = "/".join([name, *(one for one in rest if one != "runs")])
            return Difference("predictions", f"{where}: {told}")
        case ("unfinished", *_):
            return Difference("predictions", f"runs that are not finished: {told}")
        case ("tests" | "verdict", *rest):
            where = ", ".join(one for one in rest if one not in ("pairs", "standings"))
            return Difference("verdict", f"{where or place[0]}: {told}")
    return Difference("verdict", f"{'.'.join(place)}: {told}")


def _value(value: Any) -> str:
    if value is MISSING:
        return "absent"
    if isinstance(value, dict):
        return "there"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str) and len(value) == 64:  # a hash
        return f"{value[:12]}…"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _looks(stored: Any, now: Sequence[str]) -> tuple[list[str], str]:
    """What the ledger lacks or should not have, and a sentence about later scorings."""
    before, after = Counter(map(str, stored if isinstance(stored, list) else [])), Counter(now)
    last = max((one.split(" ")[0] for one in before), default="")
    further = [*(after - before).elements()]
    later = [one for one in further if one.split(" ")[0] > last]
    wrong = [f"the ledger lacks {_short(one)}" for one in (before - after).elements()]
    wrong += [
        f"the receipt lacks {_short(one)}, which is no later than those that it has"
        for one in further
        if one not in later
    ]
    if not later:
        return wrong, ""
    return wrong, (
        f"These test images were scored {_counted(len(later), 'time')} more since the receipt was "
        f"written: {listed([_short(one) for one in later], most=3)}."
    )


def _short(line: str) -> str:
    """A look without its hash."""
    return line.rpartition(" ")[0]


def _contradictions(results: StudyResults, now: Mapping[str, Any]) -> Iterator[Difference]:
    """What the files of the study say against each other, whatever the receipt says."""
    rows = image_rows(results.folder.images, "split", "path", "label")
    truth = {path: label for split, path, label in rows if split == "test"}
    if truth and (told := results.data.get("test_fingerprint")) is not None:
        found = now["images"]["test"]["images"]
        if told != found:
            yield Difference(
                "images",
                f"test_fingerprint in data.json is {_value(told)}, and {_value(found)} follows "
                "from images.parquet",
            )
    yield from _against_stopping(results)
    for run in results.runs:
        yield from _against_images(run, truth)
        yield from _against_recipe(run)
        yield from _against_tuning(run, results)
        yield from _against_records(run, results.scorings, results.spec.name)


def _against_stopping(results: StudyResults) -> Iterator[Difference]:
    """Whether a study with `seeds: auto` stopped where its looks say."""
    looks = results.looks
    early = next((one for one in looks[:-1] if one.is_last), None)
    if early is not None:
        yield Difference(
            "verdict",
            f"seeds: auto stops after {early.seeds} seeds; there are {looks[-1].seeds}",
        )
    elif looks and not looks[-1].is_last:
        yield Difference(
            "verdict", f"seeds: auto does not stop after {looks[-1].seeds} seeds: it goes on"
        )


def _name(run: RunResult) -> str:
    return f"{run.folder.contender}/{run.folder.path.name}"


def _against_images(run: RunResult, truth: Mapping[str, str]) -> Iterator[Difference]:
    """Whether a run's predictions are of the study's test images, with their labels."""
    if not truth:
        return
    names = run.test.class_names
    told = {path: names[label] for path, label in zip(run.test.paths, run.test.labels, strict=True)}
    strange = [path for path in told if path not in truth]
    absent = [path for path in truth if path not in told]
    for paths, what in ((strange, "are not test images"), (absent, "have no prediction")):
        if paths:
            yield Difference("predictions", f"{_name(run)}: {listed(paths, most=3)} {what}")
    wrong = [path for path in told if truth.get(path, told[path]) != told[path]]
    for path in wrong[:3]:
        yield Difference(
            "predictions",
            f"{_name(run)}: the label of {path} is {told[path]!r} with the predictions and "
            f"{truth[path]!r} in images.parquet",
        )


def _against_recipe(run: RunResult) -> Iterator[Difference]:
    """Whether a run was started with the study's recipe."""
    own = stored_recipe(run.folder)
    if own is None:
        if run.folder.config.is_file():
            yield Difference("recipes", f"{_name(run)}/config.yaml cannot be read")
        return
    if changes := run.recipe.changes_from(own.model_dump(mode="json")):
        yield Difference(
            "recipes", f"{_name(run)}: config.yaml -> study.yaml differ: {'; '.join(changes)}"
        )


def _against_tuning(run: RunResult, results: StudyResults) -> Iterator[Difference]:
    """Whether a run's closing record tells the trials and the choice that tuning.json has."""
    told = run.done.get("tuned")
    found = how_tuned(results.spec, results.folder.path, run.folder.contender)
    if told is None or found is None:
        return
    for key, value in found.items():
        if key in told and told[key] != value:
            yield Difference(
                "tuning",
                f"{_name(run)}: {key} is {told[key]} in done.json and {value} in tuning.json",
            )


def _against_records(
    run: RunResult, scorings: Sequence[Scoring], study: str
) -> Iterator[Difference]:
    """Whether the closing record and the ledger tell the accuracy that the predictions have."""
    found = run.scores.accuracy
    told = run.done.get("test_accuracy")
    if told is not None and not _same(float(told), found):
        yield Difference(
            "predictions",
            f"{_name(run)}: test_accuracy is {told:.6g} in done.json and {found:.6g} by the "
            "predictions",
        )
    own = [
        one
        for one in scorings
        if (one.study, one.contender, one.seed, one.by)
        == (study, run.folder.contender, run.folder.seed, "run")
    ]
    if own and not any(_same(one.accuracy, found) and one.n == len(run.test) for one in own):
        yield Difference(
            "looks",
            f"{_name(run)}: the ledger has an accuracy of {own[-1].accuracy:.6g} on "
            f"{own[-1].n:,} images; its predictions give {found:.6g} on {len(run.test):,}",
        )
    if own and run.folder.best.is_file():
        weights = sha256_of(run.folder.best)
        if weights not in {one.weights for one in own}:
            yield Difference("weights", f"{_name(run)}: the ledger has no scoring of its weights")
