"""Suggests what belongs together where nobody said so: from file names, folders and EXIF data."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from podium.auditing.record import GroupHint
from podium.data.capture import BURST, CAPTURE, bursts, read_shots
from podium.data.groups import DUPLICATES, PARENT
from podium.data.index import DataIndex
from podium.data.layout import SPLIT_NAMES

LEAST_IMAGES = 10  # fewer show no pattern
COVERED = 0.8  # share of the images whose names must follow a pattern
TOGETHER = 0.6  # share of the images that must not be alone in their group
REPEATED = 0.5  # most that different endings may be, per image: within a group, numbering restarts
MOST_NAMED = 200_000  # images in whose names a pattern is looked for; it is then applied to all
BURSTS = 0.1  # share of the images in bursts from which they are worth a hint

PEOPLE = "patient|subject|person|participant|donor|animal|user|case"
SERIES = "video|vid|clip|movie|track|seq|sequence|scene|session|series|burst|scan|slide|plot|group"
_WORD = re.compile(rf"(?<![a-z])({PEOPLE}|{SERIES})\d+$", re.IGNORECASE)
_PERSON = re.compile(rf"(?<![a-z])({PEOPLE})\d+$", re.IGNORECASE)
_FRAME = re.compile(r"(frame|frm|video|vid)[-_. ]?\d+$", re.IGNORECASE)
_COPY = re.compile(r"(.+?)( \(\d+\)| ?- ?copy.*)$", re.IGNORECASE)
_SEPARATOR = r"[-_. ]"
_TOKEN = r"[^-_. /]+"


def suggest_groups(index: DataIndex) -> tuple[GroupHint, ...]:
    """Suggest groups where the index has none and a split tears what looks like one.

    Args:
        index: the images.

    Returns:
        At most one suggestion from names and folders, and one from EXIF data.
    """
    if is_grouped(index):
        return ()
    burst = _from_bursts(index)
    return hints_from_names(index) + (() if burst is None else (burst,))


def hints_from_names(index: DataIndex) -> tuple[GroupHint, ...]:
    """Suggest groups as `suggest_groups`, from names and folders alone; no file is read.

    Of more than `MOST_NAMED` images, a pattern is looked for in the names of some classes, then
    applied to all images.

    Args:
        index: the images.

    Returns:
        At most one suggestion.
    """
    if is_grouped(index):
        return ()
    if sum(map(len, index.splits.values())) > MOST_NAMED:
        hint = hint_from_names(_some_names(index))
        hint = None if hint is None else _of_all_names(hint, index)
        return () if hint is None else (hint,)
    label_of = {
        path: index.classes[label]
        for split in index.splits.values()
        for path, label in zip(split.paths, split.labels, strict=True)
    }
    hint = hint_from_names(label_of, _split_of(index))
    return () if hint is None else (hint,)


def _some_names(index: DataIndex, seed: int = 0) -> dict[str, str]:
    """Path -> class, of about `MOST_NAMED` images of classes that are drawn, two or more.

    Of each split, they have the first of a class: what a name has in common with the next ones.
    """
    splits = index.splits.values()
    labels = np.concatenate([split.labels for split in splits])
    sizes = np.bincount(labels, minlength=len(index.classes))
    most, room, drawn = MOST_NAMED // 2, MOST_NAMED, []
    for label in np.random.default_rng(seed).permutation(np.flatnonzero(sizes)).tolist():
        if room > 0:
            drawn.append(label)
            room -= min(int(sizes[label]), most)
    found: dict[str, str] = {}
    for split in splits:
        order = np.argsort(split.labels, kind="stable")
        bounds = np.searchsorted(split.labels[order], np.arange(len(sizes) + 1))
        for label in drawn:
            rows = order[bounds[label] : bounds[label + 1]]
            kept = rows[: round(len(rows) * min(1.0, most / int(sizes[label])))]
            found |= dict.fromkeys(split.paths.take(kept), index.classes[label])
    return found


def _of_all_names(hint: GroupHint, index: DataIndex) -> GroupHint | None:
    """The hint with numbers of all images; None: no split tears the groups.

    Copies and frames, which no rule about names keeps together, are what they are of some images.
    """
    if hint.rule == DUPLICATES:
        return hint
    pattern = None if hint.rule == PARENT else re.compile(hint.rule)
    sizes: Counter[str] = Counter()
    seen: dict[str, str] = {}
    torn = False
    for name, split in index.splits.items():
        for path in split.paths:
            match = pattern.search(path) if pattern else None
            group = path.rpartition("/")[0] if pattern is None else match and match["group"]
            if group:
                sizes[group] += 1
                torn |= seen.setdefault(group, name) != name
    return replace(hint, groups=len(sizes), images=sizes.total()) if torn else None


def is_grouped(index: DataIndex) -> bool:
    """Whether it is stated what belongs together, of at least one split."""
    return any(split.groups for split in index.splits.values())


def _split_of(index: DataIndex) -> dict[str, str]:
    return {path: name for name, split in index.splits.items() for path in split.paths}


def hint_from_names(
    label_of: Mapping[str, str], split_of: Mapping[str, str] | None = None
) -> GroupHint | None:
    """Suggest groups by the names of the images and their folders.

    A name such as `00012_00003` has a beginning that several images of a class share, and an
    ending whose numbers begin anew with each beginning. Plain numbers (`cat.123`, `IMG_0012`),
    hashes and times have no such beginning.

    Args:
        label_of: path -> class.
        split_of: path -> split; None: no split is known. Groups that no split tears are fine.

    Examples:
        >>> names = [f"stop/{track:05d}_{n:05d}.png" for track in range(9) for n in range(30)]
        >>> hint_from_names({name: name.split("/")[0] for name in names}).rule
        '(?P<group>[^/]+/[^-_. /]+)[-_. ][^/]*$'
        >>> hint_from_names({f"cat/cat.{n}.jpg": "cat" for n in range(300)}) is None
        True
    """
    paths = list(label_of)
    if len(paths) < LEAST_IMAGES:
        return None
    for hint in (_from_beginnings(paths, label_of), _from_folders(paths, label_of)):
        if hint is not None:
            group_of, made = hint
            return made if _torn(group_of, split_of) else None
    return _from_copies(paths) or _from_frames(paths)


def _torn(group_of: Mapping[str, str], split_of: Mapping[str, str] | None) -> bool:
    if split_of is None:
        return True
    pairs = {(group, split_of[path]) for path, group in group_of.items()}
    return len(pairs) > len(set(group_of.values()))


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]


Suggestion = tuple[dict[str, str], GroupHint]


def _from_beginnings(paths: Sequence[str], label_of: Mapping[str, str]) -> Suggestion | None:
    """The shortest beginning of the names that divides each class into several groups.

    If the numbering begins anew only with a longer one, such as a patient's photograph, the shorter
    one still keeps together what belongs together: all photographs of the patient.
    """
    shortest: Suggestion | None = None
    tokens = {path: re.findall(_TOKEN, _stem(path)) for path in paths}
    longest = max(map(len, tokens.values()))
    for length in range(1, longest):
        fitting = [
            path
            for path, parts in tokens.items()
            if len(parts) > length and any(map(str.isdigit, parts[length - 1]))
        ]
        if len(fitting) < COVERED * len(paths):
            continue
        # such as patient07, or subject-9 in two tokens
        ends = ["".join(tokens[path][max(0, length - 2) : length]) for path in fitting]
        named = sum(bool(_WORD.search(end)) for end in ends) > len(fitting) / 2
        people = sum(bool(_PERSON.search(end)) for end in ends) > len(fitting) / 2
        body = rf"{_TOKEN}(?:{_SEPARATOR}+{_TOKEN}){{{length - 1}}}" if length > 1 else _TOKEN
        # a person may be in several classes; a track belongs to one, and each numbers its own
        alone = (
            people
            or not all("/" in path for path in fitting)
            or _spans_classes({path: tokens[path][:length] for path in fitting}, label_of)
        )
        start = rf"(?:^|/)(?P<group>{body})" if alone else rf"(?P<group>[^/]+/{body})"
        rule = rf"{start}{_SEPARATOR}[^/]*$"
        pattern = re.compile(rule)
        group_of = {path: match["group"] for path in fitting if (match := pattern.search(path))}
        endings = {(label_of[path], *tokens[path][length:]) for path in fitting}
        restarts = len(endings) <= REPEATED * len(fitting)
        if not _divides(group_of, label_of, len(paths)):
            continue
        if shortest is None:
            shortest = group_of, _hint("names", rule, group_of)
        if named or restarts:
            return shortest
    return None


def _spans_classes(start_of: Mapping[str, list[str]], label_of: Mapping[str, str]) -> bool:
    """Whether classes share beginnings but no whole name: an identifier, not a class's counter."""
    classes_of: defaultdict[str, set[str]] = defaultdict(set)
    named: defaultdict[str, set[str]] = defaultdict(set)
    for path, start in start_of.items():
        classes_of["/".join(start)].add(label_of[path])
        named[_stem(path)].add(label_of[path])
    shared = any(len(classes) > 1 for classes in classes_of.values())
    return shared and all(len(classes) == 1 for classes in named.values())


