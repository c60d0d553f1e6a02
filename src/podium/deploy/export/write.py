"""Writing of a deployable model in each format, with its record in the format's own metadata."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from podium.deploy.export.libraries import library, openvino, quiet
from podium.deploy.export.module import INPUT, MOST_IMAGES, Deployable
from podium.runtime.files import atomic_write, make_folder

EXTRA_FILE = "podium.json"
"""Name of the record within a TorchScript or pt2 file."""

OPSET = 20

Strings = Mapping[str, str]

Writer = Callable[[Strings, Path], None]
"""Writes the model with a record to a path: a file, or OpenVINO's folder."""


def torchscript_writer(module: Deployable, sample: torch.Tensor) -> Writer:
    """Trace and freeze the model: runs wherever libtorch does, also from C++.

    Args:
        module: the model.
        sample: an example of its input.
    """
    module = module.to(memory_format=torch.channels_last)
    with quiet(), torch.no_grad():
        frozen = torch.jit.freeze(_trace(module, sample))

    return _archive_writer(lambda out, extra: torch.jit.save(frozen, out, _extra_files=extra))


def pt2_writer(module: Deployable, sample: torch.Tensor) -> Writer:
    """Export the program: for `torch.export.load`, and for AOTInductor from there.

    Args:
        module: the model.
        sample: an example of its input.
    """
    with quiet(), torch.no_grad():
        program = torch.export.export(module, (sample,), dynamic_shapes=_shapes())

    return _archive_writer(lambda out, extra: torch.export.save(program, out, extra_files=extra))


def _archive_writer(save: Callable[[io.BytesIO, dict[str, Any]], None]) -> Writer:
    def write(strings: Strings, place: Path) -> None:
        out = io.BytesIO()
        with quiet():
            save(out, {EXTRA_FILE: json.dumps(dict(strings))})
        atomic_write(place, lambda file: file.write(out.getvalue()))

    return write


def to_onnx(module: Deployable, sample: torch.Tensor) -> Any:
    """Convert the model to an onnx.ModelProto, checked by onnx.

    Args:
        module: the model.
        sample: an example of its input.

    Raises:
        ConfigError: onnx or onnxscript is not installed.
    """
    onnx = library("onnx")
    library("onnxscript")
    with quiet(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):  # it prints its steps
        program: Any = torch.onnx.export(
            module,
            (sample,),
            input_names=[INPUT],
            output_names=list(module.outputs),
            dynamic_shapes=_shapes(),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        model = program.model_proto
    onnx.checker.check_model(model, full_check=True)
    return model


def onnx_writer(model: Any) -> Writer:
    """Write one file with its weights inside.

    Args:
        model: an onnx.ModelProto of less than 2 GB, protobuf's limit.
    """

    def write(strings: Strings, place: Path) -> None:
        del model.metadata_props[:]
        library("onnx").helper.set_model_props(model, dict(strings))
        atomic_write(place, lambda file: file.write(model.SerializeToString()))

    return write


def openvino_writer(onnx_file: Path) -> Writer:
    """Write `model.xml` and `model.bin` to a folder, from an ONNX file.

    Args:
        onnx_file: the ONNX file.

    Raises:
        ConfigError: OpenVINO is not installed.
    """
    ov = openvino()
    model = ov.Core().read_model(onnx_file)

    def write(strings: Strings, place: Path) -> None:
        make_folder(place)
        for key, value in strings.items():
            model.set_rt_info(value, ["podium", key])
        ov.save_model(model, place / "model.xml", compress_to_fp16=False)
        for name in ("model.xml", "model.bin"):
            with open(place / name, "rb+") as file:
                os.fsync(file.fileno())

    return write


def _shapes() -> dict[str, dict[int, Any]]:
    return {INPUT: {0: torch.export.Dim("batch", min=1, max=MOST_IMAGES)}}


def _trace(module: Deployable, sample: torch.Tensor) -> Any:
    return torch.jit.trace(module, (sample,), check_trace=False)  # type: ignore[no-untyped-call]
