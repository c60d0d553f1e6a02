"""`podium stress`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from podium.cli.options import DeviceOption, Lang, LangOption
from podium.cli.terminal import bars, out
from podium.runs.predictions import SplitName

app = typer.Typer()


@app.command()
def stress(
    runs: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="Folder of a study, a contender or a run."),
    ],
    data: Annotated[
        str | None, typer.Option(help="Where the study's images are now, if they have moved.")
    ] = None,
    split: Annotated[
        str,
        typer.Option(help="Images to corrupt: valid; or test, one more look at the test images."),
    ] = "valid",
    device: DeviceOption = "auto",
    lang: LangOption = Lang.en,
    to: Annotated[
        Path | None, typer.Option(help="Folder to write to instead of STUDY/stress.")
    ] = None,
) -> None:
    """Compare contenders on blurred, noisy, compressed, darkened, rotated and coarse images.

    Every contender sees the same images in five strengths of each corruption. The page shows what
    each loses, paired differences, and whether the ranking turns.
    """
    from podium.reporting.stress_report import write_stress_report
    from podium.reporting.words.labels import labels
    from podium.reporting.words.stress_words import ranking_sentence, turn_sentences
    from podium.study.stress import predict_corrupted

    say = labels(lang.value)
    with bars() as tell:
        name = cast(SplitName, split)
        study = predict_corrupted(runs, data, split=name, device=device, notify=tell)
    place = to or study.path / "stress"
    found = write_stress_report(study, name, place, lang.value)
    for label, clean, mean in (
        (found.labels[one], curve[0].value, found.means[one]) for one, curve in found.curves.items()
    ):
        values = {"clean": say.percent(clean, 1), "mean": say.percent(mean, 1)}
        out.tell(say("stress_line", name=label, **values))
    if len(found.curves) > 1:
        out.tell(ranking_sentence(found, say), style="bold")
        for line in turn_sentences(found, say) or [say("stress_no_turn")]:
            out.tell(line)
    out.tell(f"{say('stress_title')}: {place / 'index.html'}")
