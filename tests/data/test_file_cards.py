"""Cards of files: what they draw, and an index whose images are replaced by them."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from podium.data.dataset import ImageDataset
from podium.data.file_cards import (
    FORMATS,
    MARKS,
    MODES,
    RANGES,
    SIDE,
    STEPS,
    VALUES,
    file_card,
    with_cards,
)
from podium.data.indexing import build_index
from podium.data.parts import fold_index
from podium.data.transforms import eval_transform


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def values(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(file_card(content))) as card:
        return np.array(card).ravel()[:VALUES] / 255


def number(content: bytes, name: str) -> float:
    """The number that a card draws, from how full its part of the card is."""
    at = [*RANGES].index(name) * STEPS
    low, high = RANGES[name]
    return float(2 ** (low + (high - low) * values(content)[at : at + STEPS].sum() / STEPS))


def test_a_card_draws_the_numbers_of_a_file() -> None:
    content = saved(Image.effect_noise((300, 150), 60).convert("RGB"), "PNG")
    assert number(content, "bytes") == pytest.approx(len(content), rel=0.01)
    assert number(content, "width") == pytest.approx(300, rel=0.01)
    assert number(content, "height") == pytest.approx(150, rel=0.01)
    assert number(content, "width over height") == pytest.approx(2, rel=0.01)
    assert number(content, "bytes per pixel") == pytest.approx(len(content) / 45000, rel=0.01)


def test_a_card_draws_format_mode_and_marks() -> None:
    image = Image.new("RGB", (40, 40), "red")
    names = (*FORMATS, *MODES, *MARKS)

    def given(content: bytes) -> set[str]:
        marks = values(content)[STEPS * len(RANGES) :]
        return {name for name, value in zip(names, marks, strict=True) if value == 1}

    assert given(saved(image, "PNG")) == {"PNG", "RGB"}
    assert given(saved(image.convert("L"), "JPEG")) == {"JPEG", "L", "jfif"}
    assert given(saved(image, "JPEG", progressive=True, dpi=(72, 72))) >= {"progressive", "dpi"}
    assert given(saved(image.convert("P"), "GIF")) >= {"GIF", "P"}


def test_what_is_no_image_has_a_card_of_its_size() -> None:
    card = values(b"not an image" * 100)
    assert number(b"not an image" * 100, "bytes") == pytest.approx(1200, rel=0.01)
    assert not card[STEPS * len(RANGES) :].any()


def test_pixels_do_not_matter() -> None:
    red, blue = (saved(Image.new("RGB", (64, 64), name), "BMP") for name in ("red", "blue"))
    assert file_card(red) == file_card(blue)


def test_an_index_of_cards_is_read_like_one_of_images(pictures: Path) -> None:
    index = build_index(pictures)
    cards = with_cards(index)
    assert with_cards(cards) is cards
    assert cards.fingerprint == index.fingerprint
    assert cards.splits["test"].paths == index.splits["test"].paths
    dataset = ImageDataset(cards, "test", eval_transform(SIDE), None)
    image, label, _ = dataset[5]
    path = index.splits["test"].paths[5]
    expected = np.array(Image.open(io.BytesIO(file_card((pictures / path).read_bytes()))))
    assert np.array_equal(image[0].numpy(), expected)
    assert label == index.splits["test"].labels[5]
    again = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(again[5][0].numpy(), image.numpy())


def test_folds_of_cards(pictures: Path) -> None:
    index = build_index(pictures, folds=3)
    fold = fold_index(index, 1)
    cards = with_cards(fold)
    assert cards.part_of is not None
    assert cards.splits["test"].paths == fold.splits["test"].paths
    whole = with_cards(index)
    rows = cards.part_of.rows["test"]
    assert np.array_equal(cards.pixel_digests("test"), whole.pixel_digests("test")[rows])
