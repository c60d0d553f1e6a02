"""The audit: duplicates against an oracle and against real photographs, odd files, the record."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from podium.auditing import (
    Audit,
    DuplicatePair,
    LabelFindings,
    LabelIssue,
    Oddity,
    audit_images,
    files,
    neighbours,
    read_audit,
    write_audit,
)
from podium.auditing.duplicates import (
    MAX_DISTANCE,
    MIN_SIMILARITY,
    close_pairs,
    components,
    near_pairs,
    perceptual_hashes,
    same_pairs,
)
from podium.auditing.evidence import Evidence
from podium.auditing.similarity import THUMB, is_blank, similarity, small_rgb
from podium.data.images import load_rgb
from podium.data.indexing import build_index
from podium.errors import ConfigError, DataError
from podium.reporting.figures.audit_figure import audit_figure
from podium.reporting.figures.style import figure_style
from podium.reporting.page.audit_page import audit_sections, write_audit_page, write_audit_tables
from podium.reporting.words.labels import labels
from podium.results.pictures import audit_thumbnails
from tests.conftest import Steps, axe_faults, write_pictures
from tests.parts import HereParts

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Change = Callable[[Image.Image], Image.Image]


@pytest.fixture(scope="module")
def photographs(sports10: Path) -> list[Image.Image]:
    """Every 15th training photograph of ten sports: 40 pictures."""
    return [load_rgb(path) for path in sorted((sports10 / "train").rglob("*.jpg"))[::15]]


def thumbs_of(images: list[Image.Image]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.stack([small_rgb(image) for image in images])


# --- duplicates ----------------------------------------------------------------------------------


def test_the_hash_is_that_of_the_imagehash_package(photographs: list[Image.Image]) -> None:
    imagehash = pytest.importorskip("imagehash")
    thumbs = thumbs_of(photographs)
    ours, mirrored = perceptual_hashes(thumbs)
    for thumb, own, turned in zip(thumbs, ours, mirrored, strict=True):
        image = Image.fromarray(thumb)
        assert f"{own:016x}" == str(imagehash.phash(image))
        assert f"{turned:016x}" == str(imagehash.phash(ImageOps.mirror(image)))


def test_close_pairs_are_those_of_a_loop() -> None:
    random = np.random.default_rng(0)
    base = random.integers(0, 2**63, 40, dtype=np.uint64)
    flips = np.uint64(1) << random.integers(0, 64, (40, 9), dtype=np.uint64)
    hashes = np.concatenate([base, base ^ np.bitwise_xor.reduce(flips, axis=1)])
    others = hashes[random.permutation(80)]
    expected = {
        (i, j, (int(hashes[i]) ^ int(others[j])).bit_count())
        for i in range(80)
        for j in range(i + 1, 80)
        if (int(hashes[i]) ^ int(others[j])).bit_count() <= 24
    }
    found = close_pairs(hashes, others, 24)
    assert len(expected) > 20
    assert {tuple(row) for row in found.tolist()} == expected
    assert len(found) == len(expected)
    assert close_pairs(hashes[:0], hashes[:0], 24).shape == (0, 3)


def jpeg(image: Image.Image) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=50)
    return Image.open(out).convert("RGB")


def crop(image: Image.Image) -> Image.Image:
    x, y = round(0.025 * image.width), round(0.025 * image.height)
    return image.crop((x, y, image.width - x, image.height - y))


def watermark(image: Image.Image) -> Image.Image:
    marked, (w, h) = image.copy(), image.size
    ImageDraw.Draw(marked).rectangle((0.6 * w, 0.88 * h, 0.97 * w, 0.95 * h), fill="white")
    return marked


CHANGES: dict[str, tuple[Change, float]] = {
    "jpeg": (jpeg, 1.0),
    "small": (lambda image: image.resize((134, 134)), 1.0),
    "bright": (lambda image: ImageEnhance.Brightness(image).enhance(1.15), 1.0),
    "dark": (lambda image: ImageEnhance.Brightness(image).enhance(0.85), 1.0),
    "contrast": (lambda image: ImageEnhance.Contrast(image).enhance(1.15), 1.0),
    "grey": (lambda image: image.convert("L").convert("RGB"), 1.0),
    "mirror": (lambda image: jpeg(ImageOps.mirror(image)), 1.0),
    "crop": (crop, 0.95),
    "watermark": (watermark, 0.9),
    "bands": (lambda image: ImageOps.expand(image, (0, 12)), 0.9),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_photographs_are_found_and_others_are_not(
    name: str, photographs: list[Image.Image]
) -> None:
    change, least = CHANGES[name]
    n = len(photographs)
    found, _ = near_pairs(thumbs_of([*photographs, *map(change, photographs)]))
    right = [pair for pair in found if pair[2] == pair[1] + n]
    assert len(right) >= least * n
    assert {pair[0] for pair in right} == {"mirrored" if name == "mirror" else "near"}
    assert len(found) == len(right)  # 40 different photographs: no other pair is alike
    assert all(pair[3] <= MAX_DISTANCE and pair[4] >= MIN_SIMILARITY for pair in found)


def test_neighbours_have_the_near_duplicates_of_all_pairs(photographs: list[Image.Image]) -> None:
    half = len(photographs) // 2
    changed = [*map(crop, photographs[:half]), *map(ImageOps.mirror, photographs[half:])]
    thumbs = thumbs_of([*photographs, *changed])
    expected = near_pairs(thumbs)
    assert len(expected[0]) >= 0.9 * len(photographs)
    assert near_pairs(thumbs, exact_up_to=0) == expected
    n = len(thumbs)
    asked = np.arange(n) >= len(photographs)
    found, _ = near_pairs(thumbs, exact_up_to=0, between=(asked, ~asked))
    assert {pair[1:3] for pair in found} == {
        pair[1:3] for pair in expected[0] if asked[pair[1]] != asked[pair[2]]
    }


def test_neighbours_are_found_in_their_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 3,000 directions, each with a close one, in 300 cells of which 16 are looked into."""
    random = np.random.default_rng(0)
    base = random.normal(size=(1500, 63))
    both = np.concatenate([base, base + 0.1 * random.normal(size=base.shape)])
    vectors = (both / np.linalg.norm(both, axis=1, keepdims=True)).astype(np.float16)
    monkeypatch.setattr(neighbours, "CELL", 10)
    found = {tuple(pair) for pair in neighbours.likely_pairs(vectors).tolist()}
    hit = sum((at, at + 1500) in found for at in range(1500))
    assert hit >= 0.98 * 1500
    assert len(found) < 3000 * 4  # and not all of them
    turned = {tuple(pair) for pair in neighbours.likely_pairs(vectors, mirrored=True).tolist()}
    mirror = np.concatenate([vectors[:1500], vectors[:1500] * neighbours.MIRROR])
    again = {tuple(pair) for pair in neighbours.likely_pairs(mirror, mirrored=True).tolist()}
    assert sum((at, at + 1500) in again for at in range(1500)) >= 0.98 * 1500
    assert not any((at, at + 1500) in turned for at in range(1500))


