"""8-bit weights and activations: calibrated on training images, chosen on validation images.

The network's body computes with 8-bit integers; its first convolution, its classifier and the
layers around them stay in fp32. If that loses too much, more layers stay in fp32: the next ones of
the stem, then those with the largest loss on their own. If it still loses too much, it is refused.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from podium.deploy.export.libraries import library, quiet
from podium.deploy.export.verify import Check, refuse
from podium.errors import ExportError
from podium.runtime.events import Message, Notify, silent

Pixels = npt.NDArray[np.uint8]
Judge = Callable[[Path], Check]

_HEAVY = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_OPS = (*_HEAVY, "Add", "Relu", "Clip", "MaxPool", "Concat")
_BATCH = 10
_FEW = 60  # calibration images for histogram methods, which take minutes for hundreds

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "minimum and maximum": ("MinMax", {}),
    "minimum and maximum, averaged": (
        "MinMax",
        # a constant of 0.01 would use the first batch's range throughout
        {"CalibMovingAverage": True, "CalibMovingAverageConstant": 0.1},
    ),
    "99.999th percentile": ("Percentile", {}),
    "entropy": ("Entropy", {}),
}
"""How an activation's range is found: the calibration method of onnxruntime, and options."""


@dataclass(frozen=True)
class Quantized:
    """An int8 model that passed: its file, its check, and a description of how it was made."""

    path: Path
    check: Check
    told: str


def quantize(
    model: Path,
    calibration: Pixels,
    folder: Path,
    judge: Judge,
    notify: Notify = silent,
) -> Quantized:
    """Make the int8 model that agrees best with PyTorch, with as few layers in fp32 as possible.

    Args:
        model: the fp32 ONNX model.
        calibration: uint8 of shape (n, S, S, channels).
        folder: folder for temporary files and the result.
        judge: checks a quantised ONNX file on validation images, in the runtime that it is for.
        notify: called with a message for each attempt.

    Raises:
        ExportError: none agrees well enough; the message has the figures of the best.
        ConfigError: onnxruntime or onnx is not installed.
    """
    search = _Search(model, calibration, folder, judge, notify)
    for stage in (search.calibrations, search.longer_stems, search.sensitive, search.histograms):
        stage()
        passed = [one for one in search.tried if not refuse(one.check, "int8")]
        if passed:
            return max(passed, key=_rank)
    best = max(search.tried, key=_rank)
    raise ExportError(
        f"int8 changes this model too much ({refuse(best.check, 'int8')}). The best of "
        f"{len(search.tried)} ways was {best.told}. Export it without --int8, "
        "or calibrate with more images similar to those of the task (--calibration DIR)."
    )


def _rank(one: Quantized) -> tuple[float, float]:
    # of equal agreement, the smallest change of probabilities: it is less random
    return -one.check.disagreements, -one.check.mean


@dataclass
class _Search:
    model: Path
    calibration: Pixels
    folder: Path
    judge: Judge
    notify: Notify
    tried: list[Quantized] = field(default_factory=list)

    def __post_init__(self) -> None:
        library("onnxruntime").set_default_logger_severity(
            3
        )  # its hints on graphs are of no use here
        tools = library("onnxruntime.quantization.shape_inference")
        self.prepared = self.folder / "prepared.onnx"
        with _silent():
            tools.quant_pre_process(str(self.model), str(self.prepared), skip_symbolic_shape=True)
        nodes = library("onnx").load(self.prepared).graph.node
        heavy = [at for at, node in enumerate(nodes) if node.op_type in _HEAVY]
        if len(heavy) < 3:
            raise ExportError("This model has too few layers for int8 to be worth it.")
        # layers before the first one prepare pixels; those after the last, except for the
        # classifier, pool and take hardly any time
        self.around = [
            node.name
            for at, node in enumerate(nodes)
            if at < heavy[0] or (at > heavy[-2] and node.op_type not in ("Relu", "Clip"))
        ]
        self.layers = [nodes[at].name for at in heavy[:-1]]
        self.best_method = next(iter(METHODS))
        self.worst: list[str] = []

    def calibrations(self) -> None:
        for method in list(METHODS)[:2]:
            for stem in (1, 2):
                self.attempt(method, self.layers[:stem], _first(stem))
        self.best_method = self.best().told.partition(";")[0]

    def longer_stems(self) -> None:
        for stem in (3, 4):
            self.attempt(self.best_method, self.layers[:stem], _first(stem))

    def sensitive(self) -> None:
        """Each layer alone in int8; those with the largest loss return to fp32, more and more."""
        lost = {}
        for number, name in enumerate(self.layers, 1):
            self.notify(Message(f"int8: layer {number} of {len(self.layers)} alone"))
            others = [layer for layer in self.layers if layer != name]
            path = self.write(self.best_method, others, "alone")
            lost[name] = self.judge(path).mean
        worst = sorted(self.layers, key=lambda name: -lost[name])
        for share in (16, 8, 4, 2):
            count = max(1, len(worst) // share)
            self.attempt(self.best_method, worst[:count], f"{count} sensitive layers")
            if not refuse(self.tried[-1].check, "int8"):
                return
        self.worst = worst[: max(1, len(worst) // 8)]

    def histograms(self) -> None:
        for method in list(METHODS)[2:]:
            self.attempt(method, self.worst, f"{len(self.worst)} sensitive layers")

    def best(self) -> Quantized:
        return max(self.tried, key=_rank)

    def attempt(self, method: str, kept: Sequence[str], what: str) -> None:
        """Quantise, check the agreement, and keep both."""
        self.notify(Message(f"int8: {method}, {what} in fp32"))
        path = self.write(method, kept, f"int8-{len(self.tried)}")
        count = len(self.images(method))
        told = f"{method}; {what} and the classifier in fp32; {count} images"
        self.tried.append(Quantized(path, self.judge(path), told))

    def images(self, method: str) -> Pixels:
        return self.calibration if METHODS[method][0] == "MinMax" else self.calibration[:_FEW]

    def write(self, method: str, kept: Sequence[str], name: str) -> Path:
        tools = library("onnxruntime.quantization")
        kind, options = METHODS[method]
        path = self.folder / f"{name}.onnx"
        with _silent():
            tools.quantize_static(
                str(self.prepared),
                str(path),
                _reader(self.images(method)),
                quant_format=tools.QuantFormat.QDQ,
                per_channel=True,
                weight_type=tools.QuantType.QInt8,
                activation_type=tools.QuantType.QUInt8,
                op_types_to_quantize=list(_OPS),
                nodes_to_exclude=[*self.around, *kept],
                calibrate_method=getattr(tools.CalibrationMethod, kind),
                extra_options=dict(options),
                calibration_cache_path=self.folder / f"{list(METHODS).index(method)}.json",
            )
        return path


def _first(count: int) -> str:
    return "the first layer" if count == 1 else f"the first {count} layers"


def _reader(images: Pixels) -> Any:
    """A source of batches for onnxruntime: an object with `get_next`."""
    base = library("onnxruntime.quantization").CalibrationDataReader
    batches = iter([{"images": images[at : at + _BATCH]} for at in range(0, len(images), _BATCH)])
    methods = {"get_next": lambda self: next(batches, None)}
    return type("Reader", (base,), methods)()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Suppress the progress output of the quantiser."""
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        yield
