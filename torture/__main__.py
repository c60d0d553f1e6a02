"""Stress-test Podium, print the results, and write the figures in docs/reliability.md.

    python -m torture                 # minutes
    python -m torture --kills 2000 --images 100000 --documents 20000
    python -m torture --only kills --kills 12
    python -m torture --only cluster-ray cluster-slurm cluster-driver

Exits with 1 if anything was lost, torn, different, crashed or hung.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, new_record, publish, table
from torture.cluster import CLUSTERS, Trial, torture_cluster
from torture.crowd import torture_crowd
from torture.documents import torture_runs, torture_studies
from torture.faults import SCENARIOS, torture_faults
from torture.kills import finished_study, torture_kills
from torture.pictures import torture_pictures
from torture.server import torture_server
from torture.studies import KINDS

__all__ = ["main"]

PAGE = ROOT / "docs" / "reliability.md"
CLUSTER_PAGE = ROOT / "docs" / "cluster.md"
RESULTS = Path(__file__).resolve().parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the requested parts.

    Args:
        arguments: of the command line; None: those of this process.

    Returns:
        0 if all parts passed, otherwise 1.
    """
    given = _parser().parse_args(arguments)
    sound = True
    with tempfile.TemporaryDirectory(prefix="podium-torture-") as place:
        for name in given.only:
            folder = Path(place) / name
            folder.mkdir()
            if reason := _missing(name, given):
                print(f"{name}: not tried: {reason}", flush=True)
                continue
            values, fine, body = PARTS[name](folder, given)
            sound &= fine
            if given.write:
                record = new_record(f"torture-{name}", {"seed": given.seed}) | {"values": values}
                page = CLUSTER_PAGE if name.startswith("cluster") else PAGE
                publish(record, body, RESULTS / f"{name}.json", page, per_processor=False)
            else:
                print(f"\n{body}")
            print(f"{name}: {'sound' if fine else 'NOT SOUND'}", flush=True)
    return 0 if sound else 1


