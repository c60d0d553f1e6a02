"""Interpret the columns of a predictions CSV: classes, class scores, or neither."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from podium.config.text import decode_text
from podium.errors import DataError
from podium.statistics.vocabulary import as_number, class_key, some

Cells = tuple[str, ...]
Numbers = npt.NDArray[np.float64]

NEVER = frozenset(("nan", "<na>", "nat", "#n/a"))
"""What programs write for a missing value."""
SELDOM = frozenset(("none", "null", "na", "n/a", "-", "?"))
"""Also missing values, unless a class has that name."""

MISSING = NEVER | SELDOM

SIGNS = "_:./|- "
"""Separators between a model's name and a class in a column name."""


def read_rows(path: Path) -> list[list[str]]:
    """Read the cells of a CSV file.

    Args:
        path: the file, in UTF-8 or UTF-16, separated by commas, semicolons or tabs.

    Raises:
        OSError, ValueError, csv.Error: the file cannot be read; the message gives the reason.
    """
    text = decode_text(path.read_bytes())
    head = text.split("\n", 1)[0]
    sign = ","
    for other in (";", "\t"):  # spreadsheets in many languages use one of these
        names = {name.strip().lower() for name in next(csv.reader([head], delimiter=other), [])}
        sign = other if {"path", "label"} <= names else sign
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=sign))


def answers_in(
    columns: Mapping[str, Cells], labels: Cells, stem: str
) -> tuple[dict[str, Cells], list[str]]:
    """The predicted classes of each model in a CSV.

    Numeric columns named after the classes (`cat`, or `net_cat` for the model net) are scores, such
    as probabilities or logits: the highest is the model's prediction. Any other column of fractions
    is a confidence or similar, and is ignored.

    Args:
        columns: by name, the cells of all columns except path and label.
        labels: the true classes.
        stem: what to call a model whose columns are named after the classes only.

    Returns:
        `(answers, notices)`: the cells of each model, and how columns were interpreted.

    Raises:
        DataError: a column holds neither classes nor scores, or a label or prediction is missing.
    """
    _refuse_missing("label", labels, {cell for cells in columns.values() for cell in cells})
    classes = {class_key(name): name for name in sorted(set(labels), reverse=True)}
    numbers = {
        name: values for name, cells in columns.items() if (values := _numbers(cells)) is not None
    }
    classless = {
        name for name, values in numbers.items() if not _are_classes(columns[name], values, classes)
    }
    scores = _scores(numbers, classless, classes, set(labels))
    scored = {column for by_class in scores.values() for column in by_class.values()}
    answers: dict[str, Cells] = {}
    notices = []
    for name, cells in columns.items():
        if name in scored:
            continue
        if name in classless:
            notices.append(_not_used(name, numbers[name], labels))
            continue
        _refuse_missing(name, cells, set(labels))
        answers[name] = cells
    for model, by_class in scores.items():
        name = model or stem
        highest = _highest(name, by_class, numbers)
        twin = next((one for one, cells in answers.items() if cells == highest), None)
        told = f"Columns {some(by_class.values())} are scores of the classes"
        if twin is not None:
            notices.append(f"{told}; their highest equals the prediction of {twin!r}. Not used.")
        elif name in answers:
            raise DataError(
                f"{told} by {name!r}, but the column {name!r} has other predictions. Remove one of "
                "them."
            )
        else:
            notices.append(f"{told}: the highest is the prediction of {name!r}.")
            answers[name] = highest
    if len(classes) > 1 and set(classes) <= set(map(class_key, answers)):
        raise DataError(
            f"The columns {some(answers)} are named after the classes and hold classes. Name "
            "them after models, or write each model's predicted class in one column."
        )
    if not answers:
        raise DataError(
            f"The columns {some(columns)} hold numbers, and the labels are "
            f"{some(sorted(set(labels)))}. Expected the predicted class in every cell, or one "
            "column of scores per class, named after it (NAME_CLASS for the model NAME)."
        )
    return answers, notices


def _numbers(cells: Cells) -> Numbers | None:
    """The numbers in a column, NaN for missing values; None where a cell is not a number."""
    values = np.full(len(cells), math.nan)
    for at, cell in enumerate(cells):
        value = math.nan if cell.lower() in MISSING else as_number(cell)
        if value is None:
            return None
        values[at] = value
    return None if np.isnan(values).all() else values


def _are_classes(cells: Cells, values: Numbers, classes: Mapping[str, str]) -> bool:
    """Whether a numeric column holds classes: 2.0 is class 2, but 0.93 is not 0, 1 or 2."""
    counted = all(
        (value := as_number(name)) is not None and value.is_integer() for name in classes.values()
    )
    if counted:
        return _are_whole(values)
    return any(class_key(cell) in classes for cell in set(cells))


def _are_whole(values: Numbers) -> bool:
    there = values[~np.isnan(values)]
    return bool((there == np.rint(there)).all())


