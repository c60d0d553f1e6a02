"""What an audit found, as plain values: written to and read from `audit.json`."""

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
"""Share of labels that the check of them must agree with before it says how many are wrong: one
that errs more often takes its own errors for theirs. One at 83 % told 855 where 724 were."""

OddKind = Literal["unreadable", "tiny", "extreme_shape", "blank"]
PairKind = Literal["same_file", "same_pixels", "near", "mirrored"]


@dataclass(frozen=True)
class Oddity:
    """A file to look at.

    `unreadable` (`split` may be '' then); `tiny`: the shorter side is below 32 pixels;
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
    """Two files that show one picture.

    `same_file`: the same bytes; `same_pixels`: other bytes, but the same picture when decoded;
    `near`: compressed, resized, cropped, framed or recoloured, or the next frame of a series;
    `mirrored`: near, when one is mirrored. `distance`: bits of 64 in which the perceptual hashes
    differ. `similarity`: up to 1, see `podium.auditing.similarity.similarity`.
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
        """The two belong to different splits: what was learned from one is tested on the other."""
        return self.first_split != self.second_split

    @property
    def conflicting(self) -> bool:
        """The two have different labels: at most one of them can be right."""
        return self.first_label != self.second_label


@dataclass(frozen=True)
class LabelIssue:
    """An image whose label the others of its kind speak against; rank 1 is the most suspect."""

    path: str
    split: str
    label: str
    suggested: str
    p_label: float
    p_suggested: float
    rank: int


@dataclass(frozen=True)
class LabelFindings:
    """Labels likely wrong, how many are estimated to be wrong in all, and how that was found.

    `estimated_errors`: None where the method is too weak to tell. `accuracy`: share (0..1) of the
    images that it classifies as labelled.
    """

    issues: tuple[LabelIssue, ...]
    estimated_errors: int | None
    accuracy: float
    method: str


@dataclass(frozen=True)
class Balance:
    """Images of the smallest and the largest class of a split; `ratio` is infinite over 0."""

    smallest: str
    least: int
    largest: str
    most: int

    @property
    def ratio(self) -> float:
        return self.most / self.least if self.least else float("inf")


@dataclass(frozen=True)
class Audit:
    """All that an audit found.

    Attributes:
        fingerprint: of the images and labels, as in `data.json`.
        root: the folder.
        totals: `images`, `classes`, `greyscale` (pictures without colour), `skipped` (files that
            are no images), `look_alikes` (pairs that are no more alike than unrelated pictures
            of this set can be; not in records of earlier versions), and the images of each split.
        class_counts: split -> class -> images.
        oddities: sorted by kind and path.
        pairs: most serious first: across splits, then with different labels, then by kind.
        groups: paths of pictures that are linked by pairs; largest group first.
        labels: empty where labels were not looked at.
        seconds: `images` (reading and decoding), `pairs`, `labels`, `total`.
        settings: what it was made with.
    """

    fingerprint: str
    root: str
    totals: Mapping[str, int]
    class_counts: Mapping[str, Mapping[str, int]]
    oddities: tuple[Oddity, ...] = ()
    pairs: tuple[DuplicatePair, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    labels: LabelFindings | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def leaked(self, split: str = "test") -> dict[str, list[DuplicatePair]]:
        """Images of a split that the training could have seen, and the pairs that say so.

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
        """Files that could go without losing a picture: all but one of each group."""
        return sum(len(group) - 1 for group in self.groups)

    def balance(self) -> dict[str, Balance]:
        """The smallest and the largest class of each split; the first by name where several are."""
        found = {}
        for split, counts in self.class_counts.items():
            if counts:
                smallest = min(sorted(counts), key=lambda name: counts[name])
                largest = max(sorted(counts), key=lambda name: counts[name])
                found[split] = Balance(smallest, counts[smallest], largest, counts[largest])
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the number of the format."""
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
            "seconds": dict(self.seconds),
            "settings": dict(self.settings),
        }

    @classmethod
    def from_json(cls, value: Any) -> Audit:
        """The audit that `to_json` described.

        Raises:
            ValueError: it is of another format, or damaged.
        """
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ValueError(f"not an audit of format {FORMAT}")
        try:
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
            }
            return cls(**{**plain, **parts})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a damaged audit ({error})") from None


def write_audit(audit: Audit, path: Path) -> None:
    """Write `audit.json`, all or nothing."""
    write_json(path, audit.to_json())


def read_audit(path: Path) -> Audit:
    """Read `audit.json`.

    Raises:
        DataError: it is missing, damaged, or of another format.
    """
    try:
        return Audit.from_json(read_json(path))
    except (OSError, ValueError, RunFolderError) as error:
        raise DataError(
            f"{path}: expected the audit of a folder of images ({error}). Make it again with "
            "podium audit."
        ) from None
