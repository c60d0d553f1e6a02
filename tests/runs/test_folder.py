"""Run folders: what is written comes back, and a torn write leaves the old file."""

from __future__ import annotations

import errno
import io
import pickle
import stat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.special
import torch

from podium.errors import RunFolderError, StorageError
from podium.runs.folder import HISTORY_COLUMNS, RunFolder, StudyFolder
from podium.runs.predictions import Predictions
from podium.runtime.files import atomic_write, read_json, remove_temporaries, write_json, write_text


def some_predictions(n: int = 7, names: tuple[str, ...] = ("a", "b b", "ção")) -> Predictions:
    random = np.random.default_rng(0)
    return Predictions(
        class_names=names,
        paths=tuple(f"test/{i}.jpg" for i in range(n)),
        labels=random.integers(0, len(names), n),
        logits=random.normal(size=(n, len(names))).astype(np.float32),
    )


def test_predictions_survive_bit_for_bit(tmp_path: Path) -> None:
    before = some_predictions()
    before.write(tmp_path / "p.parquet")
    after = Predictions.read(tmp_path / "p.parquet")
    assert after.class_names == before.class_names
    assert after.paths == before.paths
    assert np.array_equal(after.labels, before.labels)
    assert after.logits.tobytes() == before.logits.tobytes()


def test_probabilities_are_scipys_softmax() -> None:
    found = some_predictions(50)
    np.testing.assert_allclose(
        found.probabilities, scipy.special.softmax(found.logits.astype(float), axis=1), rtol=1e-12
    )
    huge = Predictions(("a", "b"), ("x",), np.array([0]), np.array([[1e30, -1e30]], np.float32))
    assert huge.probabilities.tolist() == [[1.0, 0.0]]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="logits of shape"):
        Predictions(("a", "b"), ("x",), np.array([0]), np.zeros((1, 3), np.float32))


@pytest.mark.parametrize("content", [b"", b"PAR1 no", b"\x00" * 100])
def test_a_damaged_predictions_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "predictions-test.parquet"
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"predictions-test\.parquet"):
        Predictions.read(path)
    with pytest.raises(RunFolderError, match="finished"):
        Predictions.read(tmp_path / "none.parquet")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def torn(file: BinaryIO) -> None:
        file.write(b"ne")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match=r"file cannot be written \(No space left") as caught:
        atomic_write(path, torn)
    assert caught.value.exit_code == 1
    assert "Free some space" in str(caught.value)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o400


class FullDisk(io.RawIOBase):
    """A file on a disk that is full after some bytes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self.room -= len(content)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(content)


def test_what_libraries_make_of_a_full_disk_is_told_alike(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(100_000)}
    for write in (
        lambda file: torch.save(tensors, FullDisk(9_000)),  # type: ignore[arg-type]
        lambda file: np.savez(FullDisk(9_000), a=np.zeros(100_000)),
        lambda file: pq.write_table(pa.table({"a": list(range(9_000))}), FullDisk(1_000)),
    ):
        with pytest.raises(StorageError, match="No space left"):
            atomic_write(tmp_path / "x", write)
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_the_caller_deals_with_is_not_taken_for_ours(tmp_path: Path) -> None:
    def wrong(file: BinaryIO) -> None:
        raise ValueError("not about the disk")

    try:
        raise OSError("earlier")
    except OSError:
        with pytest.raises(ValueError, match="not about the disk"):
            atomic_write(tmp_path / "x", wrong)


def test_a_folder_that_may_not_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="give another folder") as caught:
        write_text(tmp_path / "file" / "x", "text")
    assert caught.value.exit_code == 2
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.exit_code == 2


def test_what_a_kill_left_behind_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("last.ckpt", ".last.ckpt.a1b2c3d4.tmp", ".lock", "mine.tmp", ".mine.tmp"):
        (tmp_path / name).write_text("")
    remove_temporaries(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".lock", ".mine.tmp", "last.ckpt", "mine.tmp"]
    remove_temporaries(tmp_path / "nowhere")


def test_json_refuses_nan_and_reads_back(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"á": [1, 2.5, None]})
    assert read_json(tmp_path / "x.json") == {"á": [1, 2.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", float("nan"))
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"bad\.json"):
        read_json(tmp_path / "bad.json")


def test_history_survives(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "a", 0)
    rows = [{column: 1.0 / (3 + i) for i, column in enumerate(HISTORY_COLUMNS)}]
    run.write_history(rows)
    assert run.read_history() == rows  # repr round trip: every bit
    run.history.write_text("epoch,lr\n1,x\n")
    with pytest.raises(RunFolderError, match=r"history\.csv"):
        run.read_history()


def test_thumbnails_and_a_folder_that_is_no_study(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert folder.read_thumbnails() == {}
    folder.write_thumbnails([("test/a b.jpg", b"\xff\xd8x")])
    assert folder.read_thumbnails() == {"test/a b.jpg": b"\xff\xd8x"}
    with pytest.raises(RunFolderError, match=r"study\.yaml"):
        folder.read_spec()
