"""What the pages say is true: their commands run, their code runs, their links lead somewhere.

Every `sh`, `console` and `python` block of the pages below is run, in one folder in which the
tutorial was followed from its first step. What is put in place of the pages' own, so that minutes
become seconds, stands in `_quick` and `_folder` and nowhere else. A block that cannot run here is
marked in the page by `<!-- no-test: reason -->`; its `podium` lines are parsed all the same.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from PIL import Image

import podium
from podium.cli.app import app, main, take_imports
from podium.config.data_settings import DataSpec, SplitSpec
from podium.config.machine import Machine
from podium.config.schema import study_schema
from podium.config.settings import RunSpec, StudySpec
from podium.config.studyfile import built_in_studies, load_study, study_text
from podium.config.tuning import Tune
from podium.runs.folder import HISTORY_COLUMNS, StudyFolder
from tests.conftest import reports_undrawn, write_pictures
from tests.users_code import SEAMS, forgotten

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

FOLLOWED = [  # the pages whose blocks run, after the tutorial
    "docs/index.md",
    "docs/own-data.md",
    "docs/statistics.md",
    "docs/cluster.md",
    "docs/receipt.md",
    "docs/learning-curve.md",
    "docs/how-to/add-a-model.md",
    "docs/how-to/add-a-loss.md",
    "docs/how-to/add-an-augmentation.md",
    "docs/how-to/add-a-data-source.md",
    "docs/how-to/add-a-tracker.md",
    "docs/how-to/add-an-executor.md",
    "docs/how-to/budget.md",
    "docs/how-to/choose-a-metric.md",
    "docs/how-to/deploy.md",
    "docs/how-to/gpu.md",
    "docs/how-to/offline.md",
    "docs/how-to/publish.md",
    "docs/how-to/resume.md",
    "docs/reference/run-folder.md",
    "docs/reference/study-file.md",
    "README.md",
]

README_NOT_RUN = {  # the README carries no marks; these of its lines are parsed alone
    "make demo": "minutes",
    "make test": "this is it",
    "podium data fetch sports100": "needs a network",
    "podium run sports100": "needs the images, and hours",
    "podium export runs/quick --format onnx --format openvino": "the how-to does the same",
    "podium serve runs/quick": "the tutorial does the same",
}


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    mark: str
    """What a comment right before it says: `no-test: ...`, `test: ...`, `file: ...`."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def text_of(page: str) -> str:
    """A page of the repository, or one that is written when the site is built."""
    made = generated().get(page.removeprefix("docs/"))
    return made if made is not None else (ROOT / page).read_text(encoding="utf-8")


@cache
def generated() -> dict[str, str]:
    return dict(hooks().generated())


