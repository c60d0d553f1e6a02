"""The images of a study: found, compared with those that it was started with, and audited."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from podium.config.data_settings import DataSpec
from podium.config.settings import StudySpec
from podium.data.index import DataIndex
from podium.data.listing import list_images, open_source
from podium.data.words import listed
from podium.errors import ConfigError, RunFolderError
from podium.runs.folder import StudyFolder
from podium.runs.tuning import tuning_file
from podium.runtime.events import Message, Notify, WarningMessage
from podium.runtime.lock import is_in_use
from podium.runtime.parts import Parts
from podium.runtime.threads import usable_cores
from podium.statistics.slicing import by_pattern


@contextmanager
def images_first(data: DataSpec) -> Iterator[None]:
    """Where a study's folder is refused, say first if its images are not there.

    A mistyped path is the likelier mistake: with the right one, or another study for the other
    images, the folder may well be accepted. The images are listed only then, and none is read.

    Args:
        data: where the images are.

    Raises:
        DataError: they are not there, or cannot be listed.
        RunFolderError: what the block raised; the images are there.
    """
    try:
        yield
    except RunFolderError:
        list_images(open_source(data))
        raise


def find_images(data: DataSpec, notify: Notify) -> DataIndex:
    """Read every image of a study, and report problems.

    Args:
        data: where the images are, and how to split them.
        notify: called with a message for each notice and each unreadable image.

    Raises:
        DataError: they cannot be used.
        ConfigError: a slice of the report is neither a column nor a pattern of their paths.
    """
    from podium.auditing import index_data

    index = index_data(data, notify=notify)
    _refuse_unknown_slices(data.slices or (), index)
    for notice in index.notices:
        notify(Message(notice))
    for path, reason in index.unreadable[:20]:
        notify(WarningMessage(f"left out, unreadable: {path} ({reason})"))
    if len(index.unreadable) > 20:
        more = len(index.unreadable) - 20
        notify(WarningMessage(f"... and {more} more unreadable files, named in data.json"))
    counts = [f"{len(part):,} {split}" for split, part in index.splits.items() if len(part)]
    notify(
        Message(
            f"{len(index.classes)} classes, images: {', '.join(counts)}; {usable_cores()} cores"
        )
    )
    return index


def _refuse_unknown_slices(wanted: Sequence[str], index: DataIndex) -> None:
    """The report would come to nothing, after hours."""
    known = sorted({name for split in index.splits.values() for name in split.columns})
    paths = index.splits["test"].paths
    for one in wanted:
        if "(?P<" not in one and one not in known:
            raise ConfigError(
                f"data.slices: expected a column, or a regular expression with (?P<name>...); got "
                f"'{one}'. {index.reader.place} has "
                f"{f'the columns {listed(known)}' if known else 'no columns'}."
            )
        if "(?P<" in one and not any(map(any, by_pattern(one, paths).values())):
            raise ConfigError(
                f"data.slices: '{one}' matches none of the {len(paths):,} test images, such as "
                f"{paths[0]}."
            )


def refuse_other_images(
    folder: StudyFolder, spec: StudySpec, index: DataIndex, *, started: bool = False
) -> None:
    """Refuse to continue a study that was started with other images.

    Args:
        folder: the study's folder.
        spec: the study.
        index: the images now.
        started: it was, whatever its runs' folders hold.

    Raises:
        RunFolderError: the study was started with other images.
    """
    # what a tuning chose is of its images, too: others may make its validation images test images
    started = (
        started
        or tuning_file(folder.path).is_file()
        or any(
            run.last.is_file() or run.is_done() or is_in_use(run.path) for run in folder.cells(spec)
        )
    )
    if not started or not folder.data.is_file():
        return
    before = folder.read_data().get("fingerprint")
    if before != index.fingerprint:
        raise RunFolderError(
            f"The images of {index.root} are not those that {folder.path} was started "
            f"with (fingerprint {str(before)[:12]}, now {index.fingerprint[:12]}). "
            "Contenders would no longer be comparable. Give the study another name "
            "(--name), or restore the images."
        )


def audit_study(
    folder: StudyFolder, index: DataIndex, notify: Notify, parts: Parts | None = None
) -> None:
    """Find problems in the images before hours are spent on training.

    Args:
        folder: the study's folder, where the audit is written.
        index: the study's images.
        notify: called with progress, and with a warning for leaks between splits.
        parts: what computes on other machines; None: this one does.
    """
    from podium.auditing import audit_images, write_audit
    from podium.reporting.page.audit_page import hint_sentence
    from podium.reporting.words.labels import labels

    try:
        audit = audit_images(index, notify=notify, parts=parts)
    except Exception as error:  # training is what the user asked for
        notify(WarningMessage(f"The images could not be audited ({error}); the study continues."))
        return
    before = folder.audit.read_bytes() if folder.audit.is_file() else b""
    write_audit(audit, folder.audit)
    if before != folder.audit.read_bytes():
        folder.audit_pictures.unlink(missing_ok=True)  # they belong to an earlier audit
    say = labels("en")
    for hint in audit.hints:
        notify(WarningMessage(hint_sentence(hint, say)))
    if index.folds is not None and (torn := _torn_by_folds(audit.groups, index)):
        notify(
            WarningMessage(
                f"{torn} of {len(index.splits['test'])} images have a duplicate, or a likely one, "
                "in another fold: their models may have memorised them. Keep duplicates together "
                "with data: {path: ..., group: duplicates} in the study."
            )
        )
    for split in ("test", "valid"):
        leaked = len(audit.leaked(split))
        if leaked:
            notify(
                WarningMessage(
                    f"{leaked} of {audit.totals[split]} {split} images have a duplicate, or a "
                    "likely one, in another split; the report gives the accuracy without them.",
                )
            )


def _torn_by_folds(duplicates: Sequence[Sequence[str]], index: DataIndex) -> int:
    """Number of images that have a duplicate in another fold, in any repeat."""
    assert index.folds is not None
    rows = {path: row for row, path in enumerate(index.splits["test"].paths)}
    torn: set[int] = set()
    for group in duplicates:
        those = [rows[path] for path in group]
        for numbers in index.folds.numbers[:, those]:
            if len(set(numbers.tolist())) > 1:
                torn.update(those)
    return len(torn)
