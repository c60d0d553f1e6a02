"""The torchvision source: `torchvision:CIFAR10` and the other classification sets of that library.

The library reads its own files, and knows its own splits. Nothing is downloaded while a study
runs: `podium data fetch torchvision:NAME` does that.
"""

from __future__ import annotations

import functools
import inspect
import io
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, Literal

from PIL import Image

from podium.config.registry import SOURCES
from podium.data.images import read_image_file
from podium.data.source import Item, Source
from podium.data.words import listed
from podium.errors import ConfigError, DataError, one_line
from podium.runtime.cache import cache_root

PREFIX = "torchvision:"

Splits = dict[Literal["train", "valid", "test"] | None, dict[str, Any]]

_FLAG: Splits = {"train": {"train": True}, "test": {"train": False}}
_TWO: Splits = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE: Splits = {"train": {"split": "train"}, "valid": {"split": "val"}, "test": {"split": "test"}}
_NO_TEST: Splits = {"train": {"split": "train"}, "valid": {"split": "val"}}
_WHOLE: Splits = {None: {}}

SETS: dict[str, Splits] = {
    **dict.fromkeys(("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST", "QMNIST"), _FLAG),
    **dict.fromkeys(("EMNIST", "USPS"), _FLAG),
    **dict.fromkeys(("Food101", "GTSRB", "STL10", "SVHN", "StanfordCars"), _TWO),
    **dict.fromkeys(("DTD", "FGVCAircraft", "Flowers102", "RenderedSST2"), _THREE),
    **dict.fromkeys(("CLEVRClassification", "Imagenette"), _NO_TEST),
    **dict.fromkeys(("Caltech101", "Caltech256", "EuroSAT", "SUN397"), _WHOLE),
    "Country211": {**_TWO, "valid": {"split": "valid"}},
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
}
"""Class of torchvision -> its arguments for each of Podium's splits; None: it has no splits."""

_DEFAULTS = {"EMNIST": {"split": "balanced"}}


class TorchvisionSource(Source):
    """A classification set of torchvision.

    Images that the library keeps as arrays (CIFAR, the MNISTs) are served as PPM or PGM: without
    loss, and with the same bytes on every machine. Other images are served as their files are.

    Args:
        path: `torchvision:NAME`, a key of `SETS`.
        root: folder of the library's files; None: `torchvision/NAME` in Podium's cache.
        options: further arguments of the library's class, such as `annotation_level`.

    Raises:
        ConfigError: there is no such set, or it does not take these options.
        DataError: its files are not there.
    """

    def __init__(self, path: str, root: str | None = None, **options: Any) -> None:
        self.path = path
        self.root, self._sets = _sets(path, root, options)

    def list(self) -> Iterator[Item]:
        for split, images in self._sets.items():
            classes = _class_names(images)
            for number in range(len(images)):
                image, target = _entry(images, number)
                label = classes.get(int(target), str(int(target)))
                file = getattr(image, "filename", image)
                if isinstance(file, str | PurePath) and str(file):
                    if isinstance(image, Image.Image):
                        image.close()  # opened, but not read
                    name = Path(file).relative_to(self.root).as_posix()
                else:
                    ending = "pgm" if image.mode == "L" else "ppm"
                    name = f"{split or 'all'}/{label.replace('/', '-')}/{number:06d}.{ending}"
                yield Item(name, label, split)

    def read(self, path: str) -> bytes:
        file = self.root / path
        split, _, rest = path.partition("/")
        images = self._sets.get(None if split == "all" else split)
        if images is None or file.is_file():
            return read_image_file(file, path)
        out = io.BytesIO()
        images[int(PurePath(rest).stem)][0].save(out, "PPM")
        return out.getvalue()


def fetch_torchvision(path: str, root: Path | None = None) -> Path:
    """Let torchvision download a set, or unpack the archives of it that are already in place.

    Args:
        path: `torchvision:NAME`.
        root: the folder for its files; None: its folder in Podium's cache.

    Returns:
        The folder.

    Raises:
        ConfigError: there is no such set.
        DataError: it cannot be downloaded.
    """
    name, folder = _place(path, root)
    for arguments in SETS[name].values():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _made(name, folder, {**_DEFAULTS.get(name, {}), **arguments}, download=True)
        except Exception as error:  # of urllib, gdown, tarfile...
            raise DataError(
                f"{path} could not be downloaded ({type(error).__name__}: {one_line(error)}). "
                f"{_by_hand(name, folder)}"
            ) from None
    return folder


