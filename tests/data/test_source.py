"""Pictures from other places than a folder: the same study, whoever lists and reads them."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import sys
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import podium
from podium.api import evaluate
from podium.auditing import audit_images
from podium.cli.app import main
from podium.config import registry
from podium.config.data_settings import DataSpec, SplitSpec
from podium.config.machine import Machine
from podium.config.registry import SOURCES, allow, allowed
from podium.config.settings import StudySpec
from podium.config.studyfile import load_study
from podium.data import folder, source
from podium.data.dataset import ImageDataset
from podium.data.index import DataIndex
from podium.data.indexing import build_index, build_scored_index
from podium.data.listing import open_source
from podium.data.loader import make_loader
from podium.data.source import Item, Reader, Source
from podium.data.transforms import eval_transform
from podium.errors import ConfigError, DataError, UnreadableImageError
from podium.runs.folder import StudyFolder
from podium.study.explain import explain
from podium.study.study import Study
from tests.conftest import reports_undrawn, write_pictures

USERS = '''
import zipfile
import podium

class Zip(podium.Source):
    """split/class/name in a ZIP file; `least` bytes at least."""

    def __init__(self, path, least: int = 0):
        self.archive = zipfile.ZipFile(path)
        self.least = least

    def list(self):
        for one in self.archive.infolist():
            if one.is_dir() or one.file_size < self.least:
                continue
            split, label, _ = one.filename.split("/")
            yield podium.Item(one.filename, label, split)

    def read(self, path):
        return self.archive.open(path)
'''


class Zip(Source):
    """As a user's, and it tells how often it was made."""

    made = 0

    def __init__(self, path: Path) -> None:
        type(self).made += 1
        self.archive = zipfile.ZipFile(path)

    def list(self) -> Iterator[Item]:
        for name in self.archive.namelist():
            split, label, number = name.split("/")
            yield Item(name, label, split, f"{split} {number}", {"number": int(number[:-4])})

    def read(self, path: str) -> BinaryIO:
        return self.archive.open(path)  # type: ignore[return-value]


class Given(Source):
    """Items and contents as they come."""

    def __init__(self, items: Iterable[Any], contents: Any = b"") -> None:
        self.items, self.contents = items, contents

    def list(self) -> Iterable[Item]:
        return self.items

    def read(self, path: str) -> bytes:
        return self.contents(path) if callable(self.contents) else self.contents  # type: ignore[no-any-return]


def pack(root: Path, to: Path) -> Path:
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*.png"), reverse=True):  # a source need not be in order
            archive.write(path, path.relative_to(root).as_posix())
    return to


