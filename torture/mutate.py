"""Damage files as disks, networks and attackers do, reproducibly by seed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

__all__ = ["mutate_bytes", "mutate_text"]

_EXTREMES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\x00\x00\x00\x00", b"\xff\xff\xff\xff",
             b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\x00\x01\x00\x00")  # fmt: skip


def mutate_bytes(content: bytes, chance: random.Random, other: bytes = b"") -> bytes:
    """Return a damaged copy of a file.

    Args:
        content: bytes of the file.
        chance: random generator that chooses the kind and the place of the damage.
        other: bytes of another file, parts of which may be spliced in.

    Returns:
        the damaged bytes.
    """
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        chance.choice(_BYTES)(data, chance, other)
    return bytes(data)


def _place(data: bytearray, chance: random.Random) -> int:
    """A random position; one in three is in the first bytes, where formats keep sizes and types."""
    most = min(len(data), 96) if chance.random() < 1 / 3 else len(data)
    return chance.randrange(most) if most else 0


def _flip(data: bytearray, chance: random.Random, other: bytes) -> None:
    if data:
        data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _overwrite(data: bytearray, chance: random.Random, other: bytes) -> None:
    at, new = _place(data, chance), chance.choice(_EXTREMES)
    data[at : at + len(new)] = new


def _noise(data: bytearray, chance: random.Random, other: bytes) -> None:
    at = _place(data, chance)
    end = min(len(data), at + chance.choice((4, 64, 1024)))
    data[at:end] = chance.randbytes(end - at)


def _cut(data: bytearray, chance: random.Random, other: bytes) -> None:
    del data[_place(data, chance) :]


def _remove(data: bytearray, chance: random.Random, other: bytes) -> None:
    at = _place(data, chance)
    del data[at : at + chance.choice((1, 2, 8, 300))]


def _repeat(data: bytearray, chance: random.Random, other: bytes) -> None:
    at = _place(data, chance)
    part = data[at : at + chance.choice((1, 16, 500))]
    data[at:at] = part * chance.choice((1, 3, 50))


def _splice(data: bytearray, chance: random.Random, other: bytes) -> None:
    at = _place(data, chance)
    start = chance.randrange(len(other)) if other else 0
    data[at:] = other[start:]


def _zeros(data: bytearray, chance: random.Random, other: bytes) -> None:
    """Zeros, as a power cut leaves them in a file that was not synced."""
    at = _place(data, chance)
    end = min(len(data), at + chance.choice((16, 512, 4096)))
    data[at:end] = bytes(end - at)


_BYTES: tuple[Callable[[bytearray, random.Random, bytes], None], ...] = (
    _flip, _overwrite, _noise, _cut, _remove, _repeat, _splice, _zeros,
)  # fmt: skip

_WORDS = (
    "null", "true", "-1", "0", "1e999", "nan", "[]", "{}", "''", "~", "*x", "&x y", "!!python",
    "!!python/object/apply:os.system ['true']", "2024-01-01", "0x10", "- ", "? ", "\t", ": ",
    "99999999999999999999", "'", '"', "\u2028", "\x00", "../../etc", "|", ">", "%", "@", "<<: ",
    "---", "...", "[[[[", "{{{{", "contenders", "defaults", "seeds", "é",
)  # fmt: skip


def mutate_text(text: str, chance: random.Random) -> str:
    """Return a damaged copy of a text file: lines moved, values replaced, indentation changed.

    Args:
        text: of the file, such as YAML or JSON.
        chance: random generator that chooses the kind and the place of the damage.

    Returns:
        the damaged text.
    """
    lines = text.splitlines()
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        at = chance.randrange(len(lines)) if lines else 0
        kind = chance.randrange(8)
        if not lines:
            lines.append(chance.choice(_WORDS))
        elif kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(at, chance.choice(lines))
        elif kind == 2:
            lines[at] = " " * chance.randrange(6) + lines[at].lstrip()
        elif kind == 3:
            head, colon, _ = lines[at].partition(":")
            lines[at] = f"{head}{colon} {chance.choice(_WORDS)}"
        elif kind == 4:
            lines[at] = re.sub(r"\d+", lambda _: chance.choice(_WORDS), lines[at], count=1)
        elif kind == 5:
            place = chance.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:place] + chance.choice(_WORDS) + lines[at][place:]
        elif kind == 6:
            del lines[at:]
        else:
            other = chance.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
    return "\n".join(lines) + "\n"
