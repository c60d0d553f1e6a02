"""(a) Training throughput: Podium against the paper's way, and against what users run instead.

    python -m benchmarks.training --data sports100 \
        --timm-script PATH/train.py --hf-script PATH/run_image_classification.py

Every contender trains in a process of its own, on the same images with the same batch size, and
is timed by the same stopwatch (`stopwatch.py`) between the steps of its first epoch.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import contenders as who
from benchmarks.common import (
    ROOT,
    BenchmarkError,
    add_output_options,
    interleaved,
    new_record,
    publish,
    read_record,
    run_logged,
    spread,
    table,
)
from benchmarks.contenders import CONTENDERS, GROUP_MODELS, Place
from benchmarks.limit import flops_per_image

__all__ = ["add_contender_options", "find_place", "main", "measure", "render"]

LIMIT = "limit"  # measured with the contenders, in every round
STOPWATCH = Path(__file__).resolve().parent / "stopwatch.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and publish; 0 if every contender that can run here did."""
    given = _parser().parse_args(arguments)
    names = given.only or list(CONTENDERS)
    unknown = sorted(set(names) - set(CONTENDERS))
    if unknown:
        print(f"--only {unknown[0]}: expected some of {', '.join(CONTENDERS)}", file=sys.stderr)
        return 2
    settings = {"batch_size": given.batch_size, "seconds": given.seconds, "warmup": given.warmup}
    record = new_record("training", settings) | {"values": {}, "missing": {}}
    if given.append and given.json.is_file():
        before = read_record(given.json)
        record["values"], record["missing"] = before["values"], before["missing"]
    with tempfile.TemporaryDirectory(prefix="podium-bench-") as folder:
        place, images = find_place(given, Path(folder))
        record["settings"] |= {"images": images, "classes": place.classes}
        able = []
        for name in names:
            record["missing"].pop(name, None)
            if why := CONTENDERS[name].missing(place):
                record["missing"][name] = why
                print(f"{name}: left out, {why}")
            else:
                able.append(name)
        timed = functools.partial(measure, given=given, place=place, images=images)
        found = interleaved([LIMIT, *able], timed, given.rounds)
        record["limit"] = found.pop(LIMIT)
        record["flops"] = {
            group: flops_per_image(model, size, place.classes)
            for group, (model, size) in GROUP_MODELS.items()
        }
        for name, values in found.items():
            good = [value for value in values if value]
            if good:
                record["values"].setdefault(name, []).extend(good)
            elif name not in record["values"]:
                record["missing"][name] = "it did not run; see what it said"
    publish(record, render(record), given.json, given.out)
    return int(any(name not in record["values"] for name in able))


def render(record: Mapping[str, Any]) -> str:
    """The tables of a record, one a group of contenders, each with ratios to the group's base."""
    settings, parts = record["settings"], []
    peak = {
        kind: max(one[kind] for one in record["limit"] if kind in one)
        for kind in ("fp32", "bf16")
        if any(kind in one for one in record["limit"])
    }
    for group in dict.fromkeys(contender.group for contender in CONTENDERS.values()):
        inside = {name: c for name, c in CONTENDERS.items() if c.group == group}
        base = next(name for name, c in inside.items() if c.base)
        rates = {
            name: spread(value["images_per_second"] for value in record["values"][name])
            for name in inside
            if record["values"].get(name)
        }
        rows = []
        for name, contender in inside.items():
            if name in rates:
                middle, least, most = rates[name]
                ratio = f"{middle / rates[base][0]:.2f}" if base in rates else ""
                first = spread(v["first_step_seconds"] for v in record["values"][name])[0]
                work = middle * record["flops"][group] / 1e9
                figures = [f"{middle:.1f}", f"{least:.1f} to {most:.1f}", ratio, f"{work:.0f}",
                           f"{first:.1f}"]  # fmt: skip
                rows.append([contender.label, contender.note, *figures])
            elif name in record["missing"]:
                rows.append([contender.label, contender.note, "not run", "", "", "", ""])
        if rows:
            header = ["", "how", "images/s, median", "range", f"x {inside[base].label}",
                      "GFLOP/s", "s to the first step"]  # fmt: skip
            parts.append(f"**{group}**\n\n{table(header, rows)}")
    runs = max((len(values) for values in record["values"].values()), default=0)
    parts.append(
        f"Batch {settings['batch_size']}, {settings['images']:,} images of "
        f"{settings['classes']} classes, up to {settings['seconds']:g} s a measurement after "
        f"{settings['warmup']} steps, up to {runs} measurements each, all from scratch weights. "
        f"A product of two large matrices, the most that this processor does, runs at "
        f"{peak['fp32'] / 1e9:.0f} GFLOP/s in fp32"
        + (
            f" and {peak['bf16'] / 1e9:.0f} in bf16, {peak['bf16'] / peak['fp32']:.1f} times that."
            if "bf16" in peak
            else "; it has no bf16."
        )
    )
    return "\n\n".join(parts)


