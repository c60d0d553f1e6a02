"""(d) Prediction throughput: a plain PyTorch loop against Podium's, with decoding and without.

    python -m benchmarks.prediction --data sports100

With `--runs`, finished runs of these models are exported to every format and measured beside
PyTorch on the test images, with their accuracy:

    python -m benchmarks.prediction --runs runs/STUDY/*/seed-0

Every measurement is a process of its own. The plain way is what a tutorial shows: ImageFolder,
resize, DataLoader with two workers, fp32 in the default memory layout. Podium's is
`evaluation.predict_split` as a study calls it; exports are opened by `load_exported`; and, for
the network that the audit looks with, `auditing.embed` (batch norms folded, bf16 where the
processor has it, one thread a core).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import (
    BenchmarkError,
    add_output_options,
    interleaved,
    new_record,
    publish,
    run_logged,
    spread,
    table,
)
from benchmarks.prediction_ways import BATCH, EXPORTS, measure_once, runs_by_model

__all__ = ["main", "render"]

MODELS = ("simple_resnet", "efficientnet_lite0", "resnet18")
WAYS = {
    "plain": "plain loop, fp32, default layout, 2 workers",
    "podium": "Podium, `predict_split`",
    "plain-memory": "plain loop, images in memory",
    "podium-memory": "Podium, images in memory",
}
EMBED = "embed:efficientnet_lite0"
PREDICTOR = {"predictor": "Podium's predictor, PyTorch fp32"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and publish; or, with `--one`, be one of the measured processes."""
    given = _parser().parse_args(arguments)
    given.split = given.split or ("test" if given.runs else "train")
    if given.one is not None:
        way, model = given.one.split(":")
        found = measure_once(way, model, given)
        given.result.write_text(json.dumps(found), encoding="utf-8")
        return 0
    with tempfile.TemporaryDirectory(prefix="podium-bench-") as folder:
        return _all(given, Path(folder))


def _all(given: argparse.Namespace, folder: Path) -> int:
    ways, models = list(WAYS), list(given.models)
    if given.runs:
        runs = runs_by_model(given.runs)
        models = [model for model in models if model in runs]
        if not models:
            raise BenchmarkError(f"--runs has runs of {', '.join(runs)}; none is in --models")
        for model in models:
            print(f"exporting {model}", flush=True)
            _export(runs[model].path, folder / model, given)
        both = [*PREDICTOR, *EXPORTS]
        ways += [f"{way}{where}" for way in both for where in ("", "-memory")]
    wanted = [way for way in ways if _input(way) in given.inputs]
    names = [f"{way}:{model}" for model in models for way in wanted]
    if given.runs:
        names = [name for name in names if _is_there(name, folder, runs)]
    elif "efficientnet_lite0" in models and "files" in given.inputs:
        names.append(EMBED)

    def measure(name: str) -> dict[str, float]:
        result, log = folder / "result.json", folder / "log"
        command: list[str | Path] = [
            *(sys.executable, "-m", "benchmarks.prediction", "--one", name),
            *("--result", result, "--data", given.data, "--split", given.split),
            *("--images", str(given.images), "--exports", folder),
        ]
        if given.runs:
            command += ["--runs", *given.runs]
        run_logged(command, log, timeout=given.timeout)
        found: dict[str, float] = json.loads(result.read_text(encoding="utf-8"))
        return found

    settings = {"split": given.split, "rounds": given.rounds, "batch_size": BATCH}
    record = new_record("prediction", settings)
    record["values"] = interleaved(names, measure, given.rounds)
    publish(record, render(record), given.json, given.out)
    return 0


def _input(way: str) -> str:
    return "memory" if way.endswith("-memory") else "files"


def _export(run: Path, to: Path, given: argparse.Namespace) -> None:
    """All formats of a run, by the real command."""
    base: list[str | Path] = [sys.executable, "-m", "podium", "export", run, "--to", to]
    base += ["--rounds", "0", "--data", given.data, "--calibration", given.data]
    for options in (
        ["--format", "torchscript", "--format", "pt2", "--format", "onnx", "--format", "openvino"],
        ["--format", "onnx", "--format", "openvino", "--int8"],
    ):
        run_logged([*base, *options], to.with_suffix(".log"), timeout=given.timeout)


def _is_there(name: str, folder: Path, runs: Mapping[str, Any]) -> bool:
    """Whether a way can be measured: bf16 was checked on a processor that has it alone."""
    way, model = name.split(":")
    kind = way.removesuffix("-memory")
    if kind != "openvino-bf16":
        return True
    from podium.deploy.export.load import read_record

    place = folder / model / f"{runs[model].contender}{EXPORTS[kind][1]}"
    return "bf16" in read_record(place).checks


def render(record: Mapping[str, Any]) -> str:
    """One row a model and way; ratios are to the plain loop with the same kind of input."""
    values = record["values"]
    rates = {name: spread(v["images_per_second"] for v in seen) for name, seen in values.items()}
    exported = any("top1" in seen[0] for seen in values.values())
    rows = []
    for name, (middle, least, most) in rates.items():
        way, model = name.split(":")
        base = rates[f"{'plain-memory' if way.endswith('memory') else 'plain'}:{model}"][0]
        side = values[name][0]["side"]
        ratio = "" if name == EMBED else f"{middle / base:.2f}"
        figures = [f"{middle:.1f}", f"{least:.1f} to {most:.1f}", ratio]
        if exported:
            figures.append(f"{100 * values[name][0]['top1']:.2f} %")
        rows.append([f"{model}, {side:.0f} px", _label(name), *figures])
    header = ["model", "how", "images/s, median", "range", "x plain loop"]
    settings = record["settings"]
    told = (
        f"{table([*header, *(['top-1'] if exported else [])], rows)}\n\n"
        f"Batches of {settings['batch_size']}, images of the "
        f"{settings['split']} split, {settings['rounds']} rounds; batches to warm up are not "
        "counted, starting the workers is. Ratios of rows in memory are to the plain loop in "
        "memory."
    )
    if exported:
        return (
            f"{told} Where a run averages the logits of a picture and its mirror image, all its "
            "rows do. Exports from files: pictures are decoded by one thread a core while the "
            "last batch is computed."
        )
    return f"{told} The audit looks at smaller images, so its row has no ratio."


def _label(name: str) -> str:
    if name == EMBED:
        return "Podium's audit, folded, one thread a core"
    way = name.split(":")[0]
    if way in WAYS:
        return WAYS[way]
    kind = way.removesuffix("-memory")
    label = PREDICTOR.get(kind) or EXPORTS[kind][0]
    return f"{label}, images in memory" if way.endswith("-memory") else label


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Prediction throughput, images a second.")
    parser.add_argument("--data", default="sports100", help="folder with train/ and valid/")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--runs", nargs="+", type=Path, default=[], help="finished runs to export")
    parser.add_argument(
        "--split", choices=("train", "valid", "test"), help="default: train; test with --runs"
    )
    parser.add_argument("--images", type=int, default=500, help="how many of the split")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--inputs", nargs="+", choices=("files", "memory"), default=["files", "memory"],
        help="pictures that are decoded on the way, or before it; default: both",
    )  # fmt: skip
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one measurement")
    parser.add_argument("--exports", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    add_output_options(parser, "prediction")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
