"""Test images have copies among the images that were trained on."""

from __future__ import annotations

from collections.abc import Iterator

from podium.results.advice.finding import Finding
from podium.results.study import StudyResults


def leaked_images(results: StudyResults) -> Iterator[Finding]:
    """The audit found identical or nearly identical images in test and in train or validation.

    Args:
        results: the study.
    """
    audit = results.audit
    if audit is None or not (leaked := len(audit.leaked("test"))):
        return
    yield Finding("leaked_images", counts={"count": leaked, "n": audit.totals["test"]})
