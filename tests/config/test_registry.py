"""Things that users add by name: found, named when misspelt, and never loaded unasked."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from podium.config import registry
from podium.config.registry import Registry, allow, allowed
from podium.config.source import source_digest
from podium.errors import ConfigError


@pytest.fixture
def colours() -> Registry[Any]:
    made: Registry[Any] = Registry("colour", ["red"])
    made.register("red", (255, 0, 0))
    return made


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Modules and permissions of a test are gone after it."""
    path, modules, before = list(sys.path), set(sys.modules), allowed()
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    registry._ALLOWED.clear()
    registry._ALLOWED.update(before)


def test_ours_cannot_be_replaced_and_a_users_can(colours: Registry[Any]) -> None:
    def pink() -> None: ...

    with pytest.raises(ConfigError, match="one of Podium's"):
        colours.register("red", 1, pink)
    colours.register("pink", 1, pink)
    colours.register("pink", 2, pink)  # a notebook's cell that is run again
    assert colours["pink"] == 2
    assert colours.names() == ["red", "pink"]
    with pytest.raises(ConfigError, match="expected a name of"):
        colours.register("light pink", 1, pink)


def test_a_misspelt_name_is_told_with_the_nearest(colours: Registry[Any]) -> None:
    with pytest.raises(ConfigError, match=r"no colour 'redd'\. Did you mean red\?"):
        colours["redd"]
    assert colours.check("my_file:teal") == "my_file:teal"
    assert Registry("model", open_ended=True).check("any") == "any"


def test_a_file_is_imported_only_where_it_was_asked_for(
    colours: Registry[Any], tmp_path: Path
) -> None:
    (tmp_path / "paints.py").write_text("import pathlib\npathlib.Path(__file__).with_name('ran')"
                                        ".touch()\nteal = (0, 128, 128)\n")  # fmt: skip
    with pytest.raises(ConfigError, match="never because a run's folder does") as told:
        colours["paints:teal"]
    assert "--import paints" in str(told.value)
    assert not (tmp_path / "ran").exists()
    allow("paints", tmp_path)
    assert colours["paints:teal"] == (0, 128, 128)
    assert allowed()["paints"] == str(tmp_path)
    with pytest.raises(ConfigError, match="the module paints has no 'tael'"):
        colours["paints:tael"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "There is no module paints"),
        ("import not_there_at_all", "it needs not_there_at_all"),
        ("1 / 0", "ZeroDivisionError"),
        ("def", "SyntaxError"),
    ],
)
def test_a_module_that_cannot_be_imported(tmp_path: Path, text: str | None, told: str) -> None:
    if text is not None:
        (tmp_path / "paints.py").write_text(text)
    with pytest.raises(ConfigError, match=told):
        allow("paints", tmp_path)
    assert "paints" not in allowed()


def test_an_installed_package_offers_under_its_group(
    colours: Registry[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = [EntryPoint("blue", "math:tau", "podium.colours"),
               EntryPoint("grey", "not_installed:grey", "podium.colours")]  # fmt: skip
    monkeypatch.setattr(
        registry, "entry_points", lambda group: offered if group == "podium.colours" else []
    )
    assert colours.names() == ["red", "blue", "grey"]
    assert colours["blue"] == pytest.approx(6.2832, abs=1e-4)
    with pytest.raises(ConfigError, match="ModuleNotFoundError"):
        colours["grey"]


def test_what_is_offered_is_converted_and_a_decorated_function_is_found_again() -> None:
    def convert(name: str, offered: Any) -> int:
        if not isinstance(offered, str):
            raise ConfigError(f"{name} is not a text")
        return len(offered)

    words: Registry[int] = Registry("word", convert=convert)

    def long() -> None: ...

    words.register("long", 99, long)
    assert words._converted("any:thing", long) == 99
    assert words._converted("any:thing", "four") == 4
    with pytest.raises(ConfigError, match="is not a text"):
        words._converted("any:thing", 1)


def test_the_digest_follows_the_file_and_what_it_imports_beside_it(
    colours: Registry[Any], tmp_path: Path
) -> None:
    (tmp_path / "paints.py").write_text("import os\nfrom mixing import mix\ndef teal(): pass\n")
    (tmp_path / "mixing.py").write_text("def mix(): return 1\n")
    (tmp_path / "other.py").write_text("unused = 1\n")
    allow("paints", tmp_path)
    teal = sys.modules["paints"].teal
    first = source_digest(teal)
    assert colours.provenance("paints:teal") == f"paints:teal sha256:{first}"
    assert colours.provenance("red") is None
    (tmp_path / "other.py").write_text("unused = 2\n")
    (tmp_path / "mixing.py").write_bytes(b"def mix(): return 1\r\n")  # another system's line ends
    assert source_digest(teal) == first
    (tmp_path / "mixing.py").write_text("def mix(): return 2\n")
    assert source_digest(teal) != first


def test_the_digest_of_a_package_covers_relative_imports(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "paints.py").write_text("from .mixing import mix\nclass Teal: pass\n")
    (package / "mixing.py").write_text("mix = 1\n")
    allow("shop.paints", tmp_path)
    teal = sys.modules["shop.paints"].Teal
    first = source_digest(teal)
    assert source_digest(teal()) == first
    (package / "mixing.py").write_text("mix = 2\n")
    assert source_digest(teal) != first


SCRIPT = """
WIDTH = 4

class Net:
    def size(self):
        return WIDTH

def build(classes):
    return Net().size() + classes
"""


def test_the_digest_of_a_session_follows_what_a_function_uses_there() -> None:
    """As in an interpreter, which keeps no text; `__main__` of these tests is another program."""

    def digest(text: str) -> str:
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(text, "<typed>", "exec"), names)
        return source_digest(names["build"])

    first = digest(SCRIPT)
    assert digest(SCRIPT + "\nunused = 1\n") == first
    assert digest(SCRIPT.replace("WIDTH = 4", "WIDTH = 5")) != first
    assert digest(SCRIPT.replace("+ classes", "- classes")) != first
    assert digest(SCRIPT.replace("return WIDTH", "return -WIDTH")) != first


def test_a_module_that_registered_something_is_known_to_other_processes(
    colours: Registry[Any], tmp_path: Path
) -> None:
    (tmp_path / "paints.py").write_text("def teal(): ...\n")
    sys.path.insert(0, str(tmp_path))
    from paints import teal  # type: ignore[import-not-found]

    colours.register("teal", 1, teal)
    assert allowed()["paints"] == str(tmp_path)