def _kills(folder: Path, given: argparse.Namespace) -> tuple[Any, bool, str]:
    """Kill at every write step of one kind of training, and at random moments of all kinds."""
    kinds = list(given.kinds)
    steps = given.kills - given.kills // 4
    each = [max(1, given.kills // 4 // len(kinds))] * len(kinds)
    found = []
    for kind, instants in zip(kinds, each, strict=True):
        place = folder / kind
        place.mkdir()
        at_steps = steps if kind == kinds[0] else 0
        result = torture_kills(place, kind, at_steps, instants, given.seed)
        found.append(result)
        print(f"kills: {kind}: {result.kills} in {result.seconds:.0f} s", flush=True)
        for what in (*result.unreadable, *result.differing, *result.left_behind, *result.failed):
            print(f"  {what}", file=sys.stderr)
    header = ["training", "kills at write steps", "at random instants", "studies ended",
              "unreadable files", "differing files", "left behind", "failed"]  # fmt: skip
    rows = [
        [one.about, f"{one.at_write_steps} of {one.write_steps}" if one.at_write_steps else "-",
         str(one.at_random), str(one.studies), str(len(one.unreadable)), str(len(one.differing)),
         str(len(one.left_behind)), str(len(one.failed))]
        for one in found
    ]  # fmt: skip
    kills = sum(one.kills for one in found)
    seconds = sum(one.seconds for one in found)
    closing = (
        f"{kills} kills in {seconds:.0f} s: "
        f"{sum(len(one.unreadable) for one in found)} unreadable files, "
        f"{sum(len(one.differing) for one in found)} files that differ at the end."
    )
    fine = all(one.sound for one in found)
    return [asdict(one) for one in found], fine, f"{table(header, rows)}\n\n{closing}"


def _faults(folder: Path, given: argparse.Namespace) -> tuple[Any, bool, str]:
    found = [
        replace(one, message=_cell(one.message, folder), kept=_cell(one.kept, folder))
        for one in torture_faults(folder, given.faults)
    ]
    rows = [
        [one.what, "hung" if one.code is None else str(one.code), one.message, one.kept,
         "yes" if one.sound else "NO"]
        for one in found
    ]  # fmt: skip
    body = table(["fault", "exit code", "message", "kept", "as promised"], rows)
    body = body.replace("---:", "---")  # left-aligned: the cells are text
    return [asdict(one) for one in found], all(one.sound for one in found), body


def _cell(text: str, folder: Path) -> str:
    """Text for a table cell: without this machine's paths, and with `|` escaped."""
    return re.sub(re.escape(str(folder)) + r"/\w+/", "", text).replace("|", "\\|")


def _images(folder: Path, given: argparse.Namespace) -> tuple[Any, bool, str]:
    found = torture_pictures(folder, given.images, given.seed)
    fine = not (found.crashes or found.hangs or found.lost) and found.peak_mib < 2048
    body = (
        f"{found.files:,} damaged files of {found.formats} kinds: {found.crashes} crashes, "
        f"{found.hangs} hangs, {len(found.lost)} unaccounted for. {found.named:,} are reported "
        f"with the reason, {found.decoded:,} are still images. Peak memory of a command: "
        f"{found.peak_mib:,} MiB. {found.seconds:.0f} s.\n\n"
        + table(["most frequent reasons", "files"], [[r, f"{n:,}"] for r, n in found.reasons])
    )
    return asdict(found), fine, body


def _documents(folder: Path, given: argparse.Namespace) -> tuple[Any, bool, str]:
    study = finished_study(folder / "study")
    found = [
        torture_studies(folder, given.documents, given.seed),
        torture_runs(folder, study, max(1, given.documents // 10), given.seed),
    ]
    for one in found:
        for what in one.crashes:
            print(f"  {what}", file=sys.stderr)
    rows = [
        [f"damaged {one.kind}", f"{one.documents:,}", f"{one.used:,}", f"{one.refused:,}",
         str(len(one.crashes)), str(one.slow), f"{one.seconds:.0f}"]
        for one in found
    ]  # fmt: skip
    header = ["", "files", "used", "refused with a message", "crashes", "slow", "s"]
    return [asdict(one) for one in found], all(one.sound for one in found), table(header, rows)


def _server(folder: Path, given: argparse.Namespace) -> tuple[Any, bool, str]:
    study = finished_study(folder / "study", "probe")
    found = torture_server(folder, study, given.requests, given.clients, given.seed)
    for what in (*found.failures[:20], *filter(None, [found.said])):
        print(f"  {what}", file=sys.stderr)
    rows = [
        ["requests", f"{found.requests:,} from {found.clients} clients"],
        ["of those hostile", f"{sum(found.hostile.values()):,} of {len(found.hostile)} kinds"],
        ["good ones not answered correctly, hostile ones not refused", str(len(found.failures))],
        ["median latency of the good ones", f"{found.p50_ms:,.0f} ms"],
        ["99th percentile", f"{found.p99_ms:,.0f} ms"],
        ["requests per second, including hostile ones", f"{found.per_second:,.0f}"],
        ["server memory after a quarter of them", f"{found.warm_mib:,} MiB"],
        ["server memory at the end", f"{found.end_mib:,} MiB"],
        ["peak server memory", f"{found.peak_mib:,} MiB"],
        ["temporary files at the end", str(found.temporary_files)],
        ["exit code after SIGTERM", str(found.exit_code)],
    ]
    return asdict(found), found.sound, table(["", ""], rows)


def _cluster_of(name: str, given: argparse.Namespace) -> str:
    """The key in `CLUSTERS` of a part."""
    found = name.removeprefix("cluster-")
    return "ray-here" if found == "ray" and given.one_machine else found


def _missing(name: str, given: argparse.Namespace) -> str:
    """Why a part cannot be run on this machine; empty string: it can."""
    cluster = _cluster_of(name, given)
    return str(CLUSTERS[cluster][0].missing()) if cluster in CLUSTERS else ""


def _cluster(folder: Path, given: argparse.Namespace) -> tuple[Any, bool, str]:
    cluster = _cluster_of(folder.name, given)
    found = torture_cluster(folder, cluster, only=given.breaking, brief=given.one_machine)
    for one in found:
        for what in (*one.differing, *filter(None, [one.failed])):
            print(f"  {one.what}: {what}", file=sys.stderr)
    return [asdict(one) for one in found], all(one.sound for one in found), trials_table(found)


def trials_table(found: Sequence[Trial]) -> str:
    """The trials of a cluster as a table in Markdown."""
    header = ["broken by", "begun again", "files that differ", "looks at the test images", "s", ""]
    rows = [
        [one.what, f"{one.again} of {one.cells} cells", f"{len(one.differing)} of {one.files}",
         f"{one.looks} of {one.cells} cells", f"{one.seconds:.0f}", one.failed or one.note]
        for one in found
    ]  # fmt: skip
    return table(header, rows).replace("---:", "---")


def _driver(folder: Path, given: argparse.Namespace) -> tuple[Any, bool, str]:
    found = torture_crowd(folder, given.cells)
    rows = [
        ["simulated cells of a second", f"{found.done:,} of {found.cells:,} done"],
        ["at a time", str(found.at_a_time)],
        ["seconds", f"{found.seconds:.0f}"],
        ["processor seconds of the driver and its display", f"{found.cpu_seconds:.0f}"],
        ["memory of the driver after a tenth of them", f"{found.early_mib:.0f} MiB"],
        ["memory of the driver at the end", f"{found.end_mib:.0f} MiB"],
        ["most progress bars on a terminal of 40 lines", str(found.bars)],
        ["lines per cell in a log", f"{found.lines:.1f}"],
    ]
    return asdict(found), found.sound, table(["", ""], rows)


Part = Callable[[Path, argparse.Namespace], tuple[Any, bool, str]]
PARTS: Mapping[str, Part] = {
    "kills": _kills, "faults": _faults, "images": _images, "documents": _documents,
    "server": _server, "cluster-ray": _cluster, "cluster-slurm": _cluster,
    "cluster-driver": _driver,
}  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m torture", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument(
        "--kills", type=int, default=300,
        help="number of kills (%(default)s): three quarters at write steps, at most one per step",
    )  # fmt: skip
    parser.add_argument(
        "--images", type=int, default=10_000, help="number of damaged images (%(default)s)"
    )
    parser.add_argument(
        "--documents", type=int, default=2_000, help="number of damaged studies (%(default)s)"
    )
    parser.add_argument(
        "--requests", type=int, default=2_000, help="requests to the server (%(default)s)"
    )
    parser.add_argument("--clients", type=int, default=16, help="concurrent clients (%(default)s)")
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND",
        help="kinds of training to kill: " + ", ".join(KINDS),
    )  # fmt: skip
    parser.add_argument(
        "--breaking", default="", metavar="TEXT",
        help="break clusters only in the ways that contain this text",
    )  # fmt: skip
    parser.add_argument(
        "--one-machine",
        action="store_true",
        help="cluster-ray: on this machine alone, in seconds",
    )
    parser.add_argument(
        "--cells", type=int, default=1_000, help="simulated cells of the driver (%(default)s)"
    )
    parser.add_argument("--faults", nargs="+", choices=SCENARIOS, metavar="FAULT")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage (%(default)s)")
    parser.add_argument(
        "--no-write", dest="write", action="store_false", help="only print, change no file"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
