"""A folder, or an address of an object store or web server, whose files are written as a whole."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from podium.errors import ConfigError, DataError, one_line
from podium.runtime.files import atomic_write, remove_temporaries

_TRIES = 3  # of a read from an address
_PAUSE = 0.5  # seconds before the second try; then twice as long
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "http": "http", "https": "http"}


def is_address(path: str) -> bool:
    """Whether a path is an address such as `s3://bucket/folder`."""
    return "://" in path


class Place:
    """Where files are.

    Args:
        path: a folder, or an address that fsspec knows.

    Raises:
        ConfigError: the address cannot be used, or its library is missing.
    """

    def __init__(self, path: str) -> None:
        self.path = path.rstrip("/") or "/"
        self.folder = None if is_address(path) else Path(path).expanduser()
        self._process = 0
        if self.folder is None:
            self._connect()

    def __reduce__(self) -> Any:
        return Place, (self.path,)

    def __str__(self) -> str:
        return self.path

    def names(self) -> list[str]:
        """Names of the files, sorted; empty if there is no such folder.

        Raises:
            DataError: it cannot be listed.
        """
        try:
            if self.folder is not None:
                there = self.folder.iterdir() if self.folder.exists() else ()
                return sorted(one.name for one in there)
            store, root = self._store()
            store.invalidate_cache(root)  # others may have written since
            found = store.ls(root, detail=False)
            return sorted(one.rstrip("/").rpartition("/")[2] for one in found)
        except FileNotFoundError:
            return []
        except Exception as error:  # each library has errors of its own
            raise DataError(f"{self} cannot be listed: {one_line(error)}.") from None

    def has(self, name: str) -> bool:
        """Whether there is such a file.

        Raises:
            DataError: the address does not answer, or only to others.
        """
        try:
            self.read(name, 0, 1)  # fsspec's own answer is no where a server does not answer
        except FileNotFoundError:
            return False
        except OSError as error:
            raise DataError(f"it cannot be read: {error.strerror or error}") from None
        return True

    def below(self) -> list[str]:
        """Names of all files at an address, at any depth, sorted: `a/b.jpg`.

        Raises:
            DataError: it cannot be listed.
        """
        store, root = self._store()
        try:
            found = store.find(root)
        except FileNotFoundError:
            return []
        except Exception as error:  # each library has errors of its own
            raise DataError(f"it cannot be listed: {one_line(error)}") from None
        return sorted(one.removeprefix(f"{root}/") for one in found)

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Read bytes of a file.

        Args:
            name: of the file.
            start: of the range.
            length: of the range; None: up to the end.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it cannot be read.
        """
        if self.folder is not None:
            with open(self.folder / name, "rb") as file:
                file.seek(start)
                return file.read(-1 if length is None else length)
        end = None if length is None else start + length
        for again in range(1, _TRIES + 1):
            store, root = self._store()
            try:
                content: bytes = store.cat_file(f"{root}/{name}", start=start or None, end=end)
                return content
            except (FileNotFoundError, PermissionError):
                raise
            except Exception as error:  # each library has errors of its own
                if again == _TRIES:
                    raise OSError(one_line(error)) from error
            time.sleep(_PAUSE * 2 ** (again - 1))
        raise AssertionError

    def write(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        """Call `write` on a new file, then give it its name: it is there as a whole, or not.

        Args:
            name: of the file.
            write: called with the new file, open for writing and seeking.

        Raises:
            ConfigError: it cannot be written at an address.
            StorageError: it cannot be written in a folder.
        """
        if self.folder is not None:
            atomic_write(self.folder / name, write)
            return
        with tempfile.TemporaryDirectory(prefix="podium-") as folder:
            copy = Path(folder, "file")
            with open(copy, "w+b") as file:
                write(file)
            store, root = self._store()
            try:
                store.put_file(str(copy), f"{root}/{name}")
            except Exception as error:  # each library has errors of its own
                raise ConfigError(
                    f"{self}/{name} cannot be written ({one_line(error)}). Check the address and "
                    "your rights there; what is written is kept, and the same command goes on."
                ) from error

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self.folder is not None:
            (self.folder / name).unlink(missing_ok=True)
            return
        store, root = self._store()
        if store.exists(f"{root}/{name}"):
            store.rm_file(f"{root}/{name}")

    def remove_temporaries(self) -> None:
        """Remove what killed processes have left of files; at an address there is nothing."""
        if self.folder is not None:
            remove_temporaries(self.folder)

    def _store(self) -> tuple[Any, str]:
        if self._process != os.getpid():  # forked: connections are the other process's
            self._connect()
        return self._connected

    def _connect(self) -> None:
        from fsspec.core import url_to_fs

        kind = self.path.partition("://")[0]
        try:
            self._connected: tuple[Any, str] = url_to_fs(self.path)
        except ImportError:
            extra = _EXTRAS.get(kind)
            remedy = f"pip install 'podium[{extra}]'" if extra else f"see fsspec on {kind}://"
            raise ConfigError(f"{self}: {kind}:// needs a further library: {remedy}.") from None
        except ValueError as error:
            raise ConfigError(
                f"{self}: expected a folder, or an address such as s3://BUCKET/FOLDER, gs://, "
                f"https:// ({one_line(error)})."
            ) from None
        self._process = os.getpid()
