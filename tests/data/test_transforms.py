"""Augmentation and order depend on seed, epoch and sample alone; values are the paper's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torchvision
from hypothesis import given, strategies as st
from PIL import Image
from torch.utils.data import DataLoader, WeightedRandomSampler

from podium.cli.app import main
from podium.config.registry import AUGMENTATIONS
from podium.data.dataset import EpochSampler, ImageDataset
from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.data.transforms import eval_transform, mix_batch, prepare, train_transform
from podium.runtime.random import sample_seed, seeded


@pytest.fixture
def picture() -> Image.Image:
    random = np.random.default_rng(3)
    return Image.fromarray(random.integers(0, 256, (150, 200, 3), dtype=np.uint8))


def test_evaluation_is_torchvisions_resize_and_to_tensor(picture: Image.Image) -> None:
    oracle = torchvision.transforms.Compose(
        [torchvision.transforms.Resize((128, 128)), torchvision.transforms.ToTensor()]
    )
    ours = prepare(eval_transform(128)(picture)[None])[0]
    assert torch.equal(ours, oracle(picture))


def test_normalisation_is_torchvisions(picture: Image.Image) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    tensor = eval_transform(64)(picture)
    oracle = torchvision.transforms.Normalize(mean, std)(tensor.float() / 255)
    torch.testing.assert_close(prepare(tensor[None], mean, std)[0], oracle)


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    found = eval_transform(64)(Image.fromarray(pixels))
    assert np.array_equal(found.permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize("policy", AUGMENTATIONS.built_in)
def test_every_policy_gives_uint8_of_the_size_and_obeys_the_seed(
    policy: str, picture: Image.Image
) -> None:
    transform = train_transform(policy, 48)

    def draw(seed: int) -> torch.Tensor:
        with seeded(seed):
            return transform(picture)

    several = [draw(seed) for seed in range(6)]
    assert all(t.dtype == torch.uint8 and t.shape == (3, 48, 48) for t in several)
    assert torch.equal(draw(0), several[0])
    differ = any(not torch.equal(several[0], other) for other in several[1:])
    assert differ == (policy != "none")


def test_autoaugment_is_torchvisions_on_the_small_picture(picture: Image.Image) -> None:
    oracle = torchvision.transforms.v2.AutoAugment()
    for seed in range(5):
        with seeded(seed):
            ours = train_transform("autoaugment", 64)(picture)
        with seeded(seed):
            theirs = oracle(picture.resize((64, 64), Image.Resampling.BILINEAR))
        assert np.array_equal(ours.permute(1, 2, 0).numpy(), np.asarray(theirs))


@pytest.mark.parametrize("least", [0.08, 0.35, 1.0])
def test_crops_and_mirror_images_are_torchvisions(picture: Image.Image, least: float) -> None:
    """The same boxes and sides for the same seed; pixels as Pillow's, but for rounding."""
    v2 = torchvision.transforms.v2
    oracle = v2.Compose(
        [v2.RandomResizedCrop(48, scale=(least, 1.0), antialias=True), v2.RandomHorizontalFlip()]
    )
    transform = train_transform("crop_flip", 48, crop_scale=least)
    square = Image.fromarray(transform.source(picture))
    assert square.size == (60, 60)
    for seed in range(25):
        with seeded(seed):
            ours = transform(picture)
        with seeded(seed):
            theirs = np.asarray(oracle(square)).astype(int)
        off = np.abs(ours.permute(1, 2, 0).numpy().astype(int) - theirs)
        assert off.max() <= 3
        assert off.mean() < 0.35


@pytest.mark.parametrize("crop_scale", [0.0, 1.1, -1.0])
def test_an_impossible_crop_is_refused(crop_scale: float) -> None:
    with pytest.raises(ValueError, match="crop_scale"):
        train_transform("crop_flip", 48, crop_scale=crop_scale)


def test_seeded_leaves_the_generator_as_it_was() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with seeded(1):
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)


@given(st.integers(0, 2**31), st.integers(0, 10**6), st.integers(-(10**6), 10**7))
def test_sample_seeds_fit_torch_and_neighbours_differ(seed: int, epoch: int, index: int) -> None:
    found = sample_seed(seed, epoch, index)
    assert 0 <= found < 2**63
    others = {sample_seed(seed + 1, epoch, index), sample_seed(seed, epoch + 1, index)}
    assert found not in others | {sample_seed(seed, epoch, index + 1)}


def test_sample_seeds_do_not_collide() -> None:
    found = {sample_seed(s, e, i) for s in range(5) for e in range(20) for i in range(500)}
    assert len(found) == 5 * 20 * 500


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_mixing_keeps_probability_and_obeys_the_seed(mixup: float, cutmix: float) -> None:
    images = torch.rand(8, 3, 16, 16)
    labels = torch.arange(8) % 3
    mixed, targets = mix_batch(images, labels, 3, mixup, cutmix, 11)
    again, same = mix_batch(images, labels, 3, mixup, cutmix, 11)
    assert targets.shape == (8, 3)
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    assert torch.equal(mixed, again)
    assert torch.equal(targets, same)
    assert not torch.equal(mixed, images)


