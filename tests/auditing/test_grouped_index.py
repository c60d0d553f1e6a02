"""`group: duplicates`: the audit's clusters are kept together by a split that Podium makes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from podium.auditing import index_data
from podium.config.data_settings import DataSpec, SplitSpec
from podium.data.index import DataIndex


@pytest.fixture(scope="module")
def copied(sports10: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 photographs of each of two sports; 3 of each also as PNG, in another split."""
    root = tmp_path_factory.mktemp("copied")
    for name in sorted(path.name for path in (sports10 / "train").iterdir())[:2]:
        for at, path in enumerate(sorted((sports10 / "train" / name).glob("*.jpg"))[:12]):
            split = ("train", "train", "valid", "test")[at % 4]
            place = root / split / name / f"{at}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
            if at % 4 == 0:
                other = root / "test" / name / f"{at}-copy.png"
                other.parent.mkdir(parents=True, exist_ok=True)
                Image.open(path).save(other)
    return root


def splits_of_pairs(index: DataIndex) -> list[set[str]]:
    """Of each photograph that is there twice: the splits that it is in."""
    lies_in: dict[str, set[str]] = {}
    for name, split in index.splits.items():
        for path in split.paths:
            label, stem = Path(path).parts[1:]
            lies_in.setdefault(f"{label} {stem.split('.')[0].split('-')[0]}", set()).add(name)
    return [names for photograph, names in lies_in.items() if int(photograph.split()[-1]) % 4 == 0]


def test_duplicates_stay_together_where_the_images_are_split_anew(copied: Path) -> None:
    data = DataSpec(path=str(copied), group="duplicates", split=SplitSpec(), valid_fraction=0.2,
                    test_fraction=0.2)  # fmt: skip
    index = index_data(data)
    assert [len(names) for names in splits_of_pairs(index)] == [1] * 6
    assert sum(map(len, index.splits.values())) == 30
    assert index.notices[0] == "12 images of 30 in 6 groups of duplicates and near-duplicates."
    assert not any("in more than one split" in one for one in index.notices)


def test_duplicates_across_given_splits_are_told(copied: Path) -> None:
    index = index_data(DataSpec(path=str(copied), group="duplicates"))
    assert [len(names) for names in splits_of_pairs(index)] == [2] * 6
    (told,) = [one for one in index.notices if "in more than one split" in one]
    assert told.startswith("6 of 24 groups have images in more than one split (")
    assert "6 of test among them" in told
