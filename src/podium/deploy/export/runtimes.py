"""Exported files in their runtimes: from uint8 pixels to an output, on all cores, thread-safe."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from podium.deploy.export.libraries import library, openvino, own_signal_stack, quiet
from podium.deploy.export.module import INPUT, OUTPUTS
from podium.runtime.threads import usable_cores

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]
Compute = Callable[[Pixels], Logits]

_LEAST_PART = 4  # images: smaller parts of a batch cost more than a second core saves


class _OnAllCores:
    """Uses all cores without oversubscription, whatever the number of callers.

    A large batch is split over threads that all callers share, one core each. A small one gets
    all cores if its caller is the only one, else one core, in the caller's own thread.

    Args:
        part: runs on one core; called from several threads at a time.
        whole: returns a function that runs on all cores; called once, for the first small batch
            of a single caller.
    """

    def __init__(self, part: Compute, whole: Callable[[], Compute]) -> None:
        self.part, self.make_whole, self.cores = part, whole, usable_cores()
        self.whole: Compute | None = None
        self.callers = 0
        self.lock = threading.Lock()
        self.pool = ThreadPoolExecutor(self.cores, thread_name_prefix="podium-export")

    def __call__(self, pixels: Pixels) -> Logits:
        with self.lock:
            self.callers += 1
            alone = self.callers == 1
        try:
            parts = min(self.cores, len(pixels) // _LEAST_PART)
            if parts > 1:
                work = np.array_split(pixels, parts)
                return np.concatenate(list(self.pool.map(self.part, work)))
            return (self._on_all() if alone and self.cores > 1 else self.part)(pixels)
        finally:
            with self.lock:
                self.callers -= 1

    def _on_all(self) -> Compute:
        with self.lock:
            if self.whole is None:
                self.whole = self.make_whole()
            return self.whole


def open_onnx(model: bytes, outputs: Sequence[str] = ("logits",)) -> Compute:
    """Open a model with onnxruntime on the CPU.

    Args:
        model: the ONNX file's bytes.
        outputs: names of those to compute; the columns of several are joined.

    Raises:
        ConfigError: onnxruntime is not installed.
    """
    ort = library("onnxruntime")

    def session(threads: int) -> Compute:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        # a spinning thread takes the core from those that have work
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        opened = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return lambda pixels: _joined(opened.run([*outputs], {INPUT: pixels}))

    return _OnAllCores(session(1), lambda: session(usable_cores()))


def open_openvino(xml: Path, precision: str, outputs: Sequence[str] = ("logits",)) -> Compute:
    """Open a model with OpenVINO on the CPU.

    Args:
        xml: the `model.xml`, with the `model.bin` beside it.
        precision: bf16; any other value means fp32, unless the file is int8.
        outputs: names of those to compute; the columns of several are joined.

    Raises:
        ConfigError: OpenVINO is not installed.
    """
    core = openvino().Core()
    model = core.read_model(xml)
    cores = usable_cores()

    def compiled(**settings: Any) -> Compute:
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": cores,
            **settings,
        }
        with own_signal_stack():
            plan = core.compile_model(model, "CPU", options)
        own = threading.local()  # a request takes one image at a time

        def run(pixels: Pixels) -> Logits:
            if not hasattr(own, "request"):
                own.request = plan.create_infer_request()
            found = own.request.infer({INPUT: np.ascontiguousarray(pixels)}, share_inputs=True)
            return _joined([np.array(found[name]) for name in outputs])

        # The first call sets up state shared by OpenVINO's bindings. Two threads that make it at
        # the same time may deadlock (one waits for the interpreter lock, one for that state).
        sides = [model.inputs[0].partial_shape[axis].get_length() for axis in (1, 2, 3)]
        run(np.zeros((1, *sides), np.uint8))
        return run

    many = compiled(PERFORMANCE_HINT="THROUGHPUT", NUM_STREAMS=cores)
    return _OnAllCores(many, lambda: compiled(PERFORMANCE_HINT="LATENCY"))


def open_torchscript(content: bytes, outputs: Sequence[str] = ("logits",)) -> Compute:
    """Open a model with PyTorch. The file can run code: see `podium.deploy.export.load`.

    Args:
        content: the TorchScript file's bytes.
        outputs: names of those to compute; the columns of several are joined.
    """
    import torch

    with quiet():
        module = torch.jit.load(io.BytesIO(content), "cpu")  # type: ignore[no-untyped-call]
    return _torch(module, outputs)


def open_pt2(content: bytes, outputs: Sequence[str] = ("logits",)) -> Compute:
    """Open a model with PyTorch. The file is unpickled: see `podium.deploy.export.load`.

    Args:
        content: the pt2 file's bytes.
        outputs: names of those to compute; the columns of several are joined.
    """
    import torch

    with quiet():
        module = torch.export.load(io.BytesIO(content)).module()
    return _torch(module.to(memory_format=torch.channels_last), outputs)


def _torch(module: Any, outputs: Sequence[str]) -> Compute:
    import torch

    def run(pixels: Pixels) -> Logits:
        writable = np.require(pixels, np.uint8, "W")  # torch warns about read-only arrays
        with torch.inference_mode():
            found = module(torch.from_numpy(writable))
        names = OUTPUTS[len(found)]
        return _joined([found[names.index(name)].numpy() for name in outputs])

    return run


def _joined(found: Sequence[Any]) -> Logits:
    """An output as it is; of several, the columns side by side."""
    if len(found) == 1:
        return np.asarray(found[0])
    return np.concatenate([one.reshape(len(one), -1) for one in found], axis=1)


def processor_multiplies_bf16() -> bool:
    """Whether OpenVINO computes in bf16 here; otherwise it would emulate it, slower than fp32."""
    found = openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in found
