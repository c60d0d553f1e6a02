"""The optional libraries of exports: asked for when they are needed, and kept quiet."""

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
    """Import one of the extra `export`.

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
    """OpenVINO, unable to tell anybody that it is used.

    `import openvino` by itself reports to an analytics service of its makers, through the package
    `openvino_telemetry`; where that cannot be imported, OpenVINO uses a stand-in that does
    nothing. So it cannot be imported here. Models are read by `Core.read_model`, since
    `convert_model` would look for that package again.

    Raises:
        ConfigError: it is not installed.
    """
    with _lock:
        if "openvino" in sys.modules:  # what it told when it came is not ours to take back
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
    """Keep to itself what exporters say that is no news to a user of Podium."""
    loggers = [
        logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # TorchScript is deprecated, and stays for those who have it; the command says so itself
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", FutureWarning)
            # the exporter of PyTorch, about its own calls of its own deprecated functions
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
    """Give this thread its stack for signals back, where the block put another in its place.

    Compiling a model in OpenVINO 2026.4 does: it sets up a stack of its own, takes it away with the
    last model, and puts back what it had found, which may be that of another model and gone too.
    The next signal that Python handles on that stack (Ctrl-C, the end of a process that decodes
    images) then ends the program with a segmentation fault.
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
