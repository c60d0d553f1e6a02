"""Finds what is wrong with a folder of images before anything is trained on it."""

from __future__ import annotations

from podium.auditing.grouped_index import index_data, list_data
from podium.auditing.price import leakage_price
from podium.auditing.record import (
    Audit,
    Balance,
    DuplicatePair,
    GroupHint,
    LabelFindings,
    LabelIssue,
    LeakagePrice,
    Oddity,
    read_audit,
    write_audit,
)
from podium.auditing.run import audit_images

__all__ = [
    "Audit",
    "Balance",
    "DuplicatePair",
    "GroupHint",
    "LabelFindings",
    "LabelIssue",
    "LeakagePrice",
    "Oddity",
    "audit_images",
    "index_data",
    "leakage_price",
    "list_data",
    "read_audit",
    "write_audit",
]
