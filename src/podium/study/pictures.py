"""Small copies of the images that a study's report shows."""

from __future__ import annotations

import contextlib

from podium.data.bands import as_rgb
from podium.data.images import thumbnail_jpeg
from podium.data.index import DataIndex
from podium.errors import DataError, UnreadableImageError
from podium.runs.folder import StudyFolder
from podium.runs.pictures import write_pictures
from podium.runtime.threads import in_order

MOST_THUMBNAILS = 5000  # about 20 MB; a larger test set keeps an even sample


def store_pictures(folder: StudyFolder, index: DataIndex) -> None:
    """Store small copies of the images that the report shows, if they are missing.

    Each file is whole or absent; the next `podium run` makes what a killed one left out. Call
    this as the folder's sole owner.

    Args:
        folder: the study's folder.
        index: the study's images.
    """
    if not folder.thumbnails.is_file():
        paths = index.splits["test"].paths
        shown = paths[:: max(1, -(-len(paths) // MOST_THUMBNAILS))]

        def small(path: str) -> tuple[str, bytes] | None:
            try:
                return path, thumbnail_jpeg(as_rgb(index.open_image(path)))
            except UnreadableImageError:  # changed since it was checked; the runs report it
                return None

        with contextlib.closing(in_order(small, shown)) as pictures:
            folder.write_thumbnails(filter(None, pictures))
    if folder.audit.is_file() and not folder.audit_pictures.is_file():
        from podium.auditing import read_audit
        from podium.results.pictures import audit_thumbnails

        with contextlib.suppress(DataError):  # an audit of another version; the report says so
            found = audit_thumbnails(read_audit(folder.audit), index.reader)
            write_pictures(folder.audit_pictures, found.items())