def _place(path: str, root: str | Path | None) -> tuple[str, Path]:
    name = path.removeprefix(PREFIX)
    if name not in SETS:
        folded = {one.lower(): one for one in SETS}
        hint = f" Did you mean {PREFIX}{folded[name.lower()]}?" if name.lower() in folded else ""
        raise ConfigError(
            f"data.path: there is no {path!r}.{hint} Expected {PREFIX}NAME with one of "
            f"{listed(sorted(SETS), most=len(SETS))}."
        )
    if root is None:
        return name, cache_root() / "torchvision" / name
    return name, Path(root).expanduser()


def _sets(path: str, root: str | None, options: dict[str, Any]) -> tuple[Path, dict[Any, Any]]:
    name, folder = _place(path, root)
    ours = {"download", "loader", "transform", "target_transform", "transforms"}
    ours = ours.union(*SETS[name].values()) - set(_DEFAULTS.get(name, ()))
    if taken := sorted(ours & set(options)):
        raise ConfigError(f"data.options: {listed(taken)} of {path} is set by Podium. Remove it.")
    given = tuple(sorted({**_DEFAULTS.get(name, {}), **options}.items()))
    return folder, {
        split: _opened(name, folder, given, tuple(arguments.items()))
        for split, arguments in SETS[name].items()
    }


# Once per process: every copy of a source would otherwise hold all of CIFAR in memory again.
@functools.lru_cache(maxsize=16)
def _opened(
    name: str,
    folder: Path,
    options: tuple[tuple[str, Any], ...],
    split: tuple[tuple[str, Any], ...],
) -> Any:
    try:
        return _made(name, folder, dict(options) | dict(split), download=False)
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{key}: {value}" for key, value in options)
        raise ConfigError(
            f"{PREFIX}{name} cannot be opened with data.options {{{given}}}: {one_line(error)}"
        ) from None
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{PREFIX}{name} is not in {folder} ({one_line(error).rstrip('.')}). Run "
            f"`podium data fetch {PREFIX}{name}`. {_by_hand(name, folder)}"
        ) from None


def _made(name: str, folder: Path, arguments: dict[str, Any], *, download: bool) -> Any:
    import torchvision.datasets

    kind = getattr(torchvision.datasets, name)
    if "loader" in inspect.signature(kind).parameters:
        arguments = {"loader": Path, **arguments}  # not decoded: the file itself is wanted
    return kind(str(folder), download=download, **arguments)


def _entry(images: Any, number: int) -> tuple[Any, int]:
    """An image (or the path of its file) and its class; two sets decode if they are asked."""
    match type(images).__name__:
        case "GTSRB":
            return images._samples[number]  # type: ignore[no-any-return]
        case "OxfordIIITPet":
            return images._images[number], images._labels[number]
    return images[number]  # type: ignore[no-any-return]


def _class_names(images: Any) -> dict[int, str]:
    """Number -> name of the classes, as far as the library knows names; no name twice."""
    found = getattr(images, "classes", None) or getattr(images, "categories", None) or []
    names = [str(one[0] if isinstance(one, tuple) else one) for one in found]
    return {
        number: f"{name} {number}" if names.count(name) > 1 else name
        for number, name in enumerate(names)
    }


def _by_hand(name: str, folder: Path) -> str:
    """Where the files come from and where they belong, read from the library's own code."""
    import torchvision.datasets

    kind = getattr(torchvision.datasets, name)
    code = "".join(
        inspect.getsource(one).replace(one.__doc__ or "\0", "") for one in kind.__mro__[:2]
    )
    files = dict.fromkeys(re.findall(r"https?://[^\s\"'{}<>]+", code))
    where = f" (its addresses there: {listed([*files], most=8)})" if files else ""
    return (
        f"By hand: where there is a network, torchvision.datasets.{name}(ROOT, download=True) "
        f"fills a folder ROOT{where}; copy what is in it to {folder}, or name it in the study: "
        f"data: {{path: '{PREFIX}{name}', options: {{root: ROOT}}}}."
    )


SOURCES.register("torchvision", TorchvisionSource)