@pytest.fixture(scope="module")
def zipped(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(pictures, tmp_path_factory.mktemp("zip") / "pictures.zip")


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What a test registers or imports is gone after it."""
    path, permitted = list(sys.path), allowed()
    found, origin = dict(SOURCES._found), dict(SOURCES._origin)
    yield
    sys.path[:] = path
    for name in ("my_pictures", "my_archives", "zip_pictures"):
        sys.modules.pop(name, None)
    for table, before in (
        (registry._ALLOWED, permitted), (SOURCES._found, found), (SOURCES._origin, origin),
    ):  # fmt: skip
        table.clear()
        table.update(before)


# ---------------------------------------------------------------- the same as the folder


def test_a_zip_of_a_folder_gives_the_folders_index(pictures: Path, zipped: Path) -> None:
    ours, theirs = build_index(pictures), build_index(Zip(zipped))
    assert theirs.fingerprint == ours.fingerprint
    assert theirs.digests == ours.digests
    assert {**theirs.summary(), "root": ""} == {**ours.summary(), "root": ""}
    assert theirs.summary()["root"] == str(zipped) == str(theirs.root)
    for split, part in ours.splits.items():
        assert theirs.splits[split].paths == part.paths
        assert np.array_equal(theirs.splits[split].labels, part.labels)
        assert part.groups == () == tuple(part.columns)
    path = ours.splits["test"].paths[5]
    assert theirs.read(path) == (pictures / path).read_bytes()
    assert theirs.load(path).tobytes() == theirs.open_image(path).tobytes()
    assert theirs.load(path).tobytes() == ours.load(path).tobytes()


def test_what_has_no_split_is_held_out_as_from_a_folder(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "set", {"": 20})
    items = [Item(path.relative_to(root).as_posix(), path.parent.name)
             for path in root.rglob("*.png")]  # fmt: skip
    given = Given(items, lambda path: (root / path).read_bytes())
    for seed, share in ((0, 0.1), (3, 0.3)):
        ours, theirs = (
            build_index(one, split_seed=seed, test_fraction=share) for one in (root, given)
        )
        assert theirs.fingerprint == ours.fingerprint
        assert theirs.notices == ours.notices
    assert build_scored_index(given).fingerprint == build_scored_index(root).fingerprint
    ours, theirs = build_index(root), build_index(given)
    first = audit_images(ours, labels=False, cache_folder=tmp_path / "one")
    other = audit_images(given, labels=False, cache_folder=tmp_path / "other")
    assert first.class_counts == other.class_counts
    assert (first.pairs, first.oddities, first.totals) == (
        other.pairs, other.oddities, other.totals,
    )  # fmt: skip


def test_groups_and_columns_come_along_split_by_split(zipped: Path) -> None:
    index = build_index(Zip(zipped))
    for split in index.splits.values():
        numbers = [int(path.rsplit("/", 1)[1][:-4]) for path in split.paths]
        assert split.groups == tuple(f"{split.name} {number}.png" for number in numbers)
        assert split.columns == {"number": tuple(numbers)}
    assert not any("group" in notice for notice in index.notices)


def test_a_group_in_two_splits_is_told(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "set", {"": 10})
    items = [
        Item(str(path.relative_to(root)), path.parent.name,
             group=f"patient {path.stem}" if path.stem != "9" else None)
        for path in root.rglob("*.png")
    ]  # fmt: skip
    images = Given(items, lambda path: (root / path).read_bytes())
    index = build_index(images, split=SplitSpec(by="image"))
    (told,) = [notice for notice in index.notices if "group" in notice]
    torn = {
        group
        for group in {one.group for one in items if one.group}
        if sum(group in split.groups for split in index.splits.values()) > 1
    }
    assert told.startswith(f"{len(torn)} of 9 groups have images in more than one split (patient ")
    assert None in [*index.splits["train"].groups, *index.splits["test"].groups]


def test_a_columns_gap_is_none() -> None:
    items = [Item(f"{split}/{label}/{n}.png", label, split, columns={"age": n} if n else {})
             for split in ("train", "valid", "test")
             for label in "ab" for n in range(2)]  # fmt: skip
    index = build_index(Given(items, picture()))
    assert index.splits["valid"].columns == {"age": (None, 1, None, 1)}


def picture() -> bytes:
    Image.new("RGB", (40, 40), (9, 80, 200)).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


# ---------------------------------------------------------------- what is refused, in words


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ([], "Given lists no images"),
        ([("a", "b")], "expected only items of type podium.Item, got 1 tuple"),
        ([Item("a", "x"), Item("a", "y"), Item("b", "y")],
         "lists 3 images that cannot be used: 2 items with a duplicate name: 'a'"),
        ([Item("a", ""), Item("b", " "), Item("c", 3)],  # type: ignore[arg-type]
         "3 items without a label: 'a', 'b', 'c'"),
        ([Item("a", "x", "validation"), Item("b", "x", "TRAIN"), Item("c", "x", "train")],
         "2 items of a split that is not train, valid or test: 'validation', 'TRAIN'"),
        ([Item("a", "x", "train"), Item("b", "x"), Item("c", "y")],
         "2 items without a split, while 1 have one: 'b', 'c'"),
        ([Item("a", "x", group=7)], "1 item whose group is not a string: 7"),  # type: ignore[arg-type]
        ([Item("/etc/passwd", "x"), Item("../a", "x"), Item("b/../../c", "x"), Item("..\\d", "x"),
          Item("", "x"), Item("e\0", "x"), Item(Path("f"), "x")],  # type: ignore[arg-type]
         "7 items without a relative name such as cat/1.jpg: '/etc/passwd', '../a',"),
        ([Item("a", ""), Item("b", "x", "dev")], "1 item without a label: 'a'; 1 item of a split"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_counted_and_named(items: list[Any], told: str) -> None:
    with pytest.raises(DataError) as error:
        build_index(Given(items))
    assert told in str(error.value)


def test_where_pictures_are_missing_no_folder_is_spoken_of() -> None:
    one = picture()
    few = [Item("a1", "a"), Item("b1", "b")]
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: build_index(Given([Item("a", "x", "test")], one)), "but none for train"),
        (lambda: build_index(Given([Item("a", "x")], one)), "images of at least two labels"),
        (lambda: build_index(Given(few, one)), "let the source assign each image to a split"),
        (lambda: build_scored_index(Given([Item("a", "x", "train")], one)), "one of those splits"),
        (lambda: build_index(Given([Item("a", "x", "train"), Item("b", "y", "train"),
                                    Item("c", "z", "test"), Item("d", "x", "valid")], one)),
         "Give a class the same label in every split"),
    ]  # fmt: skip
    for build, told in cases:
        with pytest.raises(DataError, match=told) as error:
            build()
        assert "folder" not in str(error.value)


def test_two_spellings_of_a_label_are_one_class_and_alike_ones_are_told() -> None:
    one = picture()
    labels = ("caf\u00e9", "cafe\u0301", "Caf\u00e9", "tea")
    index = build_index(Given([Item(f"{split}{at}", label, split)
                               for split in ("train", "valid", "test")
                               for at, label in enumerate(labels)], one))  # fmt: skip
    assert index.classes == ("Caf\u00e9", "caf\u00e9", "tea")
    assert any("differ only in case or spaces" in notice for notice in index.notices)


def test_a_source_tells_what_it_passed_over() -> None:
    class Telling(Given):
        def list(self) -> Iterator[Item]:
            yield from self.items
            self.skipped, self.notices = {"films": 2}, ["Two films were passed over."]

    items = [Item(f"{split}/{label}", label, split)
             for split in ("train", "valid", "test") for label in "ab"]  # fmt: skip
    index = build_index(Telling(items, picture()))
    assert index.skipped == {"films": 2}
    assert index.notices[0] == "Two films were passed over."
    assert Source.skipped == {}


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
def test_bytes_and_open_files_are_read(kind: Callable[[bytes], Any]) -> None:
    given = kind(b"content")
    assert Reader(Given([], given)).read("a") == b"content"
    if isinstance(given, io.BytesIO):
        assert given.closed


@pytest.mark.parametrize("given", ["text", None, io.StringIO("text"), 7])
def test_what_is_neither_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"The source Given: expected bytes .* for a, got \w+\."):
        Reader(Given([], given)).read("a")


def raising(error: Exception) -> Callable[[str], bytes]:
    def read(path: str) -> bytes:
        raise error

    return read


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("a"), "the source cannot read it: KeyError: 'a'"),
        (FileNotFoundError(2, "No such file"), "No such file"),
        (UnreadableImageError("a", "scanned upside down"), "scanned upside down"),
    ],
)
def test_a_picture_that_cannot_be_read_is_named(error: Exception, reason: str) -> None:
    with pytest.raises(UnreadableImageError) as told:
        Reader(Given([], raising(error))).read("a")
    assert (told.value.path, told.value.reason) == ("a", reason)


def test_a_source_that_is_gone_stops_the_study() -> None:
    items = [Item("a", "x"), Item("b", "y")]
    with pytest.raises(DataError, match="the hub is away"):
        build_index(Given(items, raising(DataError("the hub is away"))))


def test_too_much_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_BYTES", 4)
    for given in (b"12345", io.BytesIO(b"123456789")):
        with pytest.raises(UnreadableImageError, match="its size exceeds the limit"):
            Reader(Given([], given)).read("a")
    assert Reader(Given([], b"1234")).read("a") == b"1234"


def test_a_picture_that_changed_is_refused() -> None:
    contents = {"now": picture()}
    items = [Item(f"{split}/{label}", label, split)
             for split in ("train", "valid", "test") for label in "ab"]  # fmt: skip
    index = build_index(Given(items, lambda path: contents["now"]))
    contents["now"] += b"more"
    with pytest.raises(UnreadableImageError, match="it changed since it was checked"):
        index.load("test/a")
    assert index.open_image("test/a").size == (40, 40)


# ---------------------------------------------------------------- processes


def _read_all(index: DataIndex) -> list[bytes]:
    return [index.read(path) for split in index.splits.values() for path in split.paths]


def _send_all(index: DataIndex, pipe: Any) -> None:
    pipe.send((_read_all(index), Zip.made))


def test_forked_processes_share_no_open_file(zipped: Path) -> None:
    index = build_index(Zip(zipped))
    expected, made = _read_all(index), Zip.made
    context, started = multiprocessing.get_context("fork"), []
    for _ in range(4):
        ours, theirs = context.Pipe()
        process = context.Process(target=_send_all, args=(index, theirs))
        process.start()
        started.append((process, ours))
    for process, ours in started:
        assert ours.recv() == (expected, made + 1)  # each made a source of its own
        process.join()


def test_another_process_gets_it_by_what_it_was_made_with(zipped: Path) -> None:
    index = build_index(Zip(zipped))
    again = pickle.loads(pickle.dumps(index))
    assert _read_all(again) == _read_all(index)
    assert again.fingerprint == index.fingerprint
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_read_all, (index,)) == _read_all(index)


def test_a_folder_is_not_searched_again(pictures: Path, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    (tmp_path / "around").mkdir()
    inner = write_pictures(tmp_path / "around" / "set", {"train": 2, "valid": 1, "test": 1})
    index = build_index(tmp_path)
    assert index.root == inner
    monkeypatch.setattr(folder, "find_images", raising(AssertionError("searched")))
    assert _read_all(pickle.loads(pickle.dumps(index))) == _read_all(index)


def test_many_threads_read_at_once(zipped: Path) -> None:
    index = build_index(Zip(zipped))
    expected, wrong = _read_all(index), []

    def read() -> None:
        if _read_all(index) != expected:
            wrong.append(1)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_give_what_a_folder_gives(pictures: Path, zipped: Path, workers: int) -> None:
    def tensors(index: DataIndex) -> torch.Tensor:
        dataset = ImageDataset(index, "train", eval_transform(32), None)
        loader = make_loader(dataset, workers=workers, device=torch.device("cpu"), batch_size=5)
        return torch.cat([images for images, _, _ in loader])

    assert torch.equal(tensors(build_index(Zip(zipped))), tensors(build_index(pictures)))


# ---------------------------------------------------------------- added from outside


def study(data: dict[str, Any], name: str = "tiny", **recipe: Any) -> dict[str, Any]:
    recipe = {"model": "simple_resnet", "epochs": 1, "image_size": 32, "lr": 1e-3, **recipe}
    return {"name": name, "data": data, "contenders": {"plain": recipe}}


def run(tmp_path: Path, values: dict[str, Any], *more: str) -> StudyFolder:
    """Run a study by the command; it writes the report, too."""
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    words = ["run", str(path), "--runs", str(tmp_path / "runs"), "--device", "cpu", "--no-audit",
             "--precision", "fp32"]  # fmt: skip
    with reports_undrawn():
        assert main([*words, *(more or ("--workers", "0"))]) == 0
    return StudyFolder(tmp_path / "runs" / "tiny")


def train(tmp_path: Path, values: dict[str, Any], **machine: Any) -> StudyFolder:
    """Run a study in Python, without a report."""
    plain = Machine(**{"workers": 0, "device": "cpu", "precision": "fp32", **machine})
    made = Study(StudySpec.model_validate(values), runs=tmp_path, machine=plain, audit=False)
    assert not made.run().failed
    return made.folder


def test_a_file_of_ones_own(pictures: Path, zipped: Path, tmp_path: Path) -> None:
    (tmp_path / "my_pictures.py").write_text(USERS, encoding="utf-8")
    data = {"source": "my_pictures:Zip", "path": str(zipped), "options": {"least": 1}}
    allow("my_pictures", tmp_path)
    # images are decoded in two processes, every time
    theirs = run(tmp_path, study(data), "--workers", "2", "--cache-limit", "0")
    ours = train(tmp_path / "folder", study({"path": str(pictures)}))
    one, other = (at.run("plain", 0) for at in (theirs, ours))
    for split in ("valid", "test"):
        found, same = one.read_predictions(split), other.read_predictions(split)
        assert found.paths == same.paths
        assert np.array_equal(found.logits, same.logits)
    assert theirs.read_thumbnails() == ours.read_thumbnails()
    again = evaluate(one, Zip(zipped), workers=0, device="cpu")
    assert np.array_equal(again.logits, one.read_predictions("test").logits)

    before = one.explanations.read_bytes()
    one.explanations.unlink()
    assert len(explain(theirs)) == 1
    assert one.explanations.read_bytes() == before
    one.explanations.unlink()
    SOURCES._found.pop("my_pictures:Zip")  # as in another process
    registry._ALLOWED.clear()
    assert theirs.read_spec().data.source == "my_pictures:Zip"
    with pytest.raises(ConfigError, match="--import my_pictures"):
        explain(theirs)


def test_two_training_processes_read_a_users_source(zipped: Path, tmp_path: Path) -> None:
    (tmp_path / "my_archives.py").write_text(USERS, encoding="utf-8")
    allow("my_archives", tmp_path)
    data = {"source": "my_archives:Zip", "path": str(zipped)}
    done = train(tmp_path, study(data), devices=2, cache_limit=0)
    assert done.run("plain", 0).read_done()["devices"] == 2


def test_an_installed_package(
    zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    info = site / "zip_pictures-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "zip_pictures.py").write_text(USERS, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zip-pictures\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[podium.sources]\nzipped = zip_pictures:Zip\n")
    data = {"source": "zipped", "path": str(zipped)}
    with pytest.raises(ConfigError, match="there is no source 'zipped'"):
        load_study(study(data))
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(site))
        stored = train(tmp_path, study(data))
        assert str(SOURCES.provenance("zipped")).startswith("zip_pictures:Zip sha256:")
    SOURCES._found.pop("zipped")
    assert stored.read_spec().data.source == "zipped"  # read where it is not installed any more
    assert main(["report", str(stored.path)]) == 0


def test_a_registered_class_and_function(zipped: Path, tmp_path: Path) -> None:
    assert podium.register_source("zipped", Zip) is Zip

    @podium.register_source("everything")
    def _everything(path: str, *, twice: bool = False) -> Source:
        assert twice is True
        return Zip(Path(path))

    for name, options in (("zipped", {}), ("everything", {"twice": "true"})):
        data = {"source": name, "path": str(zipped), "options": options}
        done = train(tmp_path, study(data, name))
        assert done.read_spec().data.options == options
    with pytest.raises(ConfigError, match="one of Podium's"):
        podium.register_source("folder", Zip)


@pytest.mark.parametrize("offered", [7, dict, type("Half", (Source,), {"list": Zip.list})])
def test_what_is_no_source_is_refused(offered: Any) -> None:
    with pytest.raises(ConfigError, match=r"expected a class derived from podium\.Source"):
        podium.register_source("mine", offered)


def test_ours_are_those_that_settings_know() -> None:
    ours = {name for name in SOURCES._found if name not in SOURCES._origin}
    assert ours | {"auto"} == set(SOURCES.built_in)


# ---------------------------------------------------------------- settings


def test_options_become_what_the_signature_says() -> None:
    seen: dict[str, Any] = {}

    @podium.register_source("asked")
    def _asked(  # type: ignore[no-untyped-def]
        path: str,
        a: int,
        b: float | None = None,
        c: bool = False,
        d: Any = "",
        e: tuple[str, ...] = (),
        f: NotThere = None,  # type: ignore[name-defined]  # noqa: F821
        g=0,
    ) -> Source:
        seen.update(a=a, b=b, c=c, d=d, e=e, g=g)
        return Given([])

    options: dict[str, Any] = {
        "a": "3",
        "b": "0.5",
        "c": "true",
        "d": "7",
        "e": ["x", "1"],
        "g": "9",
    }
    open_source(DataSpec(source="asked", path="p", options=options))
    assert seen == {"a": 3, "b": 0.5, "c": True, "d": "7", "e": ("x", "1"), "g": "9"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"a": "many"}, r"data\.options\.a: .*integer.*, got 'many'"),
        ({"a": 1, "size": 2}, r"unexpected keyword argument 'size'. It takes data\.path, and as "
                              r"data\.options: a, b, c, d, e, f, g"),
        ({}, "missing a required argument: 'a'"),
    ]  # fmt: skip
    for wrong, told in cases:
        with pytest.raises(ConfigError, match=told):
            open_source(DataSpec(source="asked", path="p", options=wrong))
    with pytest.raises(ConfigError, match=r"data\.options: none"):
        open_source(DataSpec(path="p", options={"size": 2}))


def test_a_source_that_cannot_be_opened_or_listed_is_told(tmp_path: Path) -> None:
    podium.register_source("zipped", Zip)
    (tmp_path / "no.zip").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"zipped cannot be opened from .*no\.zip \(BadZipFile"):
        open_source(DataSpec(source="zipped", path=str(tmp_path / "no.zip")))
    podium.register_source("nobody", lambda path: path)
    with pytest.raises(ConfigError, match=r"expected a podium\.Source, got str"):
        open_source(DataSpec(source="nobody", path="p"))
    with pytest.raises(DataError, match=r"Given cannot be listed \(TypeError"):
        build_index(Given(7))  # type: ignore[arg-type]


def test_a_study_file_names_its_source(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(study({"source": "foldr", "path": "x"})), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"line \d+: data\.source: .*Did you mean folder\?"):
        load_study(path)
    spec = load_study(study({"source": "a.b:C", "path": "x", "options": {"n": 1}}), data="y")
    assert (spec.data.source, spec.data.path, spec.data.options) == ("a.b:C", "y", {"n": 1})
    assert load_study(study({"path": "x"})).to_yaml().count("source") == 0
