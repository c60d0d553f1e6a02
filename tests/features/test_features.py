"""Features on disk: right, shared, found again, and never trusted when damaged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from podium.data.dataset import ImageDataset
from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.data.transforms import eval_transform, prepare
from podium.errors import DataError, UnreadableImageError
from podium.features import disk, extract
from podium.features.disk import FeatureStore, borrowing, read_array, write_array
from podium.features.extract import Backbone
from podium.features.folding import folded_if_equal
from podium.features.network import View
from podium.features.threads import in_threads
from podium.models import build_model
from podium.runtime.cache import prune
from podium.runtime.parts import Parts
from tests.conftest import Steps, StopAfter, device, write_pictures
from tests.parts import HereParts

HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def index(pictures: Path) -> DataIndex:
    return build_index(pictures)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(extract, "PART", 16)
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path / "cache"))


def backbone(size: int = 64, seed: int = 0, parts: Parts | None = None) -> Backbone:
    built = build_model("efficientnet_lite0", 3, pretrained=True, seed=seed)
    place = torch.device(device() if parts is None else parts.device)
    return Backbone(built, size=size, normalization=(HALF, HALF), device=place, parts=parts)


@pytest.mark.parametrize("view", ["plain", "mirrored"])
def test_features_are_what_the_classifier_gets(index: DataIndex, view: View) -> None:
    """The oracle: a hook on the classifier of the model as it is."""
    built = build_model("efficientnet_lite0", 3, pretrained=True, seed=0)
    seen: list[torch.Tensor] = []
    built.module.get_submodule("classifier").register_forward_pre_hook(
        lambda layer, given: seen.append(given[0])
    )
    dataset = ImageDataset(index, "valid", eval_transform(64), None)
    images = torch.stack([dataset[number][0] for number in range(len(dataset))])
    images = images.flip(3) if view == "mirrored" else images
    with torch.inference_mode():
        built.module.eval()(prepare(images, HALF, HALF))
    mine, computed = backbone().features(index, "valid", view=view)
    assert computed == len(mine) == 27
    np.testing.assert_allclose(mine, seen[0].numpy(), rtol=1e-3, atol=1e-4)


def test_what_is_in_the_cache_is_not_computed_again(index: DataIndex, tmp_path: Path) -> None:
    told = Steps()
    first, computed = backbone().features(index, "train", notify=told)
    assert computed == 72
    assert (told[0], told[-1]) == (("features", 0, 72), ("features", 72, 72))
    # another seed changes the classifier alone
    told.clear()
    again, computed = backbone(seed=1).features(index, "train", notify=told)
    assert computed == 0
    assert told == [("features", 72, 72)]
    assert np.array_equal(again, first)
    # another size, view or arithmetic is another entry
    for other in (
        backbone(size=48).features(index, "train"),
        backbone().features(index, "train", view="mirrored"),
        backbone().features(index, "train", precision="bf16"),
    ):
        assert other[1] == 72
        assert not np.array_equal(other[0], first)
    assert len(list((tmp_path / "cache/features").iterdir())) == 4


def test_splits_of_one_network_do_not_push_each_other_out(
    index: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "LIMIT", 1)
    backbone().features(index, "valid", view="mirrored")
    network = backbone()
    for split in ("test", "valid"):
        network.features(index, split)
    assert len(list((tmp_path / "cache/features").iterdir())) == 2
    assert network.features(index, "test")[1] == 0


def test_other_weights_or_pictures_are_other_features(tmp_path: Path) -> None:
    index = build_index(write_pictures(tmp_path / "set", {"train": 6, "valid": 1, "test": 1}))
    network = backbone()
    assert network.features(index, "train")[1] == 18
    moved = build_index((tmp_path / "set").rename(tmp_path / "moved"))
    assert network.features(moved, "train")[1] == 0
    picture = tmp_path / "moved/train/noise/3.png"
    (tmp_path / "moved/train/noise/4.png").replace(picture)
    assert network.features(build_index(tmp_path / "moved"), "train")[1] == 17
    built = build_model("efficientnet_lite0", 3, pretrained=True)
    with torch.no_grad():
        next(built.module.parameters()).mul_(1.01)
    other = Backbone(built, size=64, normalization=(HALF, HALF), device=torch.device(device()))
    assert other.features(build_index(tmp_path / "moved"), "train")[1] == 17


def test_a_kept_bf16_feature_is_the_computed_one(index: DataIndex) -> None:
    computed, fresh = backbone().features(index, "train", precision="bf16")
    kept, again = backbone().features(index, "train", precision="bf16")
    assert (fresh, again) == (72, 0)
    assert np.array_equal(kept, computed)
    assert 0 < backbone().bf16_error(index, "train") < 0.1


def test_an_interruption_costs_one_part(index: DataIndex) -> None:
    whole, _ = backbone().features(index, "train", view="mirrored")
    with pytest.raises(KeyboardInterrupt):
        backbone().features(index, "train", stop=StopAfter(5))  # 5 batches of 8: 2 parts of 16
    _, computed = backbone().features(index, "train")
    assert computed == 72 - 32
    assert whole.shape == (72, 1280)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other", "folder"])
def test_a_damaged_part_costs_only_time(index: DataIndex, tmp_path: Path, damage: str) -> None:
    first, _ = backbone().features(index, "train")
    (entry,) = (tmp_path / "cache/features").iterdir()
    part = entry / "part-00001.npz"
    content = bytearray(part.read_bytes())
    if damage == "cut":
        part.write_bytes(content[:-100])
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        part.write_bytes(content)
    elif damage == "empty":
        part.write_bytes(b"")
    elif damage == "other":
        part.write_bytes((entry / "part-00004.npz").read_bytes())  # 8 images, not 16
    else:
        part.unlink()
        part.mkdir()
    again, computed = backbone().features(index, "train")
    assert computed == 16
    assert np.array_equal(again, first)


def test_without_a_cache_features_are_computed(
    index: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path / "file"))
    values, computed = backbone().features(index, "valid")
    assert computed == len(values) == 27


def test_a_picture_that_went_away_is_named(tmp_path: Path) -> None:
    index = build_index(write_pictures(tmp_path / "set", {"train": 6, "valid": 1, "test": 1}))
    (tmp_path / "set/train/noise/3.png").write_bytes(b"nothing")
    with pytest.raises(UnreadableImageError, match=r"train/noise/3\.png"):
        backbone().features(index, "train")


def test_the_least_recently_used_is_removed_first(tmp_path: Path) -> None:
    now = time.time()
    stores = [FeatureStore("model-64", {"number": number}, tmp_path) for number in range(3)]
    for age, store in enumerate(stores):
        store.write(0, np.ones((4, 1000), np.float32))
        os.utime(store.path, (now - age, now - age))
    old = tmp_path / "audit.npz"  # the audit keeps single files there
    write_array(old, np.ones((4, 1000), np.float16))
    os.utime(old, (now - 10, now - 10))
    left = tmp_path / "left.npz.tmp"
    left.write_bytes(b"x")
    os.utime(left, (now - 100_000, now - 100_000))
    assert prune(tmp_path, limit=10**9) == [left]
    assert prune(tmp_path, limit=50_000) == [old]
    assert prune(tmp_path, limit=40_000) == [stores[2].path]
    assert prune(tmp_path, limit=1, keep=(stores[1].path,)) == [stores[0].path]
    assert stores[1].read(0, 4) is not None
    assert prune(tmp_path / "nowhere", limit=1) == []


PROCESS = """
import sys
from pathlib import Path
import numpy as np
from podium.features.disk import FeatureStore, prune
folder = Path(sys.argv[1])
for turn in range(60):
    store = FeatureStore("net", {"turn": turn % 5}, folder)
    values = np.full((8, 4), turn % 5, np.float32)
    found = store.read(0, 8)
    assert found is None or np.array_equal(found, values)
    store.write(0, values)
    store.used()
    prune(folder, limit=400)  # less than two entries: others' are removed while they are used