@given(
    st.integers(2, 200), st.integers(2, 64), st.sampled_from([1, 2, 3]), st.integers(0, 5)
)  # fmt: skip
def test_every_image_once_an_epoch_in_the_same_batches_for_any_world(
    n: int, batch: int, world: int, epoch: int
) -> None:
    samplers = [
        EpochSampler(n, seed=1, batch_size=max(batch, world), rank=rank, world=world)
        for rank in range(world)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    steps = [list(sampler) for sampler in samplers]
    assert len({len(step) for step in steps}) == 1
    numbers = sorted(key[0] for step in steps for part in step for key in part)
    assert numbers == list(range(n))
    sizes = [sum(len(steps[r][s]) for r in range(world)) for s in range(len(steps[0]))]
    assert sizes == [samplers[0].global_batch(s) for s in range(samplers[0].steps)]
    if len(sizes) > 1:
        assert min(sizes) >= 2


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(50, seed=seed, batch_size=8)
        sampler.set_epoch(epoch)
        return [key[0] for part in sampler for key in part]

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)
    sampler = EpochSampler(50, seed=0, batch_size=8)
    sampler.set_epoch(1, start_batch=3)
    assert [key[0] for part in sampler for key in part] == order(0, 1)[24:]
    assert len(sampler) == 4


def balanced(labels: npt.NDArray[np.int64], epoch: int = 1, **values: Any) -> list[list[Any]]:
    sampler = EpochSampler(len(labels), balance=labels, **{"seed": 3, "batch_size": 10, **values})
    sampler.set_epoch(epoch)
    return list(sampler)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 5))
def test_a_balanced_epoch_has_equally_many_of_each_class(counts: list[int], epoch: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    keys = [key for batch in balanced(labels, epoch) for key in batch]
    assert len(keys) == len(set(keys)) == len(labels)  # repeats tell equal images apart
    numbers = np.array([key[0] for key in keys])
    drawn = np.bincount(labels[numbers], minlength=len(counts))
    assert drawn.max() - drawn.min() <= 1
    often = np.bincount(numbers, minlength=len(labels))
    for label in range(len(counts)):  # no image again before all of its class were drawn
        assert np.ptp(often[labels == label]) <= 1
    for number, repeats in enumerate(often):
        assert sorted(key[3] for key in keys if key[0] == number) == list(range(repeats))


def test_a_balanced_sampler_draws_as_often_as_pytorchs_weighted_one() -> None:
    counts = np.array([40, 12, 3])
    labels, epochs = np.repeat(np.arange(3), counts), 400
    ours = np.zeros(len(labels))
    for epoch in range(1, epochs + 1):
        for batch in balanced(labels, epoch):
            np.add.at(ours, [key[0] for key in batch], 1)
    theirs = WeightedRandomSampler(
        (1 / counts)[labels].tolist(),
        epochs * len(labels),
        generator=torch.Generator().manual_seed(0),
    )
    expected = np.bincount(list(theirs), minlength=len(labels))
    for label in range(3):  # of each class, and of each image
        own = labels == label
        assert ours[own].sum() == pytest.approx(expected[own].sum(), rel=0.03)
        assert ours[own] == pytest.approx(epochs * len(labels) / 3 / counts[label], rel=0.2)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_balanced_order_is_one_for_any_world_and_any_start(world: int) -> None:
    labels = np.repeat(np.arange(3), [33, 12, 4])
    alone = balanced(labels, 2)
    parts = [balanced(labels, 2, rank=rank, world=world) for rank in range(world)]
    for step, batch in enumerate(alone):
        assert [parts[r][step] for r in range(world)] == [batch[r::world] for r in range(world)]
    sampler = EpochSampler(49, seed=3, batch_size=10, balance=labels)
    sampler.set_epoch(2, start_batch=3, size=16)
    assert list(sampler) == [[(n, 2, 16, again) for n, _, _, again in part] for part in alone[3:]]
    assert balanced(labels, 3) != alone
    assert balanced(labels, 2, seed=4) != alone


@pytest.fixture(scope="module")
def index(pictures: Path) -> DataIndex:
    return build_index(pictures)


def test_workers_see_the_same_pictures(index: DataIndex) -> None:
    sampler = EpochSampler(len(index.splits["train"]), seed=4, batch_size=16)
    sampler.set_epoch(3)
    dataset = ImageDataset(index, "train", train_transform("augmix", 32), 4)
    found = []
    for workers in (0, 2):
        loader = DataLoader(dataset, batch_sampler=sampler, num_workers=workers)
        found.append([images for images, _, _ in loader])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_each_repeat_of_an_image_is_augmented_differently(index: DataIndex) -> None:
    dataset = ImageDataset(index, "train", train_transform("crop_flip", 32), 4)
    first, again, once = dataset[5, 1, 0, 0], dataset[5, 1, 0, 1], dataset[5, 1]
    assert torch.equal(first[0], once[0])
    assert not torch.equal(first[0], again[0])
    assert torch.equal(again[0], dataset[5, 1, 0, 1][0])
    assert first[1:] == again[1:]
    assert dataset[5, 1, 16, 1][0].shape == (3, 16, 16)


def test_the_sheet_is_drawn(tmp_path: Path, picture: Image.Image) -> None:
    picture.save(tmp_path / "a b.png")
    out = tmp_path / "sheet.png"
    assert main(["augment", str(tmp_path / "a b.png"), "--to", str(out), "--examples", "2"]) == 0
    with Image.open(out) as sheet:
        assert sheet.width > 500
        colours = np.asarray(sheet.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 1000
    pdf = tmp_path / "sheet.pdf"
    arguments = ["augment", str(tmp_path / "a b.png"), "--to", str(pdf), "--policy", "crop_flip"]
    assert main(arguments) == 0
    assert pdf.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "expected"), [(["--policy", "x"], "autoaugment"), (["--to", "a.gif"], ".png")]
)
def test_the_sheet_refuses(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    picture: Image.Image,
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture.save(tmp_path / "a.png")
    assert main(["augment", str(tmp_path / "a.png"), *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_sample_seed_is_the_same_for_ever() -> None:
    """A study that is resumed with a later version must see the same pictures."""
    assert json.dumps([sample_seed(0, 1, 2), sample_seed(7, 30, 13491)]) == json.dumps(FROZEN)


FROZEN = [8825289091277911490, 3466807771715075601]
