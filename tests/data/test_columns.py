"""Columns read like tuples, and what decoding processes map of them."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from podium.data.columns import BLOCK, Texts, coded
from podium.data.dataset import ImageDataset
from podium.data.image_table import Entries
from podium.data.indexing import build_index
from podium.data.transforms import eval_transform

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=4)  # with lone surrogates


@given(st.lists(ANY_TEXT, max_size=12), st.data())
def test_texts_are_the_strings_that_they_were_made_of(texts: list[str], data: Any) -> None:
    column = Texts.of(texts)
    assert list(column) == texts
    assert column == tuple(texts)
    assert [column[at] for at in range(len(texts))] == texts
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=9) if texts else st.just([]))
    taken = column.take(np.array(rows, np.int64))
    assert list(taken) == [texts[row] for row in rows]
    assert list(taken.take(np.arange(len(rows))[::-1])) == [texts[row] for row in rows[::-1]]
    assert column[1:3] == texts[1:3]
    assert list(Texts.joined([column, Texts.of(["end"])])) == [*texts, "end"]


@given(st.lists(ANY_TEXT, max_size=12, unique=True))
def test_texts_sort_and_are_found_as_python_does(texts: list[str]) -> None:
    column = Texts.of(texts)
    order = column.order()
    assert (order is None) == (texts == sorted(texts))
    ordered = column if order is None else column.take(order)
    assert list(ordered) == sorted(texts)
    assert [ordered.find(text) for text in sorted(texts)] == list(range(len(texts)))
    assert ordered.find("nowhere") is None


@given(st.lists(st.one_of(st.none(), st.booleans(), st.integers(0, 2), st.floats(0, 2), st.text())))
def test_coded_cells_keep_their_types(cells: list[Any]) -> None:
    column = coded(cells)
    assert [(type(one), one) for one in column] == [(type(one), one) for one in cells]
    assert [column[at] for at in range(-len(cells), 0)] == cells
    assert len(column.values) == len({(type(one), one) for one in cells if one is not None})


def test_columns_longer_than_a_block() -> None:
    texts = [f"{number:06d}" for number in range(2 * BLOCK + 3)]
    for column in (Texts.of(texts), coded(texts)):
        assert list(column) == texts
        assert column[-1] == texts[-1]
        with pytest.raises(IndexError):
            column[len(texts)]
    assert coded([[1], None, [1]]) == ([1], None, [1])  # what cannot be hashed is kept as it is


def test_a_process_maps_the_images_of_a_split(pictures: Path, tmp_path: Path) -> None:
    index = build_index(pictures)
    split = index.splits["valid"]
    for part in (index, index.decoded_for(index.windows)):
        dataset = ImageDataset(part, "valid", eval_transform(32), None)
        content = pickle.dumps(dataset)
        assert split.paths[0].encode() not in content
        assert len(content) < 3000
        (tmp_path / "dataset").write_bytes(content)
        code = (
            "import pickle, sys; d = pickle.load(open(sys.argv[1], 'rb'));"
            "print(len(d), *d.entries.paths, *d.entries.labels, d.entries.digest(3), d[5][0].sum())"
        )
        line = [sys.executable, "-c", code, str(tmp_path / "dataset")]
        told = subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()
        digest = index.digests[split.paths[3]]
        expected = [len(split), *split.paths, *split.labels, digest, dataset[5][0].sum()]
        assert told == [*map(str, expected)]


def entries() -> Entries:
    digests = np.arange(96, dtype=np.uint8).reshape(3, 32)
    return Entries(Texts.of(["c", "a"]), digests, np.arange(2), np.array([2, 0]))


def _leave(known: Entries) -> None:
    del known
    gc.collect()


def test_the_mapped_file_ends_with_its_owner(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path))
    known = entries()
    for _ in range(2):  # each decoding process gets its copy
        copy = pickle.loads(pickle.dumps(known))
    assert copy.digest(0) == known.digest(0) == bytes(range(64, 96)).hex()
    assert copy.labels.tolist() == [0, 1]
    (file,) = (tmp_path / "index").iterdir()
    if hasattr(os, "fork"):
        child = multiprocessing.get_context("fork").Process(target=_leave, args=(known,))
        child.start()
        child.join()
        assert file.exists()
    del known
    gc.collect()
    assert not file.exists()
    assert copy.digest(1) == bytes(range(32)).hex()  # what is mapped stays


def test_a_cache_that_cannot_be_written_costs_memory_alone(
    tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path / "file"))
    copy = pickle.loads(pickle.dumps(entries()))
    assert (copy.digest(1), list(copy.labels)) == (bytes(range(32)).hex(), [0, 1])