@cache
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("podium_docs_hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page: str) -> list[Block]:
    found: list[Block] = []
    inside: list[str] = []
    fence, indent, language, mark, begun = "", 0, "", "", 0
    for number, line in enumerate(text_of(page).splitlines(), start=1):
        bare = line.strip()
        if fence:
            if bare == fence:
                found.append(Block(page, begun, language, "\n".join(inside) + "\n", mark))
                fence, mark = "", ""
            else:
                inside.append(line[indent:])
        elif opened := re.fullmatch(r"(\s*)(`{3,})\s*(\w*).*", line):
            indent, fence, language = len(opened[1]), opened[2], opened[3]
            begun, inside = number, []
        elif told := re.fullmatch(r"<!-- (.*) -->", bare):
            mark = told[1]
        elif bare:
            mark = ""
    assert not fence, f"{page}:{begun}: a block that is not closed"
    return found


def lines_of(block: Block) -> list[str]:
    """The commands of a block, each with its continued lines; of a console, those behind '$'."""
    text = block.text.replace("\\\n", " ")
    lines = [re.sub(r"\s+#\s.*$", "", line).strip() for line in text.splitlines()]
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [re.sub(r"\s+", " ", line) for line in lines if line and not line.startswith("#")]


def all_pages() -> list[str]:
    lie_there = [str(path.relative_to(ROOT)) for path in sorted(DOCS.rglob("*.md"))]
    written = [f"docs/{path}" for path in generated() if path.endswith(".md")]
    return [*lie_there, *written, "README.md"]


@cache
def known_commands() -> dict[str, Any]:
    return dict(hooks().commands())


@cache
def root_command() -> Any:
    return typer.main.get_command(app)


# ---------------------------------------------------------------- what is said of commands


def podium_lines(page: str) -> Iterator[tuple[Block, list[str]]]:
    for block in blocks(page):
        if block.language in ("sh", "console"):
            for line in lines_of(block):
                # what the shell does around it: redirections, background, nohup, exec
                command = re.sub(r"\s(>|2>&1|&).*$", "", line.rpartition("| ")[2])
                words = shlex.split(command)
                if "podium" in words[:2]:
                    yield block, take_imports(words[words.index("podium") + 1 :])[0]


@pytest.mark.parametrize("page", all_pages())
def test_every_command_on_a_page_can_be_given(page: str) -> None:
    for block, words in podium_lines(page):
        if words[0] == "--version":
            continue
        command, rest = root_command(), list(words)
        while hasattr(command, "commands"):
            assert rest[0] in command.commands, f"{block}: there is no podium {' '.join(words)}"
            command = command.commands[rest.pop(0)]
        command.make_context(words[0], rest)  # raises where an option or argument is none of it


@pytest.mark.parametrize("page", all_pages())
def test_every_command_named_in_a_sentence_exists(page: str) -> None:
    prose = re.sub(r"^\s*```.*?^\s*```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    known = known_commands()
    for span in re.findall(r"`podium ([a-z][^`]*)`", prose):
        words = span.split()
        name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in known), None)
        assert name or words[0] == "data", f"{page}: there is no `podium {span}`"
        given = {word.split("=")[0] for word in words if word.startswith("--")}
        options = {opt for one in known[name or "data check"].params
                   for opt in (*one.opts, *one.secondary_opts)}  # fmt: skip
        assert given <= options | {"--help", "--debug", "--import"}, f"{page}: `podium {span}`"


@pytest.mark.parametrize("page", all_pages())
def test_every_study_on_a_page_is_valid(page: str, tmp_path: Path) -> None:
    import jsonschema

    for block in blocks(page):
        if block.language == "yaml":
            path = tmp_path / "study.yaml"
            text = block.text
            if block.mark == "data of a study":
                text += "name: shown\ncontenders: {any: {model: simple_resnet, epochs: 1}}\n"
            path.write_text(text, encoding="utf-8")
            study = load_study(path)
            assert study.contenders, block
            jsonschema.validate(json.loads(json.dumps(_plain(text))), study_schema())


def _plain(text: str) -> Any:
    import yaml

    return yaml.safe_load(text)


# ---------------------------------------------------------------- the pages, followed


