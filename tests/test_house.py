"""Rules of the house that a reader cannot see at a glance: imports, exports, start-up."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

import podium
from tests.fake_study import fake_study

SOURCE = Path(podium.__file__).parent
LIGHT = [
    "podium",
    "podium.cli.app",
    "podium.cli.export",
    "podium.config.settings",
    "podium.runs.folder",
    "podium.statistics.metrics",
    "podium.statistics.calibration",
    "podium.statistics",
    "podium.runs.ledger",
    "podium.auditing",
    "podium.auditing.labels",
    "podium.reporting",
    "podium.reporting.build",
    "podium.reporting.page.audit_page",
    "podium.cli.progress",
    "podium.data.index",
    "podium.data.synthetic",
]

# A module imports from rooms at or before its own; `study` orchestrates, `cli` and `api` call it.
ROOMS = [
    {"errors", "__about__", "allocator", "gc_pause", "threads"},
    {"files"},
    {"config", "store", "ownership", "network", "metrics", "schema", "studyfile"},
    {"calibration", "calibration_error", "comparison", "sealed"},
    {"data", "transforms", "models", "schedule", "events", "machine", "augment_sheet"},
    {"features", "logistic", "layer_rates"},
    {"optimizers"},
    {"inference", "checkpoint", "description", "faults", "tensorboard", "auditing"},
    {"frozen", "job"},
    {"probe"},
    {"trainer", "evaluation"},
    {"training", "gradcam"},
    {"contender"},
    {"reporting"},
    {"explanations"},
    {"deploy"},
    {"study"},
    {"terminal"},
    {"api", "progress"},
    {"cli_card", "cli_data", "cli_export", "cli_lists", "cli_predict", "cli_serve", "cli_verdicts"},
    {"cli", "__main__", ""},
]
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}


@pytest.mark.parametrize("module", LIGHT)
def test_torch_is_not_imported_by(module: str) -> None:
    code = f"import {module}, sys; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_help_answers_at_once() -> None:
    code = (
        "import sys, time; began = time.perf_counter(); from podium.cli.app import main; "
        "assert main(['--help']) == 0; heavy = {'torch', 'numpy', 'matplotlib', 'sklearn', 'timm'}"
        "; assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


STARTS = {  # what may be loaded when the command has read the study and begins to work
    "--version": {"torch", "numpy", "scipy", "matplotlib", "sklearn", "timm", "pydantic", "PIL"},
    "run --help": {"torch", "numpy", "scipy", "matplotlib", "sklearn", "timm", "PIL"},
    "power --help": {"torch", "numpy", "scipy", "matplotlib", "sklearn", "timm", "PIL"},
    "report STUDY": {"torch", "scipy", "matplotlib", "sklearn", "statsmodels", "pandas", "timm"},
}


@pytest.mark.parametrize("words", STARTS)
def test_no_idle_import_delays(words: str, tmp_path: Path) -> None:
    """The bound in seconds is ten times what it takes (0.2 s): a loaded machine passes, torch not.

    What is loaded is the sharp test; the time is the best of three starts.
    """
    study = fake_study(tmp_path / "study", ("golf", "judo"), contenders=1, epochs=2)
    code = (
        "import os, sys\n"
        f"heavy = {STARTS[words]!r}\n"
        "def check(*given):\n"
        "    loaded = heavy & set(sys.modules)\n"
        "    print('loaded:', loaded, file=sys.stderr, flush=True)\n"
        "    os._exit(1 if loaded else 0)\n"
        "import podium.runs.folder\n"
        "read = podium.runs.folder.StudyFolder.read_spec\n"
        "podium.runs.folder.StudyFolder.read_spec = lambda self: check(read(self))\n"
        "from podium.cli.app import main\n"
        "code = main(sys.argv[1:])\n"
        "check() if code == 0 else os._exit(code)"
    )
    given = [str(study.path) if word == "STUDY" else word for word in words.split()]
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True)
        seconds.append(time.perf_counter() - began)
        assert done.returncode == 0, done.stderr
    assert min(seconds) < 2


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room_of(dotted: str) -> str:
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else ""


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_follow_the_flow(path: Path) -> None:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    own = room_of(".".join(parts)).removesuffix("__init__")
    assert own in RANK, f"{path.name} belongs to no room"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.split(".")[0] == "podium":
                assert RANK[room_of(name)] <= RANK[own], f"{path.name} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_every_exported_name_exists(path: Path) -> None:
    dotted = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
    if dotted.endswith("__main__"):
        return
    module = importlib.import_module(dotted.removesuffix(".__init__"))
    for name in getattr(module, "__all__", []):
        assert hasattr(module, name), f"{dotted}.{name}"


def test_public_names_are_complete_and_documented() -> None:
    assert sorted(podium.__all__) == podium.__all__
    homes = {name for names in podium._HOMES.values() for name in names}
    assert homes | {"__version__"} == set(podium.__all__)
    for name in podium.__all__:
        thing = getattr(podium, name)
        assert name == "__version__" or (thing.__doc__ and len(thing.__doc__) > 20), name
    with pytest.raises(AttributeError, match="nothing"):
        podium.nothing  # noqa: B018


def test_no_module_grows_past_its_room() -> None:
    long = {p.name: n for p in modules() if (n := len(p.read_text().splitlines())) > 420}
    assert not long
