"""The examples in docstrings run, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
from rooms import modules

import podium
from tests.users_code import SEAMS, forgotten

WITH_EXAMPLES = [name for name, path in modules().items() if ">>> " in path.read_text("utf-8")]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(f"podium.{name}")
    with forgotten(tmp_path, *SEAMS):
        result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.attempted
    assert not result.failed


def test_every_public_name_has_an_example() -> None:
    named = [name for name in podium.__all__ if name != "__version__"]
    without = [name for name in named if ">>> " not in (getattr(podium, name).__doc__ or "")]
    assert not without
