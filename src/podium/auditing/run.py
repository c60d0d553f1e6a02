"""The audit of a folder: odd files, duplicates, and labels that are likely wrong."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from podium.auditing import duplicates
from podium.auditing.closeness import hint_from_features
from podium.auditing.duplicates import components, near_pairs, same_pairs
from podium.auditing.evidence import FALSE_SHARE
from podium.auditing.files import EXTREME, TINY, PictureFacts, inspect_all, odd_files
from podium.auditing.grouping import is_grouped, suggest_groups
from podium.auditing.record import (
    FORMAT,
    Audit,
    DuplicatePair,
    GroupHint,
    LabelFindings,
    PairKind,
    write_audit,
)
from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.data.source import Source
from podium.runtime.cache import cache_root
from podium.runtime.events import Message, Notify, silent
from podium.runtime.files import read_json
from podium.runtime.large_array import Chosen, Table
from podium.runtime.parts import Parts

KINDS: tuple[PairKind, ...] = ("same_file", "same_pixels", "near", "mirrored")


def audit_images(
    data: str | Path | Source | DataIndex,
    *,
    labels: bool = True,
    split_seed: int = 0,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.1,
    cache_folder: Path | None = None,
    workers: int | None = None,
    notify: Notify = silent,
    exact_up_to: int = duplicates.EXACT_UP_TO,
    all_pairs_up_to: int = 1_000_000,
    parts: Parts | None = None,
) -> Audit:
    """Check every image of a folder, before or after a study.

    The result is cached, and returned at once as long as no file changes.

    Args:
        data: a folder or source as for `build_index`, or its index.
        labels: also look for labels that are likely wrong; this needs a network, and takes most
            of the time.
        split_seed: seed of the stratified split that is made if one is missing.
        valid_fraction: share of each class held out for validation if there is no such split,
            above 0 and below 0.5.
        test_fraction: share of each class held out for the test if there is no such split, above
            0 and below 0.5.
        cache_folder: where to cache the audit; None: Podium's cache.
        workers: number of decoding threads; None: one per core.
        notify: receives the progress of `files`, `images`, `pairs` and `labels`.
        exact_up_to: number of images up to which all pairs are looked at for near-duplicates; with
            more, those of neighbours (`podium.auditing.neighbours`).
        all_pairs_up_to: number of images up to which near-duplicates within a split are looked
            for; with more, only those of validation and test images among training images.
        parts: what looks at the images and computes their features on other machines; None: this
            one does.

    Raises:
        ConfigError: a fraction is out of range.
        DataError: the folder is missing, empty or has a single class, or has no usable train
            split.
    """
    began = time.perf_counter()
    index = data
    if not isinstance(index, DataIndex):
        index = build_index(
            index,
            split_seed=split_seed,
            valid_fraction=valid_fraction,
            test_fraction=test_fraction,
            workers=workers,
            notify=notify,
        )
    if labels and index.windows.channels is not None:
        notify(Message("Labels are not checked: the network that does it takes RGB images."))
        labels = False
    settings: dict[str, Any] = {
        "max_distance": duplicates.MAX_DISTANCE,
        "min_similarity": duplicates.MIN_SIMILARITY,
        "false_share": FALSE_SHARE,
        "tiny": TINY,
        "extreme_shape": EXTREME,
        "labels": "stages" if labels else False,  # the features that they are checked with
        "hints": 2,  # raise it whenever other hints are given
        **index.decoding,
    }
    images = sum(map(len, index.splits.values()))
    if images > exact_up_to:  # else not in the key of the cache, for audits of earlier versions
        settings["near_search"] = "neighbours" if images <= all_pairs_up_to else "train"
    place = _place(index, settings, cache_folder)
    known = _known(place, index)
    if known is not None:
        return known

    seconds = {"files": time.perf_counter() - began}
    looks = inspect_all(index, workers=workers, notify=notify, parts=parts)
    seconds["images"] = time.perf_counter() - began - sum(seconds.values())
    pairs, look_alikes = _all_pairs(index, looks, exact_up_to, settings, notify)
    groups = components(len(looks.paths), [(i, j) for _, i, j, _, _ in pairs])
    oddities, grey = odd_files(index, looks)
    seconds["pairs"] = time.perf_counter() - began - sum(seconds.values())
    hints = suggest_groups(index)
    seconds["hints"] = time.perf_counter() - began - sum(seconds.values())
    findings = None
    if labels:
        from podium.auditing.labels import image_features  # loads torch

        features = image_features(index, notify=notify, parts=parts)
        findings = _labels(index, looks, groups, features, notify)
        copies = [(i, j) for kind, i, j, _, _ in pairs if kind in ("same_file", "same_pixels")]
        hints += _close(index, looks, copies, features)
    seconds["labels"] = time.perf_counter() - began - sum(seconds.values())
    seconds["total"] = time.perf_counter() - began
    audit = Audit(
        fingerprint=index.fingerprint,
        root=str(index.summary()["root"]),
        totals={
            "images": len(looks.paths),
            "classes": len(index.classes),
            "greyscale": grey,
            "skipped": sum(index.skipped.values()),
            "look_alikes": look_alikes,
            **{name: len(split) for name, split in index.splits.items()},
        },
        class_counts={name: index.class_counts(name) for name in index.splits},
        oddities=oddities,
        pairs=tuple(sorted((_named(looks, *pair) for pair in pairs), key=_seriousness)),
        groups=tuple(tuple(looks.paths[at] for at in group) for group in groups),
        labels=findings,
        hints=hints,
        seconds={name: round(value, 3) for name, value in seconds.items()},
        settings=settings,
    )
    with contextlib.suppress(OSError):  # without a cache the next audit takes longer
        write_audit(audit, place)
    return audit


def _place(index: DataIndex, settings: dict[str, Any], folder: Path | None) -> Path:
    # Unreadable files are not in the fingerprint, but they are in the audit.
    key = json.dumps([FORMAT, index.fingerprint, index.unreadable, index.skipped, settings])
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
    return (folder or cache_root() / "audit") / f"{digest[:24]}.json"


def _known(place: Path, index: DataIndex) -> Audit | None:
    """Read the cached audit; None if there is none that can be read."""
    try:
        plain = read_json(place)
        # the same images may have been moved
        return Audit.from_json({**plain, "root": index.summary()["root"]})
    except Exception:  # damaged in any way: a bad cache costs time, never an audit
        return None


def _all_pairs(
    index: DataIndex,
    looks: PictureFacts,
    exact_up_to: int,
    settings: Mapping[str, Any],
    notify: Notify,
) -> tuple[list[tuple[PairKind, int, int, int, float]], int]:
    """Find all pairs: (kind, i, j, bits, similarity), each once, as the strictest kind.

    Also returns the number of pairs that are no more similar than unrelated images of this set.
    """
    found: dict[tuple[int, int], tuple[PairKind, int, int, int, float]] = {}
    files = [one for split in index.splits.values() for one in split.images.hexes(split.rows)]
    pixels = [digest or f"?{path}" for digest, path in zip(looks.pixels, looks.paths, strict=True)]
    exact: tuple[tuple[PairKind, list[str]], ...] = (("same_file", files), ("same_pixels", pixels))
    for kind, digests in exact:
        for i, j in same_pairs(digests):
            found.setdefault((i, j), (kind, i, j, 0, 1.0))
    # One image stands for all of its copies: a hundred copies of each of two are not 10,000
    # pairs. Each copy is paired with the other image, so that no leak is missed.
    copies: dict[str, list[int]] = {}
    for place, digest in enumerate(pixels):
        copies.setdefault(digest, []).append(place)
    groups = list(copies.values())
    single = np.asarray([group[0] for group in groups])
    labels = [looks.labels[at] for at in single]
    between = None
    if settings.get("near_search") == "train":
        train = np.asarray([one == "train" for one in looks.splits])
        some = np.asarray([not train[group].all() for group in groups])
        between = some, np.asarray([train[group].any() for group in groups])
    if settings.get("near_search"):
        exact_up_to = 0  # as the settings say, however many have the same pixels
    near_ones, look_alikes = near_pairs(
        Chosen(looks.thumbs, single), labels, notify, exact_up_to=exact_up_to, between=between
    )
    for near, a, b, bits, alike in near_ones:
        first, second = groups[a], groups[b]
        for i, j in {(first[0], j) for j in second} | {(i, second[0]) for i in first}:
            at = (min(i, j), max(i, j))
            found.setdefault(at, ("near" if near == "near" else "mirrored", *at, bits, alike))
    return [found[at] for at in sorted(found)], look_alikes


def _named(
    looks: PictureFacts, kind: PairKind, i: int, j: int, distance: int, similarity: float
) -> DuplicatePair:
    return DuplicatePair(
        kind=kind,
        first=looks.paths[i],
        second=looks.paths[j],
        first_split=looks.splits[i],
        second_split=looks.splits[j],
        first_label=looks.labels[i],
        second_label=looks.labels[j],
        distance=distance,
        similarity=round(min(similarity, 1.0), 4),
    )


def _seriousness(pair: DuplicatePair) -> tuple[Any, ...]:
    kind = KINDS.index(pair.kind)
    return (not pair.across, not pair.conflicting, kind, -pair.similarity, pair.first, pair.second)


def _labels(
    index: DataIndex,
    looks: PictureFacts,
    groups: list[list[int]],
    features: Table,
    notify: Notify,
) -> LabelFindings:
    from podium.auditing.labels import find_label_issues

    # duplicates in two folds would confirm each other: each group is one number
    numbers = np.arange(len(looks.paths))
    for group in groups:
        numbers[group] = group[0]
    return find_label_issues(index, groups=numbers, features=features, notify=notify)


def _close(
    index: DataIndex, looks: PictureFacts, copies: list[tuple[int, int]], features: Table
) -> tuple[GroupHint, ...]:
    """What the features say belongs together, unless that is known."""
    if is_grouped(index):
        return ()
    kept = np.ones(len(looks.paths), dtype=np.bool_)
    for group in components(len(looks.paths), copies):  # copies are told as such
        kept[group[1:]] = False
    labels = np.concatenate([split.labels for split in index.splits.values()]).astype(np.int64)
    rows = np.flatnonzero(kept)
    paths, splits = ([of[at] for at in rows] for of in (looks.paths, looks.splits))
    hint = hint_from_features(Chosen(features, rows), labels[rows], paths, splits)
    return () if hint is None else (hint,)
