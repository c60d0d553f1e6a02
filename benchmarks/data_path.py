"""How near the training step comes to the same step on data that is in memory already.

    python -m benchmarks.data_path --data sports100

One process measures everything in turn, step by step, so that whatever else the machine does
meets all of them. Every row is the real step of `podium.training.fit`: loader, `prepare`, forwards,
backwards, optimizer. The caches are written to a temporary folder and removed.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from benchmarks.common import add_output_options, new_record, publish, table
from podium.config.machine import Machine
from podium.data.cache import cache_pixels
from podium.data.dataset import EpochSampler, ImageDataset
from podium.data.fetch import resolve_data
from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.data.loader import Batch, batches, make_loader
from podium.data.pixels import CachedPixels
from podium.data.transforms import eval_transform, prepare, source_size, train_transform
from podium.models import build_model
from podium.runtime.device import FABRIC_PRECISION, choose_device, choose_precision, choose_workers
from podium.runtime.memory import recycled_memory

Source = Callable[[], Iterator[Batch]]
Key = tuple[int, str]  # image size, name

WARM_UP = 3  # steps that are not timed


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and publish."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="sports100", help="folder of images")
    parser.add_argument("--model", default="simple_resnet")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="of each, a round")
    parser.add_argument("--cases", default="none@128,autoaugment@128,crop_flip@128,crop_flip@64")
    parser.add_argument("--progressive", default="", help="as 64/128: crops of 64 from 128's cache")
    parser.add_argument("--no-stream", action="store_true", help="leave streaming out")
    parser.add_argument("--device", default="auto")
    add_output_options(parser, "data_path")
    options = parser.parse_args(arguments)
    index = build_index(resolve_data(options.data))
    cases = [(name, int(size), int(size)) for name, size in
             (case.split("@") for case in options.cases.split(",") if case)]  # fmt: skip
    if options.progressive:
        small, full = map(int, options.progressive.split("/"))
        cases.append(("crop_flip", full, small))
    bench = Bench(index, options)
    with tempfile.TemporaryDirectory() as folder, recycled_memory():
        bench.say(f"{len(index.splits['train']):,} training images, {bench.what}.")
        sources = bench.sources(cases, Path(folder))
        times = bench.measure(sources)
    settings = {"rounds": options.rounds, "steps": options.steps, "batch_size": options.batch_size}
    record = new_record("data_path", settings) | {"said": bench.said}
    record["values"] = {f"{name}@{size}": seconds for (size, name), seconds in times.items()}
    body = "\n".join([render(times, options.batch_size), "", *bench.said])
    publish(record, body, options.json, options.out)
    return 0


class Bench:
    """A model, its step, and the ways to feed it."""

    def __init__(self, index: DataIndex, options: argparse.Namespace) -> None:
        self.index, self.options = index, options
        self.said: list[str] = []
        machine = Machine(device=options.device)
        self.device = choose_device(machine)
        built = build_model(options.model, len(index.classes))
        self.precision, _ = choose_precision(machine, self.device, built.module, 128)
        self.workers = {
            decoding: choose_workers(machine, self.device, decoding=decoding)
            for decoding in (True, False)
        }
        self.fabric = Fabric(
            accelerator=self.device.kind,
            devices=1,
            precision=FABRIC_PRECISION[self.precision],  # type: ignore[arg-type]
        )
        module = built.module.to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-5)
        self.model, self.optimizer = self.fabric.setup(module, optimizer)
        self.what = (
            f"{options.model}, {self.device.describe()}, {self.precision}, "
            f"{torch.get_num_threads()} threads, batches of {options.batch_size}"
        )

    def say(self, text: str) -> None:
        print(text, flush=True)
        self.said.append(text)

    def step(self, batch: Batch) -> None:
        inputs, labels, _ = batch
        self.optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(self.model(inputs), labels)
        self.fabric.backward(loss)
        self.optimizer.step()

    def sources(self, cases: list[tuple[str, int, int]], folder: Path) -> dict[Key, Source]:
        """What feeds the step, by (size, name); says what building the caches took."""
        found: dict[Key, Source] = {}
        caches: dict[int, CachedPixels] = {}
        for policy, full, size in cases:
            source = source_size(policy, full)
            if source not in caches:
                caches[source] = self.build(source, folder)
            found.setdefault((size, "memory"), self.from_memory(size))
            name = policy if full == size else f"{policy} of {full} px"
            if not self.options.no_stream:
                found[size, f"{name}, streaming"] = self.from_loader(policy, full, size, None)
            cached = caches[source]
            found[size, f"{name}, cached"] = self.from_loader(policy, full, size, cached)
        return found

    def build(self, side: int, folder: Path) -> CachedPixels:
        began = time.perf_counter()
        cached = cache_pixels(self.index, {"train": side}, limit=1e6, folder=folder)["train"]
        cold, began = time.perf_counter() - began, time.perf_counter()
        cache_pixels(self.index, {"train": side}, limit=1e6, folder=folder)
        warm = time.perf_counter() - began
        size, count = cached.path.stat().st_size / 1e9, len(self.index.splits["train"])
        self.say(
            f"Cache at {side} px: {size:.2f} GB, built in {cold:.1f} s "
            f"({count / cold:,.0f} images/s), opened again in {warm:.3f} s."
        )
        return cached

    def sampler(self) -> EpochSampler:
        n = len(self.index.splits["train"])
        return EpochSampler(n, seed=0, batch_size=self.options.batch_size)

    def from_loader(self, policy: str, full: int, size: int, cached: CachedPixels | None) -> Source:
        transform = train_transform(policy, full)
        sampler = self.sampler()
        sampler.set_epoch(1, size=None if size == full else size)
        loader: Any = make_loader(
            ImageDataset(self.index, "train", transform, 0, cached),
            workers=self.workers[cached is None],
            device=self.device.torch,
            batch_sampler=sampler,
        )
        return lambda: batches(loader, self.device.torch, None)

    def from_memory(self, size: int) -> Source:
        """The upper bound: uint8 images, channels last, in memory already."""
        rows = self.options.batch_size * 16
        dataset = ImageDataset(self.index, "train", eval_transform(size), None)
        rows = min(rows, len(dataset))
        images = torch.stack([dataset[i][0].permute(1, 2, 0) for i in range(rows)])
        labels = torch.tensor([dataset.entries.labels[i] for i in range(rows)])

        def feed() -> Iterator[Batch]:
            for keys in itertools.cycle(self.sampler()):
                numbers = torch.tensor([key[0] % rows for key in keys])
                picked = images[numbers].permute(0, 3, 1, 2).to(self.device.torch)
                yield prepare(picked), labels[numbers].to(self.device.torch), numbers

        return feed

    def measure(self, sources: dict[Key, Source]) -> dict[Key, list[float]]:
        """Seconds a step of each source.

        Sources that work in this process take turns, step by step. One with workers would make
        its batches while the others are timed: it runs by itself, some steps at a time, after as
        many steps from memory.
        """
        times: dict[Key, list[float]] = {key: [] for key in sources}
        for size in dict.fromkeys(key[0] for key in sources):
            ours = {key: source for key, source in sources.items() if key[0] == size}
            alone = [key for key in ours if self.has_workers(key)]
            together = {key: endless(ours[key]) for key in ours if key not in alone}
            for turn in range(WARM_UP + self.options.rounds * self.options.steps):
                for key, feed in together.items():
                    seconds = self.burst(feed, 1)
                    if turn >= WARM_UP:
                        times[key].append(seconds)
            memory = together[size, "memory"]
            for key in alone:
                for _ in range(self.options.rounds):
                    base = self.burst(memory, self.options.steps)
                    feed = iter(ours[key]())
                    self.burst(feed, WARM_UP)
                    found = self.burst(feed, self.options.steps)
                    # in units of the memory's steps, which are those of the table's first row
                    times[key].append(found / base * statistics.median(times[size, "memory"]))
        return times

    def has_workers(self, key: Key) -> bool:
        decoding = key[1].endswith("streaming")
        return key[1] != "memory" and self.workers[decoding] > 0

    def burst(self, feed: Iterator[Batch], steps: int) -> float:
        """Seconds a step, over some steps."""
        self.wait()
        began = time.perf_counter()
        for _ in range(steps):
            self.step(next(feed))
        self.wait()
        return (time.perf_counter() - began) / steps

    def wait(self) -> None:
        if self.device.kind == "cuda":
            torch.cuda.synchronize()


def endless(source: Source) -> Iterator[Batch]:
    """Epoch after epoch."""
    while True:
        yield from source()


def render(times: Mapping[Key, Sequence[float]], batch: int) -> str:
    """Images a second of each source (median, quartiles), and its share of what memory gives."""
    rows = []
    for (size, name), seconds in times.items():
        low, middle, high = statistics.quantiles([batch / one for one in seconds], n=4)
        memory = times[size, "memory"]
        if len(seconds) == len(memory):  # each step against its neighbour: moods cancel out
            share = statistics.median(one / ours for one, ours in zip(memory, seconds, strict=True))
        else:
            share = statistics.median(memory) / statistics.median(seconds)
        rows.append(
            [
                f"{size} px, {name}",
                f"{middle:.1f}",
                f"{low:.1f} to {high:.1f}",
                f"{100 * share:.1f} %",
            ]
        )
    return table(["data", "images/s, median", "quartiles", "of memory"], rows)


if __name__ == "__main__":
    raise SystemExit(main())
