"""Loading of exported models, and which files are safe to open.

An ONNX file and an OpenVINO pair hold a graph of known operations and numbers: opening one runs
no code. A TorchScript file is a program, and `torch.export.load` unpickles parts of a pt2: PyTorch
warns that neither must come from an untrusted source. So Podium opens only those that it wrote
itself for this user: `podium export` stores the SHA-256 of each in Podium's cache, and
`load_exported` refuses any other file unopened. A file's metadata is read from its archive as
plain text.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from podium.config.machine import Machine
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
"""Most bytes of a record that are read: 10,000 class names take a hundredth of it."""

_NAME = re.compile(r"(?P<model>.+?)(?P<int8>-int8)?(?:-openvino|\.onnx|\.pt2|\.torchscript)")
SUFFIXES = {".onnx": "onnx", ".torchscript": "torchscript", ".pt2": "pt2", ".xml": "openvino"}


def is_exported(path: str | Path) -> bool:
    """Whether `path` looks like an export rather than a run, by its name; opens nothing.

    Args:
        path: file or folder.
    """
    place = Path(path)
    return place.suffix in SUFFIXES or (place / "model.xml").is_file()


def find_export(path: str | Path, tell: Callable[[str], None] = lambda text: None) -> Path:
    """The export that a path stands for: itself, or one in a folder written by `podium export`.

    Of several it is the first that is not int8, in the order onnx, openvino, pt2, torchscript.

    Args:
        path: the file or folder.
        tell: called with a sentence if there was a choice.

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
    """The parts of an export's name: the contender, and whether it is int8."""
    match = _NAME.fullmatch(place.name)
    return (match["model"], bool(match["int8"])) if match else (place.name, False)


_RISKY = {"torchscript": ("TorchScript", "torch.jit.load"), "pt2": ("pt2", "torch.export.load")}


def load_exported(
    path: str | Path,
    device: str = "auto",
    *,
    precision: str | None = None,
) -> Predictor:
    """Load a model written by `podium export`, in its own runtime.

    Its `compute` takes any number of images at a time, runs on all cores available to this
    process, and may be called from many threads.

    Args:
        path: the file, the folder of an OpenVINO export, or a folder of exports of one model, of
            which the first that is not int8 is used, in the order onnx, openvino, pt2,
            torchscript.
        device: `auto` or `cpu`: exports run on the CPU here.
        precision: for an OpenVINO export that is not int8: fp32 or bf16, if the export was
            checked in it; None: the precision that it was exported for.

    Returns:
        A predictor: `predict(images)` gives the most likely classes of RGB images.

    Raises:
        RunFolderError: it is not an export, it is damaged, or it may run code and was not
            written here.
        ConfigError: the device or precision is not available, or a library is missing.

    Examples:
        >>> import podium
        >>> podium.load_exported("model.txt")
        Traceback (most recent call last):
        ...
        podium.errors.RunFolderError: model.txt is not an exported model: ...
    """
    place = Path(path)
    if choose_device(Machine(device="cpu" if device == "auto" else device)).kind != "cpu":
        raise ConfigError(
            f"--device {device}: exported models run on the CPU here. Give the run's "
            "folder to predict on a GPU."
        )
    place = find_export(place)
    place = place / "model.xml" if place.is_dir() else place
    kind = SUFFIXES.get(place.suffix)
    if kind is None or not place.is_file():
        raise RunFolderError(
            f"{path} is not an exported model: expected a file that ends in .onnx, .torchscript or "
            ".pt2, a folder with model.xml and model.bin, or a folder of these, as `podium export` "
            "writes them."
        )
    try:
        return _load(place, kind, precision)
    except (PodiumError, MemoryError):
        raise
    except Exception as error:  # each runtime has its own errors for damaged files
        raise RunFolderError(
            f"{path} cannot be opened; it is damaged or of another version ({one_line(error)}). "
            "Export the run again."
        ) from None


