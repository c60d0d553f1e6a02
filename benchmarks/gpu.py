"""Podium on a GPU: is it right, how fast is it, and how near to what the card can do?

    python -m benchmarks.gpu machine right fast --out FOLDER
    python -m benchmarks.gpu data --out FOLDER --data FOLDER-OF-IMAGES

Each section takes a few minutes, works alone, and leaves FOLDER/<section>.json. Every row stands
beside the value that was expected before anything was measured: a figure that surprises is the
one to look into. `--toy` does the same on anything in seconds, with figures that mean nothing.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from benchmarks.common import ROOT, describe_machine
from benchmarks.limit import flops_per_image
from podium.config.machine import Machine
from podium.config.registry import AUGMENTATIONS
from podium.config.settings import RunSpec
from podium.config.studyfile import load_study
from podium.data.cache import cache_pixels
from podium.data.dataset import EpochSampler, ImageDataset
from podium.data.device_images import on_device
from podium.data.images import load_rgb
from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.data.loader import Batch, batches, make_loader
from podium.data.synthetic import make_demo
from podium.data.transforms import Draw, eval_transform, prepare, source_size, train_transform
from podium.evaluation.gradcam import grad_cam
from podium.evaluation.trained import load_run
from podium.features.folding import fold_batch_norms
from podium.models import build_model
from podium.runs.folder import RunFolder
from podium.runs.pictures import read_pictures
from podium.runtime.device import choose_device, worst_bf16_error
from podium.runtime.events import silent
from podium.training.losses import bind_loss
from podium.training.optimizers import make_optimizer
from podium.training.passes import CudaGraphs, Passes

__all__ = ["SECTIONS", "Row", "main"]

MODELS = {
    "simple_resnet": 128,
    "inception_resnet": 128,
    "resnet18": 224,
    "efficientnet_lite0": 224,
}
"""Model -> side of its images, pixels."""

CLASSES = 100


@dataclass(frozen=True)
class Row:
    """One figure, and what was expected of it before it was measured."""

    what: str
    value: float | str
    unit: str
    expected: str = ""


@dataclass(frozen=True)
class Bench:
    """Where and how thoroughly to measure."""

    device: torch.device
    toy: bool
    data: Path | None
    seconds: float

    @property
    def models(self) -> dict[str, int]:
        return {"simple_resnet": 32} if self.toy else MODELS

    @property
    def bf16(self) -> bool:
        """Whether bf16 is worth looking at: an emulated one takes minutes, and tells nothing."""
        return self.device.type == "cuda"

    @property
    def batches(self) -> tuple[int, ...]:
        return (4,) if self.toy else (32, 128, 512)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def rate(self, step: Callable[[], object], *, warmup: int = 5) -> float:
        """Calls of `step` per second: the median of five windows, each drained at its end."""
        for _ in range(1 if self.toy else warmup):
            step()
        self.wait()
        began = time.perf_counter()
        step()
        self.wait()
        once = max(time.perf_counter() - began, 1e-6)
        count = max(1, round(self.seconds / 5 / once))
        rates = []
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(count):
                step()
            self.wait()
            rates.append(count / (time.perf_counter() - began))
        return statistics.median(rates)


# --- machine -------------------------------------------------------------------------------------


def machine(bench: Bench) -> Iterator[Row]:
    """Copy bandwidth, matrix product, cost of a launch: the ceilings of all that follows."""
    side = 256 if bench.toy else 8192
    source = torch.rand(side * side * (1 if bench.toy else 16), device=bench.device)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * 4
    yield Row("copy", bench.rate(lambda: target.copy_(source)) * moved / 1e9, "GB/s",
              "H100 3,000; H200 4,300")  # fmt: skip
    for dtype, expected in ((torch.bfloat16, "790"), (torch.float32, "50")):
        if dtype is torch.bfloat16 and not bench.bf16:
            continue
        a, b = (torch.rand(side, side, device=bench.device).to(dtype) for _ in "ab")
        rate = bench.rate(functools.partial(torch.mm, a, b)) * 2 * side**3 / 1e12
        yield Row(f"product of {side}^3, {str(dtype)[6:]}", rate, "TFLOP/s", expected)
    small = torch.zeros(8, device=bench.device)
    yield Row("launch of a small kernel", 1e6 / bench.rate(lambda: small.add_(1)), "us", "3 to 5")


# --- right ---------------------------------------------------------------------------------------


def right(bench: Bench) -> Iterator[Row]:
    """Errors against the CPU, equality of runs, and what can go wrong with a card."""
    yield from _against_the_cpu(bench)
    yield from _same_twice(bench)
    yield from _augmentation_is_the_cpus(bench)
    yield from _resumed(bench)
    yield from _in_trouble(bench)


def _against_the_cpu(bench: Bench) -> Iterator[Row]:
    generator = torch.Generator().manual_seed(0)
    for name, size in bench.models.items():
        module = _settled(name, size).eval()
        images = torch.rand(8, 3, size, size, generator=generator)
        with torch.inference_mode():
            exact = module.double()(images.double())
            module.float()
            here = module.to(bench.device)(images.to(bench.device)).cpu()
            folded = _settled(name, size).eval()
            fold_batch_norms(folded)
            fold = folded.to(bench.device)(images.to(bench.device)).cpu()
            cpu = module.cpu()(images)
        yield Row(f"{name}: fp32 on the CPU against fp64", _error(cpu, exact), "relative", "1e-6")
        yield Row(f"{name}: fp32 here against fp64", _error(here, exact), "relative", "1e-6")
        yield Row(f"{name}: batch norms folded", _error(fold, exact), "relative", "2e-6")
        if bench.device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = True
            with torch.inference_mode():
                rounded = module.to(bench.device)(images.to(bench.device)).cpu()
            torch.backends.cudnn.allow_tf32 = False
            yield Row(f"{name}: with TF32", _error(rounded, exact), "relative", "1e-3")
        if not bench.bf16:
            continue
        worst, layer = worst_bf16_error(module.cpu(), bench.device, size)
        yield Row(f"{name}: worst layer in bf16 ({layer})", worst, "relative", "5e-3")


def _settled(name: str, size: int) -> nn.Module:
    """A model whose batch norms have seen noise: fresh ones would hide what folding does."""
    module = build_model(name, CLASSES, seed=0).module.train()
    with torch.no_grad():
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            module(torch.rand(16, 3, size, size, generator=generator))
    return module


def _error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


def _same_twice(bench: Bench) -> Iterator[Row]:
    """Whether a seed gives the same bits twice, with cuDNN's chosen and deterministic kernels."""
    for (name, size), precision in itertools.product(bench.models.items(), ("fp32", "bf16")):
        if precision == "bf16" and not bench.bf16:
            continue
        for deterministic in (False, True) if bench.device.type == "cuda" else (True,):
            torch.backends.cudnn.deterministic = deterministic
            steps = 3 if bench.toy else 20
            first, second = (_trained(bench, name, size, precision, steps) for _ in range(2))
            kind = "deterministic" if deterministic else "default"
            yield Row(f"{name}, {precision}, {kind}: weights after {steps} steps",
                      "equal" if first == second else "differ", "",
                      "equal" if deterministic else "differ")  # fmt: skip
            if deterministic and bench.device.type == "cuda":
                third = _trained(bench, name, size, precision, steps, recorded=True)
                yield Row(f"{name}, {precision}: recorded against launched one by one",
                          "equal" if first == third else "differ", "", "equal")  # fmt: skip
    torch.backends.cudnn.deterministic = True