def _scores(
    numbers: Mapping[str, Numbers],
    classless: set[str],
    classes: Mapping[str, str],
    names: Collection[str],
) -> dict[str, dict[str, str]]:
    """Score columns by model and class, only for models with one for every class.

    Args:
        numbers: the numeric columns.
        classless: those of them that do not hold classes.
        classes: class names by `class_key`.
        names: class names.
    """
    models: dict[str, dict[str, str]] = {}
    for column in numbers:
        for model, rest in _readings(column):
            name = rest if rest in names else classes.get(class_key(rest))
            if name is not None:
                models.setdefault(model, {})[name] = column
                break
    # net_0, net_1 and net_2 may be three models that predict 0, 1 or 2
    whole = {
        model: by_class
        for model, by_class in models.items()
        if len(by_class) == len(names) > 1 and not classless.isdisjoint(by_class.values())
    }
    taken = {column for by_class in whole.values() for column in by_class.values()}
    for model, by_class in whole.items():
        others = {
            rest: column
            for column in numbers
            if column in classless - taken
            for name, rest in _readings(column)
            if name == model
        }
        taken |= _absent_classes(by_class, others, numbers)
    return whole


def _readings(column: str) -> list[tuple[str, str]]:
    """All ways to read a column name as (model, class); without a model first."""
    return [("", column)] + [
        (column[:at], column[at + 1 :]) for at, sign in enumerate(column) if at and sign in SIGNS
    ]


def _absent_classes(
    by_class: dict[str, str], others: Mapping[str, str], numbers: Mapping[str, Numbers]
) -> set[str]:
    """Add classes without images, which a model may wrongly predict.

    Whether the other numeric columns are such classes follows from the sum of the probabilities.
    """
    own = np.sum([numbers[column] for column in by_class.values()], axis=0)
    if not others or np.allclose(own, 1, atol=0.02):
        return set()
    more = own + np.sum([numbers[column] for column in others.values()], axis=0)
    if not np.allclose(more, 1, atol=0.02):
        raise DataError(
            f"Columns {some(by_class.values())} are scores of the classes; whether "
            f"{some(others.values())} are scores of more classes is unclear, since they sum to 1 "
            "neither with nor without them. Remove the columns that are not scores, or write the "
            "predicted class in one column."
        )
    by_class.update(others)
    return set(others.values())


def _highest(model: str, by_class: Mapping[str, str], numbers: Mapping[str, Numbers]) -> Cells:
    scores = np.stack([numbers[column] for column in by_class.values()])
    lost = int(np.isnan(scores).any(axis=0).sum())
    if lost:
        raise DataError(
            f"{model!r} lacks a score in {lost:,} of {scores.shape[1]:,} rows. Every model needs a "
            "prediction for every image."
        )
    names = list(by_class)
    return tuple(names[at] for at in scores.argmax(axis=0))


def _refuse_missing(name: str, cells: Cells, elsewhere: Collection[str]) -> None:
    lost = [
        cell
        for cell in cells
        if cell.lower() in NEVER or (cell.lower() in SELDOM and cell not in elsewhere)
    ]
    if lost:
        raise DataError(
            f"Column {name!r} holds no class in {len(lost):,} of {len(cells):,} rows "
            f"({some(dict.fromkeys(lost))}). Every image needs a label and a prediction of every "
            "model."
        )


def _not_used(name: str, values: Numbers, labels: Cells) -> str:
    """The notice that fractions are ignored; integers might be class indices, so are an error."""
    there = values[~np.isnan(values)]
    if _are_whole(values):
        raise DataError(
            f"Column {name!r} holds the numbers {there.min():g} to {there.max():g}, but the labels "
            f"are {some(sorted(set(labels)))}. Which number is which class is unknown: write the "
            "class name in every cell, or use numbers as labels too. If the column does not hold "
            "predictions, remove it."
        )
    return (
        f"Column {name!r} is not used: it holds numbers from {there.min():g} to {there.max():g}, "
        "not classes."
    )


OWN_COLUMNS = ("path", "label", "group", "fold")


def filled_columns(path: Path) -> dict[str, tuple[str, ...]]:
    """Read the columns of a predictions CSV by name, with every cell filled.

    Args:
        path: the file.

    Raises:
        DataError: it is not such a file; the message states what was expected and what was found.
    """
    expected = (
        "Expected a header with `path`, `label` and one column of predicted class names per "
        "model, in UTF-8; an optional `group` holds the group of each image, an optional `fold` "
        "the fold of a cross-validation in which it was tested."
    )
    try:
        rows = read_rows(path)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV ({error}). {expected}") from None
    head = [name.strip() for name in rows[0]] if rows else []
    lower = {name.lower() for name in head}
    nameless = not {"path", "label"} <= lower or not lower.difference(OWN_COLUMNS)
    if nameless or len(set(head)) != len(head) or "" in head:
        raise DataError(f"{path} has the columns {', '.join(head) or 'none'}. {expected}")
    for number, row in enumerate(rows[1:], start=2):
        empty = sum(not cell.strip() for cell in row)
        if row and (len(row) != len(head) or empty):
            raise DataError(
                f"{path}, row {number}: expected {len(head)} filled cells, got {len(row)} of which "
                f"{empty} are empty. Every model needs a prediction for every image."
            )
    body = [row for row in rows[1:] if row]
    if not body:
        raise DataError(f"{path} has a header but no rows. {expected}")
    return {name: tuple(row[at].strip() for row in body) for at, name in enumerate(head)}
