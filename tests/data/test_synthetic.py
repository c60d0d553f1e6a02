"""The demo's pictures: the same for everyone, whole or absent, and not to be solved by colour."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from podium.data.indexing import build_index
from podium.data.synthetic import CLASSES, draw_picture, make_demo
from podium.errors import DataError
from podium.runtime.events import Event, Progress
from tests.conftest import Steps

FEW = (3, 2, 2)


def digest(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_a_seed_decides_every_byte(tmp_path: Path) -> None:
    first = digest(make_demo(tmp_path / "a", per_class=FEW))
    assert digest(make_demo(tmp_path / "b", per_class=FEW)) == first
    other = digest(make_demo(tmp_path / "c", per_class=FEW, seed=1))
    assert other.keys() == first.keys()
    assert not set(other.values()) & set(first.values())
    assert len(set(first.values())) == len(first) == 70  # no picture twice, in no two splits


def test_more_pictures_leave_the_others_as_they_are(tmp_path: Path) -> None:
    few = digest(make_demo(tmp_path / "a", per_class=FEW))
    more = digest(make_demo(tmp_path / "b", per_class=(4, 3, 2)))
    assert few.items() < more.items()


def test_an_index_finds_all_of_it(tmp_path: Path) -> None:
    seen = Steps()
    into = tmp_path / "new" / "demo"
    root = make_demo(into, per_class=FEW, size=32, notify=seen)
    assert root == into
    index = build_index(root)
    assert index.classes == CLASSES
    assert len(CLASSES) == 10
    for split, count in zip(("train", "valid", "test"), FEW, strict=True):
        assert index.class_counts(split) == dict.fromkeys(CLASSES, count)
    assert (index.notices, index.skipped, index.unreadable) == ((), {}, ())
    assert index.statistics["width"] == index.statistics["height"] == [32, 32, 32]
    assert seen == [("draw", done, 70) for done in range(1, 71)]


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Progress) and event.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_demo(tmp_path / "demo", per_class=FEW, notify=stop)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("three years of work")
    with pytest.raises(DataError, match="not empty"):
        make_demo(tmp_path / "mine", per_class=FEW)
    with pytest.raises(DataError, match="not empty"):
        make_demo(tmp_path / "mine" / "thesis.txt", per_class=FEW)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "thesis.txt"]
    (tmp_path / "empty").mkdir()
    assert len(digest(make_demo(tmp_path / "empty", per_class=FEW))) == 70


def drawn(part: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures as rows of 16 x 16 pixels, and their classes."""
    rows, labels = [], []
    for kind, name in enumerate(CLASSES):
        for number in range(count):
            picture = draw_picture(name, np.random.default_rng([0, part, kind, number]))
            small = picture.resize((16, 16), Image.Resampling.BOX)
            rows.append(np.asarray(small, dtype=np.float32).ravel() / 255)
            labels.append(kind)
    return np.stack(rows), np.array(labels)


def test_pixels_and_colours_alone_say_little() -> None:
    train, test = drawn(0, 30), drawn(2, 15)
    nearest = KNeighborsClassifier(1).fit(*train)
    assert nearest.score(*test) < 0.35  # chance is 0.1
    colour = [x.reshape(len(x), -1, 3).mean(axis=1) for x in (train[0], test[0])]
    assert KNeighborsClassifier(5).fit(colour[0], train[1]).score(colour[1], test[1]) < 0.25


@pytest.mark.parametrize("name", CLASSES)
def test_the_shape_can_be_seen(name: str) -> None:
    """Averaged over many pictures, the middle differs from the border: there is a shape."""
    random = np.random.default_rng(3)
    away = []
    for _ in range(30):
        pixels = np.asarray(draw_picture(name, random), dtype=float)
        border = np.median(
            np.concatenate([pixels[:3].reshape(-1, 3), pixels[-3:].reshape(-1, 3)]), 0
        )
        away.append(np.linalg.norm(pixels - border, axis=2))
    mean = np.mean(away, axis=0)
    edge = np.concatenate([mean[:4].ravel(), mean[-4:].ravel()]).mean()
    assert mean[20:44, 20:44].mean() > edge + 8


def test_sizes_are_free() -> None:
    for size in (32, 48, 96):
        picture = draw_picture("star", np.random.default_rng(0), size)
        assert (picture.mode, picture.size) == ("RGB", (size, size))
