"""Drawn entries and predictions, as many as no set of photographs here has.

The entries are a pack's index without its shards: names, classes, splits and digests of images
that do not exist. So what is measured is the index alone, without the reading of images.
Predictions are those of a finished study of two contenders.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import multiprocessing
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from benchmarks.common import BenchmarkError

if TYPE_CHECKING:
    from podium.runs.predictions import Predictions

CLASSES = 1000
VALID = 5  # validation images of a class, of the drawn predictions


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


def study_files(count: int, place: Path) -> Callable[[], object]:
    """Write what a study keeps of its images."""
    from podium.data.record import index_table, write_table
    from podium.runtime.files import write_json

    index: Any = opening(count, place)()

    def work() -> object:
        table = index_table(index)
        write_json(place / "data.json", index.summary())
        write_table(table, place / "images.parquet")
        return None

    return work


def folds(count: int, place: Path) -> Callable[[], object]:
    """Make the index of a cross-validated study, then that of its first fold."""
    from podium.config.data_settings import DataSpec
    from podium.data.indexing import index_of
    from podium.data.parts import fold_index

    def work() -> object:
        index = index_of(DataSpec(path=str(place / "packed"), folds=10))
        fold = fold_index(index, 0)
        if sum(map(len, fold.splits.values())) != count:
            raise BenchmarkError("the fold lost images")
        return index, fold

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


def fill(count: int, study: Path) -> Callable[[], object]:
    """Write a study whose two contenders each predicted `count` test images."""
    import numpy as np

    from podium.runtime.files import write_json
    from podium.statistics.calibration import fit_temperature
    from podium.study.pictures import MOST_THUMBNAILS
    from tests.fake_study import fake_study

    def work() -> object:
        names = [f"class-{number:04d}" for number in range(min(CLASSES, count // 2))]
        picture = dot()
        pictures = {name: [picture] for name in names}
        folder = fake_study(study, names, contenders=2, per_class=1, pictures=pictures)
        data = json.loads(folder.data.read_text(encoding="utf-8"))
        held = VALID * len(names)
        for split, size in {"valid": held, "test": count}.items():
            data["splits"][split] = dict.fromkeys(names, size // len(names))
        folder.data.write_text(json.dumps(data), encoding="utf-8")
        for number, run in enumerate(folder.runs(folder.read_spec())):
            random = np.random.default_rng([number, count])
            (valid,) = _drawn("valid", held, names, random)
            temperature = fit_temperature(valid)
            write_json(run.done, run.read_done() | {"temperature": temperature})
            valid.for_file(temperature).write(run.predictions("valid"))
            parts = (one.for_file(temperature) for one in _drawn("test", count, names, random))
            _write_in_parts(run.predictions("test"), parts)
        step = -(-count // MOST_THUMBNAILS)
        each = count // len(names)
        shown = (_path("test", row, each) for row in range(0, count, step))
        folder.write_thumbnails((path, picture) for path in shown)
        return folder

    return work


def _path(split: str, row: int, each: int) -> str:
    return f"{split}/class-{row // each:04d}/{row % each:06d}.jpg"


def _drawn(split: str, count: int, names: list[str], random: Any) -> Iterator[Predictions]:
    """Predictions of `count` images in parts: all logits would be 4 GB of a million."""
    import numpy as np

    from podium.runs.predictions import Predictions

    each = count // len(names)
    for first in range(0, count, 20_000):
        rows = np.arange(first, min(first + 20_000, count))
        labels = rows // each
        logits = random.standard_normal((len(rows), len(names)), dtype=np.float32)
        logits[np.arange(len(rows)), labels] += 3.6
        paths = tuple(_path(split, row, each) for row in rows.tolist())
        yield Predictions(tuple(names), paths, labels, logits)


def _write_in_parts(path: Path, parts: Iterator[Predictions]) -> None:
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory(dir=path.parent) as folder, contextlib.ExitStack() as stack:
        writer = None
        for part in parts:
            part.write(Path(folder, "part"))
            table = pq.read_table(Path(folder, "part"))
            writer = writer or stack.enter_context(pq.ParquetWriter(path, table.schema))
            writer.write_table(table)


def dot() -> bytes:
    """A small JPEG."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (90, 120, 60)).save(stream, "JPEG")
    return stream.getvalue()


def own_mib() -> float:
    """Memory that this process shares with no other and no file."""
    rollup = Path("/proc/self/smaps_rollup")
    if sys.platform != "linux" or not rollup.is_file():
        return float("nan")
    lines = rollup.read_text().splitlines()
    return next(int(one.split()[1]) for one in lines if one.startswith("Anonymous:")) / 2**10
