"""The audit of a folder as an HTML page and three tables; the report uses its sections too."""

from __future__ import annotations

import base64
import datetime
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from podium.__about__ import __version__
from podium.auditing.record import (
    LEAST_ACCURACY,
    Audit,
    DuplicatePair,
    GroupHint,
    LabelFindings,
    LeakagePrice,
)
from podium.config.text import listed, words
from podium.reporting.page.templating import fill_in
from podium.reporting.words.labels import Labels, labels
from podium.results.pictures import MOST_SUSPECTS, _shown_pairs, audit_thumbnails
from podium.runtime.csv_text import csv_text
from podium.runtime.files import write_text

MOST_ODD = 200
DUPLICATE_COLUMNS = words(
    "kind first second first_split second_split first_label second_label distance similarity "
    "across_splits conflicting_labels"
)
SUSPECT_COLUMNS = words("rank path split label suggested p_label p_suggested")
UNBALANCED = 3.0  # ratio of the largest to the smallest class that is reported


def write_audit_page(
    audit: Audit,
    root: Path,
    out: Path,
    lang: str = "en",
    *,
    title: str = "",
    thumbnails: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a self-contained HTML page with all images embedded.

    Args:
        audit: the audit.
        root: the audited folder.
        out: the page to write.
        lang: `en` or `pt`.
        title: name of the data set; empty: the folder name.
        thumbnails: JPEGs by path, as returned by `audit_thumbnails`; None: made from `root`.

    Returns:
        `out`.

    Raises:
        ConfigError: the language is not supported.
    """
    say = labels(lang)
    if thumbnails is None:
        thumbnails = audit_thumbnails(audit, root)
    html = fill_in(
        "audit.html.j2",
        parts=("base", "tables", "audit"),
        say=say,
        name=title or Path(audit.root).name or audit.root,
        audit=audit_sections(audit, thumbnails, say),
        fingerprint=audit.fingerprint,
    )
    write_text(out, html)
    return out


def audit_sections(audit: Audit, thumbnails: Mapping[str, bytes], say: Labels) -> dict[str, Any]:
    """The texts of the audit, for `audit.html.j2` or for a section of a report.

    Args:
        audit: the audit.
        thumbnails: JPEGs by path, as returned by `audit_thumbnails`.
        say: the language, from `podium.reporting.words.labels`.

    Returns:
        `headline`, `findings` [(sentence, whether it is an alarm)], `stats` [(value, name)],
        `pairs` (parts across and within splits, with their cards), `labels`, `oddities`,
        `greyscale`, `balance`, `counts`, `footer`.
    """
    size = {"images": say.count(audit.totals["images"])}
    odd = audit.oddities[:MOST_ODD]
    settings = audit.settings
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {
        "headline": _checked(audit, say),
        "findings": _findings(audit, say),
        "stats": _stats(audit, say),
        "pairs_hint": say(
            "audit_duplicates_hint",
            bits=settings["max_distance"],
            least=say.number(settings["min_similarity"]),
        ),
        "pairs": _pair_parts(audit, thumbnails, say),
        "labels": _suspects(audit, thumbnails, say),
        "odd_hint": say(
            "audit_odd_hint", tiny=settings["tiny"], extreme=f"{settings['extreme_shape']:g}"
        ),
        "oddities": [
            {
                "kind": say(f"audit_odd_{one.kind}"),
                "path": one.path,
                "split": _split(one.split, say),
                "label": one.label,
                "detail": one.detail,
            }
            for one in odd
        ],
        "oddities_more": _more("audit_odd_more", len(audit.oddities) - len(odd), say),
        "greyscale": say(
            "audit_greyscale", count=say.count(audit.totals["greyscale"]), n=size["images"]
        ),
        "balance": [
            {
                "name": _split(name, say),
                "images": say.count(audit.totals[name]),
                "smallest": say("audit_class_size", name=one.smallest, count=say.count(one.least)),
                "largest": say("audit_class_size", name=one.largest, count=say.count(one.most)),
                "ratio": say.number(one.ratio, 1),
            }
            for name, one in audit.balance().items()
        ],
        "counts": [
            (
                label,
                [(say.count(one.get(label, 0)), one.get(label, 0)) for one in _counts(audit)],
            )
            for label in sorted({label for counts in _counts(audit) for label in counts})
        ],
        "footer": say(
            "audit_written",
            version=__version__,
            date=date,
            seconds=say.duration(audit.seconds.get("total")),
        ),
    }


def audit_headline(audit: Audit, say: Labels) -> str:
    """An audit in a line: what was checked, and the most serious finding, if any needs attention.

    Args:
        audit: the audit.
        say: the language.
    """
    alarms = [text for text, alarm in _findings(audit, say) if alarm]
    more = say("podium_audit_more", count=len(alarms) - 1) if len(alarms) > 1 else ""
    return " ".join(filter(None, [_checked(audit, say), *alarms[:1], more]))


def _checked(audit: Audit, say: Labels) -> str:
    size = {"images": say.count(audit.totals["images"]), "classes": say.count(_classes(audit))}
    alarms = any(alarm for _, alarm in _findings(audit, say))
    return say("audit_found" if alarms else "audit_clean", **size)


def _counts(audit: Audit) -> list[Mapping[str, int]]:
    return list(audit.class_counts.values())


def _classes(audit: Audit) -> int:
    return audit.totals["classes"]


def _split(name: str, say: Labels) -> str:
    return say(name) if name in ("train", "valid", "test") else name


def _more(key: str, hidden: int, say: Labels) -> str:
    return say(key, count=say.count(hidden)) if hidden > 0 else ""


def _findings(audit: Audit, say: Labels) -> list[tuple[str, bool]]:
    """Sentences that a reader must not miss, most serious first."""
    told: list[tuple[str, bool]] = []
    for split in ("test", "valid"):
        if not {"train", split} <= audit.totals.keys():  # folds: every image is trained on
            continue
        leaked, n = len(audit.leaked(split)), audit.totals[split]
        if leaked:
            values = {"count": say.count(leaked), "n": say.count(n)}
            share = say.percent(leaked / n, 1)
            told.append((say(f"audit_leak_{split}", **values, share=share), True))
        elif split == "test":
            told.append((say("audit_no_leak"), False))
    told += [(hint_sentence(one, say), True) for one in audit.hints]
    told += [(_price(one, say), one.low > 0) for one in audit.price]
    conflicts = len(audit.conflicting)
    if conflicts:
        key = "audit_conflicts_one" if conflicts == 1 else "audit_conflicts"
        told.append((say(key, count=say.count(conflicts)), True))
    if audit.labels is not None:
        suspects = len(audit.labels.issues)
        key = "audit_suspects" if suspects else "audit_no_suspects"
        estimate = _estimate(audit, audit.labels, say)
        told.append((say(key, count=say.count(suspects), estimate=estimate), suspects > 0))
    odd = Counter(one.kind for one in audit.oddities)
    if odd:
        kinds = ", ".join(f"{say(f'audit_odd_{kind}')} {say.count(n)}" for kind, n in odd.items())
        told.append((say("audit_odd_found", kinds=kinds), bool(odd["unreadable"])))
    told.append((_repeats(audit, say), False))
    if search := audit.settings.get("near_search"):
        told.append((say(f"audit_near_{search}"), False))
    if look_alikes := audit.totals.get("look_alikes", 0):
        told.append((say("audit_look_alikes", count=say.count(look_alikes)), False))
    for split, one in audit.balance().items():
        empty = [name for name, count in audit.class_counts[split].items() if not count]
        if empty:
            names = listed(empty, more=", ...")
            values = {"count": say.count(len(empty)), "names": names}
            told.append(
                (say("audit_empty_classes", split=_split(split, say).lower(), **values), True)
            )
        elif one.ratio >= UNBALANCED:
            values = {"largest": one.largest, "most": say.count(one.most)}
            values |= {"smallest": one.smallest, "least": say.count(one.least)}
            ratio = say.number(one.ratio, 1)
            split_name = _split(split, say).lower()
            told.append((say("audit_unbalanced", split=split_name, ratio=ratio, **values), False))
    return sorted(told, key=lambda one: not one[1])


def hint_sentence(hint: GroupHint, say: Labels) -> str:
    """Say what looks as if it belonged together, and what to write into the study.

    Args:
        hint: from the audit.
        say: the language.
    """
    return say(
        f"audit_hint_{hint.kind}",
        groups=say.count(hint.groups),
        images=say.count(hint.images),
        example=listed(hint.examples),
        rule=hint.rule,
    )


def _price(price: LeakagePrice, say: Labels) -> str:
    values = {
        "classifier": say(f"audit_classifier_{price.classifier}"),
        "points": say.number(100 * price.difference, 1),
        "low": say.number(100 * price.low, 1),
        "high": say.number(100 * price.high, 1),
        "random": say.percent(price.random, 1),
        "grouped": say.percent(price.grouped, 1),
        "groups": say.count(price.groups),
    }
    told = say("audit_price" if price.low > 0 else "audit_price_unclear", **values)
    if price.left_out:
        told += " " + say("audit_price_left_out", count=say.count(price.left_out))
    return told


def _repeats(audit: Audit, say: Labels) -> str:
    if not audit.pairs:
        return say("audit_no_repeats")
    kinds: Counter[str] = Counter(pair.kind for pair in audit.pairs)
    told = ("same_file", "same_pixels", "near", "mirrored")
    parts = [say(f"audit_kinds_{kind}", count=say.count(kinds[kind])) for kind in told]
    return say(
        "audit_repeats",
        groups=say.count(len(audit.groups)),
        files=say.count(sum(map(len, audit.groups))),
        surplus=say.count(audit.surplus),
        kinds=", ".join(parts),
    )


def _stats(audit: Audit, say: Labels) -> list[tuple[str, str]]:
    suspects = None if audit.labels is None else len(audit.labels.issues)
    values = {
        "images": audit.totals["images"],
        "pairs": len(audit.pairs),
        "leaked": len(audit.leaked("test")),
        "suspects": suspects,
        "odd": len(audit.oddities),
    }
    return [
        (say.count(value), say(f"audit_stat_{key}"))
        for key, value in values.items()
        if value is not None
    ]


def _pair_parts(audit: Audit, thumbnails: Mapping[str, bytes], say: Labels) -> list[dict[str, Any]]:
    shown = _shown_pairs(audit)
    parts = []
    for key, across in (("across", True), ("within", False)):
        total = sum(pair.across == across for pair in audit.pairs)
        cards = [_card(pair, thumbnails, say) for pair in shown if pair.across == across]
        parts.append(
            {
                "title": say(f"audit_{key}"),
                "hint": say(f"audit_{key}_hint"),
                "total": say.count(total),
                "cards": cards,
                "more": _more("audit_pairs_more", total - len(cards), say),
            }
        )
    return parts if audit.pairs else []


def _card(pair: DuplicatePair, thumbnails: Mapping[str, bytes], say: Labels) -> dict[str, Any]:
    return {
        "kind": say(f"audit_kind_{pair.kind}"),
        "conflicting": pair.conflicting,
        "similarity": say("audit_similarity", value=say.number(pair.similarity)),
        "first": _picture(pair.first, pair.first_split, pair.first_label, thumbnails, say),
        "second": _picture(pair.second, pair.second_split, pair.second_label, thumbnails, say),
    }


def _picture(
    path: str, split: str, label: str, thumbnails: Mapping[str, bytes], say: Labels
) -> dict[str, str]:
    jpeg = thumbnails.get(path)
    source = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" if jpeg else ""
    alt = say("audit_picture_alt", path=path, label=label)
    name = _split(split, say)
    return {"path": path, "split": name, "label": label, "source": source, "alt": alt}


def _suspects(audit: Audit, thumbnails: Mapping[str, bytes], say: Labels) -> dict[str, Any] | None:
    found = audit.labels
    if found is None:
        return None
    shown = found.issues[:MOST_SUSPECTS]
    return {
        "method": found.method,
        "summary": say(
            "audit_labels_summary",
            count=say.count(len(found.issues)),
            estimate=_estimate(audit, found, say),
            accuracy=say.percent(found.accuracy, 1),
        )
        if found.accuracy
        else "",  # nothing could be checked; the method gives the reason
        "cards": [
            {
                **_picture(one.path, one.split, one.label, thumbnails, say),
                "suggested": say("audit_suggested", label=one.suggested),
                "odds": say(
                    "audit_odds",
                    p_suggested=say.percent(one.p_suggested, 1),
                    p_label=say.percent(one.p_label, 1),
                ),
            }
            for one in shown
        ],
        "more": _more("audit_labels_more", len(found.issues) - len(shown), say),
    }


def _estimate(audit: Audit, found: LabelFindings, say: Labels) -> str:
    """The estimated number of wrong labels, or why there is none."""
    n = audit.totals["images"]
    # audits of earlier versions have an estimate however weak the check was
    if found.estimated_errors is None or found.accuracy < LEAST_ACCURACY:
        values = {
            "accuracy": say.percent(found.accuracy, 1),
            "least": say.percent(LEAST_ACCURACY, 0),
        }
        return say("audit_no_estimate", **values) if found.accuracy else ""
    share = say.percent(found.estimated_errors / n, 1)
    estimated = say.count(found.estimated_errors)
    return say("audit_estimate", estimated=estimated, images=say.count(n), share=share)


def write_audit_tables(audit: Audit, folder: Path) -> list[Path]:
    """Write duplicates.csv, odd-files.csv and, if labels were checked, labels.csv.

    The columns are the same in every language. Text that a spreadsheet would execute is escaped.

    Args:
        audit: the audit.
        folder: to write to.

    Returns:
        The paths of the files.
    """
    pairs = (
        (
            *(one.kind, one.first, one.second, one.first_split, one.second_split),
            *(one.first_label, one.second_label, one.distance, one.similarity),
            *(int(one.across), int(one.conflicting)),
        )
        for one in audit.pairs
    )
    odd = ((one.kind, one.path, one.split, one.label, one.detail) for one in audit.oddities)
    files = {
        "duplicates.csv": csv_text(DUPLICATE_COLUMNS, pairs),
        "odd-files.csv": csv_text(["kind", "path", "split", "label", "detail"], odd),
    }
    if audit.labels is not None:
        suspects = (
            (one.rank, one.path, one.split, one.label, one.suggested, one.p_label, one.p_suggested)
            for one in audit.labels.issues
        )
        files["labels.csv"] = csv_text(SUSPECT_COLUMNS, suspects)
    for name, text in files.items():
        write_text(folder / name, text)
    return [folder / name for name in files]
