"""(d) Prediction throughput: a plain PyTorch loop against Podium's, with decoding and without.

    python -m benchmarks.prediction --data sports100

Every measurement is a process of its own. The plain way is what a tutorial shows: ImageFolder,
resize, DataLoader with two workers, fp32 in the default memory layout. Podium's is
`evaluation.predict_split` as a study calls it; and, for the network that the audit looks with,
`auditing.embed` (batch norms folded, bf16 where the processor has it, one thread a core).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
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

__all__ = ["main", "render"]

MODELS = ("simple_resnet", "efficientnet_lite0", "resnet18")
WAYS = {
    "plain": "plain loop, fp32, default layout, 2 workers",
    "podium": "Podium, `predict_split`",
    "plain-memory": "plain loop, images in memory",
    "podium-memory": "Podium, images in memory",
}
EMBED = "embed:efficientnet_lite0"
BATCH = 32


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and publish; or, with `--one`, be one of the measured processes."""
    given = _parser().parse_args(arguments)
    if given.one is not None:
        way, model = given.one.split(":")
        found = _one(way, model, given)
        given.result.write_text(json.dumps(found), encoding="utf-8")
        return 0
    names = [f"{way}:{model}" for model in given.models for way in WAYS]
    if "efficientnet_lite0" in given.models:
        names.append(EMBED)

    def measure(name: str) -> dict[str, float]:
        with tempfile.TemporaryDirectory(prefix="podium-bench-") as folder:
            result, log = Path(folder, "result.json"), Path(folder, "log")
            command: list[str | Path] = [
                *(sys.executable, "-m", "benchmarks.prediction", "--one", name),
                *("--result", result, "--data", given.data, "--split", given.split),
                *("--images", str(given.images)),
            ]
            run_logged(command, log, timeout=given.timeout)
            found: dict[str, float] = json.loads(result.read_text(encoding="utf-8"))
            return found

    settings = {"split": given.split, "rounds": given.rounds, "batch_size": BATCH}
    record = new_record("prediction", settings)
    record["values"] = interleaved(names, measure, given.rounds)
    publish(record, render(record), given.json, given.out)
    return 0


def render(record: Mapping[str, Any]) -> str:
    """One row a model and way; ratios are to the plain loop with the same kind of input."""
    values = record["values"]
    rates = {name: spread(v["images_per_second"] for v in seen) for name, seen in values.items()}
    rows = []
    for name, (middle, least, most) in rates.items():
        way, model = name.split(":")
        base = rates[f"{'plain-memory' if way.endswith('memory') else 'plain'}:{model}"][0]
        side = values[name][0]["side"]
        label = "Podium's audit, folded, one thread a core" if name == EMBED else WAYS[way]
        ratio = "" if name == EMBED else f"{middle / base:.2f}"
        figures = [f"{middle:.1f}", f"{least:.1f} to {most:.1f}", ratio]
        rows.append([f"{model}, {side:.0f} px", label, *figures])
    header = ["model", "how", "images/s, median", "range", "x plain loop"]
    settings = record["settings"]
    return (
        f"{table(header, rows)}\n\nBatches of {settings['batch_size']}, images of the "
        f"{settings['split']} split, {settings['rounds']} rounds; a batch to warm up is not "
        "counted, starting the workers is. Ratios of rows in memory are to the plain loop in "
        "memory. The audit looks at smaller images, so its row has no ratio."
    )


def _one(way: str, model: str, given: argparse.Namespace) -> dict[str, float]:
    import torch

    from podium.data.fetch import resolve_data
    from podium.data.index import build_index

    torch.manual_seed(0)
    root = resolve_data(given.data)
    if way == "plain":
        return _plain(model, root, given)
    index = build_index(root)
    if way == "embed":
        return _embed(index)
    if way == "podium":
        return _podium(model, index, given)
    return _memory(way, model, index, given)


