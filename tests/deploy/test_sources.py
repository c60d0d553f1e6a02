"""Which pictures paths stand for."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from podium.deploy.predict.sources import Sources, read_paths
from podium.errors import DataError


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as people have them; the working folder is the one above."""
    root = tmp_path / "photos"
    for name in ("b.jpg", "a.JPG", "deep/er/c.png", "deep/d.webp", ".hidden.jpg", "notes.txt",
                 ".git/e.jpg", "no-ending", "odd [1].jpg"):  # fmt: skip
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"not opened here")
    monkeypatch.chdir(tmp_path)
    return root


def shown(*paths: str | Path, **more: Any) -> list[str]:
    return [one.path for one in Sources(paths, **more)]


def test_a_folder_gives_its_images_in_order_and_counts_the_others(photos: Path) -> None:
    sources = Sources(["photos"])
    expected = ["photos/a.JPG", "photos/b.jpg", "photos/odd [1].jpg", "photos/deep/d.webp",
                "photos/deep/er/c.png"]  # fmt: skip
    for _ in range(2):  # twice: it is counted before it is read
        assert [one.path for one in sources] == expected
        assert sources.found == 5
        assert sources.skipped == {"hidden": 2, "*.txt": 1, "without an ending": 1}
    assert [one.place for one in sources] == expected


def test_each_picture_comes_once(photos: Path) -> None:
    (photos / "loop").symlink_to(photos)
    (photos / "deep" / "also").symlink_to(photos / "deep")
    once = shown("photos")
    assert len(once) == 5
    assert shown("photos", "photos/deep", photos, "photos/b.jpg", "photos/./b.jpg") == once
    # the file came first: its folder does not bring it again
    twice = shown("photos/b.jpg", photos / "b.jpg", "photos/deep/../b.jpg", "photos")
    assert twice == ["photos/b.jpg", *(one for one in once if one != "photos/b.jpg")]
    assert "links in a loop" not in Sources(["photos"]).skipped
    assert shown("photos", leave_out=[photos / "deep"]) == once[:3]


def test_patterns_are_expanded_and_files_of_such_names_are_found(photos: Path) -> None:
    assert shown("photos/*.jpg") == ["photos/b.jpg", "photos/odd [1].jpg"]
    sources = Sources([f"{photos}/**/*.[pwt]*"])
    assert [Path(one.path).name for one in sources] == ["d.webp", "c.png"]
    assert sources.skipped == {"*.txt": 1}
    assert shown("photos/d*") == ["photos/deep/d.webp", "photos/deep/er/c.png"]
    assert shown("photos/odd [1].jpg") == ["photos/odd [1].jpg"]
    (one,) = Sources(["photos/*.gif"])
    assert one.error == "nothing matches this pattern"


def test_a_named_file_needs_no_ending_and_what_is_missing_is_told(photos: Path) -> None:
    (photos / "dangling.jpg").symlink_to("nowhere")
    sources = Sources(["photos/no-ending", "nothing.jpg", "photos/dangling.jpg", "a\0b"])
    found = list(sources)
    assert [bool(one.error) for one in found] == [False, True, True, True]
    assert sources.found == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_told(photos: Path) -> None:
    (photos / "deep").chmod(0)
    try:
        assert [one.path for one in Sources(["photos"]) if one.error] == ["photos/deep"]
    finally:
        (photos / "deep").chmod(0o700)


def test_no_place_leads_out_of_a_folder(photos: Path) -> None:
    given: list[str | Path] = [
        "photos/../photos/b.jpg",
        photos / "a.JPG",
        "photos/deep",
        "../../../etc/x.jpg",
    ]
    for one in Sources(given):
        assert not Path(one.place).is_absolute()
        assert ".." not in Path(one.place).parts
    assert next(iter(Sources([photos / "a.JPG"]))).place.endswith("photos/a.JPG")


def test_lists_of_paths_are_read_as_they_come() -> None:
    text = b"a.jpg\r\n\nb c.jpg\n" + os.fsencode("\udcff.jpg")
    assert list(read_paths(io.BytesIO(text))) == ["a.jpg", "b c.jpg", "\udcff.jpg"]
    assert list(read_paths(io.BytesIO(b"a\nb\0\0c\r"), null=True)) == ["a\nb", "c\r"]
    assert list(read_paths(io.BytesIO(b""))) == []
    names = [f"folder/{number}.jpg" for number in range(30_000)]  # more than one chunk
    assert list(read_paths(io.BytesIO("\n".join(names).encode()))) == names
    reader, writer = os.pipe()
    with open(reader, "rb") as stream, open(writer, "wb", buffering=0) as program:
        lines = read_paths(stream)
        program.write(b"first.jpg\nsec")
        assert next(lines) == "first.jpg"  # before the other one is whole
        program.write(b"ond.jpg\n")
        assert next(lines) == "second.jpg"


LINES = "鸟/1.png\r\nb c.jpg\r\n"


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + LINES.encode(),
        b"\xff\xfe" + LINES.encode("utf-16-le"),
        b"\xfe\xff" + LINES.encode("utf-16-be"),
        "a/\u9e1f.png\n".encode("utf-16-le"),  # no mark
        "a/\u9e1f.png".encode("utf-16-be"),
    ],
    ids=["mark", "powershell", "big-endian", "unmarked", "unmarked-big-endian"],
)
def test_lists_may_have_a_byte_order_mark_or_be_in_utf_16(content: bytes) -> None:
    expected = ["鸟/1.png", "b c.jpg"] if b"c" in content else ["a/鸟.png"]
    assert list(read_paths(io.BytesIO(content))) == expected
    if content[:1] in b"\xef\xff\xfe":  # a mark may come in parts
        assert list(read_paths(OneByOne(content))) == expected


class OneByOne(io.BytesIO):
    """Gives a byte at each call, as a slow program might."""

    def read1(self, size: int | None = -1) -> bytes:
        return self.read(1)


def test_a_mark_is_a_part_of_a_name_that_ends_with_nul() -> None:
    assert list(read_paths(io.BytesIO(b"\xef\xbb\xbfa\0\xff\xfeb\0"), null=True)) == [
        "\ufeffa", os.fsdecode(b"\xff\xfeb"),
    ]  # fmt: skip


def test_names_that_end_with_nul_need_the_flag() -> None:
    with pytest.raises(DataError, match=r"has NUL bytes in its lines.*--null"):
        list(read_paths(io.BytesIO(b"photos/a.jpg\0photos/b.jpg\0")))
