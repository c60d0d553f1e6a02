"""An augmentation of a user's: three ways in, what it may return, and the same bits everywhere."""

from __future__ import annotations

import multiprocessing
import pickle
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torchvision.transforms import v2

import podium
from podium.cli.app import main
from podium.config import registry
from podium.config.registry import AUGMENTATIONS, allow
from podium.config.settings import RunSpec
from podium.config.titles import AUGMENTATION_TITLES
from podium.data.augmentation import Augmentation, register_augmentation
from podium.data.dataset import EpochSampler, ImageDataset
from podium.data.indexing import build_index
from podium.data.loader import make_loader
from podium.data.transforms import Draw, Flip, source_size, train_transform, try_augmentation
from podium.errors import ConfigError, TrainingError
from podium.reporting.words.labels import labels
from podium.runtime.random import seeded_everywhere
from tests.conftest import write_pictures

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Names, modules and permissions of a test are gone after it."""
    path, allowed = list(sys.path), dict(registry._ALLOWED)
    found, origin = dict(AUGMENTATIONS._found), dict(AUGMENTATIONS._origin)
    yield
    sys.path[:] = path
    for name in ("own_code", "weather"):
        sys.modules.pop(name, None)
    for table, before in (
        (registry._ALLOWED, allowed),
        (AUGMENTATIONS._found, found),
        (AUGMENTATIONS._origin, origin),
    ):
        table.clear()
        table.update(before)


def vary(offered: Any, size: int = 64, draw: Draw | None = None, **options: Any) -> torch.Tensor:
    register_augmentation("mine", **options)(offered)
    transform = train_transform("mine", size)
    return transform(Image.fromarray(PIXELS), draw or Draw(0, 1, 2))


def test_ours_are_those_of_the_settings_and_as_large_as_they_were() -> None:
    assert tuple(AUGMENTATION_TITLES) == AUGMENTATIONS.built_in
    for name in AUGMENTATIONS.built_in:
        found = AUGMENTATIONS[name]
        assert (found.name, found.title) == (name, AUGMENTATION_TITLES[name])
    for size in range(32, 400):
        assert source_size("crop_flip", size) == 2 * round(0.625 * size)
        assert source_size("none", size) == size
    say = labels("en")
    for name in ("none", "crop_flip"):
        assert say(f"aug_{name}") == AUGMENTATION_TITLES[name]


def mirrored(picture: Image.Image) -> Image.Image:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


class Mirror:
    def __call__(self, picture: Image.Image) -> Image.Image:
        return mirrored(picture)


@pytest.mark.parametrize(
    "offered",
    [
        mirrored,  # what is called with the picture
        lambda: mirrored,  # a function that returns it
        Mirror,
        Mirror(),
        lambda strength=1: Mirror(),
        v2.RandomHorizontalFlip(p=1.0),
        lambda: v2.Compose([v2.PILToTensor(), v2.RandomHorizontalFlip(p=1.0)]),
        lambda: v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(p=1.0)]),
        Augmentation("another", "mirror images", lambda: mirrored),
    ],
)
def test_what_may_be_offered(offered: Any) -> None:
    found = vary(offered)
    assert type(found) is torch.Tensor
    assert np.array_equal(found.permute(1, 2, 0).numpy(), PIXELS[:, ::-1])


def test_a_larger_square_is_varied_and_any_size_is_resized() -> None:
    seen = []

    def crop(picture: Image.Image) -> Image.Image:
        seen.append(picture.size)
        return picture.crop((0, 0, 50, 30))

    assert vary(crop, 64, source_scale=1.5).shape == (3, 64, 64)
    transform = train_transform("mine", 64)
    assert transform.vary(transform.source(Image.fromarray(PIXELS)), size=32).shape == (3, 32, 32)
    assert seen == [(96, 96), (48, 48)]
    assert AUGMENTATIONS["mine"].title == "mine"
    with pytest.raises(ConfigError, match=r"expected a number from 1 to 4, got 0\.5"):
        vary(crop, source_scale=0.5)


@pytest.mark.parametrize(
    ("offered", "told"),
    [
        (lambda p: v2.functional.to_image(p).float(), r"got torch\.float32 of shape \(3, 64, 64\)"),
        (lambda p: torch.zeros(64, 64, 3, dtype=torch.uint8), r"got torch\.uint8 of shape"),
        (lambda p: torch.zeros(3, 0, 3, dtype=torch.uint8), r"shape \(3, 0, 3\)"),
        (lambda p: p.convert("L"), "got an image of mode L"),
        (lambda p: None, "got NoneType"),
        (lambda p: p.nothing, r"fails on an image of 64 x 64 pixels \(AttributeError"),
    ],
)
def test_a_result_that_is_no_picture_is_refused(offered: Callable[[Any], Any], told: str) -> None:
    with pytest.raises(TrainingError, match=told):
        vary(offered)
    with pytest.raises(ConfigError, match=told):
        try_augmentation("mine")


@pytest.mark.parametrize(
    ("offered", "told"),
    [
        (3, "expected a function, a class or a podium.Augmentation, got int"),
        (lambda picture, strength: picture, "got one that requires picture, strength"),
        (lambda: 3, "to return a function of an image, got int"),
        (lambda: 1 / 0, r"cannot be created \(ZeroDivisionError"),
    ],
)
def test_what_cannot_be_one_is_refused(offered: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        vary(offered)


def draws_of(picture: Image.Image) -> Image.Image:
    """Every generator that a user's code may draw from."""
    noise = torch.rand(1).item() + random.random() + np.random.random()
    return picture.point(lambda value: int(255 * noise / 3) ^ value)


