"""The cache of decoded pictures: what comes out of it is what the files hold, whatever happens."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from podium.config.machine import Machine
from podium.config.registry import AUGMENTATIONS
from podium.config.settings import RunSpec
from podium.data.bands import Picture
from podium.data.cache import cache_pixels
from podium.data.checking import load_checked
from podium.data.dataset import EpochSampler, ImageDataset
from podium.data.images import squeeze
from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.data.loader import batches, make_loader
from podium.data.pixels import CachedPixels, PixelFile, PixelWriter, file_bytes, most_images
from podium.data.transforms import Flip, eval_transform, source_size, train_transform
from podium.errors import UnreadableImageError
from podium.runtime.device import Device, choose_workers
from podium.runtime.events import CacheProgress, Event, Message, WarningMessage
from tests.conftest import StopAfter

SIZES = {"train": 32, "valid": 32}


@pytest.fixture(scope="module")
def index(pictures: Path) -> DataIndex:
    return build_index(pictures)


class Told(list[Event]):
    """A `Notify` that remembers."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def texts(self, kind: type[Message] = Message) -> str:
        return "\n".join(event.text for event in self if isinstance(event, kind))


def build(index: DataIndex, folder: Path, **options: Any) -> tuple[dict[str, CachedPixels], Told]:
    told = Told()
    options = {"limit": 1.0, "notify": told, "folder": folder, "workers": 2, **options}
    return cache_pixels(index, options.pop("sizes", SIZES), **options), told


def decoded(index: DataIndex, split: str, size: int = 32) -> list[np.ndarray[Any, Any]]:
    """The oracle: every picture by Pillow alone."""
    pictures = []
    for path in index.splits[split].paths:
        with Image.open(index.root / path) as image:
            small = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        pictures.append(np.asarray(small))
    return pictures


def check(index: DataIndex, found: dict[str, CachedPixels]) -> None:
    assert set(found) == set(SIZES)
    for split, kept in found.items():
        for number, expected in enumerate(decoded(index, split)):
            pixels = kept.get(number)
            assert pixels is not None
            assert np.array_equal(pixels, expected)


