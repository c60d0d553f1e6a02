"""Uploads to a hub that runs here: the very bytes, one commit, no token shown, errors in words."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard, ModelCardData, constants
from PIL import Image

import podium
from podium.cli.app import main
from podium.deploy.find.choose import choose_run
from podium.deploy.publish.pack import pack
from podium.deploy.publish.push import read_token, upload
from podium.deploy.similarity import KnownImages
from podium.errors import ConfigError, PodiumError, RunFolderError, UserError
from podium.runs.folder import RunFolder
from podium.runtime.files import read_json, write_json
from tests.deploy.fake_hub import COMMIT, FakeHub

USUAL = ["README.md", "config.yaml", "model.json", "model.safetensors"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that the library takes for the real one, and nobody logged in."""
    found = FakeHub()
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, found.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", found.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # this hub has none
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path / "cache"))
    yield found
    huggingface_hub.close_session()
    found.close()


@pytest.fixture
def token_file(hub: FakeHub, tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{hub.token}\n", encoding="utf-8")
    return path


def copied(run: RunFolder, to: Path) -> RunFolder:
    """The run's whole study, to change."""
    study = run.path.parent.parent
    shutil.copytree(study, to / study.name)
    return RunFolder(to / study.name / run.contender / run.path.name, run.contender, run.seed)


def test_one_commit_brings_weights_description_recipe_and_card(
    hub: FakeHub, token_file: Path, small_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["push", str(small_run.path), "me/shapes", "--token-file", str(token_file)]
    assert main([*words, "--license", "mit", "--dataset", "me/pictures"]) == 0
    said = capsys.readouterr()
    assert f"Pushed: {hub.url}/me/shapes/commit/{COMMIT}" in said.out.replace("\n", "")
    assert hub.commits == [("main", USUAL)]
    assert hub.repos == {"me/shapes": False}
    assert hub.files["model.safetensors"] == small_run.best.read_bytes()
    described = json.loads(hub.files["model.json"])
    assert len(described.pop("conformity")["labels"]) == len(small_run.read_predictions("valid"))
    assert described == read_json(small_run.model)
    card = ModelCard(hub.files["README.md"].decode("utf-8"))
    assert isinstance(card.data, ModelCardData)
    assert (card.data.license, card.data.datasets) == ("mit", ["me/pictures"])
    assert 'podium.fetch_run("me/shapes")' in card.text
    config = yaml.safe_load(hub.files["config.yaml"])
    assert (config["contender"], config["recipe"]["epochs"]) == ("simple_resnet", 2)
    for shown in (said.out, said.err, *(one.decode("latin-1") for one in hub.files.values())):
        assert hub.token not in shown
        assert str(small_run.path.parents[2]) not in shown.replace("\n", "")


def test_the_winner_comes_back_and_predicts_the_same(
    hub: FakeHub, small_run: RunFolder, monkeypatch: pytest.MonkeyPatch, pictures: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    url = podium.push(small_run, "me/shapes", private=True)
    assert url.endswith(COMMIT)
    assert hub.repos == {"me/shapes": True}
    hub.files["podium.py"] = b"raise SystemExit('code of the repository was run')"
    run = podium.fetch_run("me/shapes")
    assert sorted(one.name for one in run.path.iterdir()) == ["best.safetensors", "model.json"]
    assert run.best.read_bytes() == small_run.best.read_bytes()
    assert COMMIT in run.path.parts
    assert not [one for one in hub.asked if "podium.py" in one or "README" in one]
    there = podium.evaluate(run, pictures, device="cpu", workers=0)
    assert (there.logits == small_run.read_predictions("test").logits).all()
    for name in ("hf://me/shapes", "hf:/me/shapes", "hf://me/shapes@main"):
        assert choose_run(name) == run
    # once it is there, no network is needed
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert podium.fetch_run("me/shapes") == run
    with pytest.raises(PodiumError, match="not on this machine, and the Hub cannot be reached"):
        podium.fetch_run("me/other")


def test_none_of_these_is_published_where_it_was_computed(
    hub: FakeHub,
    small_run: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    pictures: Path,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    run = copied(small_run, tmp_path)
    podium.push(run, "me/shapes")
    with pytest.raises(ConfigError, match="which `podium push` publishes, too"):
        podium.predict("hf://me/shapes", pictures / "test", keep=0.9)
    shutil.rmtree(tmp_path / "cache")
    shutil.rmtree(tmp_path / "hub-cache")

    images = pictures / "test"
    here = [one.none_of_these for one in podium.predict(run, images, device="cpu", keep=0.5)]
    podium.push(run, "me/shapes")
    assert hub.files["known.safetensors"] == (run.path / "known.safetensors").read_bytes()
    there = podium.predict("hf://me/shapes", images, device="cpu", keep=0.5)
    assert [one.none_of_these for one in there] == here
    assert {True, False} == set(here)

    fetched = podium.fetch_run("me/shapes")
    wrong = KnownImages(torch.eye(3, 7), np.linspace(0, 1, 27))
    wrong.write(fetched.path / "known.safetensors", fetched.best)
    with pytest.raises(RunFolderError, match="features of each class, got 7"):
        podium.predict(fetched, images, device="cpu", keep=0.5)


def test_what_is_fetched_is_checked(
    hub: FakeHub, small_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.files = {"model.safetensors": b"x", "README.md": b"x"}
    with pytest.raises(UserError, match="holds no model that Podium pushed"):
        podium.fetch_run("me/strange")
    hub.files["model.json"] = b'{"format": 1, "model": "simple_resnet"}'
    with pytest.raises(UserError, match="not a valid model description"):
        podium.fetch_run("me/strange")
    with pytest.raises(ConfigError, match="OWNER/NAME"):
        podium.fetch_run("../../etc")


def test_predictions_exports_and_figures_are_added_where_wanted(
    hub: FakeHub, small_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(small_run, tmp_path)
    exports = run.path / "export"
    (exports / "onnx").mkdir(parents=True)
    (exports / "onnx" / "model.onnx").write_bytes(b"onnx " + os.fsencode(str(run.path.parents[2])))
    (exports / ".hidden.tmp").write_bytes(b"x")
    (exports / "elsewhere.bin").symlink_to(run.best)
    figures = run.path.parents[1] / "report" / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for name in ("confusion", "learning-curves"):
        Image.new("RGB", (8, 8)).save(figures / f"simple_resnet-seed-0-{name}.png")
    index = figures.parent / "index.html"
    index.write_text("the report", encoding="utf-8")
    said: list[str] = []
    package = pack(run, "me/shapes", with_predictions=True, with_exports=True, tell=said.append)
    upload(package, token=hub.token, revision="next")
    wanted = ["export/onnx/model.onnx", "figures/confusion.png", "figures/learning-curves.png",
              "predictions-test.parquet"]  # fmt: skip
    assert hub.commits == [("next", sorted([*USUAL, *wanted]))]
    assert hub.branches == ["next"]
    assert hub.files["predictions-test.parquet"] == run.predictions("test").read_bytes()
    card = hub.files["README.md"].decode("utf-8")
    assert "](figures/confusion.png)" in card
    assert "export/onnx/model.onnx" in card
    assert any(
        "export/onnx/model.onnx contains folder names of this machine" in one for one in said
    )
    # a report of before the run's end shows another model
    old = run.done.stat().st_mtime - 10
    os.utime(index, (old, old))
    assert sorted(one.name for one in pack(run, "me/shapes").files) == USUAL


def test_the_recipe_names_no_folder_of_this_machine(
    hub: FakeHub, small_run: RunFolder, tmp_path: Path
) -> None:
    run = copied(small_run, tmp_path / "kept")
    (run.path.parents[1] / "study.yaml").unlink()  # a run that was copied away from its study
    values = run.read_config()
    values["recipe"]["weights"] = "/home/someone/secret/start.pth"
    run.config.write_text(yaml.safe_dump(values), encoding="utf-8")
    write_json(run.done, {**read_json(run.done), "pretrained_source": "start.pth"})
    package = pack(run, "me/shapes")
    sent = {one.name: one.content for one in package.files}
    config = sent["config.yaml"]
    assert isinstance(config, bytes)
    assert yaml.safe_load(config)["recipe"]["weights"] == "start.pth"
    for content in sent.values():
        data = content if isinstance(content, bytes) else content.read_bytes()
        for secret in ("secret", "someone", str(tmp_path), str(Path.home())):
            assert secret.encode() not in data


def test_a_dry_run_shows_all_and_asks_nobody(
    hub: FakeHub, small_run: RunFolder, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    words = ["push", str(small_run.path), "me/shapes", "--dry-run", "--with-predictions"]
    assert main([*words, "--private"]) == 0
    said = capsys.readouterr()
    for name in (*USUAL, "predictions-test.parquet"):
        assert name in said.out
    assert f"{small_run.best.stat().st_size / 1e6:,.1f} MB" in said.out
    assert "pipeline_tag: image-classification" in said.out
    assert "private" in said.out
    assert "choose one with --license" in said.err
    assert hub.asked == []


REFUSALS: dict[str, tuple[dict[str, tuple[int, str]], int, str]] = {
    "wrong token": (
        {"/repos/create": (401, "Invalid credentials")},
        2,
        "does not accept the token",
    ),
    "no right to commit": ({"/commit/": (403, "Forbidden")}, 2, "no write access"),
    "somebody else's commit": ({"/commit/": (412, "A commit has happened")}, 1, "someone else"),
    "conflict": ({"/commit/": (409, "Conflict")}, 1, "at the same time"),
    "no such place": ({"/preupload/": (404, "Not found")}, 2, "does not exist or is not visible"),
    "too much": ({"/commit/": (429, "Too many requests")}, 1, "accepts no more requests"),
    "broken": ({"/preupload/": (500, "Internal error")}, 1, "The Hub failed"),
    "broken store": ({"/store/": (503, "Slow down")}, 1, "The Hub failed"),
    "broken at first": ({"/repos/create": (502, "Bad gateway")}, 1, "The Hub failed"),
    "odd": ({"/repos/create": (418, "I am a teapot")}, 2, "The Hub refuses"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_told_in_words(
    case: str, hub: FakeHub, token_file: Path, small_run: RunFolder,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the library tries again
    hub.fail, code, said = REFUSALS[case]
    words = ["push", str(small_run.path), "me/shapes", "--token-file", str(token_file)]
    assert main(words) == code
    shown = capsys.readouterr()
    assert said in " ".join(shown.err.split())
    assert hub.token not in shown.out + shown.err
    assert "Traceback" not in shown.err
    assert hub.commits == []


def test_others_owners_and_unknown_licences_are_refused_by_the_hub(
    hub: FakeHub, token_file: Path, small_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--token-file", str(token_file)]
    assert main(["push", str(small_run.path), "them/shapes", *given]) == 2
    assert "no write access to them/shapes" in " ".join(capsys.readouterr().err.split())
    words = ["push", str(small_run.path), "me/shapes", *given, "--license", "nonsense"]
    assert main(words) == 2
    assert '"license" must be one of the known ones' in " ".join(capsys.readouterr().err.split())
    assert hub.commits == []


def test_a_public_repository_never_gets_what_is_private(
    hub: FakeHub, token_file: Path, small_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repos["me/shapes"] = False
    given = ["push", str(small_run.path), "me/shapes", "--token-file", str(token_file)]
    assert main([*given, "--private"]) == 2
    assert "already exists and is public" in " ".join(capsys.readouterr().err.split())
    assert hub.commits == []
    hub.remarks = ["empty or missing licence"]
    assert main(given) == 0  # without the wish, it goes there; what the Hub remarks is told
    assert "missing licence" in capsys.readouterr().err


def test_without_a_network_it_ends_at_once(
    hub: FakeHub, token_file: Path, small_run: RunFolder, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = ["push", str(small_run.path), "me/shapes", "--token-file", str(token_file)]
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert main(given) == 1
    assert "The Hub cannot be reached" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main(given) == 2
    assert "HF_HUB_OFFLINE is set" in " ".join(capsys.readouterr().err.split())


def test_mistakes_are_told_before_anything_is_sent(
    hub: FakeHub, token_file: Path, small_run: RunFolder, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    unfinished = copied(small_run, tmp_path / "kept")
    unfinished.done.unlink()
    where, given = str(small_run.path), ["--token-file", str(token_file)]
    cases: dict[str, list[Any]] = {
        "expected OWNER/NAME": [where, "shapes", *given],
        "nobody is logged in": [where, "me/shapes"],
        "cannot be read": [where, "me/shapes", "--token-file", tmp_path / "nothing"],
        "is not finished": [unfinished.path, "me/shapes", *given],
        "holds no file": [where, "me/shapes", "--with-exports", *given],
        "does not exist": [tmp_path / "nowhere", "me/shapes", *given],
    }
    for said, words in cases.items():
        assert main(["push", *map(str, words)]) == 2, said
        assert said in " ".join(capsys.readouterr().err.split())
    assert hub.asked == []


@pytest.mark.parametrize("content", ["", "hf_two\nhf_lines", "hf_with space", "hf_äöüßéèê"])
def test_an_odd_token_is_never_quoted(content: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as told:
        read_token(path)
    assert "hf_" not in str(told.value)