def test_all_three_generators_follow_the_seed_and_are_left_as_they_were() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]
    several = [vary(draws_of, draw=Draw(0, 1, number)) for number in range(4)]
    assert torch.equal(vary(draws_of, draw=Draw(0, 1, 0)), several[0])
    assert not any(torch.equal(several[0], other) for other in several[1:])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]
    assert random.getstate() == before[2]
    with seeded_everywhere(2**63 - 1):
        random.random()
    assert random.getstate() == before[2]


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted({"spawn", multiprocessing.get_all_start_methods()[0]}))
def test_workers_see_the_same_pictures(pictures: Path, method: str) -> None:
    register_augmentation("mine")(draws_of)
    index = build_index(pictures)
    dataset = ImageDataset(index, "train", train_transform("mine", 32), 4)
    sampler = EpochSampler(len(dataset), seed=4, batch_size=24)
    sampler.set_epoch(3)
    found = []
    for workers in (0, 2):
        loader = make_loader(
            dataset, workers=workers, device=torch.device("cpu"), batch_sampler=sampler
        )
        if workers:
            loader.multiprocessing_context = method
        found.append([images for images, _, _ in loader])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_one_with_a_generator_of_its_own_is_refused() -> None:
    own = np.random.default_rng()
    register_augmentation("mine")(lambda picture: picture.rotate(360 * own.random()))
    with pytest.raises(ConfigError, match="returns different pixels for the same seed"):
        try_augmentation("mine")
    register_augmentation("mine")(draws_of)
    try_augmentation("mine")
    try_augmentation("augmix")


@pytest.mark.parametrize("flip", ["random", "alternate"])
def test_ours_are_sent_to_other_processes(flip: Flip) -> None:
    for name in AUGMENTATIONS.built_in:
        transform = train_transform(name, 32, flip=flip)
        sent = pickle.loads(pickle.dumps(transform))
        assert torch.equal(sent.vary(PIXELS, Draw(1, 2, 3)), transform.vary(PIXELS, Draw(1, 2, 3)))


