"""What the benchmarks share: this machine in words, rounds, tables, and where results go.

Every benchmark leaves a record (JSON, under `results/`) and a section of `docs/performance.md`
that is rendered from the record alone, so that a table can be written anew without measuring.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from podium.runtime.threads import usable_cores

__all__ = [
    "ROOT",
    "BenchmarkError",
    "add_output_options",
    "describe_machine",
    "interleaved",
    "new_record",
    "publish",
    "read_record",
    "record_file",
    "run_logged",
    "spread",
    "table",
    "write_section",
]

ROOT = Path(__file__).resolve().parents[1]
"""The repository."""

PAGE = ROOT / "docs" / "performance.md"
RESULTS = Path(__file__).resolve().parent / "results"
"""The records."""


_INSTRUCTIONS = ("asimd", "avx2", "avx512f", "bf16", "avx512_bf16", "amx_bf16")


class BenchmarkError(Exception):
    """Something that was to be measured did not run; the message says what it said last."""


def describe_machine() -> dict[str, str]:
    """Processor, memory and versions: what a reader needs to judge the figures."""
    import torch
    import torchvision

    model = _cpuinfo().get("model name") or platform.processor() or platform.machine()
    found = {
        "processor": f"{model}, {usable_cores()} cores",
        "instructions": ", ".join(_instructions()) or "not told",
        **({"limited": "by ATEN_CPU_CAPABILITY, it has newer ones"} if _limited() else {}),
        "memory": f"{_memory_gib():.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": f"{torch.__version__}, torchvision {torchvision.__version__}",
        "threads": str(torch.get_num_threads()),
    }
    if torch.cuda.is_available():
        found["gpu"] = ", ".join(
            torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())
        )
    return found


def _instructions() -> list[str]:
    """The instruction sets in use that decide how fast it trains, best last.

    `ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2` makes a newer processor compute as one with
    AVX2 alone does; a record then says so.
    """
    info = _cpuinfo()
    flags = set(info.get("flags", info.get("Features", "")).split())
    known = ("asimd", "avx2") if _limited() else _INSTRUCTIONS
    return [name for name in known if name in flags]


def _limited() -> bool:
    """Whether the environment keeps PyTorch from what is newer than AVX2."""
    return os.environ.get("ATEN_CPU_CAPABILITY", "").lower() == "avx2"


def _cpuinfo() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _memory_gib() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (AttributeError, ValueError, OSError):
        return float("nan")


def interleaved(
    names: Sequence[str],
    measure: Callable[[str], Mapping[str, float]],
    rounds: int,
    told: Callable[[str], None] = print,
) -> dict[str, list[dict[str, float]]]:
    """Measure A B C ..., then A B C ... again: what drifts on the machine then meets all alike."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(1, rounds + 1):
        for name in names:
            found[name].append(dict(measure(name)))
            shown = ", ".join(f"{key} {value:.4g}" for key, value in found[name][-1].items())
            told(f"round {number} of {rounds}: {name}: {shown}")
    return found


def run_logged(
    command: Sequence[str | Path],
    log: Path,
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run a command in a process group of its own, and leave nothing of it behind.

    Raises:
        BenchmarkError: it failed or took longer than `timeout` seconds.
    """
    what = " ".join(map(str, command))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` is passed through
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            cwd=cwd,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end_group(process)
    if code != 0:
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        why = f"took more than {timeout:.0f} s" if code is None else f"ended with {code}"
        raise BenchmarkError("\n".join([f"{what} {why}. It said last:", *said]))


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the group that `process` leads: a stopped program's loaders would go on for a while."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()


def spread(values: Iterable[float]) -> tuple[float, float, float]:
    """Median, least and greatest."""
    seen = list(values)
    return statistics.median(seen), min(seen), max(seen)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are figures, set to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def add_output_options(parser: argparse.ArgumentParser, name: str) -> None:
    """`--json` and `--out`: where the record and the table go."""
    parser.add_argument(
        "--json",
        type=Path,
        default=record_file(name),
        help="record of the measurements (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=PAGE,
        help="page whose section is written anew (default: %(default)s)",
    )


def record_file(name: str) -> Path:
    """The record of benchmark `name` on processors like this one: others keep theirs."""
    return RESULTS / f"{name}-{(_instructions() or ['other'])[-1]}.json"


def new_record(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A record without values: what was measured, where and when."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {
        "benchmark": name,
        "date": today,
        "machine": describe_machine(),
        "settings": dict(settings),
    }


def read_record(path: Path) -> dict[str, Any]:
    """A record that an earlier run left.

    Raises:
        BenchmarkError: it is not there.
    """
    if not path.is_file():
        raise BenchmarkError(f"{path} is not there. Run the benchmark that writes it first.")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def publish(
    record: Mapping[str, Any],
    body: str,
    json_file: Path,
    page: Path,
    *,
    per_processor: bool = True,
) -> None:
    """Write the record, print the table, and put it into its section of the page.

    A speed belongs to its processor: each kind, told by its best instruction set, has a section of
    its own, and a run on another kind leaves it alone. `per_processor=False`: one section for all.
    """
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    machine = "; ".join(f"{key} {value}" for key, value in record["machine"].items())
    text = f"Measured {record['date']} on: {machine}.\n\n{body}"
    best = record["machine"]["instructions"].rpartition(", ")[-1]
    on = f" on {best}" if per_processor else ""
    write_section(page, f"{record['benchmark']}{on}", text)
    print(f"\n{text}\n\n-> {json_file}\n-> {page}")


def write_section(page: Path, name: str, text: str) -> None:
    """Replace what stands between the markers of a section.

    A new section goes behind the last one of the same benchmark ("NAME on PROCESSOR"), or to the
    end of the page.
    """
    first, last = f"<!-- benchmark: {name} -->", f"<!-- end: {name} -->"
    section = f"{first}\n{text.strip()}\n{last}"
    before = page.read_text(encoding="utf-8") if page.is_file() else ""
    found = re.compile(f"{re.escape(first)}.*?{re.escape(last)}", re.DOTALL)
    kin = re.compile(rf"<!-- end: {re.escape(name.partition(' on ')[0])}(?: on \w+)? -->")
    if found.search(before):
        after = found.sub(lambda _: section, before)
    elif ends := [match.end() for match in kin.finditer(before)]:
        after = f"{before[: ends[-1]]}\n\n{section}{before[ends[-1] :]}"
    else:
        after = f"{before.rstrip()}\n\n{section}\n".lstrip()
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(after, encoding="utf-8")
