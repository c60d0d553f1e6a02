"""Sets of torchvision, read from files laid out as the library itself expects them."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets as library
from PIL import Image

from podium.cli.app import main
from podium.config.data_settings import DataSpec
from podium.data.fetch import fetch
from podium.data.indexing import index_of
from podium.data.listing import list_images, named_source, open_source
from podium.data.source import Reader
from podium.data.torchvision_source import SETS, TorchvisionSource, _made
from podium.errors import ConfigError
from podium.runtime.cache import cache_root

random = np.random.default_rng(3)


def mnist(root: Path, name: str = "MNIST") -> Path:
    """20 + 20 digits in the format of Yann LeCun."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for split in ("train", "t10k"):
        images = random.integers(0, 256, (20, 28, 28), dtype=np.uint8)
        labels = np.arange(20, dtype=np.uint8) % 10
        head = struct.pack(">iiii", 2051, 20, 28, 28)
        (folder / f"{split}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = struct.pack(">ii", 2049, 20)
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())
    return root


def cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """12 + 12 pictures of two classes, pickled as in Toronto; the checksums are of these files."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def put(name: str, content: object) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch() -> dict[str, object]:
        pixels = random.integers(0, 256, (12, 3072), dtype=np.uint8)
        return {"data": pixels, "labels": [number % 2 for number in range(12)]}

    monkeypatch.setattr(library.CIFAR10, "train_list", [put("data_batch_1", batch())])
    monkeypatch.setattr(library.CIFAR10, "test_list", [put("test_batch", batch())])
    names = {"label_names": ["cat", "dog"]}
    _, md5 = put("batches.meta", names)
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5}
    monkeypatch.setattr(library.CIFAR10, "meta", meta)
    return root


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(path)
    return path


def aircraft(root: Path) -> Path:
    """Files, three splits, and a class with a slash in its name."""
    data = root / "fgvc-aircraft-2013b" / "data"
    for split in ("train", "val", "test"):
        lines = []
        for number, name in enumerate(["F/A-18", "707-320", "F/A-18", "707-320"]):
            picture(data / "images" / f"{split}{number}.jpg")
            lines.append(f"{split}{number} {name}\n")
        (data / f"images_variant_{split}.txt").write_text("".join(lines))
    (data / "variants.txt").write_text("707-320\nF/A-18\n")
    return root


def pets(root: Path) -> Path:
    data = root / "oxford-iiit-pet"
    (data / "annotations").mkdir(parents=True)
    for split in ("trainval", "test"):
        lines = []
        for number in range(3):
            for label, name in enumerate(("Abyssinian", "great_pyrenees"), 1):
                picture(data / "images" / f"{name}_{split}{number}.jpg")
                lines.append(f"{name}_{split}{number} {label} {label} 1\n")
        (data / "annotations" / f"{split}.txt").write_text("".join(lines))
    return root


def signs(root: Path) -> Path:
    data = root / "gtsrb"
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for number in range(2):
        for label in range(2):
            name = f"{number:05d}_{label:05d}.ppm"
            picture(data / "GTSRB" / "Training" / f"{label:05d}" / name)
            picture(data / "GTSRB" / "Final_Test" / "Images" / name)
            rows.append(f"{name};16;12;1;1;9;9;{label}")
    (data / "GT-final_test.csv").write_text("\n".join(rows))
    return root


def caltech(root: Path) -> Path:
    data = root / "caltech256"
    for label, name in enumerate(("001.ak47", "002.camel"), 1):
        for number in range(1, 4):
            picture(data / "256_ObjectCategories" / name / f"{label:03d}_{number:04d}.jpg")
    return root


def test_arrays_are_served_without_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = TorchvisionSource("torchvision:CIFAR10", str(cifar(tmp_path, monkeypatch)))
    items = [*source.list()]
    assert [item.split for item in items] == ["train"] * 12 + ["test"] * 12
    assert items[1].path == "train/dog/000001.ppm"
    oracle = library.CIFAR10(str(tmp_path), train=False)
    reader = pickle.loads(pickle.dumps(Reader(source)))
    for item, (image, target) in zip(items[12:], oracle, strict=True):
        got = Image.open(io.BytesIO(reader.read(item.path)))
        assert np.array_equal(np.asarray(got), np.asarray(image))
        assert item.label == oracle.classes[target]
    paths = [item.path for item in items]
    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(reader.read, paths)] == [*map(source.read, paths)]


def test_grey_arrays_are_served_as_grey(tmp_path: Path) -> None:
    index = index_of(
        DataSpec(path="torchvision:MNIST", options={"root": str(mnist(tmp_path))}, min_images=1)
    )
    assert index.classes == tuple(library.MNIST.classes)
    assert {split: len(part) for split, part in index.splits.items()} == {
        "train": 10, "valid": 10, "test": 20
    }  # fmt: skip
    assert index.statistics["greyscale"] == 40
    assert index.statistics["formats"] == {".pgm": 40}


@pytest.mark.parametrize(
    ("name", "make", "classes", "splits"),
    [
        ("FGVCAircraft", aircraft, ["707-320", "F/A-18"], {"train": 4, "valid": 4, "test": 4}),
        ("OxfordIIITPet", pets, ["Abyssinian", "Great Pyrenees"], {"train": 6, "test": 6}),
        ("GTSRB", signs, ["0", "1"], {"train": 4, "test": 4}),
        ("Caltech256", caltech, ["001.ak47", "002.camel"], {None: 6}),
    ],
)
def test_files_are_served_as_they_are(
    tmp_path: Path, name: str, make: object, classes: list[str], splits: dict[str | None, int]
) -> None:
    assert callable(make)
    root = make(tmp_path)
    source = open_source(DataSpec(path=f"torchvision:{name}", options={"root": str(root)}))
    items = [*source.list()]
    assert sorted({item.label for item in items}) == classes
    found = {split: sum(item.split == split for item in items) for split in splits}
    assert found == splits
    assert sum(found.values()) == len(items)
    for item in items:
        assert source.read(item.path) == (root / item.path).read_bytes()
    images = _made(name, root, next(iter(SETS[name].values())), download=False)
    targets = []  # the library's own order and labels
    for image, target in images:
        targets.append(int(target))
        if hasattr(image, "close"):
            image.close()  # Caltech's are open files
    known = dict(
        enumerate(getattr(images, "classes", None) or getattr(images, "categories", classes))
    )
    assert [item.label for item in items[: len(targets)]] == [known[one] for one in targets]


def test_every_set_exists_and_takes_its_splits() -> None:
    import inspect

    for name, splits in SETS.items():
        parameters = inspect.signature(getattr(library, name)).parameters
        for arguments in splits.values():
            open_ended = any(one.kind == one.VAR_KEYWORD for one in parameters.values())
            assert open_ended or set(arguments) | {"download"} <= set(parameters), name


def test_a_set_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "torchvision:CIFAR10"]) == 2
    told = capsys.readouterr().err.replace("\n", "")
    for part in (
        "podium data fetch torchvision:CIFAR10",
        "cifar-10-python.tar.gz",
        "torchvision/CIFAR10",
    ):
        assert part in told
    with pytest.raises(ConfigError, match="Did you mean torchvision:CIFAR10"):
        named_source("torchvision:cifar10")
    with pytest.raises(ConfigError, match="there is no 'torchvision:ImageFolder'"):
        named_source("torchvision:ImageFolder")


def test_options_are_checked(tmp_path: Path) -> None:
    def opened(**options: str) -> None:
        open_source(
            DataSpec(path="torchvision:FGVCAircraft", options={"root": str(tmp_path), **options})
        )

    aircraft(tmp_path)
    opened(annotation_level="variant")
    with pytest.raises(ConfigError, match="annotation_level"):
        opened(annotation_level="colour")
    with pytest.raises(ConfigError, match="unexpected keyword argument 'colour'"):
        opened(colour="red")
    with pytest.raises(ConfigError, match=r"split of .* is set by Podium"):
        opened(split="train")


def test_fetching(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    mnist(cache_root() / "torchvision" / "KMNIST", "KMNIST")  # in place: the library is content
    assert fetch("torchvision:KMNIST") == cache_root() / "torchvision" / "KMNIST"
    assert len(list_images(named_source("torchvision:KMNIST")).paths) == 40

    with pytest.raises(ConfigError, match="--source kaggle"):
        fetch("torchvision:KMNIST", source="kaggle")

    def offline(*_: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(library.GTSRB, "download", offline)
    assert main(["data", "fetch", "torchvision:GTSRB"]) == 2
    told = capsys.readouterr().err
    assert "no network" in told
    assert "sid.erda.dk" in told