def test_a_misspelt_name_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as told:
        podium.load_study(
            {"name": "a", "data": "b",
             "contenders": {"c": {"model": "m", "epochs": 1, "augmentation": "autoaugmnet"}}}
        )  # fmt: skip
    assert str(told.value).splitlines()[1] == (
        "  contenders.c.augmentation: there is no augmentation 'autoaugmnet'. Did you mean "
        f"autoaugment? Expected {', '.join(AUGMENTATIONS.names())}, or module:name."
    )
    with pytest.raises(ValueError, match="crop_scale needs augmentation: crop_flip"):
        RunSpec(model="m", epochs=1, augmentation="a:b", crop_scale=0.5)


CODE = """
import torch
from torchvision.transforms import v2

import podium

@podium.register_augmentation("brighter", title="Brighter")
def brighter():
    return v2.ColorJitter(brightness=(1.5, 2.0))

def darker(picture):
    return picture.point(lambda value: value // 2)
"""


def package(folder: Path, module: str, offers: str) -> None:
    """What an installed distribution looks like."""
    (folder / f"{module}.py").write_text(CODE)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[podium.augmentations]\n{offers}\n")


def study(folder: Path, **augmentations: str) -> Path:
    write_pictures(folder / "images", {"train": 4, "valid": 2, "test": 2})
    recipe = {"model": "simple_resnet", "epochs": 1, "image_size": 32, "batch_size": 8}
    values = {
        "name": "s",
        "data": str(folder / "images"),
        "contenders": {
            key: {**recipe, "augmentation": value} for key, value in augmentations.items()
        },
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_all_three_ways_into_a_study_and_out_of_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site"
    installed.mkdir()
    package(installed, "weather", "dusk = weather:darker")
    monkeypatch.syspath_prepend(installed)
    (tmp_path / "own_code.py").write_text(CODE)
    allow("own_code", tmp_path)
    file = study(tmp_path, decorated="brighter", offered="dusk", named="own_code:darker")
    done = podium.Study.load(file, runs=tmp_path / "runs", audit=False, device="cpu", workers=0)
    assert not done.run().failed
    told = {
        key: podium.RunFolder(tmp_path / "runs" / "s" / key / "seed-0", key, 0).read_done()
        for key in ("decorated", "offered", "named")
    }
    assert [one["augmentation"] for one in told.values()] == ["Brighter", "dusk", "darker"]
    weights = [
        (tmp_path / "runs" / "s" / key / "seed-0" / "best.safetensors").read_bytes() for key in told
    ]
    assert weights[1] == weights[2]  # the same function, by two ways
    assert weights[0] != weights[1]
    assert str(AUGMENTATIONS.provenance("own_code:darker")).startswith("own_code:darker sha256:")

    from podium.reporting.words.recipes import augmentation as in_words
    from podium.results.study import gather

    runs = gather(podium.StudyFolder(tmp_path / "runs" / "s")).runs
    assert {in_words(run, labels("pt")) for run in runs} == {"Brighter", "dusk", "darker"}


def test_a_mistake_is_told_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_code.py").write_text("def grey(picture):\n    return picture.convert('L')\n")
    allow("own_code", tmp_path)
    file = study(tmp_path, plain="none", broken="own_code:grey")
    command = ["run", str(file), "--no-audit", "--runs", str(tmp_path / "runs")]
    assert main(command) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "broken: augmentation own_code:grey: expected an RGB image (PIL)" in said
    assert not (tmp_path / "runs" / "s" / "plain" / "seed-0" / "last.ckpt").exists()


def test_the_sheet_shows_a_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_code.py").write_text(CODE)
    Image.fromarray(PIXELS).save("a.png")
    command = ["augment", "a.png", "--examples", "1", "--image-size", "32"]
    assert main([*command, "--policy", "own_code:darker", "--policy", "none"]) == 0
    with Image.open("augment.png") as sheet:
        assert 0.4 < sheet.height / sheet.width < 0.8  # two rows
    few = sheet.height
    assert main(command) == 0  # what it registered as it was imported is among all of them
    with Image.open("augment.png") as sheet:
        assert sheet.height > 3 * few
    assert main([*command, "--policy", "own_code:nothing"]) == 2
    assert "the module own_code has no 'nothing'" in capsys.readouterr().err
