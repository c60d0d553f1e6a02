"""(c) Time to accuracy: what finished runs reached and when, against the paper's way's time.

    python -m benchmarks.accuracy runs/sports100/simple_resnet/seed-0 ... --goals 70 80 84
    python -m benchmarks.accuracy --run sports100 --data DIR

Reads real runs (`history.csv`, `done.json`) and trains nothing, unless `--run STUDY` asks for it.
The paper's way is not trained for its hours: its throughput comes from the record of
`benchmarks.training`, times its epochs. Validation images alone; no test score is read.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarks.common import (
    BenchmarkError,
    add_output_options,
    new_record,
    publish,
    read_record,
    record_file,
    spread,
    table,
)

__all__ = ["PAPER_EPOCHS", "main", "read_run", "render"]

PAPER_EPOCHS = {"simple_resnet": 60, "inception_resnet": 50, "resnet18": 10}
"""Epochs of the paper's best contender of each model (both learning rates)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Tabulate runs, print and publish."""
    given = _parser().parse_args(arguments)
    folders = list(given.runs)
    if given.run is not None:
        folders += _train(given.run, given.data, given.runs_folder)
    if not folders:
        print("Name at least one run's folder, or --run STUDY.", file=sys.stderr)
        return 2
    rates = read_record(given.rates)
    settings = {"goals": given.goals, "rates_of": rates["date"]}
    record = new_record("accuracy", settings)
    record["values"] = [read_run(folder, given.goals, given.paper_images) for folder in folders]
    for value in record["values"]:
        model, images = given.against or value["model"], value["train_images"]
        measured = rates["values"].get(f"paper:{model}")
        value["paper_model"] = model
        value["paper_seconds"] = (
            PAPER_EPOCHS[model] * images / spread(v["images_per_second"] for v in measured)[0]
            if measured and model in PAPER_EPOCHS and images
            else None
        )
    if given.append and given.json.is_file():
        earlier = read_record(given.json)
        told = {value["run"] for value in record["values"]}
        kept = [value for value in earlier["values"] if value["run"] not in told]
        record["values"] = kept + record["values"]
        record["settings"]["goals"] = sorted({*earlier["settings"]["goals"], *given.goals})
    publish(record, render(record), given.json, given.out)
    return 0


def read_run(folder: Path, goals: Sequence[float], images: int | None = None) -> dict[str, Any]:
    """What a finished run reached and when.

    Args:
        folder: `runs/<study>/<contender>/seed-<n>`.
        goals: validation accuracies, per cent.
        images: of training; empty: as the study's `data.json` has it.

    Returns:
        `seconds_to`: for each goal the seconds of training and validation until the first epoch
        that reached it, or None; and the run's names and totals.

    Raises:
        BenchmarkError: it is no finished run.
    """
    from podium.runs.folder import RunFolder, StudyFolder
    from podium.runtime.files import read_json

    run = RunFolder(folder, folder.resolve().parent.name, int(folder.name.partition("-")[2] or 0))
    if not run.is_done():
        raise BenchmarkError(f"{folder} is no finished run: expected done.json and history.csv.")
    rows, done = run.read_history(), read_json(run.done)
    clock = list(accumulate(row["seconds"] for row in rows))
    # what came before the first epoch, such as features that are computed once, counts too
    before = max(0.0, float(done["seconds"]) - clock[-1])
    reached = {
        f"{goal:g}": next(
            (before + at for row, at in zip(rows, clock, strict=True)
             if 100 * row["valid_accuracy"] >= goal - 1e-9),
            None,
        )
        for goal in goals
    }  # fmt: skip
    study = StudyFolder(folder.resolve().parents[1])
    if images is None and study.data.is_file():
        images = int(study.read_data()["totals"]["train"])
    return {
        "run": f"{study.path.name}/{run.contender}/{folder.name}",
        "model": done["model"],
        "train_images": images,
        "epochs": len(rows),
        "best_valid": max(row["valid_accuracy"] for row in rows),
        "seconds": before + clock[-1],
        "seconds_to": reached,
    }


def render(record: Mapping[str, Any]) -> str:
    """One row a run."""
    goals = [f"{goal:g}" for goal in record["settings"]["goals"]]
    header = ["run", "epochs", "best valid, %", *(f"to {goal} %" for goal in goals), "in all",
              "the paper's way", "x faster"]  # fmt: skip
    rows = []
    for value in record["values"]:
        paper = value["paper_seconds"]
        rows.append(
            [
                f"`{value['run']}`",
                str(value["epochs"]),
                f"{100 * value['best_valid']:.2f}",
                *(_reached(value, goal) for goal in goals),
                _time(value["seconds"]),
                _time(paper) if paper else "not known",
                f"{paper / value['seconds']:.1f}" if paper else "",
            ]
        )
    epochs = ", ".join(f"{name} {count}" for name, count in PAPER_EPOCHS.items())
    return (
        f"{table(header, rows)}\n\nTimes hold training and validation. `-`: not reached. The "
        f"paper's way: its epochs ({epochs}) times the training images, at the throughput that "
        f"`benchmarks.training` measured for it on {record['settings']['rates_of']}; its "
        "validation and decoding checks are not counted, in its favour."
    )


def _reached(value: Mapping[str, Any], goal: str) -> str:
    """When a run reached a goal; empty for a goal that nobody asked of it, and it did reach."""
    if goal not in value["seconds_to"] and 100 * value["best_valid"] >= float(goal):
        return ""
    return _time(value["seconds_to"].get(goal))


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.2f} h"


def _train(study: str, data: str | None, runs: Path) -> list[Path]:
    """Run a study by the real command, and give its finished runs."""
    command = [sys.executable, "-m", "podium", "run", study, "--runs", str(runs), "--no-audit"]
    subprocess.run([*command, *(("--data", data) if data else ())], check=True)
    from podium.config.studyfile import load_study
    from podium.runs.folder import StudyFolder

    spec = load_study(study)
    return [run.path for run in StudyFolder(runs / spec.name).runs(spec) if run.is_done()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Seconds to given validation accuracies.")
    parser.add_argument("runs", nargs="*", type=Path, help="folders .../CONTENDER/seed-N")
    parser.add_argument("--goals", nargs="+", type=float, default=[70.0, 80.0, 84.0, 96.8])
    parser.add_argument("--run", metavar="STUDY", help="train this study first")
    parser.add_argument("--data", help="its images, in place of its own")
    parser.add_argument("--runs-folder", type=Path, default=Path("runs"))
    parser.add_argument("--rates", type=Path, default=record_file("training"))
    parser.add_argument(
        "--against",
        choices=sorted(PAPER_EPOCHS),
        help="paper model to compare with (default: the run's own)",
    )
    parser.add_argument("--append", action="store_true", help="add to the record that is there")
    parser.add_argument("--paper-images", type=int, help="training images (default: the run's)")
    add_output_options(parser, "accuracy")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