def measure(name: str, given: argparse.Namespace, place: Place, images: int) -> dict[str, float]:
    """One measurement of one contender; nothing where it failed, since the others may go on.

    `given` has what `add_contender_options` adds; `place` and `images` are `find_place`'s.
    """
    if name == LIMIT:
        out = place.scratch / "limit.json"
        command: list[str | Path] = [sys.executable, "-m", "benchmarks.limit", "--out", out]
        run_logged(command, place.scratch / "limit.log", timeout=given.timeout, cwd=ROOT)
        return dict(json.loads(out.read_text(encoding="utf-8")))
    contender = CONTENDERS[name]
    with tempfile.TemporaryDirectory(prefix=f"{name.replace(':', '-')}-") as folder:
        at = replace(place, scratch=Path(folder))
        python, out, log = (
            who.interpreter(contender, at),
            at.scratch / "t.json",
            Path(folder, "log"),
        )
        environment = {**contender.environment, **_environment(contender.peer, at)}
        limit = functools.partial(
            run_logged, log=log, timeout=given.timeout, environment=environment, cwd=_cwd(contender)
        )
        try:
            if contender.prepare is not None:
                limit([python, *contender.prepare(at)])
            limit(
                [
                    *(python, STOPWATCH, "--out", out, "--warmup", str(given.warmup)),
                    *("--seconds", str(given.seconds), "--steps", str(images // at.batch_size)),
                    *contender.command(at),
                ]
            )
            found = json.loads(out.read_text(encoding="utf-8"))
        except (BenchmarkError, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return {}
    return {
        "images_per_second": at.batch_size * found["steps"] / found["seconds"],
        "first_step_seconds": found["first_step_seconds"],
        "steps": found["steps"],
    }


def _cwd(contender: who.Contender) -> Path | None:
    # Hugging Face's example loads the metric `accuracy` from a folder of that name, or the hub
    return STOPWATCH.parent / "peers" if contender.peer else None


def _environment(peer: bool, at: Place) -> dict[str, str]:
    if not peer:
        return {}
    inside = str(at.scratch)
    return {
        **who.OFFLINE,
        "PYTHONPATH": "",
        "HF_HOME": inside,
        "YOLO_CONFIG_DIR": inside,
        "YOLO_AUTOINSTALL": "false",
    }


def find_place(given: argparse.Namespace, scratch: Path) -> tuple[Place, int]:
    """The images under names that all contenders take, and how many train."""
    from podium.data.fetch import resolve_data

    root = resolve_data(given.data)
    train = root / "train"
    valid = next((root / n for n in ("valid", "val", "validation") if (root / n).is_dir()), None)
    if not train.is_dir() or valid is None:
        raise BenchmarkError(f"{root}: expected the folders train/ and valid/.")
    data = scratch / "data"  # links: some peers write files beside the images
    data.mkdir()
    for name, target in {"train": train, "valid": valid}.items():
        (data / name).symlink_to(target.resolve(), target_is_directory=True)
    classes = [folder for folder in train.iterdir() if folder.is_dir()]
    images = sum(1 for folder in classes for _ in folder.iterdir())
    if images // given.batch_size <= given.warmup:
        raise BenchmarkError(
            f"{images} images are {images // given.batch_size} steps of {given.batch_size}: "
            f"expected more than --warmup {given.warmup}."
        )
    place = Place(
        root.resolve(),
        data,
        scratch,
        given.batch_size,
        len(classes),
        given.peers_python,
        given.timm_script and given.timm_script.resolve(),
        given.hf_script and given.hf_script.resolve(),
    )
    return place, images


def add_contender_options(parser: argparse.ArgumentParser) -> None:
    """What a measurement of a contender needs: its images, how long, and where the peers are."""
    parser.add_argument("--data", default="sports100", help="folder with train/ and valid/")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--warmup", type=int, default=5, help="steps that are not counted")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one measurement")
    parser.add_argument(
        "--peers-python", type=Path, default=ROOT / ".venv-peers" / "bin" / "python"
    )
    parser.add_argument("--timm-script", type=Path, help="train.py of pytorch-image-models")
    parser.add_argument("--hf-script", type=Path, help="run_image_classification.py")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Training throughput, images a second.")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=", ".join(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--append", action="store_true", help="add to the record that is there")
    add_contender_options(parser)
    add_output_options(parser, "training")
    return parser


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    raise SystemExit(main())