@pytest.fixture(scope="module")
def _quick() -> Iterator[None]:
    """The substitutes: an epoch of 32 pixels, few pictures, a contender, two seeds, few reports.

    The tutorial's study keeps its first and its last contender, and is the one whose report is
    written, once and without its figures; again only where a page wants it in another place.
    """
    from podium import api, reporting
    from podium.config import curve, studyfile
    from podium.data import synthetic
    from podium.reporting.build import ReportResult
    from podium.results.receipt import write_receipt
    from podium.results.study import gather
    from podium.study import study

    read, draw, build = studyfile.load_study, synthetic.make_demo, reporting.build_report
    make_curve = curve.curve_study

    def quick_study(*given: Any, overrides: Any = (), **options: Any) -> StudySpec:
        found = read(*given, overrides=overrides, **options)
        keys = list(found.contenders)
        if found.name == "shapes":
            keys = [keys[0], keys[-1]]
        elif not found.name.endswith("-curve"):  # which compares the shares of one contender
            keys = keys[:1]
        small = {"epochs": 1, "image_size": 32, "progressive_sizes": ()}
        kept = {key: found.contenders[key].model_copy(update=small) for key in keys}
        return found.model_copy(update={"contenders": kept, "seeds": found.seeds[:2]})

    def quick_curve(spec: StudySpec, shares: Any, seeds: Any, folds: Any) -> StudySpec:
        return make_curve(spec, shares, seeds[:2], folds)

    def quick_report(folder: StudyFolder, *, out: Path | None = None, **options: Any) -> Any:
        index = folder.report / "index.html"
        if out is None and (index.is_file() or folder.path.name != "shapes"):
            found = gather(folder)
            write_receipt(found)
            return ReportResult(index, (), found)
        with reports_undrawn():
            return build(folder, out=out, **options)

    with pytest.MonkeyPatch.context() as patch:
        for module in (studyfile, study, api):
            patch.setattr(module, "load_study", quick_study)
        patch.setattr(curve, "curve_study", quick_curve)
        patch.setattr(synthetic, "make_demo",
                      lambda into, **kw: draw(into, **{**kw, "per_class": (4, 2, 3)}))  # fmt: skip
        patch.setattr(reporting, "build_report", quick_report)
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


def _folder(folder: Path) -> Path:
    """An empty folder, but for the pictures of the reader's own that the how-tos speak of."""
    write_pictures(folder / "my-images", {"train": 8, "valid": 3, "test": 4})
    shutil.copytree(folder / "my-images", folder / "other-images")
    for number in range(24):  # pictures of twelve patients, two each
        for label in ("ill", "well"):
            place = folder / "patients" / label / f"patient{number // 2:02}_{number:03}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), (10 * number, 90, 90)).save(place)
        flat = folder / "flat" / "train" / f"{('cat', 'dog')[number % 2]}.{number}.jpg"
        flat.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(place, flat)
    return folder


