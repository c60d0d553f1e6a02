"""An index of drawn entries, as large as no set of photographs here: opened, and sent to a process.

The entries are a pack's index without its shards: names, classes, splits and digests of images
that do not exist. So what is measured is the index alone, without the reading of images.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import pickle
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.common import BenchmarkError

CLASSES = 1000


def draw(count: int, place: Path) -> Callable[[], object]:
    """Write the pack of `count` entries, 98 % of them to train on."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from podium.data.file_checks import Verdicts
    from podium.data.pack_format import ABOUT, FORMAT, INDEX, About
    from podium.data.splits import SPLITS

    def work() -> object:
        random = np.random.default_rng(0)
        folder = place / "packed"
        folder.mkdir(parents=True, exist_ok=True)
        held = max(CLASSES, count // 100)
        sizes = {"test": held, "train": count - 2 * held, "valid": held}  # in order of the names
        splits = np.repeat([SPLITS.index(name) for name in sizes], [*sizes.values()])
        labels = np.concatenate([np.sort(np.arange(size) % CLASSES) for size in sizes.values()])
        names = [f"class-{number:04d}" for number in range(CLASSES)]
        classes = pa.array(names).take(pa.array(labels))
        split = pa.array(SPLITS).take(pa.array(splits))
        numbers = [f"{number:09d}.jpg" for number in range(count)]
        checked = Verdicts(
            np.frombuffer(random.bytes(32 * count), np.uint8).reshape(-1, 32),
            np.full((count, 2), 500, np.int32),
            np.zeros((count, 3), np.bool_),
        ).columns(np.arange(count))
        length = random.integers(50_000, 150_000, count)
        table = pa.table(
            {
                "path": pc.binary_join_element_wise(split, classes, pa.array(numbers), "/"),
                "label": classes,
                "split": split,
                "group": pa.nulls(count, pa.string()),
                "key": pa.array([name[:9] for name in numbers]),
                "shard": pa.array(np.cumsum(length) // 10**9, pa.int32()),
                "offset": pa.array(np.cumsum(length) % 10**9),
                "length": pa.array(length),
                **checked,
            }
        )
        pq.write_table(table, folder / INDEX, compression="zstd")
        with open(folder / INDEX, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        about = About(FORMAT, count, 0, int(length.sum()), names, None, digest)
        return (folder / ABOUT).write_text(json.dumps(asdict(about)))

    return work


def opening(count: int, place: Path) -> Callable[[], object]:
    """Make the index of a study: splits, labels, fingerprint."""
    from podium.config.data_settings import DataSpec
    from podium.data.indexing import index_of

    def work() -> object:
        index = index_of(DataSpec(path=str(place / "packed")))
        if sum(map(len, index.splits.values())) != count:
            raise BenchmarkError(f"the index lost images: {index.notices}")
        return index

    return work


def in_a_worker(count: int, place: Path) -> dict[str, float]:
    """Send the training images to a process that is started anew, which reads every name."""
    from podium.data.dataset import ImageDataset
    from podium.data.transforms import eval_transform

    index: Any = opening(count, place)()
    dataset = ImageDataset(index, "train", eval_transform(64), None)
    content = pickle.dumps(dataset)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_worker, args=(content, theirs))
    process.start()
    found: dict[str, float] = ours.recv()
    process.join()
    return {**found, "sent_bytes": len(content)}


def _worker(content: bytes, answer: Any) -> None:
    import podium.data.dataset
    import podium.data.transforms  # noqa: F401
    from benchmarks.scale import measured

    def work() -> object:
        dataset = pickle.loads(content)
        entries = dataset.entries
        total = sum(len(path) for path in entries.paths)
        return dataset, total, entries.labels.sum(), entries.digest(len(entries) - 1)

    answer.send(measured(work))


def own_mib() -> float:
    """Memory that this process shares with no other and no file."""
    rollup = Path("/proc/self/smaps_rollup")
    if sys.platform != "linux" or not rollup.is_file():
        return float("nan")
    lines = rollup.read_text().splitlines()
    return next(int(one.split()[1]) for one in lines if one.startswith("Anonymous:")) / 2**10