def _from_folders(paths: Sequence[str], label_of: Mapping[str, str]) -> Suggestion | None:
    """Folders below those of the classes, such as one per patient or video."""
    group_of = {}
    for path in paths:
        folder = path.rpartition("/")[0]
        name = folder.rpartition("/")[2]
        if folder and name != label_of[path] and name.lower() not in SPLIT_NAMES:
            group_of[path] = folder
    below = {path: group for path, group in group_of.items() if label_of[path] in group.split("/")}
    if len(below) >= COVERED * len(paths) and _divides(below, label_of, len(paths)):
        return below, _hint("folders", PARENT, below)
    return None


def _divides(group_of: Mapping[str, str], label_of: Mapping[str, str], images: int) -> bool:
    """Whether most images share their group with others, and most classes have several groups."""
    sizes = Counter(group_of.values())
    shared = sum(size for size in sizes.values() if size > 1)
    in_class: defaultdict[str, set[str]] = defaultdict(set)
    for path, group in group_of.items():
        in_class[label_of[path]].add(group)
    several = sum(len(groups) > 1 for groups in in_class.values())
    return shared >= TOGETHER * images and several > len(in_class) / 2


def _from_copies(paths: Sequence[str]) -> GroupHint | None:
    """`IMG_1234 (2)` beside `IMG_1234`; but `cat (1)` to `cat (500)` is plain numbering."""
    there = {path.rpartition(".")[0] for path in paths}
    group_of = {
        path: match[1]
        for path in paths
        if (match := _COPY.match(path.rpartition(".")[0])) and match[1] in there
    }
    if len(group_of) < BURSTS * len(paths) or len(set(group_of.values())) < len(group_of) / 2:
        return None
    return _hint("copies", DUPLICATES, group_of)


def _from_frames(paths: Sequence[str]) -> GroupHint | None:
    """`frame_0012`: frames of one video, and no name says where one scene ends."""
    group_of = {path: path.rpartition("/")[0] for path in paths if _FRAME.match(_stem(path))}
    if len(group_of) < COVERED * len(paths):
        return None
    return _hint("frames", DUPLICATES, group_of)


def _from_bursts(index: DataIndex) -> GroupHint | None:
    paths = [path for split in index.splits.values() for path in split.paths]
    series = bursts(read_shots(index.reader, paths), BURST)
    group_of = {path: burst[0] for burst in series for path in burst}
    if len(group_of) < BURSTS * len(paths) or not _torn(group_of, _split_of(index)):
        return None
    return _hint("bursts", CAPTURE, group_of)


def _hint(kind: str, rule: str, group_of: Mapping[str, str]) -> GroupHint:
    sizes = Counter(group_of.values())
    largest = max(sizes, key=lambda group: (sizes[group], group))
    examples = [path for path, group in sorted(group_of.items()) if group == largest]
    return GroupHint(kind, rule, len(sizes), len(group_of), tuple(examples[:2]))
