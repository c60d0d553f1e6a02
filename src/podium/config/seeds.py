"""The seeds of a study: a list, or `auto`, which goes on until the contenders are decided."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, TypeAdapter, ValidationError

FIRST_SEEDS = 2
"""The fewest seeds of `seeds: auto`: with one, nothing is known of how much seeds differ."""
MOST_SEEDS = 10
"""The most."""

_LIST = TypeAdapter(tuple[int, ...])


def _differ(value: tuple[int, ...] | Literal["auto"]) -> tuple[int, ...] | Literal["auto"]:
    if value != "auto" and not (
        value and len(set(value)) == len(value) and all(0 <= one < 2**31 for one in value)
    ):
        raise ValueError("expected one or more different whole numbers from 0 to 2147483647")
    return value


def _auto_or_list(value: object) -> object:
    # before pydantic tries both kinds, and tells what is wrong with each
    if value == "auto":
        return value
    try:
        return _LIST.validate_python(value if isinstance(value, list | tuple) else None)
    except ValidationError as error:
        first = error.errors()[0]
        got = f"; got {first['input']!r}" if first["loc"] else ""
        wanted = "expected auto, or a list of whole numbers such as [0, 1, 2]"
        raise ValueError(f"{wanted}{got}") from None


Seeds = Annotated[
    tuple[int, ...] | Literal["auto"], AfterValidator(_differ), BeforeValidator(_auto_or_list)
]


def auto_mistakes(contenders: int, *, folds: bool) -> Iterator[str]:
    """Why a study cannot have `seeds: auto`, one sentence each.

    Args:
        contenders: number of contenders.
        folds: whether it is cross-validated.
    """
    if contenders < 2:
        yield "seeds: auto needs two contenders or more: it goes on until they are told apart"
    if folds:
        yield (
            "seeds: auto needs a test split: with data.folds, a verdict depends on the folds, and "
            "further seeds hardly change it. List the seeds, or set data.repeats"
        )
