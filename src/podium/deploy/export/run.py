"""Export of a finished run to files for other programs, checked before they are kept."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from podium.deploy.export import load, write
from podium.deploy.export.files import beside, put, size_of
from podium.deploy.export.images import Sample, calibration_images, check_images
from podium.deploy.export.libraries import library, openvino
from podium.deploy.export.module import KNOWN, SETS, deployable, example
from podium.deploy.export.quantize import quantize
from podium.deploy.export.record import FORMATS, ExportRecord, Format, Precision, describe
from podium.deploy.export.runtimes import Compute, processor_multiplies_bf16
from podium.deploy.export.speed import Speed, measure
from podium.deploy.export.verify import (
    Check,
    Logits,
    compare,
    in_batches,
    makes_these_sets,
    refuse,
)
from podium.deploy.find.choose import choose_run
from podium.deploy.predictor import Predictor, load_predictor
from podium.deploy.sets import Wanted
from podium.errors import ConfigError, ExportError
from podium.evaluation.trained import TrainedModel
from podium.runs.folder import RunFolder
from podium.runs.predictions import softmax
from podium.runtime.events import Message, Notify, silent
from podium.runtime.files import make_folder

_SIMILAR = {"fp32": 1e-3, "bf16": 0.05}
"""How far the similarity of an image may be from that of the model in PyTorch."""

_ENDINGS = {name: f".{name}" for name in FORMATS} | {"openvino": "-openvino"}


@dataclass(frozen=True)
class Export:
    """One exported model with its check; OpenVINO models may be checked in two precisions.

    Attributes:
        path: the file, or OpenVINO's folder.
        format: onnx, torchscript, pt2 or openvino.
        precision: fp32, bf16 or int8.
        size: bytes.
        check: how it agreed with the model in PyTorch.
        quantization: how int8 was made; empty string for others.
        speed: milliseconds per image, and images per second in batches of 32; None: not
            measured.

    Examples:
        >>> from pathlib import Path
        >>> import podium
        >>> from podium.deploy.export.verify import Check
        >>> same = {"agreement": 1, "disagreements": 0, "largest": 0, "mean": 0}
        >>> check = Check(images=50, split="validation images", **same)
        >>> one = podium.Export(Path("model.onnx"), "onnx", "fp32", 13_700_000, check)
        >>> f"{one.format} {one.precision}: {one.check.agreement:.0%} agree"
        'onnx fp32: 100% agree'
    """

    path: Path
    format: str
    precision: str
    size: int
    check: Check
    quantization: str = ""
    speed: Speed | None = None


@dataclass(frozen=True)
class Exports:
    """All exports of one call, and the model in PyTorch for comparison.

    Attributes:
        exports: in the order in which the formats were given.
        pytorch: speed of the model in PyTorch, fp32; None: not measured.
        size: bytes of its weights.
        checked_on: number and kind of the images of the check.

    Examples:
        >>> import podium
        >>> found = podium.Exports((), None, 13_700_000, "200 of the validation images")
        >>> f"{found.size / 1e6:.1f} MB"
        '13.7 MB'
    """

    exports: tuple[Export, ...]
    pytorch: Speed | None
    size: int
    checked_on: str


def export(
    run: RunFolder | str | Path,
    formats: Sequence[str] = ("onnx",),
    *,
    int8: bool = False,
    precision: str = "fp32",
    coverage: float | None = None,
    by_class: bool = False,
    keep: float | None = None,
    calibration: str | Path | None = None,
    data: str | Path | None = None,
    to: str | Path | None = None,
    rounds: int = 5,
    notify: Notify = silent,
) -> Exports:
    """Export a run's best epoch to files for other programs, each checked before it is kept.

    Preprocessing, temperature and class names are included.

    Each file is compared with the model in PyTorch on real images, in its own runtime, and gets
    its name once it has passed: a file that exists agrees. `podium.deploy.export.verify` has the
    limits.

    Args:
        run: folder of a run, or of a contender or study: the run with the best validation score;
            or the `hf://OWNER/NAME` address of a pushed run.
        formats: any of onnx, torchscript (deprecated by PyTorch), pt2 and openvino.
        int8: quantise to 8 bits; onnx and openvino only.
        precision: fp32 or bf16, the default precision of an OpenVINO export.
        coverage: probability, 0.5 to below 1, that the set of classes which the file then gives as
            a third output contains the true one; None: no sets.
        by_class: promise it for the images of each class, not only for all together.
        keep: share of images like the validation images, 0.5 to below 1, that the file's output
            `none_of_these` does not call none of the classes; None: it has no such output.
        calibration: folder of images for int8; None: the study's training images.
        data: folder of images for the check; None: the study's validation images.
        to: folder to write to; None: `export/` in the run's folder.
        rounds: rounds of the speed measurement; 0: no measurement.
        notify: called with a message for each step.

    Returns:
        Path, size, agreement and speed of each export; `podium.load_exported` opens one.

    Raises:
        ExportError: an export does not agree with its model; no file of it is left.
        ConfigError: a setting is invalid, a library is missing, there are no images, or the
            validation images are too few to promise the coverage.
        RunFolderError: `run` holds no trained model.

    Examples:
        >>> import podium
        >>> podium.export("runs/my-study", formats=["tflite"])
        Traceback (most recent call last):
        ...
        podium.errors.ConfigError: --format 'tflite': expected one of onnx, torchscript, pt2, ...
    """
    _refuse_settings(formats, int8, precision, rounds)
    wanted = Wanted.of(coverage, by_class, keep)
    if keep is not None and int8:
        raise ConfigError("--keep with --int8: an 8-bit network has other features. Omit one.")

    def say(text: str) -> None:
        notify(Message(text))

    folder = choose_run(run, say)
    for name in formats:  # before any work
        for needed in ("onnx", "onnxscript", "onnxruntime") if name in ("onnx", "openvino") else ():
            library(needed)
    if "openvino" in formats:
        openvino()
        if precision == "bf16" and not processor_multiplies_bf16():
            raise ConfigError("--precision bf16: this processor does not multiply bf16.")
    say("Reading images")
    predictor, model = load_predictor(folder, device="cpu", wanted=wanted, tell=say)
    sample = check_images(folder, model.class_names, model.image_size, data, windows=model.windows)
    job = _Job(folder, predictor, model, sample, notify)
    place = folder.path / "export" if to is None else Path(to)
    make_folder(place)
    calibrated = (
        calibration_images(folder, model.image_size, calibration, data, windows=model.windows)
        if int8
        else None
    )
    found: list[Export] = []
    ways: dict[str, Compute] = {"PyTorch": predictor.compute}
    with beside(place) as temporary:
        for name in dict.fromkeys(formats):
            kind = cast(Format, name)
            if calibrated is not None:
                candidate = job.int8(kind, calibrated, temporary)
            else:
                candidate = job.plain(kind, precision, temporary)
            end = place / (folder.contender + ("-int8" if int8 else "") + _ENDINGS[kind])
            put(candidate.path, end, temporary)
            load.remember(end)
            for used, check in candidate.record.checks.items():
                found.append(
                    Export(end, kind, used, size_of(end), check, candidate.record.quantization)
                )
                ways[str(len(found))] = candidate.computes[used]
        speeds: dict[str, Speed] = {}
        if rounds:
            say("Measuring the speed")
            speeds = measure(ways, sample.pixels[:32], rounds)
    exports = [replace(one, speed=speeds.get(str(at))) for at, one in enumerate(found, 1)]
    told = f"{len(sample.pixels):,} of {sample.told}"
    return Exports(tuple(exports), speeds.get("PyTorch"), folder.best.stat().st_size, told)


@dataclass(frozen=True)
class _Candidate:
    """An export that passed its check and has no final name yet."""

    path: Path
    record: ExportRecord
    computes: dict[str, Compute]


class _Job:
    """One run, the images that it is checked on, and PyTorch's logits for them."""

    def __init__(
        self,
        folder: RunFolder,
        predictor: Predictor,
        model: TrainedModel,
        sample: Sample,
        notify: Notify,
    ) -> None:
        self.folder, self.model, self.sample, self.notify = folder, model, sample, notify
        self.sets, self.known = predictor.sets, predictor.known
        notify(Message("Running the model in PyTorch"))
        found = in_batches(predictor.compute, sample.pixels)
        self.expected = found[:, : len(predictor.class_names)]
        self.similarity = found[:, -1]
        self._as_recorded()
        self.module = deployable(model, self.sets, self.known, predictor.network)
        self.onnx: Any = None

    def plain(self, kind: Format, precision: str, temporary: Path) -> _Candidate:
        """Convert, check in fp32 (OpenVINO also in bf16 if supported), record."""
        self.notify(Message(f"Exporting {kind}"))
        write_to = self._writer(kind, temporary)
        own: Precision = "bf16" if kind == "openvino" and precision == "bf16" else "fp32"
        record = self._record(kind, own)
        place = temporary / f"candidate{_ENDINGS[kind]}"
        write_to(record.strings(), place)
        computes, checks = {}, {}
        both = kind == "openvino" and processor_multiplies_bf16()
        for used in ("fp32", "bf16") if both else ("fp32",):
            self.notify(Message(f"Checking {kind}, {used}"))
            compute = _opened(place, kind, used)
            check = self._check(in_batches(compute, self.sample.pixels), used)
            why = refuse(check, used)
            if why and used in ("fp32", own):
                raise ExportError(_failed(kind, used, why, check))
            if not why:
                computes[used], checks[used] = compute, check
        return self._closed(record, checks, computes, write_to, place)

    def int8(self, kind: Format, calibration: Any, temporary: Path) -> _Candidate:
        """Quantise with the format's own runtime as the judge, and record."""
        model = temporary / "fp32.onnx"
        if not model.exists():
            write.onnx_writer(self._onnx())({}, model)
        work = temporary / f"int8-{kind}"
        make_folder(work)
        computes = {}

        def judge(path: Path) -> Check:
            computes["int8"] = compute = _opened(path, kind, "int8")
            return self._check(in_batches(compute, self.sample.pixels), "int8")

        best = quantize(model, calibration, work, judge, self.notify)
        record = self._record(kind, "int8").model_copy(update={"quantization": best.told})
        writer = (
            write.openvino_writer(best.path)
            if kind == "openvino"
            else write.onnx_writer(library("onnx").load(best.path))
        )
        place = temporary / f"candidate-int8{_ENDINGS[kind]}"
        writer(record.strings(), place)
        compute = _opened(place, kind, "int8")
        check = self._check(in_batches(compute, self.sample.pixels), "int8")
        why = refuse(check, "int8")
        if why:
            raise ExportError(_failed(kind, "int8", why, check))
        return self._closed(record, {"int8": check}, {"int8": compute}, writer, place)

    def _closed(
        self,
        record: ExportRecord,
        checks: dict[str, Check],
        computes: dict[str, Compute],
        write_to: write.Writer,
        place: Path,
    ) -> _Candidate:
        """Write the checks' results into the file, and verify that it is still the same model."""
        full = record.model_copy(update={"checks": checks})
        final = place.with_name(f"final-{place.name}")  # the other one is still open
        write_to(full.strings(), final)
        if load.read_record(final) != full:
            raise ExportError(f"The {record.format} file does not keep the metadata written to it.")
        few = self.sample.pixels[:8]
        again = _opened(final, record.format, record.precision)(few)
        before = computes[record.precision](few)
        if not np.allclose(again, before, rtol=1e-3, atol=1e-3):
            raise ExportError(f"The {record.format} file changed while its record was written.")
        if self.sets is not None:
            inside = _opened(final, record.format, record.precision, SETS)(few)
            shares = softmax(again, self.model.temperature)
            if not makes_these_sets(inside != 0, shares, self.sets, record.precision):
                raise ExportError(f"The sets of the {record.format} file are not those of the run.")
        if self.known is not None:
            found = _opened(final, record.format, record.precision, KNOWN)(few)
            apart = np.abs(found[:, 0] - self.similarity[: len(few)])
            foreign = self.known.foreign(found[:, 0].astype(np.float64))
            near = np.abs(found[:, 0] - self.known.least) < 1e-6
            if (
                apart.max() > _SIMILAR[record.precision]
                or not (near | (foreign == found[:, 1])).all()
            ):
                raise ExportError(f"The {record.format} file measures other similarities.")
        return _Candidate(final, full, computes)

    def _writer(self, kind: Format, temporary: Path) -> write.Writer:
        sample = example(self.model)
        if kind == "torchscript":
            return write.torchscript_writer(copy.deepcopy(self.module), sample)
        if kind == "pt2":
            return write.pt2_writer(self.module, sample)
        writer = write.onnx_writer(self._onnx())
        if kind == "onnx":
            return writer
        place = temporary / "fp32.onnx"
        writer({}, place)
        return write.openvino_writer(place)

    def _onnx(self) -> Any:
        if self.onnx is None:
            self.onnx = write.to_onnx(self.module, example(self.model))
        return self.onnx

    def _check(self, found: Logits, precision: str) -> Check:
        return compare(
            self.expected,
            found,
            self.model.temperature,
            precision,
            split=self.sample.told,
            labels=self.sample.labels,
            sets=self.sets,
        )

    def _record(self, kind: Format, precision: Precision) -> ExportRecord:
        run = self.folder
        source = f"{run.study.path.name}/{run.contender}/seed-{run.seed}"
        return describe(self.model, kind, precision, run.contender, source, self.sets, self.known)

    def _as_recorded(self) -> None:
        """Check that the weights reproduce the study's records, else they or the images changed."""
        if self.sample.recorded is None:
            return
        check = compare(
            self.sample.recorded.logits,
            self.sample.recorded.reduced(self.expected),
            self.model.temperature,
            "bf16",  # the study may have used another device
            split=self.sample.told,
        )
        why = refuse(check, "bf16")
        if why:
            raise ExportError(
                f"The model in {self.folder.path} does not reproduce what its study recorded for "
                f"the validation images ({why}). Were the images or the weights changed? Restore "
                "them, or check the export on other images with --data DIR."
            )


