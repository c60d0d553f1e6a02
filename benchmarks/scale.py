"""(e) Memory and time as images and predictions grow to 1M, entries to 10M and classes to 10k.

    python -m benchmarks.scale --data sports100

Images are hard links to real photographs in a temporary folder, removed afterwards; entries of an
index without images, and predictions, are drawn at random. Every figure is of a process of its own:
wall time, processor time (which other work on the machine changes little), and memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import entries
from benchmarks.common import (
    ROOT,
    BenchmarkError,
    add_output_options,
    new_record,
    publish,
    run_logged,
    table,
)

__all__ = ["link_images", "main", "measured", "render"]

IMAGES = {"index": "index, every file decoded", "again": "index again, from its cache"}
ENTRIES = {
    "open-first": "a pack's index, opened for the first time on this machine",
    "open": "opened again, by any process",
    "worker": "its training images, in a decoding process",
    "check": "`podium data check`",
    "files": "a study's data.json and images.parquet, written",
    "folds": "ten folds of all images, and the index of one",
}
AUDITED = {"audit": "the audit, with drawn thumbnails and features"}
PREDICTED = {
    "read": "a run's test predictions, read",
    "compare": "`podium compare` of two contenders",
    "report-of": "their report, written",
}
DRAWN: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("entries", "draw", ENTRIES),
    ("audited", "draw", AUDITED),
    ("predicted", "fill", PREDICTED),
)
"""What has images that do not exist: its option, what draws them, and what is measured of them."""
CLASSES = {
    "step": "a training step of SimpleResNet",
    "predictions": "predictions file, written and read",
    "metrics": "scores and the table of classes",
    "report": "report of two contenders",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and publish; or, with `--one`, be one of the measured processes."""
    given = _parser().parse_args(arguments)
    if given.one is not None:
        kind, size = given.one.split(":")
        if kind == "worker":
            found = entries.in_a_worker(int(size), given.place)
        else:
            found = measured(_WORK[kind](int(size), given))
        given.result.write_text(json.dumps(found), encoding="utf-8")
        return 0
    settings = {"predictions": given.predictions, "timeout": given.timeout}
    record = new_record("scale", settings) | {"values": {}}
    with tempfile.TemporaryDirectory(prefix="podium-scale-", dir=given.scratch) as folder:
        for size in given.images:
            place = Path(folder, str(size))
            link_images(_photographs(given.data), place / "images", size)
            for kind in IMAGES:
                _note(record, f"{kind}:{size}", place, given)
        for name, maker, kinds in DRAWN:
            for size in getattr(given, name):
                place = Path(folder, f"{name}-{size}")
                place.mkdir()
                _child(f"{maker}:{size}", place, given)
                for kind in kinds:
                    _note(record, f"{kind}:{size}", place, given)
        for size in given.classes:
            place = Path(folder, f"classes-{size}")
            place.mkdir()
            for kind in CLASSES:
                if kind == "report":  # drawn in a process of its own: its memory is not counted
                    _child(f"make:{size}", place, given)
                _note(record, f"{kind}:{size}", place, given)
    publish(record, render(record), given.json, given.out)
    return 0


