"""The measured processes of `benchmarks.prediction`: each way to predict, once."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import BenchmarkError

__all__ = ["BATCH", "EXPORTS", "measure_once", "runs_by_model"]

BATCH = 32

EXPORTS = {
    "torchscript": ("TorchScript, fp32", ".torchscript", None),
    "pt2": ("pt2, fp32", ".pt2", None),
    "onnx": ("ONNX, fp32", ".onnx", None),
    "onnx-int8": ("ONNX, int8", "-int8.onnx", None),
    "openvino": ("OpenVINO, fp32", "-openvino", "fp32"),
    "openvino-bf16": ("OpenVINO, bf16", "-openvino", "bf16"),
    "openvino-int8": ("OpenVINO, int8", "-int8-openvino", None),
}
"""Ways to run an export: what to call it, how its file ends, and its precision."""


def runs_by_model(runs: list[Path]) -> dict[str, Any]:
    """The runs' folders by the model that each trained.

    Raises:
        RunFolderError: a folder is no run's.
    """
    from podium.runs.find import run_folder

    folders = [run_folder(path) for path in runs]
    return {str(folder.read_config()["model_used"]): folder for folder in folders}


def measure_once(way: str, model: str, given: argparse.Namespace) -> dict[str, float]:
    """Images a second, and with runs the share of images that were right."""
    import torch

    from podium.data.fetch import resolve_data
    from podium.data.indexing import build_index

    torch.manual_seed(0)
    root = resolve_data(given.data)
    if way == "plain":
        return _plain(model, root, given)
    index = build_index(root)
    if way == "embed":
        return _embed(index)
    if way == "podium":
        return _podium(model, index, given)
    if way in ("plain-memory", "podium-memory"):
        return _memory(way, model, index, given)
    return _predictor(way, model, index, given)


def _plain(model: str, root: Path, given: argparse.Namespace) -> dict[str, float]:
    import torch
    from torch.utils.data import DataLoader, Subset
    from torchvision import datasets, transforms

    from podium.data.layout import SPLIT_NAMES

    folder = next(f for f in root.iterdir() if SPLIT_NAMES.get(f.name.lower()) == given.split)
    trained = _trained(model, tuple(map(str, range(100))), given)
    module, side = trained.module.to(memory_format=torch.contiguous_format), trained.image_size
    steps: list[Any] = [transforms.Resize((side, side)), transforms.ToTensor()]
    if trained.normalization is not None:
        steps.append(transforms.Normalize(*trained.normalization))
    every = datasets.ImageFolder(str(folder), transforms.Compose(steps))
    images = Subset(every, range(min(given.images, len(every))))
    loader = DataLoader(images, batch_size=BATCH, num_workers=2)
    right = 0
    with torch.no_grad():
        module(torch.rand(BATCH, 3, side, side))
        began = time.perf_counter()
        for inputs, labels in loader:
            right += int((_mirrored(module, inputs, trained).argmax(1) == labels).sum())
    seconds = time.perf_counter() - began
    return _rate(len(images), seconds, side, right if given.runs else None)


def _mirrored(module: Any, inputs: Any, trained: Any) -> Any:
    """Logits, averaged with those of the mirror images where the run does so."""
    logits = module(inputs)
    return (logits + module(inputs.flip(3))) / 2 if trained.flip_test else logits


def _podium(model: str, index: Any, given: argparse.Namespace) -> dict[str, float]:
    import torch

    from podium.config.machine import Machine
    from podium.evaluation.trained import predict_split
    from podium.runtime.device import choose_device, choose_workers

    trained = _trained(model, index.classes, given)
    device = choose_device(Machine())
    trained.module.to(device.torch).to(memory_format=torch.channels_last)
    side = trained.image_size
    with torch.inference_mode():
        blank = torch.rand(BATCH, 3, side, side).to(device.torch)
        trained.module(blank.contiguous(memory_format=torch.channels_last))
    part = _first(index, given.split, given.images)
    workers = choose_workers(Machine(), device)
    began = time.perf_counter()
    found = predict_split(
        trained, part, given.split, device=device.torch, batch_size=BATCH, workers=workers
    )
    seconds = time.perf_counter() - began
    right = int((found.predicted == found.labels).sum()) if given.runs else None
    return _rate(len(found), seconds, side, right)


def _memory(way: str, model: str, index: Any, given: argparse.Namespace) -> dict[str, float]:
    """The model alone: batches that are decoded already, as each way's loader hands them over."""
    import numpy as np
    import torch

    from podium.data.images import load_rgb
    from podium.data.transforms import eval_transform, prepare
    from podium.evaluation.inference import predict

    trained = _trained(model, index.classes, given)
    module, side, normalization = trained.module, trained.image_size, trained.normalization
    paths, transform = index.splits[given.split].paths[: given.images], eval_transform(side)
    pixels = [transform(load_rgb(index.root / path, name=path)) for path in paths]
    groups = [torch.stack(pixels[at : at + BATCH]) for at in range(0, len(pixels), BATCH)]
    run: Callable[[], list[Any]]
    if way == "plain-memory":
        module = module.to(memory_format=torch.contiguous_format)
        floats = [prepare(group, *(normalization or (None, None))) for group in groups]

        def run() -> list[Any]:
            with torch.no_grad():
                return [_mirrored(module, inputs, trained).argmax(1) for inputs in floats]

    else:
        module = module.to(memory_format=torch.channels_last)
        batches: Any = [(g, torch.zeros(len(g)), torch.from_numpy(np.arange(len(g))))
                        for g in groups]  # fmt: skip

        def run() -> list[Any]:
            place, flip = torch.device("cpu"), trained.flip_test
            return [predict(module, batches, place, normalization, flip=flip)[0].argmax(1)]

    with torch.inference_mode():
        module(torch.rand(BATCH, 3, side, side))
    began = time.perf_counter()
    answers = run()
    seconds = time.perf_counter() - began
    right = _right(np.concatenate([np.asarray(one) for one in answers]), index, given)
    return _rate(len(pixels), seconds, side, right)


