"""An exported model, ready to predict; and which files are safe to open.

An ONNX file and an OpenVINO pair hold a graph of known operations and numbers: opening one runs
no code. A TorchScript file is a program, and `torch.export.load` unpickles parts of a pt2: PyTorch
says of both that they must never come from a source that is not trusted. So Podium opens those
alone that it wrote itself for this user: `podium export` leaves the SHA-256 of each in Podium's
cache, and `load_exported` refuses any other without so much as looking into it. What a file says of
itself is read from its archive as plain text.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from podium.config.settings import Machine
from podium.deploy.export import runtimes
from podium.deploy.export.libraries import library, openvino
from podium.deploy.export.record import ExportRecord
from podium.deploy.export.write import EXTRA_FILE
from podium.deploy.predictor import Predictor
from podium.errors import ConfigError, PodiumError, RunFolderError, StorageError, one_line
from podium.runtime.cache import cache_root
from podium.runtime.device import choose_device
from podium.runtime.files import write_text

MOST_TEXT = 32 << 20
"""Bytes of a record that are read: 10,000 class names take a hundredth of it."""

_NAME = re.compile(r"(?P<model>.+?)(?P<int8>-int8)?(?:-openvino|\.onnx|\.pt2|\.torchscript)")
SUFFIXES = {".onnx": "onnx", ".torchscript": "torchscript", ".pt2": "pt2", ".xml": "openvino"}


def is_exported(path: str | Path) -> bool:
    """Whether `path` looks like an export rather than a run: by its name, nothing is opened."""
    place = Path(path)
    return place.suffix in SUFFIXES or (place / "model.xml").is_file()


def find_export(path: str | Path, tell: Callable[[str], None] = lambda text: None) -> Path:
    """The export that a path stands for: itself, or one in the folder that `podium export` wrote.

    Of several it is the first that is not int8, in the order onnx, openvino, pt2, torchscript.

    Args:
        path: the file or folder.
        tell: called with a sentence where there was something to choose.

    Raises:
        RunFolderError: the folder holds exports of several models.
    """
    place = Path(path)
    if not place.is_dir() or is_exported(place):
        return place
    found = sorted((one for one in place.iterdir() if is_exported(one)), key=_preference)
    models = {_model_of(one)[0] for one in found}
    if len(models) > 1:
        raise RunFolderError(
            f"{path} holds exports of {len(models)} models ({', '.join(sorted(models))}): name "
            f"one of them, such as {found[0]}."
        )
    if not found:
        return place
    if len(found) > 1:
        others = ", ".join(one.name for one in found[1:])
        tell(f"{path}: {found[0].name} is used. Name another to use that: {others}.")
    return found[0]


def _preference(place: Path) -> tuple[bool, int]:
    _, is_int8 = _model_of(place)
    kinds = ("onnx", "openvino", "pt2", "torchscript")
    return is_int8, kinds.index(SUFFIXES.get(place.suffix, "openvino"))


def _model_of(place: Path) -> tuple[str, bool]:
    """What an export's name says: the contender, and whether it is int8."""
    match = _NAME.fullmatch(place.name)
    return (match["model"], bool(match["int8"])) if match else (place.name, False)


_RISKY = {"torchscript": ("TorchScript", "torch.jit.load"), "pt2": ("pt2", "torch.export.load")}


def load_exported(
    path: str | Path,
    device: str = "auto",
    *,
    precision: str | None = None,
) -> Predictor:
    """A model that `podium export` wrote, in its own runtime.

    Its `compute` takes any number of pictures at a time, runs on all cores this process may use,
    and may be called from many threads.

    Args:
        path: the file, the folder of an OpenVINO export, or a folder of exports of one model
            (see `find_export`).
        device: auto or cpu: exports run on the processor here.
        precision: of an OpenVINO export that is not int8: fp32 or bf16, if the export was checked
            in it; empty: what it was exported for.

    Raises:
        RunFolderError: it is no export, it is damaged, or it may run code and was not written
            here.
        ConfigError: the device or precision cannot be had, or a library is missing.
    """
    place = Path(path)
    if choose_device(Machine(device="cpu" if device == "auto" else device)).kind != "cpu":
        raise ConfigError(
            f"--device {device}: exported models run on the processor here. Give the run's "
            "folder to predict on a GPU."
        )
    place = find_export(place)
    place = place / "model.xml" if place.is_dir() else place
    kind = SUFFIXES.get(place.suffix)
    if kind is None or not place.is_file():
        raise RunFolderError(
            f"{path} is no exported model: expected a file that ends in .onnx, .torchscript or "
            ".pt2, a folder with model.xml and model.bin, or a folder of these, as `podium export` "
            "writes them."
        )
    try:
        return _load(place, kind, precision)
    except (PodiumError, MemoryError):
        raise
    except Exception as error:  # each runtime has its own kinds, and says them of damaged files
        raise RunFolderError(
            f"{path} cannot be opened; it is damaged, or of another version ({one_line(error)}). "
            "Export the run again."
        ) from None


