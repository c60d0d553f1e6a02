"""Finds the group of each image, such as its patient or its video: what must not be torn apart."""

from __future__ import annotations

import re
from dataclasses import replace

from podium.data.capture import grouped_by_capture, pause_of
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
    paths = found.paths
    if rule == PARENT:
        groups = {path: path.rpartition("/")[0] for path in paths}
    elif "(?P<" in rule:
        groups = _by_pattern(found.place, paths, rule)
    else:
        groups = _by_column(found, paths, rule)
    return replace(found, groups=groups)


def _by_pattern(place: str, paths: list[str], rule: str) -> dict[str, str]:
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise ConfigError(f"data.group: '{rule}' is not a regular expression ({error}).") from None
    if "group" not in pattern.groupindex:
        raise ConfigError(f"data.group: '{rule}' has no named group. Expected (?P<group>...).")
    groups = {path: match["group"] for path in paths if (match := pattern.search(path))}
    _refuse_without(place, rule, [path for path in paths if not groups.get(path)], len(paths))
    return groups


def _by_column(found: Listing, paths: list[str], rule: str) -> dict[str, str]:
    known = sorted({name for columns in found.columns.values() for name in columns})
    if rule not in known:
        raise ConfigError(
            "data.group: expected parent, duplicates, capture, a regular expression with "
            f"(?P<group>...), or a column; got '{rule}'. {found.place} has "
            f"{f'the columns {listed(known)}' if known else 'no columns'}."
        )
    groups = {
        path: str(value)
        for path in paths
        if (value := found.columns.get(path, {}).get(rule)) not in (None, "")
    }
    _refuse_without(found.place, rule, [path for path in paths if path not in groups], len(paths))
    return groups


def _refuse_without(place: str, rule: str, without: list[str], total: int) -> None:
    """An image without a group could belong to any: guessing would hide a leak."""
    if without:
        raise DataError(
            f"data.group: '{rule}' gives no group for {len(without):,} of "
            f"{counted(total, 'image')} of {place}: {listed(without)}. Mend the rule or the data; "
            "an image that belongs to no other needs a group of its own."
        )