def _plain(model: str, root: Path, given: argparse.Namespace) -> dict[str, float]:
    import torch
    from torch.utils.data import DataLoader, Subset
    from torchvision import datasets, transforms

    from podium.data.layout import SPLIT_NAMES

    folder = next(f for f in root.iterdir() if SPLIT_NAMES.get(f.name.lower()) == given.split)
    module, side = _module(model, 100)
    module = module.to(memory_format=torch.contiguous_format)
    steps = transforms.Compose([transforms.Resize((side, side)), transforms.ToTensor()])
    every = datasets.ImageFolder(str(folder), steps)
    images = Subset(every, range(min(given.images, len(every))))
    loader = DataLoader(images, batch_size=BATCH, num_workers=2)
    with torch.no_grad():
        module(torch.rand(BATCH, 3, side, side))
        began = time.perf_counter()
        for inputs, _ in loader:
            module(inputs).argmax(1)
    return _rate(len(images), time.perf_counter() - began, side)


def _podium(model: str, index: Any, given: argparse.Namespace) -> dict[str, float]:
    import torch

    from podium.config import Machine
    from podium.evaluation import TrainedModel, predict_split
    from podium.machine import choose_device, choose_workers

    module, side = _module(model, len(index.classes))
    device = choose_device(Machine())
    module = module.to(device.torch).to(memory_format=torch.channels_last)
    trained = TrainedModel(module, index.classes, side, None)
    with torch.inference_mode():
        blank = torch.rand(BATCH, 3, side, side).to(device.torch)
        module(blank.contiguous(memory_format=torch.channels_last))
    part = _first(index, given.split, given.images)
    workers = choose_workers(Machine(), device)
    began = time.perf_counter()
    found = predict_split(
        trained, part, given.split, device=device.torch, batch_size=BATCH, workers=workers
    )
    return _rate(len(found), time.perf_counter() - began, side)


def _memory(way: str, model: str, index: Any, given: argparse.Namespace) -> dict[str, float]:
    """The model alone: batches that are decoded already, as each way's loader hands them over."""
    import numpy as np
    import torch

    from podium.data.images import load_rgb
    from podium.inference import predict
    from podium.transforms import eval_transform

    module, side = _module(model, len(index.classes))
    paths, transform = index.splits[given.split].paths[: given.images], eval_transform(side)
    pixels = [transform(load_rgb(index.root / path, name=path)) for path in paths]
    groups = [torch.stack(pixels[at : at + BATCH]) for at in range(0, len(pixels), BATCH)]
    run: Callable[[], object]
    if way == "plain-memory":
        module = module.to(memory_format=torch.contiguous_format)
        floats = [group.float() / 255 for group in groups]

        def run() -> object:
            with torch.no_grad():
                return [module(inputs).argmax(1) for inputs in floats]

    else:
        module = module.to(memory_format=torch.channels_last)
        batches: Any = [(g, torch.zeros(len(g)), torch.from_numpy(np.arange(len(g))))
                        for g in groups]  # fmt: skip

        def run() -> object:
            return predict(module, batches, torch.device("cpu"), None)

    with torch.inference_mode():
        module(torch.rand(BATCH, 3, side, side))
    began = time.perf_counter()
    run()
    return _rate(len(pixels), time.perf_counter() - began, side)


def _embed(index: Any) -> dict[str, float]:
    from podium.auditing.embed import SIDE, embed

    with tempfile.TemporaryDirectory() as folder:  # an empty cache: everything is computed
        began = time.perf_counter()
        features = embed(index, cache_folder=Path(folder))
        return _rate(len(features), time.perf_counter() - began, SIDE)


def _module(model: str, classes: int) -> tuple[Any, int]:
    from podium.models import build_model

    built = build_model(model, classes)
    return built.module.eval(), built.image_size


def _first(index: Any, split: str, count: int) -> Any:
    """The index with the first images of a split alone."""
    from dataclasses import replace

    part = index.splits[split]
    fewer = replace(part, paths=part.paths[:count], labels=part.labels[:count])
    return replace(index, splits={**index.splits, split: fewer})


def _rate(images: int, seconds: float, side: int) -> dict[str, float]:
    if not images:
        raise BenchmarkError("there were no images to predict")
    return {"images_per_second": images / seconds, "images": images, "side": side}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Prediction throughput, images a second.")
    parser.add_argument("--data", default="sports100", help="folder with train/ and valid/")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--split", choices=("train", "valid"), default="train")
    parser.add_argument("--images", type=int, default=500, help="how many of the split")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one measurement")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    add_output_options(parser, "prediction")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
