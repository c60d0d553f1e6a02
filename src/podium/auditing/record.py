"""The findings of an audit as plain values: written to and read from `audit.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from podium.errors import DataError, RunFolderError
from podium.runtime.files import read_json, write_json

FORMAT = 1
SPLITS = ("train", "valid", "test")

LEAST_ACCURACY = 0.8
"""Minimum share of labels that the check must agree with to estimate how many are wrong.

A check that errs more often counts its own errors. docs/results.md has the estimates of one that
agrees with 83 %."""

OddKind = Literal["unreadable", "tiny", "extreme_shape", "blank"]
PairKind = Literal["same_file", "same_pixels", "near", "mirrored"]


@dataclass(frozen=True)
class Oddity:
    """A file to look at.

    `kind`: `unreadable` (`split` may be '' then); `tiny`: the shorter side is below 32 pixels;
    `extreme_shape`: one side is more than 4 times the other; `blank`: almost one colour.
    `detail`: the reason, or the size as `width x height`.
    """

    path: str
    split: str
    label: str
    kind: OddKind
    detail: str


@dataclass(frozen=True)
class DuplicatePair:
    """Two files that show the same image.

    `kind`: `same_file`: the same bytes; `same_pixels`: different bytes, but the same pixels when
    decoded; `near`: compressed, resized, cropped, framed or recoloured, or the next frame of a
    series; `mirrored`: near, if one of them is mirrored. `distance`: bits of 64 in which the
    perceptual hashes differ. `similarity`: up to 1, see
    `podium.auditing.similarity.similarity`.
    """

    kind: PairKind
    first: str
    second: str
    first_split: str
    second_split: str
    first_label: str
    second_label: str
    distance: int
    similarity: float

    @property
    def across(self) -> bool:
        """Whether the two are in different splits: a leak between them."""
        return self.first_split != self.second_split

    @property
    def conflicting(self) -> bool:
        """Whether the two have different labels: at most one of them can be right."""
        return self.first_label != self.second_label


@dataclass(frozen=True)
class LabelIssue:
    """An image whose label is likely wrong, by its features; rank 1 is the most suspicious."""

    path: str
    split: str
    label: str
    suggested: str
    p_label: float
    p_suggested: float
    rank: int


@dataclass(frozen=True)
class LabelFindings:
    """Labels that are likely wrong, the estimated number of wrong labels, and the method.

    `estimated_errors`: None if the method is too weak to estimate it. `accuracy`: share (0..1) of
    the images that it classifies as labelled.
    """

    issues: tuple[LabelIssue, ...]
    estimated_errors: int | None
    accuracy: float
    method: str


@dataclass(frozen=True)
class GroupHint:
    """What looks as if it belonged together, although no group was stated.

    `kind`: `names`, `folders`, `copies`, `frames`, `bursts` or `features`. `rule`: what to write
    as `data.group`. `groups`, `images`: how many groups there would be, and of how many images.
    `examples`: paths of images of one group. With `features`, nobody knows the groups: `images`
    have a neighbour far too close for independent images, `groups` is an order of magnitude for
    the whole set, and `rule` keeps only the most alike together.
    """

    kind: str
    rule: str
    groups: int
    images: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class LeakagePrice:
    """By how much a split that tears groups apart flatters a classifier.

    `classifier`: `linear` (a linear probe) or `neighbours` (the nearest neighbours), both on the
    bundled network's features. `random`, `grouped`: share of the images that it classifies
    correctly in a random split, and with groups kept together, 0..1. `low`, `high`: 95 % interval
    of `random - grouped`, with groups as units. `groups`, `images`: that were compared; `left_out`:
    images of classes with a single group, which no grouped split can both learn and score.
    """

    classifier: str
    random: float
    grouped: float
    low: float
    high: float
    groups: int
    images: int
    left_out: int

    @property
    def difference(self) -> float:
        """How much higher the accuracy is in the random split, -1..1."""
        return self.random - self.grouped


@dataclass(frozen=True)
class Balance:
    """Image counts of a split's smallest and largest class.

    `ratio`: `most / least`, infinite if `least` is 0.
    """

    smallest: str
    least: int
    largest: str
    most: int

    @property
    def ratio(self) -> float:
        return self.most / self.least if self.least else float("inf")


@dataclass(frozen=True)
class Audit:
    """All findings of an audit.

    Attributes:
        fingerprint: of the images and labels, as in `data.json`.
        root: the folder.
        totals: `images`, `classes`, `greyscale` (images without colour), `skipped` (files that
            are not images), `look_alikes` (pairs that are no more similar than unrelated images
            of this set can be; not in records of earlier versions), and the images of each split.
        class_counts: split -> class -> number of images.
        oddities: files to look at, sorted by kind and path.
        pairs: duplicates, most serious first: across splits, then with different labels, then by
            kind.
        groups: paths of images that are linked by pairs; largest group first.
        labels: None if labels were not checked.
        hints: what looks as if it belonged together; not in records of earlier versions.
        price: by how much a random split flatters, if that was asked for.
        seconds: `images` (reading and decoding), `pairs`, `labels`, `total`.
        settings: thresholds and options that the audit was made with.

    Examples:
        >>> from podium.auditing import Audit, DuplicatePair
        >>> pair = DuplicatePair(
        ...     "near", "train/cat/1.jpg", "test/cat/7.jpg", "train", "test", "cat", "cat", 4, 0.97
        ... )
        >>> counts = {"train": {"cat": 30, "dog": 20}, "test": {"cat": 5, "dog": 5}}
        >>> audit = Audit("f00d", "pets", {"images": 60}, counts, pairs=(pair,))
        >>> sorted(audit.leaked("test"))
        ['test/cat/7.jpg']
        >>> audit.balance()["train"].ratio
        1.5
    """

    fingerprint: str
    root: str
    totals: Mapping[str, int]
    class_counts: Mapping[str, Mapping[str, int]]
    oddities: tuple[Oddity, ...] = ()
    pairs: tuple[DuplicatePair, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    labels: LabelFindings | None = None
    hints: tuple[GroupHint, ...] = ()
    price: tuple[LeakagePrice, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def leaked(self, split: str = "test") -> dict[str, list[DuplicatePair]]:
        """Find the images of a split that training could have seen, and the pairs that show it.

        Args:
            split: `test` (duplicates in train or valid: the epoch is chosen on valid) or `valid`
                (duplicates in train).

        Raises:
            ValueError: another split.
        """
        if split not in SPLITS[1:]:
            raise ValueError(f"split: expected 'valid' or 'test', got {split!r}.")
        before = SPLITS[: SPLITS.index(split)]
        found: dict[str, list[DuplicatePair]] = {}
        for pair in self.pairs:
            ends = (
                (pair.first, pair.first_split, pair.second_split),
                (pair.second, pair.second_split, pair.first_split),
            )
            for path, own, other in ends:
                if own == split and other in before:
                    found.setdefault(path, []).append(pair)
        return found

    @property
    def conflicting(self) -> tuple[DuplicatePair, ...]:
        """Duplicates with different labels."""
        return tuple(pair for pair in self.pairs if pair.conflicting)

    @property
    def surplus(self) -> int:
        """Number of files that could be removed without losing an image: all but one per group."""
        return sum(len(group) - 1 for group in self.groups)

    def balance(self) -> dict[str, Balance]:
        """Find the smallest and the largest class of each split; the first by name on a tie."""
        found = {}
        for split, counts in self.class_counts.items():
            if counts:
                smallest = min(sorted(counts), key=lambda name: counts[name])
                largest = max(sorted(counts), key=lambda name: counts[name])
                found[split] = Balance(smallest, counts[smallest], largest, counts[largest])
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the format number."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            "format": FORMAT,
            **plain,
            "totals": dict(self.totals),
            "class_counts": {split: dict(counts) for split, counts in self.class_counts.items()},
            "oddities": [asdict(one) for one in self.oddities],
            "pairs": [asdict(pair) for pair in self.pairs],
            "groups": [list(group) for group in self.groups],
            "labels": None if self.labels is None else asdict(self.labels),
            "hints": [asdict(one) for one in self.hints],
            "price": [asdict(one) for one in self.price],
            "seconds": dict(self.seconds),
            "settings": dict(self.settings),
        }

    @classmethod
    def from_json(cls, value: Any) -> Audit:
        """Build the audit from what `to_json` returned.

        Args:
            value: the plain values.

        Raises:
            ValueError: they are of another format, or damaged.
        """
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ValueError(f"not an audit of format {FORMAT}")
        try:
            value = {"hints": (), "price": (), **value}  # earlier versions have neither
            plain = {one.name: value[one.name] for one in fields(cls)}
            labels = plain["labels"]
            if labels is not None:
                issues = tuple(LabelIssue(**one) for one in labels["issues"])
                labels = LabelFindings(**{**labels, "issues": issues})
            parts = {
                "oddities": tuple(Oddity(**one) for one in plain["oddities"]),
                "pairs": tuple(DuplicatePair(**one) for one in plain["pairs"]),
                "groups": tuple(tuple(map(str, group)) for group in plain["groups"]),
                "labels": labels,
                "hints": tuple(
                    GroupHint(**{**one, "examples": tuple(one["examples"])})
                    for one in plain["hints"]
                ),
                "price": tuple(LeakagePrice(**one) for one in plain["price"]),
            }
            return cls(**{**plain, **parts})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a damaged audit ({error})") from None


def write_audit(audit: Audit, path: Path) -> None:
    """Write `audit.json` atomically.

    Args:
        audit: the findings.
        path: the file.
    """
    write_json(path, audit.to_json())


def read_audit(path: Path) -> Audit:
    """Read `audit.json`.

    Args:
        path: the file.

    Raises:
        DataError: it is missing, damaged, or of another format.
    """
    try:
        return Audit.from_json(read_json(path))
    except (OSError, ValueError, RunFolderError) as error:
        raise DataError(
            f"{path}: expected the audit of a folder of images ({error}). Run podium audit again."
        ) from None