def test_a_large_set_is_audited_by_neighbours_and_says_so(messy: Path, tmp_path: Path) -> None:
    exact = audit_images(messy, labels=False, cache_folder=tmp_path)
    assert "near_search" not in exact.settings
    near = audit_images(messy, labels=False, cache_folder=tmp_path, exact_up_to=10)
    assert near.pairs == exact.pairs
    assert near.settings["near_search"] == "neighbours"
    leaks = audit_images(
        messy, labels=False, cache_folder=tmp_path, exact_up_to=10, all_pairs_up_to=20
    )
    assert leaks.settings["near_search"] == "train"
    same = ("same_file", "same_pixels")
    assert leaks.pairs == tuple(
        pair
        for pair in exact.pairs
        if pair.kind in same or (pair.across and "train" in (pair.first_split, pair.second_split))
    )


def stage(colour: str, limb: int) -> Image.Image:
    """A figure before a white stage: one layout, with limbs that point elsewhere."""
    image = Image.new("RGB", (200, 200), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((85, 30, 115, 60), fill=colour)
    draw.rectangle((90, 60, 110, 130), fill=colour)
    draw.line((100, 80, 100 + limb, 40), fill=colour, width=9)
    draw.line((100, 125, 100 - limb, 190), fill=colour, width=9)
    return image


def test_look_alikes_that_the_hash_confuses_are_rejected() -> None:
    first, second = stage("navy", 70), stage("crimson", 70)
    thumbs = thumbs_of([first, second])
    hashes, _ = perceptual_hashes(thumbs)
    assert len(close_pairs(hashes, hashes, MAX_DISTANCE)) == 1
    assert similarity(thumbs[:1], thumbs[1:])[0] < MIN_SIMILARITY
    assert near_pairs(thumbs) == ([], 0)
    again = thumbs_of([first, jpeg(first)])
    assert similarity(again[:1], again[1:])[0] > 0.95


def signs(count: int) -> list[Image.Image]:
    """Photographs, so to speak, of traffic signs: four boards, each time in another light, from
    elsewhere, before another background. No two are one picture."""
    random = np.random.default_rng(2)
    found = []
    for number in range(count):
        rough = random.integers(60, 190, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(rough).resize((96, 96), Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(image)
        x, y = random.normal(48, 1.2, 2)
        r = 40 * random.normal(1, 0.02)
        draw.ellipse((x - r, y - r, x + r, y + r), fill="firebrick")
        draw.ellipse((x - 0.8 * r, y - 0.8 * r, x + 0.8 * r, y + 0.8 * r), fill="white")
        draw.rectangle((x - 0.5 * r, y - 0.15 * r, x + 0.5 * r, y + 0.15 * r), fill="black")
        turned = image.rotate(number % 4 * 45 + random.normal(0, 1.5), Image.Resampling.BILINEAR)
        pixels = np.asarray(turned, dtype=np.float64) + random.normal(0, 6, (96, 96, 3))
        found.append(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))
    return found


def test_in_a_set_of_look_alikes_likeness_alone_is_no_evidence() -> None:
    pictures = signs(120)
    labels = [f"board {number % 4}" for number in range(120)]
    found, look_alikes = near_pairs(thumbs_of(pictures), labels)
    assert look_alikes > 100  # pairs alike by 0.9, which a fixed bound would all have named
    assert len(found) <= 0.01 * look_alikes
    again = [jpeg(picture) for picture in pictures[:12]]
    found, _ = near_pairs(thumbs_of([*pictures, *again]), labels + labels[:12])
    assert {(pair[1], pair[2]) for pair in found} >= {(at, 120 + at) for at in range(12)}
    assert len(found) <= 12 + 0.01 * look_alikes


def test_what_counts_as_evidence_follows_from_the_set(photographs: list[Image.Image]) -> None:
    one_class = np.zeros(120, dtype=np.int64)
    alike = Evidence(thumbs_of(signs(120)), np.arange(120) % 4)
    different = Evidence(thumbs_of(photographs), one_class[: len(photographs)])
    marginal = np.linspace(0, 1, 101, dtype=np.float32)
    least = [marginal[one.sure(marginal)].min() for one in (alike, different)]
    assert least[0] > least[1] + 0.1
    few = Evidence(thumbs_of(photographs[:4]), one_class[:4])
    assert few.sure(marginal).all()  # six pairs say nothing of how alike unrelated pictures are
    i = np.arange(80)
    np.testing.assert_allclose(alike.correlation(i, i), 1, atol=1e-3)
    both = alike.correlation(i, i + 40), alike.correlation(i + 40, i)
    np.testing.assert_allclose(*both, atol=1e-4)


def test_the_more_true_pairs_the_more_false_ones_may_pass(photographs: list[Image.Image]) -> None:
    evidence = Evidence(thumbs_of(photographs), np.zeros(len(photographs), dtype=np.int64))
    marginal = np.linspace(0, 1, 101, dtype=np.float32)
    doubtful = marginal[~evidence.sure(marginal)][-1:]
    assert not evidence.sure(doubtful).any()
    many = np.concatenate([np.full(5000, 0.99, dtype=np.float32), doubtful])
    assert evidence.sure(many).all()  # one in 5,001, where one in fifty may be false


def test_similarity_does_not_depend_on_the_order(photographs: list[Image.Image]) -> None:
    a, b = thumbs_of(photographs), thumbs_of([crop(image) for image in photographs])
    np.testing.assert_allclose(similarity(a, b), similarity(b, a), atol=0.02)
    np.testing.assert_allclose(similarity(a, a), 1, atol=1e-4)
    assert similarity(a, np.roll(a, 1, axis=0)).max() < MIN_SIMILARITY


def test_blank_pictures_are_no_duplicates_of_each_other() -> None:
    random = np.random.default_rng(3)
    level = random.integers(0, 250, (12, 1, 1, 3))
    faint = random.integers(0, 5, (12, THUMB, THUMB, 3))
    thumbs = (level + faint).astype(np.uint8)
    assert is_blank(thumbs).all()
    assert near_pairs(thumbs) == ([], 0)
    noise = random.integers(0, 255, thumbs.shape).astype(np.uint8)
    assert not is_blank(noise).any()


def test_same_pairs_name_all_of_small_groups_and_a_star_of_large_ones() -> None:
    assert same_pairs(["a", "b", "a", "c", "a", "b"]) == [(0, 2), (0, 4), (1, 5), (2, 4)]
    assert same_pairs(["x"] * 100) == [(0, other) for other in range(1, 100)]


def test_components_join_what_is_linked() -> None:
    assert components(8, [(1, 4), (6, 7), (4, 5)]) == [[1, 4, 5], [6, 7]]
    assert components(3, []) == []


# --- the run -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of noise, with every kind of trouble planted."""
    root = tmp_path_factory.mktemp("messy")
    random = np.random.default_rng(11)
    for split, count in (("train", 8), ("valid", 3), ("test", 4)):
        for label in ("ash", "elm", "oak"):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 255, (7, 7, 3), dtype=np.uint8)
                picture = Image.fromarray(pixels).resize((90, 90), Image.Resampling.BICUBIC)
                picture.save(root / split / label / f"{number}.png")
    train = root / "train"
    shutil.copy(train / "ash" / "0.png", root / "test" / "ash" / "copy.png")
    load_rgb(train / "elm" / "1.png").save(root / "valid" / "elm" / "pixels.bmp")
    load_rgb(train / "oak" / "2.png").save(root / "test" / "elm" / "near.jpg", quality=60)
    ImageOps.mirror(load_rgb(train / "oak" / "3.png")).save(train / "oak" / "turned.png")
    noise = random.integers(0, 255, (100, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(train / "ash" / "thin.png")
    Image.fromarray(noise[:30, :20]).save(train / "ash" / "tiny.png")
    Image.new("RGB", (60, 60), "black").save(train / "elm" / "blank.png")
    Image.new("RGB", (61, 60), (1, 1, 1)).save(train / "oak" / "blank.png")
    picture = load_rgb(train / "elm" / "4.png").convert("L")
    picture.transpose(Image.Transpose.ROTATE_90).save(train / "elm" / "grey.png")
    (root / "valid" / "oak" / "broken.png").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def audit(messy: Path) -> Audit:
    return audit_images(messy, labels=False)


def test_every_planted_duplicate_is_found_and_none_other(audit: Audit) -> None:
    found = {(pair.first, pair.second): pair.kind for pair in audit.pairs}
    assert found == {
        ("train/ash/0.png", "test/ash/copy.png"): "same_file",
        ("train/elm/1.png", "valid/elm/pixels.bmp"): "same_pixels",
        ("train/oak/2.png", "test/elm/near.jpg"): "near",
        ("train/oak/3.png", "train/oak/turned.png"): "mirrored",
    }
    first = audit.pairs[0]
    assert (first.first, first.conflicting) == ("train/oak/2.png", True)  # most serious first
    assert (first.first_split, first.second_split) == ("train", "test")
    assert (first.first_label, first.second_label) == ("oak", "elm")
    assert audit.conflicting == (first,)
    assert [pair.across for pair in audit.pairs] == [True, True, True, False]
    assert sorted(map(len, audit.groups)) == [2, 2, 2, 2]
    assert audit.surplus == 4


def test_leaks_are_told_by_split(audit: Audit) -> None:
    assert set(audit.leaked()) == {"test/ash/copy.png", "test/elm/near.jpg"}
    assert set(audit.leaked("valid")) == {"valid/elm/pixels.bmp"}
    assert audit.leaked()["test/elm/near.jpg"] == [audit.pairs[0]]
    with pytest.raises(ValueError, match="'train'"):
        audit.leaked("train")


def test_a_test_picture_that_is_in_valid_leaks_but_not_the_other_way_round() -> None:
    pair = DuplicatePair("near", "valid/a/1.png", "test/a/2.png", "valid", "test", "a", "a", 2, 0.9)
    record = Audit("f", "r", {}, {}, pairs=(pair,))
    assert record.leaked("test") == {"test/a/2.png": [pair]}
    assert record.leaked("valid") == {}


def test_odd_files_are_told_by_kind(audit: Audit) -> None:
    told = {(one.kind, one.path, one.split, one.label) for one in audit.oddities}
    assert told == {
        ("unreadable", "valid/oak/broken.png", "valid", "oak"),
        ("tiny", "train/ash/thin.png", "train", "ash"),
        ("tiny", "train/ash/tiny.png", "train", "ash"),
        ("extreme_shape", "train/ash/thin.png", "train", "ash"),
        ("blank", "train/elm/blank.png", "train", "elm"),
        ("blank", "train/oak/blank.png", "train", "oak"),
    }
    details = {one.path: one.detail for one in audit.oddities}
    assert "Pillow" in details["valid/oak/broken.png"]
    assert details["train/ash/tiny.png"] == "20 x 30"
    assert audit.totals["greyscale"] == 3  # the grey one, and both blank ones
    assert audit.totals["images"] == sum(audit.totals[s] for s in ("train", "valid", "test"))


def test_balance_names_the_smallest_and_largest_class(audit: Audit) -> None:
    train = audit.balance()["train"]
    assert (train.smallest, train.least, train.largest, train.most) == ("ash", 10, "ash", 10)
    uneven = replace(audit, class_counts={"train": {"a": 4, "b": 12}, "test": {"a": 1, "b": 0}})
    assert uneven.balance()["train"].ratio == 3
    assert uneven.balance()["test"].ratio == float("inf")


@pytest.mark.parametrize(
    ("lang", "told"),
    [("en", "Classes without images in test: 1 (b)."),
     ("pt", "Classes sem imagem em teste: 1 (b).")],
)  # fmt: skip
def test_an_empty_class_is_named_and_no_dash_stands_for_a_number(
    audit: Audit, lang: Literal["en", "pt"], told: str
) -> None:
    """It said that the largest class has "–" times as many pictures."""
    uneven = replace(audit, class_counts={"train": {"a": 4, "b": 12}, "test": {"a": 1, "b": 0}})
    found = [text for text, _ in audit_sections(uneven, {}, labels(lang))["findings"]]
    assert told in found
    (ratio,) = [text for text in found if "(b, 12)" in text]
    assert ("3.0 times" if lang == "en" else "3,0 vezes") in ratio
    assert not any("– times" in text or "- times" in text for text in found)


def test_many_copies_of_two_alike_pictures_leak_without_a_flood_of_pairs(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"train": 3, "valid": 1, "test": 1}, ("noise", "stripes", "circle"))
    random = np.random.default_rng(5)
    pixels = random.integers(0, 255, (7, 7, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)
    for number in range(40):
        picture.save(tmp_path / "test" / "circle" / f"copy{number}.png")
        picture.save(tmp_path / "train" / "circle" / f"other{number}.jpg", quality=70)
    found = audit_images(tmp_path, labels=False)
    leaked = [path for path in found.leaked() if "copy" in path]
    assert len(leaked) == 40
    assert len(found.pairs) < 200


def test_the_second_audit_is_read_from_the_cache(
    messy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = build_index(messy)
    first = audit_images(index, labels=False, cache_folder=tmp_path)
    told = Steps()
    again = audit_images(index, labels=False, cache_folder=tmp_path, notify=told)
    assert again == first
    assert told == []
    (stored,) = tmp_path.iterdir()
    stored.write_text("{", encoding="utf-8")  # damaged: made again
    assert audit_images(index, labels=False, cache_folder=tmp_path).pairs == first.pairs
    monkeypatch.setattr("podium.auditing.duplicates.MIN_SIMILARITY", 0.999)
    strict = audit_images(index, labels=False, cache_folder=tmp_path)
    assert len(strict.pairs) < len(first.pairs)
    assert len(list(tmp_path.iterdir())) == 2


def test_other_machines_see_the_same(
    audit: Audit, messy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_PART", 20)
    parts = HereParts()
    found = audit_images(messy, labels=False, cache_folder=tmp_path, parts=parts)
    assert replace(found, seconds=audit.seconds) == audit
    assert [len(item) for item in parts.items] == [20, 20, 14]


def test_a_machine_that_does_not_see_the_images_is_named(messy: Path, tmp_path: Path) -> None:
    index = build_index(Path(shutil.copytree(messy, tmp_path / "messy")))
    hidden = HereParts(
        before=lambda _: (tmp_path / "messy").rename(tmp_path / "away"),
        after=lambda _: (tmp_path / "away").rename(tmp_path / "messy"),
    )
    with pytest.raises(
        DataError, match=r"does not see train/ash/0\.png\. All nodes need the images"
    ):
        files.inspect_all(index, parts=hidden)


def test_progress_tells_every_part(messy: Path, tmp_path: Path) -> None:
    told = Steps()
    audit_images(build_index(messy), labels=False, cache_folder=tmp_path, notify=told)
    assert {name for name, _, _ in told} == {"images", "pairs"}
    assert all(0 <= done <= total for _, done, total in told)


def test_the_photographs_of_sports10_have_the_duplicates_that_were_seen(sports10: Path) -> None:
    found = audit_images(sports10, labels=False)
    assert found.totals["images"] == 700
    assert found.oddities == ()
    # what was seen side by side: two crops, two moments of one fight, a mirrored edit
    assert {(pair.kind, pair.first[6:], pair.second[6:]) for pair in found.pairs} == {
        ("near", "cricket/016.jpg", "cricket/051.jpg"),
        ("near", "boxing/001.jpg", "boxing/056.jpg"),
        ("mirrored", "cricket/030.jpg", "cricket/040.jpg"),
    }


# --- the record ----------------------------------------------------------------------------------


def full(audit: Audit) -> Audit:
    issues = (
        LabelIssue("test/elm/near.jpg", "test", "elm", "oak", 0.02, 0.95, 1),
        LabelIssue("train/ash/1.png", "train", "ash", "=HYPERLINK()", 0.1, 0.6, 2),
    )
    return replace(audit, labels=LabelFindings(issues, 3, 0.94, "Out-of-fold <b>votes</b>."))


def test_the_record_survives_a_round_trip(audit: Audit, tmp_path: Path) -> None:
    for one in (audit, full(audit)):
        write_audit(one, tmp_path / "audit.json")
        assert read_audit(tmp_path / "audit.json") == one


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 99}', '{"format": 1}'])
def test_a_damaged_record_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="podium audit"):
        read_audit(path)
    path.unlink()
    with pytest.raises(DataError, match="podium audit"):
        read_audit(path)


# --- the page ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", ["en", "pt"])
def test_the_page_shows_what_was_found(
    lang: str, audit: Audit, messy: Path, tmp_path: Path
) -> None:
    page = write_audit_page(full(audit), messy, tmp_path / "audit.html", lang, title="A <set>")
    html = page.read_text(encoding="utf-8")
    for text in ("test/elm/near.jpg", "valid/oak/broken.png", "A &lt;set&gt;", "&lt;b&gt;votes"):
        assert text in html
    assert "default-src 'none'" in html
    assert html.count("data:image/jpeg;base64,") == 2 * 4 + 2
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "https://" not in html


@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_nothing_serious_in_the_page(
    browser: Browser, audit: Audit, messy: Path, tmp_path: Path, width: int
) -> None:
    page = write_audit_page(full(audit), messy, tmp_path / "audit.html", title="A <set>")
    assert axe_faults(browser, page.as_uri(), width=width) == []


def test_what_the_audit_cannot_know_is_told(audit: Audit) -> None:
    found = full(audit).labels
    assert found is not None
    for errors in (None, 500):  # an audit of an earlier version told a number all the same
        weak = replace(found, estimated_errors=errors, accuracy=0.5)
        totals = {**audit.totals, "look_alikes": 42}
        for lang, words in (("en", "is not estimated"), ("pt", "Não se estima")):
            page = audit_sections(replace(audit, labels=weak, totals=totals), {}, labels(lang))
            told = " ".join(sentence for sentence, _ in page["findings"])
            assert words in told
            assert words in page["labels"]["summary"]
            assert "50.0 %" in told.replace(",", ".")
            assert "500" not in told
            assert "42" in told
    old = {key: value for key, value in audit.totals.items() if key != "look_alikes"}
    said = audit_sections(replace(full(audit), totals=old), {}, labels("en"))["findings"]
    assert any("are mislabelled" in sentence for sentence, _ in said)
    assert not any("look alike" in sentence for sentence, _ in said)


def test_the_summary_says_what_matters_first(audit: Audit) -> None:
    say = labels("en")
    sections = audit_sections(full(audit), {}, say)
    sentences = [text for text, _ in sections["findings"]]
    assert sentences[0].startswith("2 of 14 test images (14.3 %)")
    assert any("1 pair of duplicates has different labels" in text for text in sentences)
    alarms = [alarm for _, alarm in sections["findings"]]
    assert alarms == sorted(alarms, reverse=True)
    assert "This needs your attention" in sections["headline"]
    clean = replace(audit, pairs=(), groups=(), oddities=())
    assert "nothing needs" in audit_sections(clean, {}, say)["headline"]


def test_what_needs_no_attention_is_not_among_what_does(audit: Audit, tmp_path: Path) -> None:
    within = [pair for pair in full(audit).pairs if not pair.across and not pair.conflicting]
    calm = replace(audit, pairs=tuple(within), groups=(), oddities=())
    assert within
    for found, alarming in ((full(audit), True), (calm, False)):
        sections = audit_sections(found, {}, labels("en"))
        assert ("nothing needs" in sections["headline"]) != alarming
        html = write_audit_page(found, tmp_path, tmp_path / "page.html", thumbnails={})
        head = html.read_text(encoding="utf-8").partition("<dl")[0]
        before, also, after = head.partition("Also found:")
        assert bool(also) == alarming
        assert ('class="alarm"' in before) == alarming
        assert 'class="alarm"' not in after
        plain = sum(not alarm for _, alarm in sections["findings"])
        assert (after if alarming else before).count("<li>") >= plain > 0


def test_what_is_not_shown_is_counted(audit: Audit) -> None:
    within = tuple(
        DuplicatePair("near", f"train/a/{n}", f"train/b/{n}", "train", "train", "a", "b", 2, 0.9)
        for n in range(70)
    )
    across = tuple(replace(pair, second_split="test") for pair in within)
    odd = tuple(Oddity(f"train/a/{n}", "train", "a", "tiny", "3 x 3") for n in range(230))
    say = labels("en")
    shown = audit_sections(replace(audit, pairs=across + within, oddities=odd), {}, say)
    first, second = shown["pairs"]
    assert (len(first["cards"]), len(second["cards"])) == (48, 12)
    assert first["more"].startswith("22 more")
    assert second["more"].startswith("58 more")
    assert shown["oddities_more"].startswith("30 more")


def test_both_languages_have_the_same_words() -> None:
    assert labels("en").words.keys() == labels("pt").words.keys()
    with pytest.raises(ConfigError):
        labels("fr")


def test_the_tables_hold_everything_and_no_formula(audit: Audit, tmp_path: Path) -> None:
    files = write_audit_tables(full(audit), tmp_path)
    assert {path.name for path in files} == {"duplicates.csv", "odd-files.csv", "labels.csv"}
    with (tmp_path / "duplicates.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["first"] for row in rows] == [pair.first for pair in audit.pairs]
    with (tmp_path / "labels.csv").open(encoding="utf-8", newline="") as file:
        assert [row["suggested"] for row in csv.DictReader(file)] == ["oak", "'=HYPERLINK()"]
    assert "labels.csv" not in {path.name for path in write_audit_tables(audit, tmp_path)}


def test_the_figure_shows_pairs_side_by_side(audit: Audit, messy: Path) -> None:
    say, thumbnails = labels("en"), audit_thumbnails(audit, messy)
    assert len(thumbnails) == 8
    with figure_style():
        figure = audit_figure(audit, thumbnails, say)
        assert len(figure.axes) == 8
        with pytest.raises(ValueError, match="none"):
            audit_figure(audit, {}, say)


def test_a_picture_that_is_gone_leaves_a_gap(audit: Audit, tmp_path: Path) -> None:
    html = write_audit_page(audit, tmp_path, tmp_path / "a.html").read_text(encoding="utf-8")
    assert "data:image/jpeg" not in html
    assert html.count("no image stored") == 8


def test_json_is_plain(audit: Audit) -> None:
    plain = json.loads(json.dumps(full(audit).to_json(), allow_nan=False))
    assert Audit.from_json(plain) == full(audit)


def test_folds_have_no_splits_that_could_leak(pictures: Path) -> None:
    index = build_index(pictures, folds=2)
    found = audit_sections(audit_images(index, labels=False), {}, labels("en"))["findings"]
    assert found
    assert not any("test image" in text for text, _ in found)