def _predictor(way: str, model: str, index: Any, given: argparse.Namespace) -> dict[str, float]:
    """An export, or Podium's own predictor, from files or on pixels that are there already.

    Files are decoded by one thread a core while the last batch is computed.
    """
    import numpy as np

    from podium.data.images import load_rgb
    from podium.deploy.export.load import load_exported
    from podium.deploy.predictor import load_predictor
    from podium.runtime.threads import in_order

    in_memory = way.endswith("-memory")
    kind = way.removesuffix("-memory")
    run = runs_by_model(given.runs)[model]
    if kind == "predictor":
        predictor, _ = load_predictor(run, device="cpu")
    else:
        _, ending, precision = EXPORTS[kind]
        predictor = load_exported(
            given.exports / model / f"{run.contender}{ending}", precision=precision
        )
    side = predictor.image_size
    paths = index.splits[given.split].paths[: given.images]

    def look(path: str) -> Any:
        return predictor.pixels(load_rgb(index.root / path, name=path))

    def groups(pixels: Any) -> Iterator[Any]:
        batch = []
        for one in pixels:
            batch.append(one)
            if len(batch) == BATCH:
                yield np.stack(batch)
                batch = []
        if batch:
            yield np.stack(batch)

    ready = list(groups(in_order(look, paths))) if in_memory else None
    blank = np.zeros((BATCH, side, side, 3), np.uint8)
    for _ in range(2):
        predictor.compute(blank)
    began = time.perf_counter()
    logits = [predictor.compute(batch) for batch in ready or groups(in_order(look, paths))]
    seconds = time.perf_counter() - began
    found = np.concatenate(logits).argmax(1)
    return _rate(len(found), seconds, side, _right(found, index, given))


def _right(answers: Any, index: Any, given: argparse.Namespace) -> int | None:
    """How many answers are right; None for weights that nobody trained."""
    labels = index.splits[given.split].labels[: given.images]
    return int((answers == labels).sum()) if given.runs else None


def _embed(index: Any) -> dict[str, float]:
    import os

    from podium.auditing.embed import embed

    kept = os.environ.get("PODIUM_CACHE")
    with tempfile.TemporaryDirectory() as folder:  # an empty cache: everything is computed
        os.environ["PODIUM_CACHE"] = folder
        try:
            began = time.perf_counter()
            features = embed(index)
            return _rate(len(features), time.perf_counter() - began, 224)
        finally:
            os.environ.pop("PODIUM_CACHE")
            if kept is not None:
                os.environ["PODIUM_CACHE"] = kept


def _trained(model: str, classes: tuple[str, ...], given: argparse.Namespace) -> Any:
    """The run's model, or one with random weights; on the CPU."""
    from podium.evaluation.trained import TrainedModel, load_run
    from podium.models import build_model

    if given.runs:
        return load_run(runs_by_model(given.runs)[model])
    built = build_model(model, len(classes))
    return TrainedModel(built.module.eval(), classes, built.image_size, None)


def _first(index: Any, split: str, count: int) -> Any:
    """The index with the first images of a split alone."""
    from dataclasses import replace

    import numpy as np

    part = index.splits[split]
    fewer = part.part(split, np.arange(min(count, len(part))))
    return replace(index, splits={**index.splits, split: fewer})


def _rate(images: int, seconds: float, side: int, right: int | None = None) -> dict[str, float]:
    if not images:
        raise BenchmarkError("there were no images to predict")
    found = {"images_per_second": images / seconds, "images": images, "side": side}
    return found if right is None else {**found, "top1": right / images}
