"""Indexes a study's images where the audit finds what belongs together: `group: duplicates`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from podium.auditing.run import audit_images
from podium.config.data_settings import DataSpec
from podium.data.assign import together
from podium.data.columns import coded
from podium.data.groups import DUPLICATES, grouped
from podium.data.index import DataIndex
from podium.data.indexing import build_scored_index, index_of
from podium.data.listing import Listing, listed_images, open_source
from podium.data.source import Source
from podium.data.words import counted
from podium.runtime.events import Notify, silent


def index_data(
    data: DataSpec, source: Source | None = None, *, notify: Notify = silent, **options: Any
) -> DataIndex:
    """Index the images that a study's `data` describes, whatever its rule for groups.

    Args:
        data: where the images are, what belongs together, and how they are split.
        source: the images instead of those at `data.path`; None: open that.
        notify: receives the progress.
        options: `cache_folder` and `workers` of `build_index`.

    Raises:
        ConfigError: a setting does not fit the source.
        DataError: the images cannot be used.
    """
    if data.group != DUPLICATES:  # the index applies the rule itself
        return index_of(data, source, notify=notify, **options)
    found = list_data(data, source, notify=notify, **options)
    return index_of(data.model_copy(update={"group": None}), found, notify=notify, **options)


def list_data(
    data: DataSpec, source: Source | None = None, *, notify: Notify = silent, **options: Any
) -> Listing:
    """List the images that a study's `data` describes, with their groups; no file is checked.

    Files are read only where the rule for groups asks for it: `capture` and `duplicates`.

    Args:
        data: where the images are, and what belongs together.
        source: the images instead of those at `data.path`; None: open that.
        notify: receives the progress.
        options: `cache_folder` and `workers` of `build_index`.

    Raises:
        ConfigError: a setting does not fit the source.
        DataError: the images cannot be used.
    """
    found = listed_images(open_source(data) if source is None else source, data.channels)
    if data.group is None:
        return found
    if data.group == DUPLICATES:
        return grouped_by_duplicates(found, notify=notify, **options)
    return grouped(found, data.group)


def grouped_by_duplicates(found: Listing, *, notify: Notify = silent, **options: Any) -> Listing:
    """Group the images that the audit takes for duplicates of one another; decodes every image.

    Args:
        found: the images.
        notify: receives the progress.
        options: `cache_folder` and `workers` of `build_index`.

    Returns:
        The same images, with the audit's clusters as groups, each named after its first image; an
        image without a duplicate is a group of its own.
    """
    # whatever their split: a pair across splits is what matters most
    index = build_scored_index(together(found), notify=notify, **options)
    workers = options.get("workers")
    clusters = audit_images(index, labels=False, workers=workers, notify=notify).groups
    told = (
        f"{counted(sum(map(len, clusters)), 'image')} of {len(found.paths):,} in "
        f"{counted(len(clusters), 'group')} of duplicates and near-duplicates."
    )
    first = {path: min(cluster) for cluster in clusters for path in cluster}
    groups = coded(first.get(path, path) for path in found.paths)
    return replace(found, groups=groups, notices=(*found.notices, told))