def _trained(
    bench: Bench, name: str, size: int, precision: str, steps: int, *, recorded: bool = False
) -> bytes:
    work = Step(bench, name, size, 32 if not bench.toy else 4, precision=precision, fused=True,
                recorded=recorded)  # fmt: skip
    for number in range(steps):
        torch.manual_seed(number)  # as the trainer: dropout must draw anew in a recorded step, too
        work.take()
    values = work.module.state_dict().values()
    return b"".join(value.cpu().numpy().tobytes() for value in values)


def _augmentation_is_the_cpus(bench: Bench) -> Iterator[Row]:
    """Photographs that lie on the device, augmented there and by the processor: how far apart?"""
    size, count = (32, 12) if bench.toy else (128, 512)
    with tempfile.TemporaryDirectory() as place:
        index = build_index(make_demo(Path(place) / "demo", seed=0, size=200))
        paths = [path for split in index.splits.values() for path in split.paths][:count]
        for policy in AUGMENTATIONS.built_in:
            transform = train_transform(policy, size)
            if not transform.takes_batches:
                continue
            pixels = [transform.source(load_rgb(index.root / path, name=path)) for path in paths]
            draws = [Draw(0, 1, number) for number in range(len(paths))]
            here = torch.stack(
                [transform.vary(one, draw) for one, draw in zip(pixels, draws, strict=True)]
            )
            plans = torch.stack([transform.plan(draw) for draw in draws])
            stack = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).to(bench.device)
            there = transform.vary_batch(stack, plans)
            apart = (there.cpu().int() - here.int()).abs().max()
            yield Row(f"{policy}: device against processor", float(apart), "of 255",
                      "2" if policy == "crop_flip" else "0")  # fmt: skip
            rate = bench.rate(functools.partial(transform.vary_batch, stack, plans))
            yield Row(f"{policy}: {len(paths)} images at once", rate * len(paths), "images/s",
                      "100,000 (launches)")  # fmt: skip


