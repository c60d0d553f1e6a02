"""The rooms of the package and what each imports, read from the code: for a page and for a test."""

from __future__ import annotations

import ast
import html
from collections.abc import Iterator
from pathlib import Path

import podium

SOURCE = Path(podium.__file__).parent
ORDER = (
    "errors < config < runtime < runs < statistics | data | models < features | evaluation"
    " < training | auditing < results < reporting < deploy | study < api < cli"
)
"""From the ground up: a room imports what stands before its own floor, and nothing else of ours."""

FLOORS = [floor.split(" | ") for floor in ORDER.split(" < ")]
LEVEL = {room: level for level, floor in enumerate(FLOORS) for room in floor}

Arrow = tuple[str, str]


def modules() -> dict[str, Path]:
    """Dotted name without `podium.` -> file, of every module; '' is the package itself."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports() -> Iterator[tuple[str, str, int]]:
    """`(module, module that it imports, line)`, wherever in the file the import stands."""
    known = modules()
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            named = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "podium":
                home = str(node.module).removeprefix("podium").removeprefix(".")
                inside = [f"{home}.{alias.name}".removeprefix(".") for alias in node.names]
                named = [one if one in known else home for one in inside]
            elif isinstance(node, ast.Import):
                named = [
                    alias.name.removeprefix("podium.")
                    for alias in node.names
                    if alias.name.startswith("podium.")
                ]
            for target in named:
                if target not in ("", name):
                    yield name, target, node.lineno


def room_of(module: str) -> str:
    """The room that a module lies in: the first word of its name."""
    return module.partition(".")[0]


def arrows() -> set[Arrow]:
    """`(room, room that it imports)`, of the rooms that have a place in the order."""
    pairs = {(room_of(one), room_of(other)) for one, other, _ in imports()}
    return {(a, b) for a, b in pairs if a != b and a in LEVEL and b in LEVEL}


def direct(of: set[Arrow]) -> set[Arrow]:
    """The arrows that do not follow from others: what a picture needs (transitive reduction)."""

    def reaches(start: str, end: str) -> bool:
        return any(b == end or reaches(b, end) for a, b in of if a == start)

    return {(a, b) for a, b in of if not any(c != b and reaches(c, b) for d, c in of if d == a)}


def purpose(room: str) -> str:
    """The first sentence of the room's docstring."""
    tree = ast.parse(modules()[room].read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").split("\n\n")[0].replace("\n", " ")


def size(room: str) -> tuple[int, int]:
    """Modules and lines of a room."""
    files = [path for name, path in modules().items() if room_of(name) == room]
    return len(files), sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


WIDE, HIGH, GAP, ACROSS, MARGIN = 132, 34, 34, 56, 8  # px: a box, between floors, boxes, the edge


def drawing() -> str:
    """The house as an SVG element: a box per room, the ground at the bottom, arrows downwards."""
    width = max(len(floor) * (WIDE + ACROSS) - ACROSS for floor in FLOORS) + 2 * MARGIN
    height = len(FLOORS) * (HIGH + GAP) - GAP + 2 * MARGIN
    place = {}
    for level, floor in enumerate(FLOORS):
        left = (width - len(floor) * (WIDE + ACROSS) + ACROSS) / 2
        top = height - MARGIN - HIGH - level * (HIGH + GAP)
        for number, room in enumerate(floor):
            place[room] = left + number * (WIDE + ACROSS) + WIDE / 2, top
    lines, boxes = [], []
    for a, b in sorted(direct(arrows())):
        (x1, y1), (x2, y2) = place[a], place[b]
        y1, middle = y1 + HIGH, (y1 + HIGH + y2) / 2
        lines.append(
            f'<path d="M{x1:g} {y1:g} C{x1:g} {middle:g} {x2:g} {middle:g} {x2:g} {y2 - 5:g}"/>'
        )
    for room, (x, y) in place.items():
        boxes.append(
            f'<a href="#{room}"><title>{html.escape(purpose(room))}</title>'
            f'<rect x="{x - WIDE / 2:g}" y="{y:g}" width="{WIDE}" height="{HIGH}" rx="6"/>'
            f'<text x="{x:g}" y="{y + HIGH / 2 + 5:g}">{room}</text></a>'
        )
    head = (
        f'<svg class="rooms" viewBox="0 0 {width:g} {height:g}" role="img" '
        'aria-label="The rooms of the package; every arrow leads downwards">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>'
    )
    return f"{head}<g>{''.join(lines)}</g>{''.join(boxes)}</svg>"


def table() -> str:
    """Room, what lives there, modules, lines and what it imports, as Markdown; the top first."""
    found = arrows()
    rows = ["| room | what lives there | modules | lines | imports |", "|---|---|---:|---:|---|"]
    for floor in reversed(FLOORS):
        for room in floor:
            below = sorted((b for a, b in found if a == room), key=lambda one: -LEVEL[one])
            count, lines = size(room)
            name = f'<span id="{room}"></span>`{room}`'
            rows.append(f"| {name} | {purpose(room)} | {count} | {lines:,} | {', '.join(below)} |")
    return "\n".join(rows)