def read_record(path: str | Path) -> ExportRecord:
    """Read the metadata of an export; runs no code.

    Args:
        path: the file, or the folder of an OpenVINO export.

    Raises:
        RunFolderError: it was not exported by Podium, or it is damaged.
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
        raise RunFolderError(f"{path} is not an export by Podium ({one_line(error)}).") from None
    return ExportRecord.parse(strings, path)


def remember(path: Path) -> None:
    """Remember that a TorchScript or pt2 file was written here, so that it may be opened here.

    Args:
        path: the file.
    """
    if path.suffix not in (".torchscript", ".pt2"):
        return
    with contextlib.suppress(StorageError):  # without a cache it will not be opened here
        write_text(_note(path.read_bytes()), "")


def _note(content: bytes) -> Path:
    return cache_root() / "exports" / hashlib.sha256(content).hexdigest()


def _load(place: Path, kind: str, precision: str | None) -> Predictor:
    content = b"" if kind == "openvino" else place.read_bytes()
    if kind in _RISKY and not _note(content).is_file():
        named, opener = _RISKY[kind]
        raise RunFolderError(
            f"{place} was not written by `podium export` on this machine, and opening a {named} "
            "file can run any code that someone put into it. Use the ONNX or OpenVINO export, "
            "which contain no code, or export the run here. If you trust the source, open it with "
            f"PyTorch itself: {opener}."
        )
    if kind == "openvino":
        strings = _openvino_strings(place)
    elif kind == "onnx":
        strings = _onnx_strings(content, place)
    else:
        strings = _zip_strings(content, place)
    record = ExportRecord.parse(strings, place)
    if record.format != kind:
        raise RunFolderError(f"{place} is {record.format} by its metadata, but {kind} by its name.")
    outputs = ("logits",) if record.known is None else ("logits", "similarity")
    compute = open_compute(place, content, kind, _precision(record, precision), outputs)
    return Predictor(
        record.class_names,
        record.image_size,
        record.temperature,
        compute,
        record.name,
        record.grey_windows,
        None if record.sets is None else record.sets.rule(len(record.class_names)),
        None if record.known is None else record.known.rule(),
    )


def open_compute(
    place: Path,
    content: bytes,
    kind: str,
    precision: str,
    outputs: Sequence[str] = ("logits",),
) -> runtimes.Compute:
    """The runtime's function from pixels to outputs. Opens any file: check it before.

    Args:
        place: the file.
        content: its bytes; not used for OpenVINO.
        kind: its format.
        precision: precision of an OpenVINO export.
        outputs: names of those to compute; the columns of several are joined.
    """
    if kind == "openvino":
        return runtimes.open_openvino(place, precision, outputs)
    if kind == "onnx":
        return runtimes.open_onnx(content, outputs)
    if kind == "torchscript":
        return runtimes.open_torchscript(content, outputs)
    return runtimes.open_pt2(content, outputs)


def _precision(record: ExportRecord, wanted: str | None) -> str:
    """The precision to use.

    Args:
        record: metadata of the export.
        wanted: the precision asked for; None: the export's own.

    Raises:
        ConfigError: the precision was not checked, or is not available.
    """
    if wanted is not None and wanted != record.precision and wanted not in record.checks:
        raise ConfigError(
            f"--precision {wanted}: this export was checked only in "
            f"{', '.join(record.checks) or record.precision}."
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
        raise RunFolderError(f"{place} is not an ONNX model ({one_line(error)}).") from None
    outside = onnx.TensorProto.EXTERNAL
    if any(tensor.data_location == outside for tensor in model.graph.initializer):
        raise RunFolderError(
            f"{place} takes its weights from another file; expected a single file, as "
            "`podium export` writes it."
        )
    return {entry.key: entry.value for entry in model.metadata_props}


def _zip_strings(content: bytes, place: Path) -> dict[str, str]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{EXTRA_FILE}")]
            if len(names) != 1:
                raise RunFolderError(
                    f"{place} has no metadata by Podium: expected a file written by "
                    "`podium export`."
                )
            if archive.getinfo(names[0]).file_size > MOST_TEXT:
                raise RunFolderError(f"{place} has more metadata than an export would.")
            found: Any = json.loads(archive.read(names[0]))
    except (zipfile.BadZipFile, ValueError, RecursionError, OSError) as error:
        raise RunFolderError(f"{place} is damaged ({one_line(error)}).") from None
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise RunFolderError(f"{place} is damaged (its record is not a table of strings).")
    return found


def _openvino_strings(place: Path) -> dict[str, str]:
    model = openvino().Core().read_model(place)
    if "podium" not in dict(model.rt_info):
        return {}
    found = model.get_rt_info(["podium"]).value
    return {str(key): str(value) for key, value in dict(found).items()}
