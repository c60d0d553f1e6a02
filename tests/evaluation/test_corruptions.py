"""Corruptions: stronger ones change more, and each image's are always the same."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFilter

from podium.evaluation.corruptions import CONDITIONS, CORRUPTIONS, corrupted

PLACES = {condition[:2]: at for at, condition in enumerate(CONDITIONS)}


def photo(width: int = 200, height: int = 160, seed: int = 0) -> Image.Image:
    """A picture with edges, areas and a little noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / (7 + k)) + np.cos(y / (11 - k)) for k in range(3)], axis=2)
    pixels = 127 + 50 * waves + random.normal(0, 4, waves.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def all_of(picture: Image.Image) -> list[npt.NDArray[np.float64]]:
    return [np.asarray(one, np.float64) for one in corrupted(picture)]


@pytest.fixture(scope="module")
def found() -> list[npt.NDArray[np.float64]]:
    return all_of(photo())


@pytest.mark.parametrize("name", [one.name for one in CORRUPTIONS])
def test_each_strength_changes_more(name: str, found: list[npt.NDArray[np.float64]]) -> None:
    apart = [np.abs(found[PLACES[name, strength]] - found[0]).mean() for strength in range(1, 6)]
    assert apart == sorted(apart)
    assert apart[0] > 0.3


def test_the_image_itself_comes_first(found: list[npt.NDArray[np.float64]]) -> None:
    assert CONDITIONS[0] == ("clean", 0, 0.0)
    assert len(found) == len(CONDITIONS) == 31
    assert np.array_equal(found[0], np.asarray(photo()))
    assert {one.shape for one in found} == {(160, 200, 3)}


def test_an_image_is_always_corrupted_alike(found: list[npt.NDArray[np.float64]]) -> None:
    assert all(map(np.array_equal, all_of(photo()), found))
    other = all_of(photo(seed=1))
    noise = [one[PLACES["noise", 3]] - one[0] for one in (found, other)]
    assert not np.allclose(noise[0], noise[1])


def test_noise_has_its_standard_deviation() -> None:
    grey = all_of(Image.new("RGB", (200, 200), (128, 128, 128)))
    for strength, value in enumerate(next(c for c in CORRUPTIONS if c.name == "noise").values, 1):
        if value < 0.15:  # beyond, values are clipped
            assert grey[PLACES["noise", strength]].std() == pytest.approx(255 * value, rel=0.02)


def test_jpeg_is_pillows(found: list[npt.NDArray[np.float64]]) -> None:
    file = io.BytesIO()
    photo().save(file, "JPEG", quality=20)
    expected = np.asarray(Image.open(file), np.float64)
    assert np.abs(found[PLACES["jpeg", 3]] - expected).mean() < 1.0


def test_blur_is_gaussian_and_scales_with_the_image() -> None:
    large = photo(256, 256)
    expected = np.asarray(large.filter(ImageFilter.GaussianBlur(2.5)), np.float64)
    got = all_of(large)[PLACES["blur", 3]]
    inside = (slice(16, -16), slice(16, -16))
    assert np.abs(got[inside] - expected[inside]).mean() < 1.5


def test_brightness_is_a_factor_either_way() -> None:
    ways = set()
    for seed in range(12):
        every = all_of(photo(seed=seed))
        ratio = float(np.median(every[PLACES["brightness", 1]] / np.maximum(every[0], 1)))
        assert ratio == pytest.approx(1.2, abs=0.02) or ratio == pytest.approx(1 / 1.2, abs=0.02)
        ways.add(ratio > 1)
    assert ways == {True, False}


def test_rotation_leaves_no_black_corner() -> None:
    white = all_of(Image.new("RGB", (120, 90), "white"))
    assert all(white[PLACES["rotation", strength]].min() == 255 for strength in range(1, 6))


def test_large_images_are_made_smaller_first_and_tiny_ones_are_not_enlarged() -> None:
    assert all_of(photo(1000, 500))[0].shape == (256, 512, 3)
    assert all_of(photo(9, 300))[0].shape == (300, 9, 3)
    assert all_of(Image.new("RGB", (1, 1)))[0].shape == (1, 1, 3)
