"""torchvision's policies on batches, against torchvision's own on Pillow images, byte for byte."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from podium.data.batch_augment import OPERATIONS, Recorder, apply_step, resized_crops
from podium.runtime.random import seeded

POLICIES = {
    "autoaugment": v2.AutoAugment,
    "randaugment": v2.RandAugment,
    "trivialaugment": v2.TrivialAugmentWide,
}


def images(size: int, seed: int = 0) -> torch.Tensor:
    """Noise, a gradient, few values, one value, and nearly one: (n, 3, size, size)."""
    rng = np.random.default_rng(seed)
    across = np.linspace(0, 255, size).astype(np.uint8)
    made = [
        rng.integers(0, 256, (3, size, size), dtype=np.uint8),
        np.stack([np.tile(across, (size, 1)), np.tile(across[:, None], (1, size)), 255 - across
                  + np.zeros((size, 1), np.uint8)]).astype(np.uint8),
        rng.integers(90, 140, (3, size, size), dtype=np.uint8),
        np.full((3, size, size), 77, np.uint8),
        np.where(rng.random((3, size, size)) < 0.01, 200, 10).astype(np.uint8),
        rng.integers(0, 256, (3, 4, 4), dtype=np.uint8).repeat(size // 4, 1).repeat(size // 4, 2),
    ]  # fmt: skip
    return torch.from_numpy(np.stack(made))


def by_pillow(
    policy: v2.Transform, image: torch.Tensor, name: str, magnitude: float
) -> torch.Tensor:
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    varied = policy._apply_image_or_video_transform(
        picture, name, magnitude, interpolation=policy.interpolation, fill=policy._fill
    )
    return torch.from_numpy(np.array(varied)).permute(2, 0, 1)


@pytest.mark.parametrize("size", [32, 44])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_gives_pillows_bytes(name: str, size: int) -> None:
    for make in POLICIES.values():
        policy = make()
        space = getattr(policy, "_AUGMENTATION_SPACE", {})
        if name not in space:
            continue
        magnitudes, signed = space[name]
        drawn = magnitudes(31, size, size)
        strengths = [0.0] if drawn is None else [float(one) for one in drawn]
        if signed:
            strengths += [-one for one in strengths]
        every = images(size)
        for strength in strengths:
            found = apply_step(
                every, [OPERATIONS.index(name)] * len(every), [strength] * len(every)
            )
            expected = torch.stack([by_pillow(policy, one, name, strength) for one in every])
            assert torch.equal(found, expected), f"{name} {strength} of {type(policy).__name__}"


@pytest.mark.parametrize("name", POLICIES)
def test_a_batch_is_augmented_as_each_of_its_images(name: str) -> None:
    size, count = 36, 240
    rng = np.random.default_rng(5)
    every = torch.cat([images(size, seed) for seed in range(count // 6)])
    seeds = rng.integers(0, 2**40, count).tolist()
    policy = POLICIES[name]()
    expected = []
    for image, seed in zip(every, seeds, strict=True):
        with seeded(seed):
            picture = Image.fromarray(image.permute(1, 2, 0).numpy())
            expected.append(F.pil_to_tensor(policy(picture)))
    # as in a process of its own
    recorder, drawn = pickle.loads(pickle.dumps(Recorder(POLICIES[name]()))), []
    for seed in seeds:
        with seeded(seed):
            drawn.append(recorder.draw(size))
    assert max(map(len, drawn)) == (1 if name == "trivialaugment" else 2)
    before = every.clone()
    found = every
    for turn in range(2):
        steps = [(*one, (0, 0.0), (0, 0.0))[turn] for one in drawn]
        found = apply_step(found, [one[0] for one in steps], [one[1] for one in steps])
    assert torch.equal(found, torch.stack(expected))
    assert torch.equal(every, before)


@pytest.mark.parametrize(("side", "size"), [(40, 32), (80, 64), (32, 48), (33, 33)])
def test_crops_are_resized_as_torch_and_pillow_do(side: int, size: int) -> None:
    rng = np.random.default_rng(1)
    every = torch.from_numpy(rng.integers(0, 256, (60, 3, side, side), dtype=np.uint8))
    boxes = []
    for _ in every:
        height, width = (int(rng.integers(1, side + 1)) for _ in range(2))
        boxes.append(
            (
                int(rng.integers(side - height + 1)),
                int(rng.integers(side - width + 1)),
                height,
                width,
            )
        )
    found = resized_crops(every, torch.tensor(boxes), size).int()
    for image, (top, left, height, width), one in zip(every, boxes, found, strict=True):
        crop = image[:, top : top + height, left : left + width]
        by_torch = torch.nn.functional.interpolate(
            crop[None], (size, size), mode="bilinear", antialias=True
        )[0]
        assert int((one - by_torch.int()).abs().max()) <= 2
        picture = F.to_pil_image(crop).resize((size, size), Image.Resampling.BILINEAR)
        assert int((one - F.pil_to_tensor(picture).int()).abs().max()) <= 2