@pytest.fixture
def count_decoding(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []

    def load(*given: Any) -> Picture:
        names.append(given[1])
        return load_checked(*given)

    monkeypatch.setattr("podium.data.index.load_checked", load)
    return names


def test_it_holds_what_the_files_hold_and_is_built_once(
    index: DataIndex, tmp_path: Path, count_decoding: list[str]
) -> None:
    found, told = build(index, tmp_path)
    check(index, found)
    assert len(count_decoding) == 72 + 27
    assert "caches 72 decoded images of 32 px" in told.texts()
    steps = [event for event in told if isinstance(event, CacheProgress)]
    assert steps[-1].done == steps[-1].total == 27
    again, told = build(index, tmp_path)
    check(index, again)
    assert len(count_decoding) == 72 + 27
    assert not told
    assert {path.suffix for path in tmp_path.iterdir()} <= {".pixels", ""}  # and the lock


def test_no_test_image_is_in_it(index: DataIndex, tmp_path: Path) -> None:
    build(index, tmp_path)
    files = [PixelFile.open(path) for path in tmp_path.glob("*.pixels")]
    kept = {row.tobytes().hex() for file in files if file is not None for row in file.digests}
    assert len(kept) == 99
    assert not kept & {index.digests[path] for path in index.splits["test"].paths}


@pytest.mark.parametrize("policy", AUGMENTATIONS.built_in)
def test_cached_and_streamed_batches_are_the_same_bits(
    policy: str, index: DataIndex, tmp_path: Path
) -> None:
    cached = build(index, tmp_path, sizes={"train": source_size(policy, 32)})[0]["train"]
    sampler = EpochSampler(72, seed=3, batch_size=20)
    sampler.set_epoch(2)
    found = []
    for kept, workers in ((None, 0), (cached, 0), (cached, 1), (cached, 2)):
        dataset = ImageDataset(index, "train", train_transform(policy, 32), 3, kept)
        device = torch.device("cpu")
        loader = make_loader(dataset, workers=workers, device=device, batch_sampler=sampler)
        found.append(list(batches(loader, device, None)))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_other_names_and_classes_find_the_same_file(
    index: DataIndex, tmp_path: Path, count_decoding: list[str]
) -> None:
    build(index, tmp_path / "cache")
    copy = tmp_path / "data"
    shutil.copytree(index.root, copy)
    for split in ("train", "valid", "test"):
        (copy / split / "noise").rename(copy / split / "a new name")
    moved = next((copy / "train" / "circle").iterdir())
    moved.rename(copy / "train" / "stripes" / "relabelled.png")
    before = len(count_decoding)
    other = build_index(copy)
    found, _ = build(other, tmp_path / "cache")
    check(other, found)
    assert len(count_decoding) == before


def test_only_new_images_are_decoded_for_a_changed_split(
    index: DataIndex, tmp_path: Path, count_decoding: list[str]
) -> None:
    build(index, tmp_path / "cache")
    copy = tmp_path / "data"
    shutil.copytree(index.root, copy)
    new = copy / "train" / "circle" / "new.png"
    Image.new("RGB", (50, 40), "red").save(new)
    (copy / "train" / "noise" / "0.png").unlink()
    moved = copy / "valid" / "noise" / "0.png"
    moved.rename(copy / "train" / "noise" / "from valid.png")
    count_decoding.clear()
    other = build_index(copy)
    found, _ = build(other, tmp_path / "cache")
    check(other, found)
    assert count_decoding == ["train/circle/new.png"]


def test_copies_of_one_picture_share_a_row(index: DataIndex, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(index.root, copy)
    shutil.copy(copy / "train/circle/0.png", copy / "train/noise/copy.png")
    other = build_index(copy)
    found, _ = build(other, tmp_path / "cache")
    check(other, found)
    assert found["train"].path.stat().st_size == file_bytes(72, 32)


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from podium.data.cache import cache_pixels
    from podium.data.indexing import build_index
    from podium.runtime.events import CacheProgress

    def notify(event):
        if isinstance(event, CacheProgress) and event.done >= {step}:
            os.kill(os.getpid(), signal.SIGKILL)

    cache_pixels(build_index({root!r}), {sizes!r}, limit=1, notify=notify,
                 folder=Path({folder!r}), workers=1)
    print("done")
"""


def script(index: DataIndex, folder: Path, step: float) -> list[str]:
    text = KILLED.format(root=str(index.root), folder=str(folder), sizes=SIZES, step=step)
    return [sys.executable, "-c", textwrap.dedent(text)]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_kill_leaves_nothing_wrong_and_is_gone_on_with(
    index: DataIndex, tmp_path: Path, count_decoding: list[str]
) -> None:
    ended = subprocess.run(script(index, tmp_path, 48), check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob("*.partial"))) == 1
    assert not list(tmp_path.glob("*.pixels"))
    found, _ = build(index, tmp_path)
    check(index, found)
    assert 27 < len(count_decoding) < 99
    assert not list(tmp_path.glob("*.partial"))


def test_a_torn_partial_file_is_noticed(index: DataIndex, tmp_path: Path) -> None:
    """As after a power cut: checksums are there, pixels are not."""
    stop = StopAfter(4)
    with pytest.raises(KeyboardInterrupt):
        build(index, tmp_path, stop=stop, workers=1)
    (partial,) = tmp_path.glob("*.partial")
    with open(partial, "r+b") as file:
        file.seek(file_bytes(72, 32) - 72 * 32 * 32 * 3)
        file.write(b"\0" * 32 * 32 * 3 * 10)
    check(index, build(index, tmp_path)[0])
    with open(partial, "wb") as file:
        file.write(b"something else")
    for path in tmp_path.glob("*.pixels"):
        path.unlink()
    check(index, build(index, tmp_path)[0])


def test_two_processes_do_not_harm_each_other(index: DataIndex, tmp_path: Path) -> None:
    running = [
        subprocess.Popen(script(index, tmp_path, 1e9), stdout=subprocess.PIPE) for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in running] == [b"done", b"done"]
    found, told = build(index, tmp_path)
    check(index, found)
    assert not told
    assert len(list(tmp_path.glob("*.pixels"))) == 2


def test_a_file_that_another_process_finishes_meanwhile_stays(
    index: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count_decoding: list[str]
) -> None:
    build(index, tmp_path / "other")
    count_decoding.clear()
    place = tmp_path / "pixels"
    place.mkdir()
    look = PixelFile.open

    def look_before(path: Path) -> PixelFile | None:
        found = look(path)
        if found is None:  # it is there before what was seen is acted upon
            shutil.copy(tmp_path / "other" / path.name, path)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(PixelFile, "open", look_before)
        found, _ = build(index, place)
    assert count_decoding == []
    check(index, found)


@pytest.mark.parametrize("harm", ["cut", "longer", "header", "empty", "other format"])
def test_a_file_that_is_not_whole_is_made_anew(harm: str, index: DataIndex, tmp_path: Path) -> None:
    path = build(index, tmp_path)[0]["train"].path
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[:-1],
            "longer": content + b"x",
            "header": b"x" + content[1:],
            "empty": b"",
            "other format": content.replace(b"podium-pixels 1", b"podium-pixels 9", 1),
        }[harm]
    )
    check(index, build(index, tmp_path)[0])
    assert path.read_bytes() == content


def test_a_damaged_picture_is_decoded_and_the_file_removed(
    index: DataIndex, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = build(index, tmp_path)[0]["train"]
    row = int(kept.rows[5])
    with open(kept.path, "r+b") as file:
        file.seek(-(72 - row) * 32 * 32 * 3 + 100, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    dataset = ImageDataset(index, "train", eval_transform(32), None, kept)
    for number, expected in enumerate(decoded(index, "train")):
        assert np.array_equal(dataset[number][0].permute(1, 2, 0).numpy(), expected)
    assert not kept.path.exists()
    assert "damaged" in caplog.text


def test_a_file_removed_by_others_costs_time_only(index: DataIndex, tmp_path: Path) -> None:
    kept = build(index, tmp_path)[0]["train"]
    kept.path.unlink()
    dataset = ImageDataset(index, "train", eval_transform(32), None, kept)
    assert np.array_equal(dataset[0][0].permute(1, 2, 0).numpy(), decoded(index, "train")[0])


def test_what_fits_the_limit_is_kept_and_its_share_told(
    index: DataIndex, tmp_path: Path, count_decoding: list[str]
) -> None:
    sizes = {"train": 40, "valid": 32}  # smaller images first: each saves as much as a larger one
    room = file_bytes(27, 32) + file_bytes(30, 40)
    found, told = build(index, tmp_path, sizes=sizes, limit=room / 1e9)
    text = told.texts(WarningMessage)
    assert "57 of 99 (58 %) are cached, every epoch decodes the others again" in text
    assert found["valid"].complete
    assert not found["train"].complete
    assert sum(path.stat().st_size for path in tmp_path.glob("*.pixels")) <= room
    kept = [found["train"].get(number) for number in range(72)]
    assert sum(pixels is not None for pixels in kept) == 30
    for pixels, expected in zip(kept, decoded(index, "train", 40), strict=True):
        assert pixels is None or np.array_equal(pixels, expected)
    assert len(count_decoding) == 57
    again, _ = build(index, tmp_path, sizes=sizes, limit=room / 1e9)
    assert again["train"].path == found["train"].path
    assert len(count_decoding) == 57
    grown, told = build(index, tmp_path, sizes=sizes, limit=1)  # only the missing are decoded
    assert grown["train"].complete
    assert not told.texts(WarningMessage)
    assert len(count_decoding) == 99


@pytest.mark.parametrize("size", [1, 7, 32, 224])
def test_the_most_images_of_a_limit_just_fit(size: int) -> None:
    for room in (0, 1, 4095, 4096, 5000, 10**5, 123_456_789):
        count = most_images(room, size)
        assert count == 0 or file_bytes(count, size) <= room
        assert file_bytes(count + 1, size) > room


def test_the_limit_streams_with_a_remedy_and_zero_never_caches(
    index: DataIndex, tmp_path: Path
) -> None:
    found, told = build(index, tmp_path, limit=1e-6)
    assert not found
    assert "--cache-limit is 1e-06 GB: 0 of 99 (0 %)" in told.texts(WarningMessage)
    assert "With --cache-limit 1" in told.texts(WarningMessage)
    found, told = build(index, tmp_path, limit=0)
    assert not found
    assert not told
    assert not list(tmp_path.iterdir())


def test_the_longest_unused_make_room(index: DataIndex, tmp_path: Path) -> None:
    paths = {}
    for age, size in ((3, 32), (2, 34), (1, 36)):
        paths[size] = build(index, tmp_path, sizes={"train": size})[0]["train"].path
        os.utime(paths[size], (1e9 - age, 1e9 - age))
    build(index, tmp_path, sizes={"train": 32})  # used just now
    have = sum(path.stat().st_size for path in paths.values())
    build(index, tmp_path, sizes={"train": 30}, limit=have / 1e9)
    assert [size for size, path in paths.items() if path.exists()] == [32, 36]
    build(index, tmp_path, sizes={"train": 30}, limit=1e-9)  # what is there is used all the same
    assert paths[32].exists()


def test_a_folder_that_cannot_be_written_streams(index: DataIndex, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found, told = build(index, tmp_path / "file" / "pixels")
    assert not found
    assert "cannot be cached" in told.texts(WarningMessage)
    assert "PODIUM_CACHE" in told.texts(WarningMessage)


def test_a_folder_that_may_only_be_read_is_read(
    index: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(index, tmp_path)

    def refuse(*arguments: Any, **more: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    found, told = build(index, tmp_path)
    check(index, found)
    assert not told
    found, told = build(index, tmp_path, sizes={"train": 40})
    assert not found
    assert "Read-only file system" in told.texts(WarningMessage)


def test_a_full_disk_streams_and_is_not_left_full(
    index: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = PixelWriter.write, []

    def write(self: PixelWriter, pictures: Any) -> None:
        calls.append(pictures)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, pictures)

    monkeypatch.setattr(PixelWriter, "write", write)
    found, told = build(index, tmp_path)
    assert not found
    assert "No space left on device" in told.texts(WarningMessage)
    assert not list(tmp_path.glob("*.p*"))
    monkeypatch.undo()
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    found, told = build(index, tmp_path)
    assert not found
    assert "0.00 GB free" in told.texts(WarningMessage)


@pytest.mark.parametrize("harm", ["vanished", "changed", "damaged"])
def test_an_image_that_changed_is_named(harm: str, index: DataIndex, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(index.root, copy)
    other = build_index(copy)
    path = copy / "train" / "circle" / "3.png"
    if harm == "vanished":
        path.unlink()
    elif harm == "changed":
        shutil.copy(copy / "train" / "circle" / "4.png", path)
    else:
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UnreadableImageError, match=r"train/circle/3\.png"):
        build(other, tmp_path / "cache")
    number = other.splits["train"].paths.index("train/circle/3.png")
    with pytest.raises(UnreadableImageError, match=r"train/circle/3\.png"):
        ImageDataset(other, "train", eval_transform(32), None)[number]


def test_photographs_are_the_same_bits(sports10: Path, tmp_path: Path) -> None:
    photographs = build_index(sports10)
    cached = build(photographs, tmp_path, sizes={"valid": 128})[0]["valid"]
    for number, path in list(enumerate(photographs.splits["valid"].paths))[::7]:
        expected = np.asarray(squeeze(photographs.load(path), 128))
        assert np.array_equal(cached.get(number), expected)  # type: ignore[arg-type]


def test_a_dataset_refuses_another_size(index: DataIndex, tmp_path: Path) -> None:
    cached = build(index, tmp_path)[0]["train"]
    with pytest.raises(ValueError, match="expected images of 40 px, got 32 px"):
        ImageDataset(index, "train", train_transform("crop_flip", 32), 0, cached)


@pytest.mark.parametrize("policy", ["none", "autoaugment", "crop_flip"])
def test_small_pictures_come_from_the_same_source(
    policy: str, index: DataIndex, tmp_path: Path
) -> None:
    cached = build(index, tmp_path, sizes={"train": source_size(policy, 48)})[0]["train"]
    sampler = EpochSampler(72, seed=1, batch_size=30)
    sampler.set_epoch(4, start_batch=1, size=32)
    (keys, _) = list(sampler)
    assert all(key[1:] == (4, 32) for key in keys)
    kept, streamed = (
        ImageDataset(index, "train", train_transform(policy, 48), 1, one) for one in (cached, None)
    )
    for key in keys:
        assert kept[key][0].shape == (3, 32, 32)
        assert torch.equal(kept[key][0], streamed[key][0])
    full = kept[keys[0][:2]][0]
    assert full.shape == (3, 48, 48)
    if policy == "none":
        expected = np.asarray(squeeze(Image.fromarray(full.permute(1, 2, 0).numpy()), 32))
        assert np.array_equal(kept[keys[0]][0].permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("flip", ["alternate", "random"])
def test_alternating_flips_mirror_every_image_in_every_other_epoch(
    flip: Flip, index: DataIndex
) -> None:
    transform = train_transform("crop_flip", 32, flip=flip, crop_scale=1.0)
    dataset = ImageDataset(index, "train", transform, 5)
    sides = np.zeros((72, 8), dtype=bool)
    for number in range(72):
        plain = transform.source(index.load(dataset.entries.paths[number])).astype(int)
        for epoch in range(1, 9):
            seen = dataset[number, epoch][0].permute(1, 2, 0).numpy().astype(int)
            # area 1, so the crop is the whole picture or, stretched, nearly so
            upright, mirrored = (
                np.abs(
                    np.asarray(squeeze(Image.fromarray(side.astype(np.uint8)), 32)) - seen
                ).mean()
                for side in (plain, plain[:, ::-1])
            )
            sides[number, epoch - 1] = mirrored < upright
    alternates = sides[:, 1:] != sides[:, :-1]
    assert alternates.all() == (flip == "alternate")
    assert 20 < sides[:, 0].sum() < 52


def test_workers_are_chosen_by_what_there_is_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(cores: int, kind: str, decoding: bool) -> int:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        return choose_workers(Machine(), Device(kind, 0, 1), decoding=decoding)

    assert [found(n, "cpu", True) for n in (1, 2, 16)] == [0, 1, 1]
    assert [found(n, "cpu", False) for n in (1, 2, 16)] == [0, 0, 2]
    assert [found(n, "cuda", False) for n in (1, 4, 64)] == [1, 3, 8]
    assert choose_workers(Machine(workers=5), Device("cpu", 0, 1), decoding=False) == 5


def test_a_run_is_the_same_with_and_without_a_cache(
    index: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that is interrupted, and goes on without the cache that it began with."""
    from podium.runs.folder import RunFolder
    from podium.study.contender import Assignment, train_and_score

    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path / "cache"))
    recipe = RunSpec(
        model="simple_resnet", epochs=2, image_size=32, batch_size=24, augmentation="crop_flip"
    )

    def run(name: str, limit: float, stop: Any) -> RunFolder:
        folder = RunFolder(tmp_path / name, "contender", 0)
        folder.path.mkdir(parents=True, exist_ok=True)
        machine = Machine(device="cpu", precision="fp32", cache_limit=limit)
        told = Told()
        train_and_score(Assignment(folder, index, recipe, recipe.model, machine), told, stop)
        assert bool(limit) == (tmp_path / "cache" / "pixels").exists()
        return folder

    never = StopAfter(10**9)
    streamed = run("streamed", 0, never)
    with pytest.raises(KeyboardInterrupt):
        run("resumed", 1, StopAfter(11))  # the build asks 7 times, then each step
    assert len(list((tmp_path / "cache" / "pixels").glob("*.pixels"))) == 2
    cached = run("cached", 1, never)
    shutil.rmtree(tmp_path / "cache" / "pixels")
    assert RunFolder(tmp_path / "resumed", "contender", 0).last.is_file()
    resumed = run("resumed", 0, never)
    part = run("part", file_bytes(50, 32) / 1e9, never)  # all of valid, some of train
    assert len(list((tmp_path / "cache" / "pixels").glob("*.pixels"))) == 2
    for other in (cached, resumed, part):
        assert other.best.read_bytes() == streamed.best.read_bytes()
        assert other.predictions("valid").read_bytes() == streamed.predictions("valid").read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_the_command_tells_of_the_cache(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from podium.cli.app import main

    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    command = ["train", "simple_resnet", "--data", str(pictures), "--epochs", "1", "--no-audit"]
    command += ["--image-size", "32", "--device", "cpu"]
    assert main([*command, "--name", "a"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "caches 72 decoded images of 32 px, 0.00 GB, in" in said
    assert main([*command, "--name", "b", "--cache-limit", "-1"]) == 2
    assert "--cache-limit: expected" in capsys.readouterr().err
