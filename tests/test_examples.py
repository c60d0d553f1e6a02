"""The notebook runs, and the README says what is true."""

from __future__ import annotations

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

from podium.cli.app import main
from podium.config.studyfile import load_study

ROOT = Path(__file__).resolve().parents[1]

UNDRAWN = """
from tests.conftest import reports_undrawn
reports = reports_undrawn(but={"curves"})
reports.__enter__()
"""


@pytest.mark.filterwarnings("default")  # of Jupyter's own parts, not of ours
def test_the_notebook_runs(tmp_path: Path) -> None:
    """Cell by cell as it stands, on fewer pictures, for fewer epochs, with the figure it shows."""
    notebook = nbformat.read(ROOT / "examples" / "first_study.ipynb", as_version=4)
    for whole, quick in (("(40, 15, 20)", "(6, 2, 4)"), ('"epochs": 4', '"epochs": 1')):
        (cell,) = [cell for cell in notebook.cells if whole in cell.source]
        cell.source = cell.source.replace(whole, quick)
    undrawn = f"import sys; sys.path.append({str(ROOT)!r})\n" + UNDRAWN
    notebook.cells.insert(0, nbformat.v4.new_code_cell(undrawn))
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    assert (tmp_path / "notebook-runs" / "first" / "report" / "index.html").is_file()
    printed = [
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text" in output
    ]
    assert any("% of 40 test images" in text for text in printed)


def test_the_notebook_is_committed_without_outputs() -> None:
    notebook = nbformat.read(ROOT / "examples" / "first_study.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)


def readme_blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_readmes_study_is_valid(tmp_path: Path) -> None:
    (block,) = readme_blocks("yaml")
    path = tmp_path / "birds.yaml"
    path.write_text(block, encoding="utf-8")
    study = load_study(path, overrides=["contenders.*.epochs=2"])
    assert list(study.contenders) == ["scratch", "linear", "convnext"]
    import timm

    assert timm.is_model(study.contenders["convnext"].model)


def test_every_command_of_the_readme_exists(capsys: pytest.CaptureFixture[str]) -> None:
    words = {
        tuple(line.split("#")[0].split()[1:3] if line.startswith("podium data") else
              line.split()[1:2])
        for block in readme_blocks("sh")
        for line in block.splitlines()
        if line.startswith("podium ")
    }  # fmt: skip
    assert words
    for command in words:
        assert main([*command, "--help"]) == 0
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", "\n".join(readme_blocks("sh")), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_readmes_python_is_what_the_package_offers() -> None:
    import podium

    for block in readme_blocks("python"):
        compile(block, "README.md", "exec")
        assert len(block.splitlines()) <= 10
        for name in re.findall(r"podium\.([A-Za-z_]+)", block):
            assert name in podium.__all__


def test_the_readmes_power_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = readme_blocks("console")
    command, _, shown = block.partition("\n")
    assert main(command.removeprefix("$ podium ").split()) == 0
    assert capsys.readouterr().out.strip() == shown.strip()
