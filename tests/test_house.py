"""Rules of the house that a reader cannot see at a glance: imports, exports, start-up."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import time
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from rooms import LEVEL, SOURCE, imports, modules, room_of

import podium
from tests.fake_study import fake_study

HERE = Path(__file__).parent
TORCHLESS = ("errors", "config", "runs", "statistics", "results", "reporting")
LIGHT = ("podium", "podium.cli.app", "podium.auditing", "podium.data.index")


def test_a_report_needs_no_torch_and_neither_does_a_command() -> None:
    names = [f"podium.{name}" for name in modules() if room_of(name) in TORCHLESS]
    code = f"import sys, {', '.join([*LIGHT, *names])}; assert 'torch' not in sys.modules"
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


def test_a_room_imports_from_below_alone() -> None:
    """The order is the 15 words of `rooms.ORDER`; its text and `docs/architecture.md` show it."""
    upward = [
        f"{name} imports {target} in line {line}"
        for name, target, line in imports()
        if (own := room_of(name)) in LEVEL
        and (other := room_of(target)) != own
        and LEVEL.get(other, len(LEVEL)) >= LEVEL[own]
        and other != "__about__"
    ]
    assert not upward


def test_every_module_lies_in_a_room() -> None:
    outside = {name for name in modules() if room_of(name) not in LEVEL}
    assert outside == {"", "__about__", "__main__"}
    assert not {"report", "audit", "predict", "export"} & set(LEVEL)  # functions of the package


def test_no_module_imports_in_a_circle() -> None:
    below: dict[str, set[str]] = {}
    for name, target, _ in imports():
        below.setdefault(name, set()).add(target)
    TopologicalSorter(below).prepare()  # raises CycleError, which names the circle


def test_the_tests_lie_in_the_rooms_of_what_they_test() -> None:
    rooms = {path.name for path in HERE.iterdir() if path.is_dir() and path.name[0] not in "._"}
    assert rooms <= set(LEVEL)


def test_every_face_offers_what_there_is() -> None:
    """Names are listed in faces alone, the `__init__.py` of packages; modules have none to keep."""
    for name, path in modules().items():
        if path.name == "__init__.py":
            module = importlib.import_module(f"podium.{name}".removesuffix("."))
            for exported in getattr(module, "__all__", []):
                assert hasattr(module, exported), f"{name}.{exported}"


def test_public_names_are_complete_and_documented() -> None:
    assert sorted(podium.__all__) == podium.__all__
    stub = ast.parse((SOURCE / "__init__.pyi").read_text(encoding="utf-8"))
    named = {a.name for n in stub.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert named | {"__version__"} == set(podium.__all__)
    for name in podium.__all__:
        thing = getattr(podium, name)
        assert name == "__version__" or (thing.__doc__ and len(thing.__doc__) > 20), name
    with pytest.raises(AttributeError, match="nothing"):
        getattr(podium, "nothing")  # noqa: B009


def test_no_module_grows_past_its_room() -> None:
    lines = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert not {name: count for name, count in lines.items() if count > 420}