def _refuse_settings(formats: Sequence[str], int8: bool, precision: str, rounds: int) -> None:
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ConfigError(
            f"--format {unknown[0] if unknown else ''!r}: expected one of {', '.join(FORMATS)}."
        )
    if precision not in ("fp32", "bf16"):
        raise ConfigError(f"--precision {precision!r}: expected fp32 or bf16.")
    if precision == "bf16" and set(formats) != {"openvino"}:
        raise ConfigError("--precision bf16 is only for --format openvino.")
    if int8 and precision == "bf16":
        raise ConfigError("--int8 and --precision bf16: expected only one of them.")
    no_int8 = [name for name in formats if name not in ("onnx", "openvino")]
    if int8 and no_int8:
        raise ConfigError(
            f"--int8 with --format {no_int8[0]}: PyTorch's quantisation is moving to another "
            "library. Use --format onnx or --format openvino for int8."
        )
    if not 0 <= rounds <= 1000:
        raise ConfigError(f"--rounds {rounds}: expected 0 to 1,000.")


def _failed(kind: str, precision: str, why: str, check: Check) -> str:
    return (
        f"The {kind} export in {precision} does not agree with the model in PyTorch on "
        f"{check.images} of {check.split}: {why}. Same class: {100 * check.agreement:.2f} %; "
        f"largest difference of a probability: {check.largest:.2g}. No file of it was kept."
    )


def _opened(
    place: Path, kind: str, precision: str, outputs: Sequence[str] = ("logits",)
) -> Compute:
    """One of Podium's own files, in its runtime. OpenVINO also reads an ONNX file."""
    if kind == "openvino":
        xml = place / "model.xml" if place.is_dir() else place
        return load.open_compute(xml, b"", kind, precision, outputs)
    return load.open_compute(place, place.read_bytes(), kind, precision, outputs)
