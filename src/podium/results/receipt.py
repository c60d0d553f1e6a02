"""The receipt of a study's verdicts, `verdict.json`: all that they follow from, with hashes.

It has no date and no folder in it: the same study gives the same text. `results.verification`
makes it again from the study's files and compares the two.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from podium.__about__ import __version__
from podium.config.settings import RunSpec
from podium.data.fingerprints import labelled_fingerprint
from podium.errors import RunFolderError
from podium.results.run import RunResult
from podium.results.study import Contender, StudyResults
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.images import image_rows
from podium.runs.ledger import Scoring, keep_copy
from podium.runs.rounds import reached_seeds
from podium.runs.tuning import tuning_file
from podium.runtime.files import read_json, sha256_of, write_text
from podium.statistics.intervals import Interval
from podium.statistics.stopping import Look
from podium.statistics.verdicts import Pair, Standing, Verdicts

FORMAT = 1
"""Of receipts: changes where a key changes its meaning or goes."""


def write_receipt(results: StudyResults) -> None:
    """Write the receipt of a study into its folder, with a copy of the scorings that it counts.

    Args:
        results: the study.

    Raises:
        StorageError: the folder cannot be written.
    """
    folder = results.folder
    keep_copy(folder.path, str(results.data.get("test_fingerprint")))
    write_text(folder.receipt, receipt_text(receipt_of(results)))


def receipt_of(results: StudyResults) -> dict[str, Any]:
    """All that a study's verdicts follow from, and the verdicts; only plain values.

    Args:
        results: the study, as read from its folder.
    """
    done = {run.folder.path for run in results.runs}
    seeds = reached_seeds(results.folder, results.spec)
    runs = [one for one in results.folder.runs(results.spec) if one.seed in seeds]
    others = [one for one in runs if one.path not in done]
    return {
        "format": FORMAT,
        "podium": __version__,
        "study": results.spec.name,
        "images": _images(results.folder),
        "contenders": {one.name: _contender(one, results) for one in results.contenders},
        **({"tuning": _tuning(results)} if results.spec.tune is not None else {}),
        "unfinished": [f"{one.contender}/{one.path.name}" for one in others],
        "looks": [look(one) for one in results.scorings],
        **({"stopping": _stopping(results.looks)} if results.spec.seeds == "auto" else {}),
        "tests": _tests(results.verdicts),
        "verdict": _verdict(results.verdicts),
    }


def receipt_text(receipt: Mapping[str, Any]) -> str:
    """The text of a receipt: the same for equal receipts, and no longer than one can read.

    Args:
        receipt: as returned by `receipt_of`.
    """
    return f"{_text(receipt, '')}\n"


def _text(value: Any, indent: str) -> str:
    inner = f"{indent}  "
    if isinstance(value, Mapping) and any(isinstance(one, list | dict) for one in value.values()):
        rows = [f"{inner}{json.dumps(key)}: {_text(one, inner)}" for key, one in value.items()]
    elif isinstance(value, list) and any(isinstance(one, str) for one in value):
        rows = [f"{inner}{_text(one, inner)}" for one in value]
    else:  # on one line
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    first, last = "[]" if isinstance(value, list) else "{}"
    return "\n".join([first, ",\n".join(rows), f"{indent}{last}"])


def recipe_digest(recipe: RunSpec) -> str:
    """SHA-256 of a recipe: of the settings that differ from their defaults, without its label.

    A setting that a later version adds does not change it.

    Args:
        recipe: of a contender.
    """
    values = recipe.model_dump(mode="json", exclude_defaults=True, exclude={"label"})
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def stored_recipe(run: RunFolder) -> RunSpec | None:
    """The recipe that a run was started with; None where it is missing or damaged.

    Args:
        run: the run folder.
    """
    try:
        return RunSpec.model_validate(run.read_config()["recipe"], context={"stored": True})
    except (RunFolderError, ValueError):
        return None


def look(scoring: Scoring) -> str:
    """A scoring of the test images on one line: when, whose, by what, and SHA-256 of its line.

    Args:
        scoring: from the ledger.
    """
    digest = hashlib.sha256(scoring.line.encode("utf-8", "surrogateescape")).hexdigest()
    who = f"{scoring.study}/{scoring.contender}/seed-{scoring.seed}"
    return f"{scoring.at} {who} {scoring.by} {digest}"


def _images(folder: StudyFolder) -> dict[str, dict[str, Any]]:
    """By split: the number of images, and hashes of their bytes with labels, and of their rows."""
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for split, *row in image_rows(folder.images, "split", "path", "label", "group", "sha256"):
        rows.setdefault(split, []).append(tuple(row))
    found = {}
    for split, own in rows.items():
        _, labels, _, digests = zip(*own, strict=True)
        lines = sorted(json.dumps(row) for row in own)
        found[split] = {
            "n": len(own),
            "images": labelled_fingerprint(labels, digests),
            "rows": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        }
    return found


def _contender(contender: Contender, results: StudyResults) -> dict[str, Any]:
    name = contender.name
    return {
        "model": results.recipes[name].model,
        "recipe": recipe_digest(results.spec.contenders[name]),
        "runs": {run.folder.path.name: _run(run, results) for run in contender.runs},
    }


def _run(run: RunResult, results: StudyResults) -> dict[str, Any]:
    folder, recipe = run.folder, stored_recipe(run.folder)
    files = [folder.predictions("valid")]
    files += [folder.predictions("test", repeat) for repeat in range(len(run.replicates))]
    files += [one.predictions("test") for one in results.folder.folds(folder, results.spec)]
    return {
        "recipe": None if recipe is None else recipe_digest(recipe),
        "code": _code(folder),
        "weights": sha256_of(folder.best) if folder.best.is_file() else None,
        "accuracy": _number(run.scores.accuracy),
        "predictions": {
            file.relative_to(folder.path).as_posix(): sha256_of(file)
            for file in files
            if file.is_file()
        },
    }


def _code(run: RunFolder) -> str | None:
    """Hash of what `config.yaml` says of the origin of code that is not built in."""
    try:
        told = run.read_config().get("code")
    except RunFolderError:
        return None
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest() if told else None


def _tuning(results: StudyResults) -> str | None:
    """Hash of the record of the trials without how long each took; None: there is none."""
    file = tuning_file(results.folder.path)
    if not file.is_file():
        return None
    record = read_json(file)
    for one in record["contenders"].values():
        for trial in one["trials"]:
            trial.pop("seconds", None)
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _stopping(looks: Sequence[Look]) -> dict[str, Any]:
    """What each round of seeds showed, as `seeds: auto` decides by it whether to go on."""
    return {
        f"{one.seeds} seeds": {
            "stops": one.is_last,
            "pairs": {f"{pair.first} - {pair.second}": pair.outcome for pair in one.pairs},
        }
        for one in looks
    }


def _tests(verdicts: Verdicts | None) -> dict[str, Any] | None:
    """What was tested, and how; None where the contenders cannot be compared."""
    if verdicts is None:
        return None
    return {
        "n": verdicts.n,
        "pairs": len(verdicts.pairs),
        "level": _number(verdicts.level),
        **({"seed_level": verdicts.seed_level} if verdicts.seed_level < 1 else {}),
        "metric": verdicts.metric.described(),
        "why_accuracy": verdicts.why_accuracy,
        "margin": _number(verdicts.margin.size),
        "margin_chosen": verdicts.margin.chosen,
        "groups": None if verdicts.grouping is None else verdicts.grouping.groups,
        "folds": None if verdicts.folds is None else asdict(verdicts.folds),
    }


def _verdict(verdicts: Verdicts | None) -> dict[str, Any] | None:
    if verdicts is None:
        return None
    return {
        "may_be_best": [one.name for one in verdicts.leaders],
        "standings": {one.name: _standing(one) for one in verdicts.standings},
        "pairs": {f"{one.first} - {one.second}": _pair(one, verdicts) for one in verdicts.pairs},
    }


def _standing(one: Standing) -> dict[str, Any]:
    return {
        "places": [one.best, one.worst],
        "accuracy": _interval(one.accuracy),
        "score": None if one.score is None else _interval(one.score),
        "macro_f1": _number(one.macro_f1),
        "seeds": one.seeds,
    }


def _pair(pair: Pair, verdicts: Verdicts) -> dict[str, Any]:
    return {
        "verdict": pair.verdict,
        "winner": pair.winner,
        "about": pair.claim,
        "test": _test(pair, verdicts),
        "difference": _interval(pair.judged),
        "joint": _interval(pair.joint),
        "only_first": _number(pair.only_first),
        "only_second": _number(pair.only_second),
        "p": _number(pair.p),
        "p_adjusted": _number(pair.p_adjusted),
        "within": _number(pair.within),
    }


def _test(pair: Pair, verdicts: Verdicts) -> str:
    """The test that p comes from, see `podium.statistics.pair_tests`."""
    if verdicts.folds is not None:
        return "corrected resampled t"
    if pair.claim == "methods":
        return "t over seeds and images"
    if pair.seed_counts == (1, 1) and verdicts.metric.is_accuracy and verdicts.grouping is None:
        return "McNemar, mid-p"
    return "sign flips"


def _interval(one: Interval) -> list[float | None]:
    return [_number(one.value), _number(one.low), _number(one.high)]


def _number(value: float) -> float | None:
    """A number to 12 digits: further ones depend on the processor. None: it is not finite."""
    return float(f"{value:.12g}") if math.isfinite(value) else None
