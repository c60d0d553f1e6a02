"""Studies: contenders x seeds, trained under one protocol, resumable. The only orchestrator."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import yaml

from podium.config.code import allow_named, changed_code, code_of
from podium.config.registry import AUGMENTATIONS, LOSSES, METRICS
from podium.config.settings import Machine, RunSpec, StudySpec
from podium.config.studyfile import load_study, machine_settings, study_folder
from podium.data.images import thumbnail_jpeg
from podium.data.index import DataIndex, build_index
from podium.data.listing import open_source
from podium.errors import (
    ConfigError,
    DataError,
    PodiumError,
    RunFolderError,
    StorageError,
    UnreadableImageError,
    WeightsUnavailableError,
    one_line,
)
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.ledger import keep_copy
from podium.runs.pictures import write_pictures
from podium.runtime.events import (
    Message,
    Notify,
    RunDone,
    RunFailed,
    RunStarted,
    StopRequest,
    StudyStarted,
    WarningMessage,
    silent,
    stop_on_signals,
)
from podium.runtime.files import make_folder, remove_temporaries, utc_now, write_json, write_text
from podium.runtime.imports import collection_paused
from podium.runtime.lock import sole_owner
from podium.runtime.threads import in_order
from podium.study.outcome import Outcome, StudyResult
from podium.study.pictures import MOST_THUMBNAILS
from podium.study.trackers.listen import Listeners
from podium.study.trackers.tracker import StudyInfo
from podium.training.schedule import training_size

Code = dict[str, dict[str, str]]  # contender -> setting -> provenance of what is not ours


class Study:
    """A study on disk. `run` trains what is not done yet; `report` writes the page."""

    def __init__(
        self,
        spec: StudySpec,
        *,
        runs: str | Path = "runs",
        machine: Machine | None = None,
        audit: bool = True,
        beside: str | Path = "",
    ) -> None:
        self.spec = spec
        self.beside = beside  # the folder of its file, where code that it names may lie
        self.audit = audit
        self.machine = machine or Machine()
        self.folder = StudyFolder(Path(runs) / spec.name)

    @classmethod
    def load(
        cls,
        study: str | Path,
        *,
        data: str | Path | None = None,
        overrides: Iterable[str] = (),
        runs: str | Path = "runs",
        audit: bool = True,
        **machine: Any,
    ) -> Study:
        """A study from a YAML file or a built-in name.

        Args:
            study: path of a YAML file, or a name that `podium studies` lists.
            data: folder of images in place of the study's own.
            overrides: `key=value` strings, as the command's `--set`.
            runs: folder that holds all studies.
            audit: look for duplicates, leaks and wrong labels before training.
            machine: settings of `Machine`, such as `device="cuda"`.

        Raises:
            ConfigError: something in the study is impossible; the message says what.
        """
        spec = load_study(study, data=data, overrides=overrides)
        settings, beside = machine_settings(**machine), study_folder(study)
        return cls(spec, runs=runs, machine=settings, audit=audit, beside=beside)

    def run(self, notify: Notify = silent, stop: StopRequest | None = None) -> StudyResult:
        """Train and score every run that is not done, one after the other.

        One that fails is recorded and the others go on. Ctrl-C saves the run under way and
        raises KeyboardInterrupt; calling `run` again goes on from there.

        Code of the user's that the study names as `module:name` is imported first: from the folder
        of the study's file, the current one, or an installed package.

        Raises:
            ConfigError: such code cannot be imported, or is not what the setting takes.
            DataError: the images cannot be used; nothing was trained.
            RunFolderError: the folder belongs to other images or recipes, or is in use.
            StorageError: the folder cannot be written, or the disk is full.
        """
        allow_named((self.spec, self.machine), self.beside)
        metric = METRICS.provenance(self.spec.metric)
        shared = {} if metric is None else {"metric": metric}
        code = {name: shared | code_of(recipe) for name, recipe in self.spec.contenders.items()}
        names = self.machine.tracker_names
        with sole_owner(self.folder.path), Listeners(names, notify) as listeners:
            return self._run(code, listeners, stop)

    def _run(self, code: Code, notify: Listeners, stop: StopRequest | None) -> StudyResult:
        runs = self.folder.runs(self.spec)
        for folder in (self.folder.path, *(run.path for run in runs)):
            remove_temporaries(folder)  # of a kill
        for run in runs:
            self._refuse_another_recipe(run, code[run.contender])
        index = self._index(notify)
        todo = [run for run in runs if not run.is_done()]
        for run in todo:
            for notice in self.spec.contenders[run.contender].notices():
                notify(Message(f"{run.contender}: {notice}"))
        if todo:
            notify.start(StudyInfo(self.spec, self.folder, index.classes, index.fingerprint))
        models, outcomes = self._preflight(todo, notify)
        self._try_code(todo, index)
        if todo:
            self._try_metric(index)
        outcomes |= {run.path: Outcome(run, skipped=True) for run in runs if run.is_done()}
        write_text(self.folder.spec, self.spec.to_yaml())
        write_json(self.folder.data, index.summary())
        if self.audit and todo:
            self._audit(index, notify)
        todo = [run for run in todo if run.path not in outcomes]
        notify(StudyStarted(len(todo), sum(self._cost(run, index) for run in todo)))
        for run in todo:
            epochs, cost = self.spec.contenders[run.contender].most_epochs, self._cost(run, index)
            notify(RunStarted(self._title(run), epochs, cost, **_cell(run)))
            used = models[run.contender]
            outcomes[run.path] = self._one(run, index, used, code[run.contender], notify, stop)
            self._store_pictures(index)  # by now: the report wants them, no training does
            self._explain([run], index, notify)
        self._store_pictures(index)
        self._explain([run for run in runs if run not in todo], index, notify)
        keep_copy(self.folder.path, index.split_fingerprint("test"))
        return StudyResult(self.folder, tuple(outcomes[run.path] for run in runs))

    def report(self, *, lang: Literal["en", "pt"] = "en", **options: Any) -> Path:
        """Write figures, tables and the page from the files of the study; see `build_report`.

        Returns:
            The path of `index.html`.
        """
        from podium.reporting import build_report

        return build_report(self.folder, lang=lang, **options).index

    def _title(self, run: RunFolder) -> str:
        label = self.spec.label(run.contender)
        return label if len(self.spec.seeds) == 1 else f"{label}, seed {run.seed}"

    def _cost(self, run: RunFolder, index: DataIndex) -> int:
        """Pixels to train on, in millions: what the time left is reckoned from."""
        recipe = self.spec.contenders[run.contender]
        sides = [
            training_size(recipe, epoch, recipe.image_size or 224)
            for epoch in range(1, recipe.most_epochs + 1)
        ]
        return round(len(index.splits["train"]) * sum(side**2 for side in sides) / 1e6)

    def _index(self, notify: Notify) -> DataIndex:
        data = self.spec.data
        index = build_index(
            open_source(data),
            split_seed=data.split_seed,
            valid_fraction=data.valid_fraction,
            test_fraction=data.test_fraction,
            min_images=data.min_images,
            window=data.window,
            notify=notify,
        )
        for notice in index.notices:
            notify(Message(notice))
        for path, reason in index.unreadable[:20]:
            notify(WarningMessage(f"left out, unreadable: {path} ({reason})"))
        if len(index.unreadable) > 20:
            more = len(index.unreadable) - 20
            notify(WarningMessage(f"... and {more} more unreadable files, named in data.json"))
        started = any(run.last.is_file() or run.is_done() for run in self.folder.runs(self.spec))
        if started and self.folder.data.is_file():
            before = self.folder.read_data().get("fingerprint")
            if before != index.fingerprint:
                raise RunFolderError(
                    f"The images of {index.root} are not those that {self.folder.path} was begun "
                    f"with (fingerprint {str(before)[:12]}, now {index.fingerprint[:12]}). "
                    "Contenders would no longer be comparable. Give the study another name "
                    "(--name), or restore the images."
                )
        return index

    def _try_metric(self, index: DataIndex) -> None:
        """Find out now whether the metric can be computed, not at the end of an epoch."""
        from podium.statistics.scoring import find_metric, refuse_metric

        metric = find_metric(self.spec.metric)
        for split in ("valid", "test"):
            refuse_metric(metric, index.splits[split].labels, len(index.classes), split)

    def _refuse_another_recipe(self, run: RunFolder, code: dict[str, str]) -> None:
        if not run.config.is_file():
            return
        before = run.read_config()
        try:
            changed = self.spec.contenders[run.contender].changes_from(before["recipe"])
        except ValueError as error:
            raise RunFolderError(
                f"{run.config} holds settings that this Podium does not know "
                f"({one_line(error)}). Use the version that wrote it, or remove "
                "that folder to start it afresh."
            ) from None
        if (metric := before.get("metric", "accuracy")) != self.spec.metric:
            changed = [*changed, f"metric: {metric} -> {self.spec.metric}"]
        if changed:
            raise RunFolderError(
                f"{run.path} was begun with another recipe ({', '.join(changed)}). Nothing was "
                "changed. "
                "Give the study another name (--name), or remove that folder to start it afresh."
            )
        if told := changed_code(before.get("code"), code):
            raise RunFolderError(
                f"{run.path} was begun with other code of {told}. Nothing was changed. Restore "
                "that code, give the study another name (--name), or remove that folder to start "
                "it afresh."
            )

    def _preflight(
        self, todo: list[RunFolder], notify: Notify
    ) -> tuple[dict[str, RunSpec], dict[Path, Outcome]]:
        """Settle what each contender trains, before hours are spent on the others."""
        if not todo:
            return {}, {}
        with collection_paused():
            from podium.models import check_weights
            from podium.runtime.device import choose_device

        choose_device(self.machine)  # a wrong flag should end here, not once a contender

        settled: dict[str, RunSpec] = {}
        outcomes: dict[Path, Outcome] = {}
        for run in todo:
            recipe = self.spec.contenders[run.contender]
            if run.contender in settled:
                continue
            used = self._model_used(run.contender)
            if used is not None:
                settled[run.contender] = _stand_in(recipe, used)
                continue
            try:
                check_weights(
                    recipe.model,
                    pretrained=recipe.pretrained,
                    weights=recipe.weights,
                    pooling=recipe.pooling,
                    image_size=recipe.image_size,
                )
                settled[run.contender] = _stand_in(recipe, recipe.model)
            except WeightsUnavailableError as error:
                other = recipe.if_unavailable
                if other is None:
                    outcomes[run.path] = self._fail(run, error, notify)
                    continue
                check_weights(
                    other,
                    pretrained=True,
                    pooling=recipe.pooling,
                    image_size=recipe.image_size,
                )
                settled[run.contender] = _stand_in(recipe, other)
                notify(
                    WarningMessage(
                        f"{run.contender}: the weights of {recipe.model} cannot be had here, so "
                        f"{other} stands in, and the report says so.",
                    )
                )
        return settled, outcomes

    def _try_code(self, todo: list[RunFolder], index: DataIndex) -> None:
        """Try augmentations and losses of the user's, so that no mistake costs a training."""
        for name in dict.fromkeys(run.contender for run in todo):
            recipe = self.spec.contenders[name]
            if recipe.augmentation in AUGMENTATIONS.built_in and recipe.loss in LOSSES.built_in:
                continue
            from podium.training.job import try_code

            try:
                try_code(recipe, index)
            except ConfigError as error:
                raise ConfigError(f"{name}: {error}") from error

    def _model_used(self, contender: str) -> str | None:
        """The model that a contender's runs train; settled by its first one, kept for all seeds."""
        for seed in self.spec.seeds:
            run = self.folder.run(contender, seed)
            if run.last.is_file() and run.config.is_file():
                return str(run.read_config()["model_used"])
        return None

    def _one(
        self,
        run: RunFolder,
        index: DataIndex,
        recipe: RunSpec,
        code: dict[str, str],
        notify: Notify,
        stop: StopRequest | None,
    ) -> Outcome:
        wanted = self.spec.contenders[run.contender]
        make_folder(run.path)
        run.failed.unlink(missing_ok=True)
        values = {
            "contender": run.contender,
            "seed": run.seed,
            "model_used": recipe.model,
            "metric": self.spec.metric,
            "recipe": wanted.model_dump(mode="json"),
            **({"code": code} if code else {}),
        }
        write_text(run.config, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        try:
            from podium.study.contender import train_and_score

            job = (run, index, recipe, wanted.model, self.machine, notify)
            if stop is not None:
                closing = train_and_score(*job, stop, self.spec.metric)
            else:
                with stop_on_signals() as request:
                    closing = train_and_score(*job, request, self.spec.metric)
        except StorageError:
            raise  # the next run would fail in the same way, and no note of it can be written
        except Exception as error:
            return self._fail(run, error, notify)
        notify(RunDone(self._title(run), closing, **_cell(run)))
        return Outcome(run)

    def _fail(self, run: RunFolder, error: Exception, notify: Notify) -> Outcome:
        message = str(error) or type(error).__name__
        if not isinstance(error, PodiumError):
            message = f"{type(error).__name__}: {message}"
        elif isinstance(error, UnreadableImageError):
            message += (
                ". Put the file back as it was and run the same command again, or give the study "
                "another name (--name) to leave it out"
            )
        trace = "".join(traceback.format_exception(error))
        write_json(
            run.failed,
            {
                "reason": type(error).__name__,
                "message": message,
                "at": utc_now(),
                "traceback": trace if not isinstance(error, PodiumError) else None,
            },
        )
        notify(RunFailed(self._title(run), message, **_cell(run)))
        return Outcome(run, error=message)

    def _audit(self, index: DataIndex, notify: Notify) -> None:
        """Find what is wrong with the images before hours are spent on them."""
        from podium.auditing import audit_images, write_audit

        try:
            audit = audit_images(index, notify=notify)
        except Exception as error:  # the trainings are what was asked for
            notify(WarningMessage(f"The images could not be audited ({error}); going on."))
            return
        before = self.folder.audit.read_bytes() if self.folder.audit.is_file() else b""
        write_audit(audit, self.folder.audit)
        if before != self.folder.audit.read_bytes():
            self.folder.audit_pictures.unlink(missing_ok=True)  # they are of other findings
        for split in ("test", "valid"):
            leaked = len(audit.leaked(split))
            if leaked:
                notify(
                    WarningMessage(
                        f"{leaked} of {audit.totals[split]} {split} images have a duplicate, or "
                        "likely so, in another split; the report gives the accuracy without them.",
                    )
                )

    def _store_pictures(self, index: DataIndex) -> None:
        """Small copies of what the report shows, where they are not there yet.

        Each file is whole or absent; what a kill left out is made by the next `run`.
        """
        if not self.folder.thumbnails.is_file():
            paths = index.splits["test"].paths
            shown = paths[:: max(1, -(-len(paths) // MOST_THUMBNAILS))]

            def small(path: str) -> tuple[str, bytes] | None:
                try:
                    return path, thumbnail_jpeg(index.open_image(path))
                except UnreadableImageError:  # since it was checked; the runs say so themselves
                    return None

            with contextlib.closing(in_order(small, shown)) as pictures:
                self.folder.write_thumbnails(filter(None, pictures))
        if self.folder.audit.is_file() and not self.folder.audit_pictures.is_file():
            from podium.auditing import read_audit
            from podium.results.pictures import audit_thumbnails

            with contextlib.suppress(DataError):  # an audit of another version: the report says so
                found = audit_thumbnails(read_audit(self.folder.audit), index.reader)
                write_pictures(self.folder.audit_pictures, found.items())

    def _explain(self, runs: list[RunFolder], index: DataIndex, notify: Notify) -> None:
        """Where finished runs looked, for the report; one that has it, or has no weights, stays."""
        if any(run.is_done() and not run.explanations.is_file() for run in runs):
            from podium.study.explain import explain_runs

            explain_runs(self.folder, runs, index.reader, self.machine, notify)


def _stand_in(recipe: RunSpec, model: str) -> RunSpec:
    """The recipe as it is trained: with the model that was settled on."""
    return recipe.model_copy(update={"model": model, "if_unavailable": None})


def _cell(run: RunFolder) -> dict[str, Any]:
    """What an event of a run says of it."""
    return {"contender": run.contender, "seed": run.seed}
