"""A digest of the code behind a function or class, which a recipe keeps to detect changes."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Iterable
from pathlib import Path
from types import CodeType
from typing import Any

SCRIPTS = ("__main__", "__mp_main__")
"""The main module, and its name in the processes that it starts."""


def source_digest(origin: Any) -> str:
    """Sixteen hex digits for the source of a function, class or module, and its local imports.

    All files that it imports from its own folder or package count, since a change in any of them
    may change what it does. Installed packages do not. For a script or a notebook, the digest
    covers the functions, classes and plain values of the same script that it uses.

    Args:
        origin: the object that was offered; for an instance, its class counts.
    """
    named = inspect.isroutine(origin) or inspect.isclass(origin) or inspect.ismodule(origin)
    target: Any = origin if named else type(origin)
    module = inspect.getmodule(inspect.unwrap(target))
    file = getattr(module, "__file__", None)
    digest = hashlib.sha256()
    if module is None or file is None or module.__name__ in SCRIPTS:
        for text in _of_script(target):
            digest.update(f"{text}\n".encode())
        return digest.hexdigest()[:16]
    start = Path(file).resolve()
    root = root_of(module.__name__, start)
    # in site-packages the neighbouring files are other packages
    installed = any(root.glob("*.dist-info"))
    inside = module.__name__.partition(".")[0] if installed else ""
    for path in sources(start, root, inside):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode())
        digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:16]


def root_of(module: str, file: Path) -> Path:
    """The folder that `module` is imported from."""
    return file.parents[module.count(".") + (file.stem == "__init__")]


def _of_script(target: Any) -> Iterable[str]:
    """Source of a function or class of a script or notebook, and of what it uses there."""
    ahead, seen = [target], set()
    while ahead:
        one = inspect.unwrap(ahead.pop())
        if id(one) in seen:
            continue
        seen.add(id(one))
        functions = [f for f in vars(one).values() if inspect.isfunction(f)]
        if inspect.isfunction(one):
            functions.append(one)
        try:
            yield inspect.getsource(one)
        except (OSError, TypeError):  # typed into an interpreter, which keeps no source
            yield from (text for function in functions for text in _of_code(function.__code__))
        for function in functions:
            for name in _names(function.__code__):
                value = function.__globals__.get(name)
                if inspect.isfunction(value) or inspect.isclass(value):
                    if value.__module__ == one.__module__:
                        ahead.append(value)
                elif isinstance(value, bool | int | float | str | tuple):
                    yield f"{name} = {value!r}"


def _of_code(code: CodeType) -> Iterable[str]:
    yield f"{code.co_code.hex()} {code.co_names}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _of_code(constant)
        else:
            yield repr(constant)


def _names(code: CodeType) -> Iterable[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def sources(start: Path, root: Path, inside: str = "") -> list[Path]:
    """`start` and every module below `root` that it imports, directly or through others.

    Args:
        start: the file to begin with.
        root: folder that the modules lie in.
        inside: the only package to look into; empty string: all.
    """
    found: set[Path] = set()
    ahead = [start]
    while ahead:
        path = ahead.pop()
        if path in found or path.suffix != ".py":
            continue
        found.add(path)
        for names, folder in _imports(path, root):
            if inside and folder == root and names[0] != inside:
                continue
            for end in range(len(names), 0, -1):
                place = folder.joinpath(*names[:end])
                ahead += [
                    one
                    for one in (place.with_suffix(".py"), place / "__init__.py")
                    if one.is_file()
                ]
    return sorted(found)


def _imports(path: Path, root: Path) -> Iterable[tuple[list[str], Path]]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split("."), root) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = path.parents[node.level - 1] if node.level else root
            module = node.module.split(".") if node.module else []
            yield from (([*module, alias.name], folder) for alias in node.names)
