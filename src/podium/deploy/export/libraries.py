"""The optional libraries of exports: imported when needed, and kept quiet."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from podium.errors import ConfigError

_TELEMETRY = "openvino_telemetry"
_lock = threading.Lock()


def library(name: str) -> Any:
    """Import a library of the extra `export`.

    Args:
        name: dotted name of the module.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"This needs {name.partition('.')[0]}, which cannot be imported ({error}). "
            "Install it: pip install 'podium[export]'"
        ) from None


def openvino() -> Any:
    """Import OpenVINO without its telemetry.

    `import openvino` alone reports to an analytics service of its makers, through the package
    `openvino_telemetry`; if that cannot be imported, OpenVINO uses a stub that does nothing. So
    its import is blocked here. Models are read by `Core.read_model`, since `convert_model` would
    look for that package again.

    Raises:
        ConfigError: it is not installed.
    """
    with _lock:
        if "openvino" in sys.modules:  # already imported: its report cannot be undone
            return sys.modules["openvino"]
        missing = object()
        before: Any = sys.modules.get(_TELEMETRY, missing)
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
        try:
            return library("openvino")
        finally:
            if before is missing:
                del sys.modules[_TELEMETRY]
            else:
                sys.modules[_TELEMETRY] = before


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress output of exporters that is of no use to users of Podium."""
    loggers = [
        logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # TorchScript is deprecated but still supported; the command says so itself
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", FutureWarning)
            # PyTorch's exporter calls its own deprecated functions
            warnings.filterwarnings(
                "ignore",
                category=DeprecationWarning,
                module=r"(torch|onnxscript|onnx_ir|copyreg)(\.|$)",
            )
            warnings.filterwarnings(
                "ignore", category=FutureWarning, module=r"(torch|onnxscript|onnx_ir|copyreg)(\.|$)"
            )
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class _SignalStack(ctypes.Structure):
    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextlib.contextmanager
def own_signal_stack() -> Iterator[None]:
    """Restore this thread's signal stack if the block has replaced it.

    Compiling a model in OpenVINO 2026.4 replaces it: it sets up a stack of its own, removes it
    with the last model, and restores what it had found, which may be another model's stack that is
    gone as well. The next signal that Python handles on that stack (Ctrl-C, the end of a decoding
    process) then ends the program with a segmentation fault.
    """
    change = getattr(ctypes.CDLL(None), "sigaltstack", None) if sys.platform != "win32" else None
    if change is None:
        yield
        return
    before = _SignalStack()
    change(None, ctypes.byref(before))
    try:
        yield
    finally:
        change(ctypes.byref(before), None)