def link_images(photographs: Sequence[Path], root: Path, count: int, classes: int = 100) -> None:
    """`count` hard links to the photographs: `root/split/class/n.jpg`, 98 % of them to train on."""
    names = [f"class-{number:03d}" for number in range(min(classes, max(2, count // 10)))]
    held = max(1, count // (100 * len(names)))  # a class, in each of valid and test
    for number, name in enumerate(names):
        mine = count // len(names) + (number < count % len(names))
        for split, first, last in (
            ("valid", 0, held), ("test", held, 2 * held), ("train", 2 * held, mine),
        ):  # fmt: skip
            folder = root / split / name
            folder.mkdir(parents=True)
            for at in range(first, last):
                source = photographs[(at * len(names) + number) % len(photographs)]
                os.link(source, folder / f"{at:07d}{source.suffix}")


def render(record: Mapping[str, Any]) -> str:
    """A table for each thing that grows: images, entries, predictions and classes."""
    parts = []
    tables = {
        "images": IMAGES,
        "entries": ENTRIES,
        "images audited": AUDITED,
        "test images": PREDICTED,
        "classes": CLASSES,
    }
    for title, kinds in tables.items():
        rows = []
        for kind, label in kinds.items():
            found = {int(name.split(":")[1]): value for name, value in record["values"].items()
                     if name.split(":")[0] == kind}  # fmt: skip
            for size, value in found.items():
                if "failed" in value:
                    rows.append([label, f"{size:,}", value["failed"], "", "", ""])
                    continue
                rows.append(
                    [
                        label,
                        f"{size:,}",
                        f"{value['seconds']:.2f}",
                        f"{value['cpu_seconds']:.2f}",
                        f"{value['own_mib']:,.0f}",
                        f"{value['peak_mib']:,.0f}",
                    ]
                )
        if rows:
            header = [
                *("", title, "seconds", "processor seconds"),
                *("own memory added, MiB", "peak memory, MiB"),
            ]
            parts.append(table(header, rows))
    parts.append(
        f"Test images are of {entries.CLASSES:,} classes. By classes, predictions, metrics and "
        f"report are of {record['settings']['predictions']:,} images. Own memory "
        "added is what the work left in the process, without what it maps from files; peak memory "
        "is that of the whole process, Python, PyTorch and mapped files included. "
        "Nothing is left running or on the disk."
    )
    return "\n\n".join(parts)


def _note(record: dict[str, Any], name: str, place: Path, given: argparse.Namespace) -> None:
    try:
        record["values"][name] = _child(name, place, given)
    except BenchmarkError as error:  # what breaks is a result
        print(error, file=sys.stderr)
        late = "took more than" in str(error)
        record["values"][name] = {"failed": f"> {given.timeout:.0f} s" if late else "failed"}
    print(f"{name}: {record['values'][name]}", flush=True)


def _child(name: str, place: Path, given: argparse.Namespace) -> dict[str, float]:
    result, log = place / "result.json", place / "log"
    command: list[str | Path] = [
        *(sys.executable, "-m", "benchmarks.scale", "--one", name, "--result", result),
        *("--place", place, "--predictions", str(given.predictions)),
    ]
    cache = {"PODIUM_CACHE": str(place / "cache")}
    run_logged(command, log, timeout=given.timeout, environment=cache, cwd=ROOT)
    found: dict[str, float] = json.loads(result.read_text(encoding="utf-8"))
    return found


def measured(work: Callable[[], object]) -> dict[str, float]:
    """Do it once: seconds, processor seconds, memory that it added, the process's peak."""
    own, before, began = entries.own_mib(), time.process_time(), time.perf_counter()
    kept = work()
    seconds, cpu = time.perf_counter() - began, time.process_time() - before
    gc.collect()
    added = entries.own_mib() - own
    del kept  # it was to be alive until here
    return {"seconds": seconds, "cpu_seconds": cpu, "own_mib": added, "peak_mib": _peak_mib()}


def _peak_mib() -> float:
    """Most memory that this process held at once."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux's ru_maxrss begins with the peak of the process that started us
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _index(size: int, given: argparse.Namespace) -> Callable[[], object]:
    from podium.data.indexing import build_index

    def work() -> object:
        index = build_index(given.place / "images", cache_folder=given.place / "cache")
        if sum(map(len, index.splits.values())) != size:
            raise BenchmarkError(f"the index lost images: {index.notices}")
        return index

    return work


def _step(classes: int, given: argparse.Namespace) -> Callable[[], object]:
    import torch

    from podium.config.settings import RunSpec
    from podium.models import build_model
    from podium.training.optimizers import make_optimizer

    built = build_model("simple_resnet", classes)
    module = built.module.to(memory_format=torch.channels_last)
    recipe = RunSpec(model="simple_resnet", epochs=1)
    optimizer = make_optimizer(recipe, built)
    images = torch.rand(32, 3, built.image_size, built.image_size)
    labels = torch.arange(32) % classes

    def work() -> object:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(module(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()

    work()
    return work


def _drawn(classes: int, count: int) -> Any:
    import numpy as np

    from podium.runs.predictions import Predictions

    random = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.int64) % classes
    logits = random.standard_normal((count, classes), dtype=np.float32)
    logits[np.arange(count), labels] += 4
    names = tuple(f"class {number}" for number in range(classes))
    return Predictions(names, tuple(f"test/{n}.jpg" for n in range(count)), labels, logits)


def _predictions(classes: int, given: argparse.Namespace) -> Callable[[], object]:
    from podium.runs.predictions import Predictions

    found, path = _drawn(classes, given.predictions), given.place / "predictions.parquet"

    def work() -> object:
        found.write(path)
        return Predictions.read(path)

    return work


def _metrics(classes: int, given: argparse.Namespace) -> Callable[[], object]:
    from podium.statistics import metrics

    found = _drawn(classes, given.predictions)
    return lambda: (metrics.scores(found), metrics.per_class(found))


def _made(classes: int, given: argparse.Namespace) -> Callable[[], object]:
    """A finished study with drawn predictions, as the tests have it."""
    from tests.fake_study import fake_study

    names = [f"class {number}" for number in range(classes)]
    each = max(1, given.predictions // classes)
    picture = entries.dot()
    pictures = {name: [picture] * each for name in names}
    study = given.place / "study"
    return lambda: fake_study(study, names, contenders=2, per_class=each, pictures=pictures)


def _check(count: int, given: argparse.Namespace) -> Callable[[], object]:
    from podium.cli.app import main as podium

    def work() -> object:
        if podium(["data", "check", str(given.place / "packed")]):
            raise BenchmarkError("podium data check failed")
        return None

    return work


def _audit(count: int, given: argparse.Namespace) -> Callable[[], object]:
    from benchmarks import audited

    return audited.audit(count, given.place)


def _read(count: int, given: argparse.Namespace) -> Callable[[], object]:
    from podium.runs.folder import StudyFolder
    from podium.runs.predictions import Predictions

    def work() -> object:
        study = StudyFolder(given.place / "study")
        found = Predictions.read(study.runs(study.read_spec())[0].predictions("test"))
        if len(found) != count:
            raise BenchmarkError(f"{len(found):,} predictions instead of {count:,}")
        return found

    return work


def _compare(count: int, given: argparse.Namespace) -> Callable[[], object]:
    from podium.cli.app import main as podium

    def work() -> object:
        if podium(["compare", str(given.place / "study")]):
            raise BenchmarkError("podium compare failed")
        return None

    return work


def _report(size: int, given: argparse.Namespace) -> Callable[[], object]:
    from podium.reporting import build_report
    from podium.runs.folder import StudyFolder

    return lambda: build_report(StudyFolder(given.place / "study"))


_WORK: dict[str, Callable[[int, argparse.Namespace], Callable[[], object]]] = {
    "draw": lambda count, given: entries.draw(count, given.place),
    "open-first": lambda count, given: entries.opening(count, given.place),
    "open": lambda count, given: entries.opening(count, given.place),
    "check": _check,
    "files": lambda count, given: entries.study_files(count, given.place),
    "folds": lambda count, given: entries.folds(count, given.place),
    "audit": _audit,
    "index": _index,
    "again": _index,
    "step": _step,
    "predictions": _predictions,
    "metrics": _metrics,
    "fill": lambda count, given: entries.fill(count, given.place / "study"),
    "read": _read,
    "compare": _compare,
    "report-of": _report,
    "make": _made,
    "report": _report,
}


def _photographs(data: str) -> list[Path]:
    from podium.data.fetch import resolve_data

    root = resolve_data(data)
    found = sorted(p for p in root.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not found:
        raise BenchmarkError(f"There are no photographs in {root}.")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Memory and time by images and classes.")
    parser.add_argument("--data", default="sports100", help="folder of photographs")
    parser.add_argument(
        "--images", nargs="*", type=int, default=[1_000, 10_000, 100_000, 1_000_000]
    )
    parser.add_argument("--entries", nargs="*", type=int, default=[1_000_000, 10_000_000])
    parser.add_argument("--audited", nargs="*", type=int, default=[50_000, 1_000_000])
    parser.add_argument("--predicted", nargs="*", type=int, default=[50_000, 1_000_000])
    parser.add_argument("--classes", nargs="*", type=int, default=[10, 100, 1_000, 10_000])
    parser.add_argument("--predictions", type=int, default=10_000, help="images predicted")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one measurement")
    parser.add_argument(
        "--scratch", type=Path, help="folder on the photographs' file system, for the links"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    add_output_options(parser, "scale")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