def read_record(path: str | Path) -> ExportRecord:
    """What an export says of itself; runs nothing.

    Raises:
        RunFolderError: it is no export of Podium's, or it is damaged.
        ConfigError: the library that reads this format is missing.
    """
    place = Path(path)
    place = place / "model.xml" if place.is_dir() else place
    try:
        if place.suffix == ".xml":
            strings = _openvino_strings(place)
        elif place.suffix == ".onnx":
            strings = _onnx_strings(place.read_bytes(), place)
        else:
            strings = _zip_strings(place.read_bytes(), place)
    except PodiumError:
        raise
    except Exception as error:
        raise RunFolderError(f"{path} is no export of Podium's ({one_line(error)}).") from None
    return ExportRecord.parse(strings, path)


def remember(path: Path) -> None:
    """Note that a TorchScript or pt2 file was written here, so that it is opened here."""
    if path.suffix not in (".torchscript", ".pt2"):
        return
    with contextlib.suppress(StorageError):  # without a cache it is not opened here
        write_text(_note(path.read_bytes()), "")


def _note(content: bytes) -> Path:
    return cache_root() / "exports" / hashlib.sha256(content).hexdigest()


def _load(place: Path, kind: str, precision: str | None) -> Predictor:
    content = b"" if kind == "openvino" else place.read_bytes()
    if kind in _RISKY and not _note(content).is_file():
        named, opener = _RISKY[kind]
        raise RunFolderError(
            f"{place} was not written by `podium export` on this machine, and opening a {named} "
            "file can run any code that somebody put into it. Use the ONNX or OpenVINO export, "
            "which hold no code; or export the run here. PyTorch itself opens it, where you are "
            f"sure of its source: {opener}."
        )
    if kind == "openvino":
        strings = _openvino_strings(place)
    elif kind == "onnx":
        strings = _onnx_strings(content, place)
    else:
        strings = _zip_strings(content, place)
    record = ExportRecord.parse(strings, place)
    if record.format != kind:
        raise RunFolderError(f"{place} says that it is {record.format}, and its name says {kind}.")
    compute = open_compute(place, content, kind, _precision(record, precision))
    return Predictor(
        record.class_names,
        record.image_size,
        record.temperature,
        compute,
        record.name,
        record.grey_windows,
    )


def open_compute(place: Path, content: bytes, kind: str, precision: str) -> runtimes.Compute:
    """The runtime's function from pixels to logits. Opens whatever it is given: check before.

    Args:
        place: the file.
        content: its bytes; of no use for OpenVINO.
        kind: its format.
        precision: of OpenVINO.
    """
    if kind == "openvino":
        return runtimes.open_openvino(place, precision)
    if kind == "onnx":
        return runtimes.open_onnx(content)
    if kind == "torchscript":
        return runtimes.open_torchscript(content)
    return runtimes.open_pt2(content)


def _precision(record: ExportRecord, wanted: str | None) -> str:
    """The arithmetic to use.

    Raises:
        ConfigError: what was asked for was not checked, or is not to be had.
    """
    if wanted is not None and wanted != record.precision and wanted not in record.checks:
        raise ConfigError(
            f"--precision {wanted}: this export was checked in "
            f"{', '.join(record.checks) or record.precision} alone."
        )
    used = wanted or record.precision
    if used == "bf16" and not runtimes.processor_multiplies_bf16():
        if wanted is not None:
            raise ConfigError("--precision bf16: this processor does not multiply bf16. Use fp32.")
        return "fp32"
    return used


def _onnx_strings(content: bytes, place: Path) -> dict[str, str]:
    onnx = library("onnx")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise RunFolderError(f"{place} is no ONNX model ({one_line(error)}).") from None
    outside = onnx.TensorProto.EXTERNAL
    if any(tensor.data_location == outside for tensor in model.graph.initializer):
        raise RunFolderError(
            f"{place} takes its weights from another file; expected one file that holds all, as "
            "`podium export` writes it."
        )
    return {entry.key: entry.value for entry in model.metadata_props}


def _zip_strings(content: bytes, place: Path) -> dict[str, str]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{EXTRA_FILE}")]
            if len(names) != 1:
                raise RunFolderError(
                    f"{place} does not say that Podium exported it: expected a file that "
                    "`podium export` wrote."
                )
            if archive.getinfo(names[0]).file_size > MOST_TEXT:
                raise RunFolderError(f"{place} says more of itself than an export would.")
            found: Any = json.loads(archive.read(names[0]))
    except (zipfile.BadZipFile, ValueError, RecursionError, OSError) as error:
        raise RunFolderError(f"{place} is damaged ({one_line(error)}).") from None
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise RunFolderError(f"{place} is damaged (its record is no table of texts).")
    return found


def _openvino_strings(place: Path) -> dict[str, str]:
    model = openvino().Core().read_model(place)
    if "podium" not in dict(model.rt_info):
        return {}
    found = model.get_rt_info(["podium"]).value
    return {str(key): str(value) for key, value in dict(found).items()}
