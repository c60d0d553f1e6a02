"""Finds the group of each image, such as its patient or its video: what must not be torn apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from podium.data.capture import grouped_by_capture, pause_of
from podium.data.columns import Coded, Texts, coded
from podium.data.listing import Listing
from podium.data.words import counted, listed
from podium.errors import ConfigError, DataError

PARENT = "parent"
DUPLICATES = "duplicates"
"""Resolved above this room, by `podium.auditing.grouped_index`: it takes an audit."""


def grouped(found: Listing, rule: str) -> Listing:
    """Give each image of a listing its group.

    Args:
        found: the images.
        rule: `parent`, the folder that holds the image; `capture`, what one camera took in quick
            succession; a regular expression on the path with a named group `(?P<group>...)`; or a
            column of the source.

    Returns:
        The same images, with the groups that the rule gives instead of the source's.

    Raises:
        ConfigError: the rule is none of these.
        DataError: an image has no group by this rule.
    """
    if rule == DUPLICATES:
        raise ConfigError(
            "data.group: duplicates are found by the audit, which needs the study's settings: "
            "podium.auditing.index_data(DataSpec(path=..., group='duplicates'))."
        )
    pause = pause_of(rule)
    if pause is not None:
        return grouped_by_capture(found, pause)
    if rule == PARENT:
        groups: Iterable[str | None] = (path.rpartition("/")[0] for path in found.paths)
    elif "(?P<" in rule:
        groups = _by_pattern(found.paths, rule)
    else:
        groups = _by_column(found, rule)
    column = coded(groups)
    if rule != PARENT:
        _refuse_without(found, rule, column)
    return replace(found, groups=column)


def _by_pattern(paths: Texts, rule: str) -> Iterator[str | None]:
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise ConfigError(f"data.group: '{rule}' is not a regular expression ({error}).") from None
    if "group" not in pattern.groupindex:
        raise ConfigError(f"data.group: '{rule}' has no named group. Expected (?P<group>...).")
    matches = map(pattern.search, paths)
    return ((match["group"] or None) if match else None for match in matches)


def _by_column(found: Listing, rule: str) -> Iterator[str | None]:
    known = sorted(found.columns)
    if rule not in known:
        raise ConfigError(
            "data.group: expected parent, duplicates, capture, a regular expression with "
            f"(?P<group>...), or a column; got '{rule}'. {found.place} has "
            f"{f'the columns {listed(known)}' if known else 'no columns'}."
        )
    return (None if value in (None, "") else str(value) for value in found.columns[rule])


def _refuse_without(found: Listing, rule: str, groups: Coded) -> None:
    """An image without a group could belong to any: guessing would hide a leak."""
    without = np.flatnonzero(groups.codes < 0)
    if len(without):
        raise DataError(
            f"data.group: '{rule}' gives no group for {len(without):,} of "
            f"{counted(len(groups), 'image')} of {found.place}: "
            f"{listed([*found.paths.take(without)])}. Mend the rule or the data; an image that "
            "belongs to no other needs a group of its own."
        )
