"""`bird preannotate`: find things by name in every scan of a folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bird_vlm.commands.arguments import Model, Plane, Window, level_width
from bird_vlm.commands.running import runs_a_model
from bird_vlm.console import console, plain_errors
from bird_vlm.running import Running

if TYPE_CHECKING:
    from bird_vlm.preannotation.job import Job
    from bird_vlm.preannotation.studies import Studies

EPILOG = "bird preannotate studies/ --labels labels.txt      |      bird preannotate studies/ "
EPILOG += "--label 'liver expected' --label spleen --coarse"
FAILED = 1  # exit code where a case failed


@plain_errors
@runs_a_model
def preannotate(
    studies: Annotated[
        Path,
        typer.Argument(help="Folder of NIfTI, NRRD, MetaImage, PNG, JPEG or DICOM, at any depth."),
    ],
    running: Running,
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="One label per line, # begins a comment; 'liver expected' flags cases without a "
            "liver, 'liver expected abdomen/*' only those whose name fits.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="One label, as a line of FILE; repeat for more.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="For the results; STUDIES/.bird/preannotation without it.")
    ] = None,
    plane: Plane = "axial",
    window: Window = None,
    threshold: Annotated[
        float, typer.Option(help="Presence probability below which nothing is shown.")
    ] = 0.5,
    coarse: Annotated[
        bool,
        typer.Option("--coarse", help="Ask a few slices, then only where their answers differ."),
    ] = False,
    model: Model = "bird-mini",
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Processes of this machine, or Ray (the cluster at RAY_ADDRESS)."),
    ] = "local",
    workers: Annotated[
        int, typer.Option(min=1, help="Cases under way at a time, with a model each.")
    ] = 1,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask cases again that failed before.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Drop all results in OUT first.")] = False,
) -> None:
    """Find things by name in every scan of a folder: boxes, Slicer ROIs, and a page of all cases.

    The same command goes on where it was interrupted. A case that cannot be read is listed, and
    the others go on; then the exit code is 1.
    """
    from bird_vlm.preannotation.job import Job
    from bird_vlm.preannotation.layout import OURS
    from bird_vlm.preannotation.studies import Studies
    from bird_vlm.preannotation.wanted import read_wanted

    _check_engine(engine)
    out = (out or studies / OURS / "preannotation").absolute()
    job = Job(
        out=out,
        wanted=read_wanted(labels or (), label or ()),
        model=model,
        running=running,
        plane=plane,
        window=level_width(window),
        threshold=threshold,
        search="coarse-to-fine" if coarse else "exhaustive",
    )
    found = Studies(studies, out)
    _tell_what_is_there(found, job)
    index = _run(found, job, engine, workers, retry_failed, again)
    _tell(index, out)
    if index["counts"]["failed"]:
        raise SystemExit(FAILED)


def _check_engine(engine: str) -> None:
    if engine == "ray":
        from bird_vlm.preannotation.ray_workers import check_ray

        check_ray()


def _run(
    found: Studies, job: Job, engine: str, workers: int, retry_failed: bool, again: bool
) -> dict[str, Any]:
    from bird_vlm.preannotation.preannotate import Options, Preannotation

    run = Preannotation(found, job, Options(engine, workers, retry_failed, again))
    try:
        return run.run()
    except KeyboardInterrupt:
        done = f"{len(run.records)} of {len(run.cases)} cases are done"
        _say(f"{done}; the same command goes on with the others")
        raise


def _tell_what_is_there(found: Studies, job: Job) -> None:
    cases = f"{len(found.cases)} case{'' if len(found.cases) == 1 else 's'}"
    _say(f"{cases} in {found.root}")
    reasons = Counter(one.reason for one in found.skipped)
    if reasons:
        told = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common())
        _say(f"skipped: {told}")
    for one in job.wanted:
        nowhere = not any(one.is_expected_in(case.name) for case in found.cases)
        if one.expected is not None and nowhere:
            _say(f"{one.label}: expected in {one.expected!r}, which is the name of no case")


def _tell(index: dict[str, Any], out: Path) -> None:
    counts = index["counts"]
    _say(
        f"{counts['done']} of {counts['cases']} cases done, {counts['findings']} findings, "
        f"{counts['missing']} with an expected organ missing, {counts['failed']} failed"
    )
    for case in index["cases"]:
        if case["status"] == "failed":
            _say(f"{case['case']}: {case['error']}", style="red")
    typer.echo(out / "index.html")


def _say(line: str, style: str | None = None) -> None:
    console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
