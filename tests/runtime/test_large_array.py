"""Arrays in files: NumPy's are the oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from podium.errors import StorageError
from podium.features.scaling import standardised
from podium.runtime import large_array
from podium.runtime.large_array import Chosen, LargeArray, in_parts


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("most", [0, 2**30])
@pytest.mark.parametrize(("dtype", "kept_as"), [("float32", "float16"), ("uint8", None)])
def test_a_large_array_is_the_array(
    most: int, dtype: str, kept_as: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(large_array, "IN_MEMORY", most)
    values = np.random.default_rng(0).integers(0, 200, (50, 3, 2)).astype(dtype)
    found = LargeArray(60, (3, 2), dtype, kept_as)
    assert found.in_file == (most == 0)
    found[20:50] = values[20:]
    found[0:20] = values[:20]
    numbers = np.array([4, 49, 4, 55])
    assert found.dtype == found[numbers].dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found[:50], values)
    assert not found[50:].any()
    np.testing.assert_array_equal(found[numbers[:3]], values[numbers[:3]])
    some = Chosen(found, numbers)
    assert some.shape == (4, 3, 2)
    np.testing.assert_array_equal(
        np.concatenate([part for _, part in in_parts(some, 3)]), found[numbers]
    )
    assert not list(tmp_path.rglob("*.*"))  # the file has no name


def test_a_full_disk_is_told_before_anything_is_computed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match=r"cannot be written \(4000\.0 GB are needed"):
        LargeArray(10**9, (10**3,), np.float32)
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path / "file/cache"))
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(large_array, "IN_MEMORY", 0)
    assert LargeArray(2, (1,), np.float32)[:].tolist() == [[0], [0]]


def test_standardised_in_parts_is_standardised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_array, "PART", 7)
    values = np.random.default_rng(1).normal(1000, 2, (45, 6)).astype(np.float32)
    values[:, 3] = 5
    exact = values.astype(np.float64)
    spread = np.where(exact.std(axis=0) > 0, exact.std(axis=0), 1)
    found = standardised(values)
    assert found.shape == (45, 6)
    np.testing.assert_allclose(found[:], (exact - exact.mean(axis=0)) / spread, atol=1e-4)