_STUDY = """
name: resume
data: {data}
defaults: {{image_size: 64, epochs: 3, batch_size: 16, augmentation: autoaugment}}
contenders:
  simple: {{model: simple_resnet}}
  inception: {{model: inception_resnet, augmentation: none}}
"""


def _resumed(bench: Bench) -> Iterator[Row]:
    """`podium run` whole, and killed in its middle and resumed: the same bits?"""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_demo(folder / "demo", seed=0)
        study = folder / "resume.yaml"
        study.write_text(_STUDY.format(data=folder / "demo"), encoding="utf-8")
        short = ("--epochs", "1", "--image-size", "32") if bench.toy else ()
        command = [sys.executable, "-m", "podium", "run", str(study), "--no-audit", *short,
                   "--device", bench.device.type, "--checkpoint-every", "0"]  # fmt: skip
        whole = subprocess.run([*command, "--runs", str(folder / "a")], capture_output=True,
                               text=True, check=False, env=_environment())  # fmt: skip
        yield Row("podium run", "done" if not whole.returncode else whole.stderr[-500:], "", "done")
        killed = subprocess.Popen([*command, "--runs", str(folder / "b")], env=_environment(),
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        last = folder / "b" / "resume" / "simple" / "seed-0" / "last.ckpt"
        ends = time.monotonic() + 120
        while not last.is_file() and killed.poll() is None and time.monotonic() < ends:
            time.sleep(0.02)
        time.sleep(0.3)
        killed.kill()
        killed.wait()
        rest = subprocess.run([*command, "--runs", str(folder / "b")], capture_output=True,
                              text=True, check=False, env=_environment())  # fmt: skip
        yield Row("resumed", "done" if not rest.returncode else rest.stderr[-500:], "", "done")
        for contender in ("simple", "inception"):
            pair = [folder / side / "resume" / contender / "seed-0" / "best.safetensors"
                    for side in "ab"]  # fmt: skip
            both = all(path.is_file() for path in pair)
            same = both and pair[0].read_bytes() == pair[1].read_bytes()
            yield Row(f"{contender}: killed and resumed", "equal" if same else "differ", "",
                      "equal")  # fmt: skip


def _environment() -> dict[str, str]:
    given = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{given}"}


def _in_trouble(bench: Bench) -> Iterator[Row]:
    """Memory that runs out; bf16 resumed in fp16; what follows an error that ends the context."""
    from podium.api import train

    if bench.device.type != "cuda":
        return
    yield Row("a step that waits for the device", _waits(bench), "", "told; equal weights")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_demo(folder / "demo", seed=0)
        try:
            train(folder / "demo", "simple_resnet", epochs=1, name="memory", image_size=1024,
                  batch_size=400, runs=folder / "runs", machine={"device": "cuda"})  # fmt: skip
            said = "trained"
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        yield Row("memory runs out", said[:300], "", "TrainingError: Memory ran out ...")
        yield Row("bf16 resumed in fp16", _resumed_in_fp16(folder), "", "done")
        yield Row("a contender after a CUDA error", _after_an_error(folder), "", "the first fails")


def _waits(bench: Bench) -> str:
    """A model that a graph cannot hold, beside the same one that is never recorded."""
    said: list[str] = []
    steps: list[Step] = []
    for recorded in (False, True):
        work = Step(bench, "simple_resnet", 32, 8, precision="fp32", fused=True, recorded=recorded)
        work.module.register_forward_hook(lambda *given: given[2].sum().item() and None)
        work.passes.notify = lambda event: said.append(getattr(event, "text", ""))
        for number in range(8):
            torch.manual_seed(number)
            work.take()
        steps.append(work)
    pairs = zip(*(step.module.state_dict().values() for step in steps), strict=True)
    same = all(torch.equal(a, b) for a, b in pairs)
    return f"{'told' if len(said) == 1 else said}; {'equal' if same else 'other'} weights"


def _resumed_in_fp16(folder: Path) -> str:
    code = (
        "import sys, podium\n"
        "study = podium.Study.load(sys.argv[1], runs=sys.argv[2], audit=False, device='cuda',"
        " precision=sys.argv[3],"
        " overrides=['contenders.*.epochs=2', 'contenders.*.image_size=32'])\n"
        "class Stop:\n"
        "    left = 7\n"
        "    def is_set(self):\n"
        "        self.left -= 1\n"
        "        return sys.argv[3] == 'bf16' and self.left < 0\n"
        "study.run(stop=Stop())\n"
    )
    study = folder / "half.yaml"
    study.write_text(_STUDY.format(data=folder / "demo"), encoding="utf-8")
    for precision in ("bf16", "fp16"):
        ended = subprocess.run(
            [sys.executable, "-c", code, str(study), str(folder / "half"), precision],
            capture_output=True, text=True, check=False, env=_environment(),
        )  # fmt: skip
    runs = list((folder / "half").glob("*/*/seed-0/done.json"))
    failed = [p.read_text() for p in (folder / "half").glob("*/*/seed-0/failed.json")]
    return (
        "done" if len(runs) == 2 and not failed else (ended.stderr[-300:] + "".join(failed)[:300])
    )


def _after_an_error(folder: Path) -> str:
    """Outcomes of a study whose first contender meets an assertion on the device."""
    code = (
        "import sys, torch, podium; import podium.training.loop as t\n"
        "real = t.train_epoch\n"
        "def broken(state, epoch):\n"
        "    if state.job.folder.contender == 'simple':\n"
        "        torch.zeros(3, device='cuda')[torch.tensor([9], device='cuda')].sum().item()\n"
        "    return real(state, epoch)\n"
        "t.train_epoch = broken\n"
        "study = podium.Study.load(sys.argv[1], runs=sys.argv[2], audit=False, device='cuda',"
        " overrides=['contenders.*.epochs=1', 'contenders.*.image_size=32'])\n"
        "print([(o.run.contender, o.error[:120]) for o in study.run().outcomes])\n"
    )
    study = folder / "half.yaml"
    ended = subprocess.run(
        [sys.executable, "-c", code, str(study), str(folder / "broken")],
        capture_output=True, text=True, check=False, env=_environment(),
    )  # fmt: skip
    return (ended.stdout or ended.stderr)[-500:].strip()


# --- fast ----------------------------------------------------------------------------------------


class Step:
    """A training step on images that lie on the device: the least that any loop has to do.

    Args:
        bench: where.
        name: of the model.
        size: side of its images, pixels.
        batch: images.
        precision: fp32 or bf16, by autocast as the trainer does it.
        fused: Adam as one kernel.
    """

    def __init__(
        self,
        bench: Bench,
        name: str,
        size: int,
        batch: int,
        *,
        precision: str,
        fused: bool,
        recorded: bool = False,
    ) -> None:
        recipe = RunSpec(model=name, epochs=1)
        built = build_model(name, CLASSES, seed=0)
        self.module = built.module.to(bench.device).to(memory_format=torch.channels_last).train()
        self.model = _Low(self.module, bench.device, enabled=precision == "bf16")
        cuda = bench.device.type == "cuda"
        self.optimizer = make_optimizer(recipe, built, fused=fused and cuda)
        generator = torch.Generator().manual_seed(0)
        shape = (batch, size, size, 3)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        self.images = images.permute(0, 3, 1, 2).to(bench.device)
        labels = torch.randint(0, CLASSES, (batch,), generator=generator)
        self.labels = labels.to(bench.device)
        names = [str(number) for number in range(CLASSES)]
        self.passes = Passes(
            bind_loss(recipe, labels.numpy(), names, bench.device),
            _backward,
            record=CudaGraphs() if recorded and cuda else None,
            batch_size=batch,
            name=name,
            notify=print,
        )

    def take(self) -> None:
        inputs = prepare(self.images).contiguous(memory_format=torch.channels_last)
        self.optimizer.zero_grad(set_to_none=True)
        self.passes(self.model, inputs, self.labels, float(len(inputs)))
        self.optimizer.step()

    def compiled(self) -> Callable[[], None]:
        self.model.module = torch.compile(self.module)  # type: ignore[assignment]
        return self.take


class _Low(nn.Module):
    """A model in bf16 by autocast, with logits in fp32, as Fabric wraps it."""

    def __init__(self, module: nn.Module, device: torch.device, *, enabled: bool) -> None:
        super().__init__()
        self.module = module
        self.low = torch.autocast(device.type, torch.bfloat16, enabled=enabled)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with self.low:
            logits: torch.Tensor = self.module(images)
        return logits.float()


def _backward(mean: torch.Tensor) -> None:
    mean.backward()  # type: ignore[no-untyped-call]


def _paper_step(bench: Bench, name: str, size: int, batch: int) -> Callable[[], None]:
    """The paper's loop on data in memory: fp32 as PyTorch comes, NCHW, figures read every step."""
    module = build_model(name, CLASSES, seed=0).module.to(bench.device)
    module = module.to(memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4)
    images = torch.rand(batch, 3, size, size, device=bench.device)
    labels = torch.randint(0, CLASSES, (batch,), device=bench.device)

    def step() -> None:
        optimizer.zero_grad()
        logits = module(images)
        loss = nn.functional.cross_entropy(logits, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()
        (logits.argmax(1) == labels).sum().item()

    return step


# images/s of SimpleResNet at 128 px that are expected, by way and batch, of an H200. Launches bound
# batch 32; with all of them in one graph memory does.
_EXPECTED = {
    ("paper", 32): "3,200 (seen before)",
    ("eager", 32): "3,000 (seen before)",
    ("fused", 32): "3,100 (seen before)",
    ("compiled", 32): "2,600 (seen before)",
    ("recorded", 32): "11,000 (a whole step as a graph)",
    ("eager", 128): "12,000 (seen before)",
    ("recorded", 128): "16,000",
    ("eager", 512): "18,000",
    ("recorded", 512): "18,000",
}


def fast(bench: Bench) -> Iterator[Row]:
    """Images per second of a training step, and of prediction, on images on the device."""
    ways = ["paper", "eager", "fused", "fused, default kernels", "compiled", "recorded"]
    for (name, size), batch in itertools.product(bench.models.items(), bench.batches):
        work = flops_per_image(name, size, CLASSES)
        for way in ways:
            try:
                step = _way(bench, way, name, size, batch)
            except _NotHereError:
                continue
            try:
                images = bench.rate(step, warmup=12) * batch
            except Exception as error:
                yield Row(f"{name}, batch {batch}: {way}", f"{type(error).__name__}: {error}"[:200],
                          "")  # fmt: skip
                continue
            finally:
                torch.backends.cudnn.deterministic = True
                torch.backends.cudnn.allow_tf32 = False
            expected = _EXPECTED.get((way, batch), "") if name == "simple_resnet" else ""
            yield Row(f"{name}, batch {batch}: {way}", images, "images/s", expected)
            yield Row(f"{name}, batch {batch}: {way}", images * work / 1e12, "TFLOP/s")
    for name, size in bench.models.items():
        batch = bench.batches[-1]
        module = build_model(name, CLASSES, seed=0).module.to(bench.device).eval()
        module = module.to(memory_format=torch.channels_last)
        inputs = torch.rand(batch, 3, size, size, device=bench.device)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        for precision in ("fp32", "bf16") if bench.bf16 else ("fp32",):
            low = torch.autocast(bench.device.type, torch.bfloat16, enabled=precision == "bf16")

            def predict(module: nn.Module = module, inputs: torch.Tensor = inputs,
                        low: Any = low) -> None:  # fmt: skip
                with torch.inference_mode(), low:
                    module(inputs)

            known = "171,000 (a third of a step's memory)" if name == "simple_resnet" else ""
            yield Row(f"{name}, batch {batch}: prediction, {precision}",
                      bench.rate(predict) * batch, "images/s", known)  # fmt: skip


class _NotHereError(Exception):
    """A way that this device does not have."""


def _way(bench: Bench, way: str, name: str, size: int, batch: int) -> Callable[[], object]:
    cuda = bench.device.type == "cuda"
    if way == "paper":
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.deterministic = False
        return _paper_step(bench, name, size, batch)
    if way == "fused, default kernels":
        torch.backends.cudnn.deterministic = False
    # compiling takes up to a minute: done where launches bind the most
    if way == "compiled" and (not cuda or batch != 32 or name != "simple_resnet"):
        raise _NotHereError
    step = Step(bench, name, size, batch, precision="bf16" if cuda else "fp32",
                fused=way != "eager", recorded=way == "recorded")  # fmt: skip
    return step.compiled() if way == "compiled" else step.take


# --- data ----------------------------------------------------------------------------------------


def data(bench: Bench) -> Iterator[Row]:
    """How many images per second the loader delivers, and what a run makes of them."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        root = bench.data or make_demo(folder / "demo", seed=0)
        index = build_index(root)
        size = 32 if bench.toy else 128
        policies = ("none", "autoaugment") if bench.toy else AUGMENTATIONS.built_in
        workers = (0, 1) if bench.toy else (0, 1, 8)
        expected = {"none": "30,000 (on the device)", "autoaugment": "7,000 a worker"}
        for policy in policies:
            cached = cache_pixels(index, {"train": source_size(policy, size)}, limit=16.0,
                                  notify=silent, folder=folder / "cache")  # fmt: skip
            for count in workers:
                feed = _Feed(bench, index, policy, size, cached["train"], count)
                yield Row(f"{policy}, {count} workers", feed.rate(), "images/s",
                          expected.get(policy, ""))  # fmt: skip
        for name in ("simple_resnet", "inception_resnet"):
            for policy in ("none", "autoaugment"):
                cached = cache_pixels(index, {"train": size}, limit=16.0, notify=silent,
                                      folder=folder / "cache")  # fmt: skip
                count = 0 if bench.toy else 8
                feed = _Feed(bench, index, policy, size, cached["train"], count)
                yield from _fed(bench, name, policy, feed)


class _Feed:
    """Batches of training images as the trainer gets them."""

    def __init__(
        self, bench: Bench, index: Any, policy: str, size: int, cached: Any, workers: int
    ) -> None:
        self.bench = bench
        self.sampler = EpochSampler(len(index.splits["train"]), seed=0, batch_size=32)
        transform = train_transform(policy, size)
        self.kept = on_device(cached, transform, bench.device)
        dataset = ImageDataset(index, "train", transform, 0, cached, planned=self.kept is not None)
        self.loader = make_loader(dataset, workers=workers, device=bench.device,
                                  batch_sampler=self.sampler)  # fmt: skip
        self.size = size

    def batches(self) -> Iterator[Batch]:
        for epoch in itertools.count(1):
            self.sampler.set_epoch(epoch)
            yield from batches(self.loader, self.bench.device, None, self.kept)

    def rate(self) -> float:
        source = self.batches()
        next(source)
        began, images = time.perf_counter(), 0
        while time.perf_counter() - began < self.bench.seconds:
            images += len(next(source)[1])
        self.bench.wait()
        return images / (time.perf_counter() - began)


def _fed(bench: Bench, name: str, policy: str, feed: _Feed) -> Iterator[Row]:
    """A step on real batches: images per second, and the share of time in which the GPU works."""
    cuda = bench.device.type == "cuda"
    step = Step(bench, name, feed.size, 32, precision="bf16" if cuda else "fp32", fused=True,
                recorded=True)  # fmt: skip
    source = feed.batches()

    def one() -> None:
        inputs, labels, _ = next(source)
        step.optimizer.zero_grad(set_to_none=True)
        step.passes(step.model, inputs, labels, float(len(inputs)))
        step.optimizer.step()

    for _ in range(2 if bench.toy else 30):
        one()
    bench.wait()
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < bench.seconds:
        one()
        steps += 1
    bench.wait()
    rate = steps * 32 / (time.perf_counter() - began)
    expected = {"none": "10,000", "autoaugment": "9,000"}[policy]
    yield Row(f"{name}, {policy}, fed", rate, "images/s", expected)
    if not cuda:
        return
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        began = time.perf_counter()
        for _ in range(50):
            one()
        bench.wait()
        took = time.perf_counter() - began
    events = [e for e in profile.events() if e.device_type == torch._C._autograd.DeviceType.CUDA]
    busy = sum(event.device_time for event in events) / 1e6
    yield Row(f"{name}, {policy}: the GPU works", 100 * busy / took, "%", "90")
    yield Row(f"{name}, {policy}: kernels per step", len(events) / 50, "", "300")


# --- cells ---------------------------------------------------------------------------------------

_CELL = (
    "import sys, podium\n"
    "study = podium.Study.load(sys.argv[1], runs=sys.argv[2], audit=False, device=sys.argv[3],"
    " workers=int(sys.argv[4]))\n"
    "print([outcome.error for outcome in study.run().outcomes])\n"
)


@dataclass(frozen=True)
class Cell:
    """One contender with one seed, as a study of its own in a folder of its own."""

    study: Path
    runs: Path
    contender: str
    seed: int

    @property
    def folder(self) -> Path:
        return next(self.runs.glob(f"*/{self.contender}/seed-{self.seed}"), self.runs / "none")


def cells(bench: Bench, given: argparse.Namespace) -> Iterator[Row]:
    """A study's contenders and seeds, several at a time; what it cannot end it goes on with.

    Everything lies under `--runs`; what is light (no weights, no pictures) is packed into
    `cells.tar.gz`. Interrupted cells save their state, and the next call takes them up.
    """
    todo = [cell for cell in _cells(given, bench) if not (cell.folder / "done.json").is_file()]
    began = time.monotonic()
    index = build_index(bench.data or given.runs)
    yield Row("images", len(index.splits["train"]), "to train on")
    running: dict[subprocess.Popen[bytes], Cell] = {}
    try:
        while (todo or running) and time.monotonic() - began < given.limit:
            while todo and len(running) < given.parallel:
                cell = todo.pop(0)
                command = [sys.executable, "-c", _CELL, str(cell.study), str(cell.runs)]
                command += [bench.device.type, str(given.workers)]
                with (cell.runs / "log.txt").open("ab") as log:
                    process = subprocess.Popen(command, stdout=log, stderr=log, env=_environment())
                running[process] = cell
            time.sleep(0.2)
            for process in [one for one in running if one.poll() is not None]:
                yield _told(running.pop(process), time.monotonic() - began)
    finally:
        for process in running:
            process.send_signal(signal.SIGINT)
        for process, cell in running.items():
            process.wait()
            yield _told(cell, time.monotonic() - began)
        _pack(given.runs, given.out / "cells.tar.gz", index, bench.device)


def _cells(given: argparse.Namespace, bench: Bench) -> list[Cell]:
    found = []
    spec = load_study(given.study, data=bench.data)
    for seed, name in itertools.product(given.seeds, given.contenders or spec.contenders):
        runs = given.runs / f"{name}-{seed}"
        runs.mkdir(parents=True, exist_ok=True)
        one = spec.model_copy(
            update={"contenders": {name: spec.contenders[name]}, "seeds": (seed,)}
        )
        study = runs / "cell.yaml"
        study.write_text(one.to_yaml(), encoding="utf-8")
        found.append(Cell(study, runs, name, seed))
    # the longest first, so that none is left alone at the end
    return sorted(found, key=lambda cell: -spec.contenders[cell.contender].epochs)


def _told(cell: Cell, seconds: float) -> Row:
    what = f"{cell.contender}, seed {cell.seed}"
    if not (cell.folder / "done.json").is_file():
        rows = (cell.folder / "history.csv").read_text().count("\n") - 1 if (
            cell.folder / "history.csv").is_file() else 0  # fmt: skip
        said = (cell.runs / "log.txt").read_text(errors="replace")[-300:]
        return Row(what, f"not ended: {rows} epochs; {said}", "")
    done = json.loads((cell.folder / "done.json").read_text(encoding="utf-8"))
    return Row(
        what,
        f"valid {100 * done['valid_accuracy']:.2f} %, test {100 * done['test_accuracy']:.2f} %, "
        f"{done['epochs']} epochs in {done['seconds']:.0f} s of training, "
        f"{done['images_per_second']:.0f} images/s, at {seconds:.0f} s",
        "",
    )


_LIGHT = ("config.yaml", "history.csv", "done.json", "failed.json", "model.json", "study.yaml",
          "data.json", "predictions-valid.parquet", "predictions-test.parquet", "probe.csv",
          "test-scorings.jsonl", "heat.npz", "log.txt")  # fmt: skip


def _pack(runs: Path, into: Path, index: DataIndex, device: torch.device) -> None:
    """Everything of the cells but weights and pictures; heat maps as bare numbers."""
    for done in runs.glob("*/*/*/seed-*/done.json"):
        folder = done.parent
        run = RunFolder(folder, folder.parent.name, int(folder.name.removeprefix("seed-")))
        shown = list(read_pictures(run.explanations))
        if (folder / "heat.npz").is_file() or not shown:
            continue
        model, said = load_run(run, device), run.read_predictions("test")
        numbers = {path: number for number, path in enumerate(said.paths)}
        source = eval_transform(model.image_size).source
        heat = []
        for key in shown:  # `path`: of the predicted class; `path#label`: of the true one
            path = key.removesuffix("#label")
            classes = said.predicted if path == key else said.labels
            pixels = source(load_rgb(index.root / path, name=path))[None]
            (found,), _ = grad_cam(model, pixels, classes[numbers[path]][None])
            small = Image.fromarray(found).resize((64, 64), Image.Resampling.BILINEAR)
            heat.append(np.rint(255 * np.asarray(small).clip(0, 1)).astype(np.uint8))
        np.savez_compressed(folder / "heat.npz", keys=np.asarray(shown), heat=np.stack(heat))
    with tarfile.open(into, "w:gz") as archive:
        for light in sorted(runs.rglob("*")):
            if light.name in _LIGHT:
                archive.add(light, light.relative_to(runs))


SECTIONS: Mapping[str, Callable[[Bench], Iterator[Row]]] = {
    "machine": machine,
    "right": right,
    "fast": fast,
    "data": data,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the sections that were named, one JSON file each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sections", nargs="+", choices=[*SECTIONS, "cells"])
    parser.add_argument("--out", type=Path, required=True, help="folder for the records")
    parser.add_argument("--data", type=Path, help="folder of images; default: drawn here")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--models", nargs="+", choices=MODELS, help="of `fast` and `right`")
    parser.add_argument("--toy", action="store_true", help="tiny, to see that it runs")
    cell = parser.add_argument_group("cells")
    cell.add_argument("--study", default="sports100", help="a study's name or file")
    cell.add_argument("--contenders", nargs="+", help="of it; default: all")
    cell.add_argument("--seeds", nargs="+", type=int, default=[0])
    cell.add_argument("--runs", type=Path, help="folder for the cells; it is what resumes them")
    cell.add_argument("--parallel", type=int, default=1, help="cells at a time")
    cell.add_argument("--workers", type=int, default=2, help="decoding processes of each")
    cell.add_argument("--limit", type=float, default=540.0, help="seconds until cells are saved")
    given = parser.parse_args(arguments)
    if "cells" in given.sections and given.runs is None:
        parser.error("cells needs --runs FOLDER")
    if given.models:
        for name in set(MODELS) - set(given.models):
            del MODELS[name]
    place = choose_device(Machine(device=given.device)).torch
    bench = Bench(place, given.toy, given.data, 0.05 if given.toy else given.seconds)
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.sections:
        measure = functools.partial(cells, given=given) if name == "cells" else SECTIONS[name]
        began, rows = time.perf_counter(), []
        record: dict[str, Any] = {"section": name, "machine": describe_machine()}
        for row in measure(bench):
            value = row.value if isinstance(row.value, str) else f"{row.value:.6g}"
            print(f"{row.what}: {value} {row.unit} (expected {row.expected or '-'})", flush=True)
            rows.append(asdict(row))
            record |= {"rows": rows, "seconds": round(time.perf_counter() - began, 1)}
            text = json.dumps(record, indent=1, default=str)  # kept row by row: time may run out
            (given.out / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
