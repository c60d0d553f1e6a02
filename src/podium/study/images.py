"""The images of a study: found, compared with those that it was begun with, and audited."""

from __future__ import annotations

from podium.config.settings import DataSpec, StudySpec
from podium.data.index import DataIndex, build_index
from podium.data.listing import open_source
from podium.errors import RunFolderError
from podium.runs.folder import StudyFolder
from podium.runtime.events import Message, Notify, WarningMessage
from podium.runtime.lock import is_in_use


def find_images(data: DataSpec, notify: Notify) -> DataIndex:
    """Look at every image of a study, and tell what is odd.

    Raises:
        DataError: they cannot be used.
    """
    index = build_index(
        open_source(data),
        split_seed=data.split_seed,
        valid_fraction=data.valid_fraction,
        test_fraction=data.test_fraction,
        min_images=data.min_images,
        window=data.window,
        notify=notify,
    )
    for notice in index.notices:
        notify(Message(notice))
    for path, reason in index.unreadable[:20]:
        notify(WarningMessage(f"left out, unreadable: {path} ({reason})"))
    if len(index.unreadable) > 20:
        more = len(index.unreadable) - 20
        notify(WarningMessage(f"... and {more} more unreadable files, named in data.json"))
    return index


def refuse_other_images(folder: StudyFolder, spec: StudySpec, index: DataIndex) -> None:
    """Refuse to go on with a study that was begun with other images.

    Raises:
        RunFolderError: it was.
    """
    started = any(
        run.last.is_file() or run.is_done() or is_in_use(run.path) for run in folder.runs(spec)
    )
    if not started or not folder.data.is_file():
        return
    before = folder.read_data().get("fingerprint")
    if before != index.fingerprint:
        raise RunFolderError(
            f"The images of {index.root} are not those that {folder.path} was begun "
            f"with (fingerprint {str(before)[:12]}, now {index.fingerprint[:12]}). "
            "Contenders would no longer be comparable. Give the study another name "
            "(--name), or restore the images."
        )


def audit_study(folder: StudyFolder, index: DataIndex, notify: Notify) -> None:
    """Find what is wrong with the images before hours are spent on them."""
    from podium.auditing import audit_images, write_audit

    try:
        audit = audit_images(index, notify=notify)
    except Exception as error:  # the trainings are what was asked for
        notify(WarningMessage(f"The images could not be audited ({error}); going on."))
        return
    before = folder.audit.read_bytes() if folder.audit.is_file() else b""
    write_audit(audit, folder.audit)
    if before != folder.audit.read_bytes():
        folder.audit_pictures.unlink(missing_ok=True)  # they are of other findings
    for split in ("test", "valid"):
        leaked = len(audit.leaked(split))
        if leaked:
            notify(
                WarningMessage(
                    f"{leaked} of {audit.totals[split]} {split} images have a duplicate, or "
                    "likely so, in another split; the report gives the accuracy without them.",
                )
            )