@pytest.fixture(scope="module")
def followed(_quick: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the tutorial was followed to its end."""
    folder = _folder(tmp_path_factory.mktemp("reader"))
    follow("docs/tutorial.md", folder)
    return folder


def follow(page: str, folder: Path) -> None:
    """Do what a page says, block by block, within a folder."""
    shown = blocks(page)
    names: dict[str, Any] = {"__name__": "__main__"}  # the code of a page goes on from its own
    with contextlib.ExitStack() as open_server:
        address = ""
        for at, block in enumerate(shown):
            if block.mark == "test: serve":
                open_server.close()
                address = open_server.enter_context(server(block, folder))
                continue
            if block.mark == "test: with the server":
                text = block.text.replace("http://127.0.0.1:7860", address)
                block = replace(block, text=text)
            follow_block(block, shown[at + 1 : at + 2], folder, names)


@contextlib.contextmanager
def server(block: Block, folder: Path) -> Iterator[str]:
    """The server that a page starts, at any free port; its address. It is ended by a Ctrl-C."""
    (line,) = lines_of(block)
    command = [sys.executable, "-m", *shlex.split(line), "--port", "0"]
    said = folder / "serve.log"
    with open(said, "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while not (found := re.search(r"Serving on (http\S+)", said.read_text(encoding="utf-8"))):
            assert process.poll() is None, said.read_text(encoding="utf-8")
            assert time.monotonic() < end, "the server does not come up"
            time.sleep(0.1)
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
    assert code in (0, 130), said.read_text(encoding="utf-8")


def follow_block(block: Block, after: list[Block], folder: Path, names: dict[str, Any]) -> None:
    """One block of a page; `after` is the next one, which may say what this one prints."""
    if block.mark.startswith("file: "):
        (folder / block.mark.removeprefix("file: ")).write_text(block.text, encoding="utf-8")
    if block.mark.startswith("no-test: "):
        assert len(block.mark) > len("no-test: ") + 5, f"{block}: without a reason"
    elif block.language == "python":
        printed = run_python(block, folder, names)
        if block.mark == "test: prints":
            assert printed == after[0].text, f"{block} does not print what stands there"
    elif block.language in ("sh", "console"):
        said = "".join(run_line(line, block, folder) for line in lines_of(block))
        if block.language == "console":
            expected = re.sub(r"^\$ .*\n", "", block.text, flags=re.MULTILINE)
            assert said.strip() == expected.strip(), f"{block} prints something else"


def run_python(block: Block, folder: Path, names: dict[str, Any]) -> str:
    out = io.StringIO()
    code = compile(block.text, str(block), "exec")
    with contextlib.chdir(folder), contextlib.redirect_stdout(out):
        exec(code, names)
    return out.getvalue()


def run_line(line: str, block: Block, folder: Path) -> str:
    """What a command writes; podium's own run in this process, the shell's in a shell."""
    if block.page == "README.md" and line in README_NOT_RUN:
        return ""
    words = shlex.split(line)
    if words[0] != "podium" or set(words) & {">", "|", "&", "&&"}:
        return run_shell(line, block, folder)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words[1:])
    assert code == 0, f"{block}: {line}\n{err.getvalue()}"
    return out.getvalue()


def run_shell(line: str, block: Block, folder: Path) -> str:
    tools = folder / ".tools"
    tools.mkdir(exist_ok=True)
    shim = tools / "podium"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m podium "$@"\n', encoding="utf-8")
    shim.chmod(0o755)
    place = {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        ["bash", "-euc", line], cwd=folder, env={**os.environ, **place}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{block}: {line}\n{done.stderr}"
    return done.stdout


def test_the_tutorial_ends_with_what_it_promises(followed: Path) -> None:
    assert (followed / "audit" / "index.html").is_file()
    folder = StudyFolder(followed / "runs" / "shapes")
    assert (folder.report / "index.html").is_file()
    assert all(run.is_done() for run in folder.runs(folder.read_spec()))


@pytest.mark.parametrize("page", FOLLOWED)
def test_a_page_can_be_followed(page: str, followed: Path) -> None:
    with forgotten(followed, *SEAMS):  # what the page's own code defines and registers
        follow(page, followed)


def test_pictures_of_a_group_stay_together(followed: Path) -> None:
    """The code of own-data.md, on what it wrote."""
    if not (followed / "split.csv").is_file():
        follow("docs/own-data.md", followed)
    found: dict[str, set[str]] = {}
    with open(followed / "split.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["group"], set()).add(row["split"])
    assert sorted(found) == [f"patient{number:02}" for number in range(12)]
    assert all(len(splits) == 1 for splits in found.values())
    assert set().union(*found.values()) == {"train", "valid", "test"}


def test_pictures_with_the_class_in_their_names_need_a_pattern(followed: Path) -> None:
    """What own-data.md gives for what `podium data check` refuses."""
    assert main(["data", "check", str(followed / "flat")]) == 2
    label = ["--label", "(?P<label>cat|dog)"]
    assert main(["data", "check", str(followed / "flat"), *label]) == 0


def test_no_page_is_left_out_unseen() -> None:
    """Every page with something to run is followed, or has its figures or tests elsewhere."""
    elsewhere = {
        "export",
        "fast",
        "performance",
        "reliability",
        "results",
        "scale",
        "single-pictures",
        "stress",
        "transfer",
        "tuning",
    }
    with_blocks = {page for page in all_pages() for block in blocks(page)
                   if block.language in ("sh", "console", "python")}  # fmt: skip
    left = with_blocks - set(FOLLOWED) - {"docs/tutorial.md"}
    assert left <= {f"docs/{name}.md" for name in elsewhere}


# ---------------------------------------------------------------- the reference


def test_the_reference_names_every_option_setting_and_name() -> None:
    cli, study, api = (text_of(f"docs/reference/{n}.md") for n in ("cli", "study-file", "api"))
    for name, command in known_commands().items():
        assert f"## podium {name} {{" in cli
        for one in command.params:
            assert all(f"`{word}`" in cli for word in one.opts if word.startswith("-"))
    for model in (StudySpec, DataSpec, SplitSpec, Tune, RunSpec, Machine):
        for field in model.model_fields:
            assert f"{{ #{model.__name__.lower()}-{field} }}" in study
    assert {f"::: podium.{n}" for n in podium.__all__ if n != "__version__"} <= set(api.split("\n"))


def test_the_reference_gives_types_ranges_and_defaults() -> None:
    study = text_of("docs/reference/study-file.md")
    for said in (
        "whole number, 2 or more, 65,536 or less, default: `32`",  # batch_size
        "number, more than 0, 100 or less, default: `0.0001`",  # lr
        "`none` or `backbone`, default: `none`",  # freeze
        "whole number, 1 or more, 100,000 or less, **required**",  # epochs
    ):
        assert said in study
    assert "whole number, 50 to 1200, default: `400`" in text_of("docs/reference/cli.md")


def test_the_schema_takes_our_studies_and_refuses_what_podium_refuses() -> None:
    import jsonschema

    check = jsonschema.Draft202012Validator(study_schema())
    check.check_schema(study_schema())
    for name in built_in_studies():
        assert not list(check.iter_errors(_plain(study_text(name)))), name
    recipe = {"model": "resnet18", "epochs": 1}
    good = {"name": "a", "data": "b", "contenders": {"c": recipe}}
    assert not list(check.iter_errors(good))
    for key, value in (("epochs", 0), ("freeze", "all"), ("lr", "fast"), ("epoch", 3)):
        bad = {**good, "contenders": {"c": {**recipe, key: value}}}
        assert list(check.iter_errors(bad)), key
        with pytest.raises(podium.ConfigError):
            load_study(bad)
    tune = {"trials": 2, "space": {"lr": {"log": [0.1, 0.2]}, "flip_test": [True, False]}}
    assert not list(check.iter_errors({**good, "tune": tune}))
    assert list(check.iter_errors({**good, "tune": {**tune, "space": {"lr": {"lg": [1, 2]}}}}))
    assert list(check.iter_errors({**good, "contenders": {"a/b": {}}}))
    fields = study_schema()["$defs"]["RunSpec"]["properties"]
    assert all(one["description"] for one in fields.values())


def test_the_page_of_run_folders_tells_every_file_and_key(followed: Path) -> None:
    page = text_of("docs/reference/run-folder.md")
    study = StudyFolder(followed / "runs" / "shapes")
    run = study.run("pretrained", 0)
    for entry in study.path.iterdir():
        named = entry.name in ("scratch", "pretrained") or entry.name[0] == "."
        assert named or f"`{entry.name}" in page, entry.name
    for entry in run.path.iterdir():
        assert f"`{entry.name}" in page, entry.name
    for path in (run.model, run.done):
        for key in json.loads(path.read_text(encoding="utf-8")):
            assert f"`{key}`" in page, f"{path.name}: {key}"
    assert all(f"| `{column}` |" in page for column in HISTORY_COLUMNS)
    receipt = json.loads(study.receipt.read_text(encoding="utf-8"))
    runs = [run for one in receipt["contenders"].values() for run in one["runs"].values()]
    inside = [*receipt["images"].values(), *receipt["contenders"].values(), *runs]
    inside += [receipt, receipt["tests"], receipt["verdict"]]
    inside += [one for key in ("standings", "pairs") for one in receipt["verdict"][key].values()]
    for key in {key for values in inside for key in values}:
        assert f"`{key}`" in page, f"verdict.json: {key}"
    line = (study.path.parent / "test-scorings.jsonl").read_text(encoding="utf-8").splitlines()[0]
    assert all(f"`{key}`" in page for key in json.loads(line))