"""


def test_processes_share_a_store(tmp_path: Path) -> None:
    running = [subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path)]) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert not list(tmp_path.rglob("*.tmp"))


def test_arrays_survive_the_disk(tmp_path: Path) -> None:
    values = torch.randn(5, 7).bfloat16().float().numpy()
    write_array(tmp_path / "a.npz", values, bf16=True)
    write_array(tmp_path / "b.npz", values)
    for name in ("a.npz", "b.npz"):
        found = read_array(tmp_path / name, 5)
        assert found is not None
        assert np.array_equal(found, values)
    assert (tmp_path / "a.npz").stat().st_size < (tmp_path / "b.npz").stat().st_size
    assert read_array(tmp_path / "a.npz", 6) is None
    write_array(tmp_path / "c.npz", np.full((5, 2), np.nan, np.float32))
    assert read_array(tmp_path / "c.npz", 5) is None


def test_threads_keep_order_and_stop_early() -> None:
    begun: list[int] = []

    def look(number: int) -> int:
        begun.append(number)
        time.sleep(0.001)
        return number**2

    assert list(in_threads(look, range(50))) == [n**2 for n in range(50)]
    begun.clear()
    results = in_threads(look, range(10_000))
    assert next(results) == 0
    results.close()
    assert len(begun) < 100


def test_a_model_with_an_order_of_its_own_is_run_as_it_is() -> None:
    class Backwards(nn.Module):  # the norm lies after the convolution, and is called before it
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)
            self.norm.running_mean = torch.tensor([1.0, 2.0, 3.0])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.conv(self.norm(x))
            return y

    module = Backwards().eval()
    assert folded_if_equal(module, 32, torch.device("cpu")) is module
    plain = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)).eval()
    assert folded_if_equal(plain, 32, torch.device("cpu")) is not plain


def test_other_machines_compute_the_same_to_the_bit_and_only_what_is_missing(
    index: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = backbone().features(index, "train", view="mirrored")
    error = backbone().bf16_error(index, "train")
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path / "another"))
    parts = HereParts()
    network = backbone(parts=parts)
    assert network.bf16_error(index, "train") == error
    with pytest.raises(KeyboardInterrupt):
        network.features(index, "train", view="mirrored", stop=StopAfter(2))
    assert [len(item) for item in parts.items[1:]] == [16, 16]
    found, computed = network.features(index, "train", view="mirrored")
    assert computed == 72 - 32
    assert [len(item) for item in parts.items[3:]] == [16, 16, 8]
    assert np.array_equal(found, here)


def test_a_machine_that_does_not_see_the_images_is_named(tmp_path: Path) -> None:
    index = build_index(write_pictures(tmp_path / "set", {"train": 2, "valid": 1, "test": 1}))
    shutil.rmtree(tmp_path / "set" / "train")
    with pytest.raises(DataError, match=r"^\S+: .*train/.*No such file.*All nodes need the images"):
        backbone(parts=HereParts()).features(index, "train")


def test_features_are_borrowed_before_they_are_computed(
    index: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = backbone().features(index, "train")
    kept = tmp_path / "cache" / "features"
    (entry,) = kept.iterdir()
    (entry / "part-00002.npz").unlink()
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path / "node"))
    asked = list[str]()

    def lend(name: str, folder: Path) -> None:
        asked.append(name)
        shutil.copytree(kept / name, folder / name, dirs_exist_ok=True)

    with borrowing(lend):
        found, computed = backbone().features(index, "train")
        assert computed == 16  # what the other machine has not either
        backbone().features(index, "train")
    assert asked == [entry.name]
    assert np.array_equal(found, first)
