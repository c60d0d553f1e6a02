"""Which names are taken for groups, and which are plain numbering: a table of real patterns."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from podium.auditing import grouping
from podium.auditing.grouping import (
    _some_names,
    hint_from_names,
    hints_from_names,
    suggest_groups,
)
from podium.auditing.record import GroupHint
from podium.data.indexing import build_index
from podium.data.source import Item
from tests.data.test_capture import photograph
from tests.data.test_source import Given

CLASSES = ("cat", "dog", "owl")
Name = Callable[[str, int], str]


def hint(name: Name, each: int = 60) -> GroupHint | None:
    """What is made of names of a class and a number from 0, in a folder for each class."""
    label_of = {f"{label}/{name(label, n)}": label for label in CLASSES for n in range(each)}
    assert len(label_of) == 3 * each
    return hint_from_names(label_of)


def scrambled(n: int) -> int:
    """Numbers without order, all different."""
    return n * 7919 % 100_003


GROUPED: dict[str, tuple[Name, int]] = {
    "tracks of traffic signs": (lambda _, n: f"{n // 10:05d}_{n % 10:05d}.ppm", 18),
    "video clips": (lambda _, n: f"video_{n // 12:02d}_frame_{n % 12:04d}.jpg", 15),
    "UCF-101": (lambda c, n: f"v_{c}_g{n // 20:02d}_c{n // 5 % 4:02d}_{n % 5:04d}.jpg", 9),
    "chest X-rays": (lambda c, n: f"{1000 * len(c) + n // 4:08d}_{n % 4:03d}.png", 45),
    "pneumonia": (lambda c, n: f"person{n // 3}_bacteria_{scrambled(n)}.jpeg", 20),
    "OCT": (lambda c, n: f"{c.upper()}-{1000 + n // 6}-{n % 6 + 1}.jpeg", 30),
    "CK+": (lambda _, n: f"S{n // 10:03d}_001_{n % 10:08d}.png", 18),
    "patients": (lambda _, n: f"patient{n // 5:02d}_{n % 5}.png", 12),
    "subjects": (lambda _, n: f"subject-{n // 6}.{n % 6}.png", 10),
    "scenes": (lambda _, n: f"s{n // 12:02d}_a_{n % 12:02d}.jpg", 15),
    "augmented copies": (lambda _, n: f"img{n // 6}_aug{n % 6}.png", 30),
    "slides": (lambda c, n: f"SOB_{c}-14-{22549 + n // 12}AB-100-{n % 12:03d}.png", 15),
    "a folder per patient": (lambda _, n: f"patient {n // 6}/{n % 6}.png", 30),
    "a folder per video": (lambda _, n: f"clip{n // 20}/frame_{n % 20:04d}.jpg", 9),
    "bursts named by the tool": (lambda _, n: f"burst{n // 4}_{n % 4}.jpg", 45),
}  # name -> how an image is named, and how many groups there are in three classes

PLAIN: dict[str, Name] = {
    "cats and dogs": lambda c, n: f"{c}.{n}.jpg",
    "numbers": lambda _, n: f"{n:03d}.jpg",
    "ImageNet": lambda c, n: f"n0{len(c)}440764_{scrambled(n)}.JPEG",
    "a class and a number": lambda c, n: f"{c}_{n}.jpg",
    "a camera": lambda _, n: f"IMG_{n:04d}.JPG",
    "a camera's date and time": lambda _, n: (
        f"IMG_202001{n % 20 + 1:02d}_{100000 + scrambled(n)}.jpg"
    ),
    "a phone": lambda _, n: f"PXL_2023{n:04d}_{scrambled(n):09d}.jpg",
    "CUB": lambda c, n: f"{c.title()}_Warbler_{n + 1:04d}_{scrambled(n)}.jpg",
    "LFW": lambda c, n: f"{c.title()}_Smith_{n + 1:04d}.jpg",
    "hashes": lambda c, n: f"{hash_of(c, n)}.jpg",
    "identifiers with dashes": lambda c, n: (
        f"{hash_of(c, n)[:8]}-{hash_of(c, n)[8:12]}-{n:04x}.jpg"
    ),
    "a photo service": lambda c, n: f"{scrambled(n) + 10**9}_{hash_of(c, n)[:10]}.jpg",
    "ISIC": lambda c, n: f"ISIC_{len(c)}{n:06d}.jpg",
    "Windows": lambda c, n: f"{c} ({n + 1}).jpg",
    "sizes": lambda _, n: f"{n:04d}_224x224.jpg",
    "EuroSAT": lambda c, n: f"{c.title()}Crop_{n}.jpg",
    "titles": lambda _, n: f"photo of the day {n}.jpg",
    "left and right": lambda _, n: f"{n}_left.jpg",
    "split folders below classes": lambda _, n: f"{'Train' if n % 5 else 'test'}/{n}.jpg",
}


def hash_of(label: str, n: int) -> str:
    import hashlib

    return hashlib.sha256(f"{label}{n}".encode()).hexdigest()[:16]


def test_groups_are_found_and_plain_numbering_is_not_taken_for_any() -> None:
    """Precision and recall over the table of patterns: both are 1."""
    found = {name for name, (how, _) in GROUPED.items() if hint(how) is not None}
    false = {name for name, how in PLAIN.items() if hint(how) is not None}
    assert found == set(GROUPED)
    assert false == set()


@pytest.mark.parametrize("name", GROUPED)
def test_the_rule_makes_the_groups_that_were_counted(name: str) -> None:
    how, groups = GROUPED[name]
    made = hint(how)
    assert made is not None
    assert made.groups in (groups, groups // 3)  # a person may be in several classes
    if made.rule != "parent":
        paths = [f"train/{label}/{how(label, n)}" for label in CLASSES for n in range(60)]
        matches = [re.search(made.rule, path) for path in paths]
        assert len({match["group"] for match in matches if match}) == made.groups
        one, other = (re.search(made.rule, path) for path in made.examples)
        assert one is not None
        assert other is not None
        assert one["group"] == other["group"]


def test_a_patient_is_one_group_in_all_photographs_and_classes() -> None:
    """The malaria cells of the NIH: patient, photograph, and a number for each cell of it."""
    label_of = {
        f"{label}/C{patient}P{patient + 7}ThinF_IMG_20150918_14{photo:02d}04_cell_{cell}.png": label
        for patient in range(100, 112)
        for photo in range(4)
        for cell, label in enumerate(["Parasitized"] * 3 + ["Uninfected"] * 5)
    }
    made = hint_from_names(label_of)
    assert made is not None
    assert (made.kind, made.groups, made.images) == ("names", 12, len(label_of))
    groups = {match["group"] for path in label_of if (match := re.search(made.rule, path))}
    assert groups == {f"C{patient}P{patient + 7}ThinF" for patient in range(100, 112)}


def test_copies_and_frames_without_a_boundary() -> None:
    copies = hint(lambda _, n: f"IMG_{n // 2}{' (2)' if n % 2 else ''}.jpg")
    assert copies is not None
    assert (copies.kind, copies.rule, copies.groups) == ("copies", "duplicates", 90)
    frames = hint(lambda _, n: f"frame_{n:04d}.jpg")
    assert frames is not None
    assert (frames.kind, frames.rule, frames.groups) == ("frames", "duplicates", 3)


def test_photographs_numbered_by_class_give_no_hint(sports10: Path) -> None:
    assert suggest_groups(build_index(sports10)) == ()


def tracks(splits: Callable[[int], str | None], group: str | None = None) -> list[Item]:
    return [
        Item(f"{label}/{n // 10:05d}_{n % 10:05d}.jpg", label, splits(n), group)
        for label in CLASSES
        for n in range(60)
    ]


def test_only_what_a_split_tears_is_told() -> None:
    def hints(items: list[Item]) -> tuple[GroupHint, ...]:
        return suggest_groups(build_index(Given(items, photograph(None))))

    (found,) = hints(tracks(lambda _: None))
    assert (found.kind, found.groups, found.images) == ("names", 18, 180)
    assert found.rule == r"(?P<group>[^/]+/[^-_. /]+)[-_. ][^/]*$"
    whole = ("train", "train", "train", "train", "valid", "test")
    assert hints(tracks(lambda n: whole[n // 10])) == ()
    split = ("train", "train", "valid", "test")
    assert len(hints(tracks(lambda n: split[n % 4]))) == 1
    assert hints(tracks(lambda n: split[n % 4], group="stated by the source")) == ()


def test_of_many_images_a_pattern_is_looked_for_in_some(monkeypatch: pytest.MonkeyPatch) -> None:
    split = ("train", "train", "valid", "test")
    torn = build_index(Given(tracks(lambda n: split[n % 4]), photograph(None)))
    apart = ("train", "train", "train", "train", "valid", "test")
    whole = build_index(Given(tracks(lambda n: apart[n // 10]), photograph(None)))
    folders = [
        Item(f"{label}/{n // 10}/{n}.jpg", label, split[n % 4], None)
        for label in CLASSES
        for n in range(60)
    ]
    nested = build_index(Given(folders, photograph(None)))
    every = [hints_from_names(one)[0] for one in (torn, nested)]
    monkeypatch.setattr(grouping, "MOST_NAMED", 80)
    assert len(_some_names(torn)) == 80
    some = [hints_from_names(one)[0] for one in (torn, nested)]
    assert [replace(one, examples=()) for one in some] == [
        replace(one, examples=()) for one in every
    ]
    assert hints_from_names(whole) == ()


def test_bursts_are_told_where_a_split_tears_them() -> None:
    contents = {f"{n:03d}.jpg": photograph(600 * (n // 5) + n % 5) for n in range(60)}
    items = [Item(path, "ab"[int(path[:3]) // 5 % 2]) for path in contents]
    (found,) = suggest_groups(build_index(Given(items, contents.__getitem__)))
    assert (found.kind, found.rule, found.groups, found.images) == ("bursts", "capture", 12, 60)
    rare = contents | {f"{n:03d}.jpg": photograph(None) for n in range(5, 60)}
    assert suggest_groups(build_index(Given(items, rare.__getitem__))) == ()
