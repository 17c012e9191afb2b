"""`loopline evaluations`: the evidence about model versions, and the verdicts of the gates on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, group, session

if TYPE_CHECKING:
    from loopline.evaluation.records import Evaluation


@group(
    "evaluations", "Evaluations. EVALUATION is evaluation:ID, ID, or a model version (readmission@3): its newest one."
)
def evaluations() -> None:
    pass


@evaluations.command()
@click.option("--model", metavar="REF", help="Only of this model version.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@as_json
@click.pass_context
def ls(ctx: click.Context, model: str | None, limit: int, json: bool) -> None:
    """The newest evaluations."""
    with session(ctx) as s:
        ref = s.models.show(*names.model(s, model)).ref if model else None
        found = s.evaluations.list(model=ref, limit=limit)
    if json:
        show.print_json(found)
        return
    show.table(
        ["evaluation", "model", "on", "rows", "metric", "verdict", "at"],
        [
            (
                e.id,
                e.evidence.model,
                e.evidence.dataset,
                e.evidence.n,
                "".join(show.interval(m.name, m.value, m.low, m.high) for m in e.evidence.metrics[:1]),
                e.judgement.outcome if e.judgement else "",
                show.when(e.at),
            )
            for e in found
        ],
        empty="No evaluations yet.",
    )


@evaluations.command("show")
@click.argument("evaluation")
@as_json
@click.pass_context
def show_evaluation(ctx: click.Context, evaluation: str, json: bool) -> None:
    """One evaluation: metrics, differences, fairness, verdicts."""
    with session(ctx) as s:
        found = s.evaluations.show(names.evaluation(s, evaluation))
    if json:
        show.print_json(found)
        return
    _told(found)


@evaluations.command()
@click.argument("model")
@click.argument("dataset")
@click.option("--label", required=True, metavar="COLUMN", help="What is predicted.")
@click.option(
    "--against", multiple=True, metavar="REF", help="A model version to be measured on the same rows (repeats)."
)
@click.option(
    "--protected", multiple=True, metavar="COLUMN", help="Look at fairness and slices by this column (repeats)."
)
@as_json
@click.pass_context
def measure(
    ctx: click.Context,
    model: str,
    dataset: str,
    label: str,
    against: tuple[str, ...],
    protected: tuple[str, ...],
    json: bool,
) -> None:
    """Measure MODEL on the rows of DATASET. Of a sealed test side this is a look: it is counted, and each later one shows less."""
    with session(ctx) as s:
        refs = {text: s.models.show(*names.model(s, text)).ref for text in (model, *against)}
        rows = s.datasets.show(*names.dataset(s, dataset)).ref
        opponents = {text: refs[text] for text in against}
        found = s.evaluations.measure(refs[model], rows, label, opponents=opponents, protected=[*protected])
    if json:
        show.print_json(found)
        return
    _told(found)


def _told(found: Evaluation) -> None:
    evidence = found.evidence
    show.title(found.ref)
    show.facts(
        [
            ("model", evidence.model),
            ("on", f"{evidence.dataset}, {evidence.n:,} rows, look {evidence.looks}"),
            ("confidence", evidence.confidence),
            ("threshold", evidence.threshold),
            ("latency p99", f"{evidence.latency_p99_ms:.3g} ms" if evidence.latency_p99_ms is not None else ""),
            ("measured", f"{show.when(found.at)} by {found.by}"),
        ]
    )
    show.table(["metric", "value", "low", "high"], [(m.name, m.value, m.low, m.high) for m in evidence.metrics])
    if evidence.differences:
        show.table(
            ["against", "metric", "difference", "low", "high", "this", "other"],
            [(d.opponent, d.metric, d.value, d.low, d.high, d.a, d.b) for d in evidence.differences],
        )
    if evidence.fairness:
        show.table(
            ["column", "fairness", "value", "low", "high", "too few rows"],
            [(f.column, f.metric, f.value, f.low, f.high, f.too_few) for f in evidence.fairness],
        )
    if found.judgement:
        show.table(
            ["gate", "verdict", "reason"], [(v.gate, v.outcome, v.reason) for v in found.judgement.verdicts]
        )  # fmt: skip


@evaluations.command()
@click.argument("evaluation")
@click.option("-o", "--out", metavar="FILE", help="Where to write it (else standard output).")
@click.pass_context
def report(ctx: click.Context, evaluation: str, out: str | None) -> None:
    """The evaluation as one self-contained HTML page with plots."""
    with session(ctx) as s:
        show.save(s.evaluations.report(names.evaluation(s, evaluation)), out, "the report")


@evaluations.command()
@click.argument("evaluation")
@click.argument("folder", type=click.Path(file_okay=False))
@click.pass_context
def plots(ctx: click.Context, evaluation: str, folder: str) -> None:
    """Write all plots of an evaluation into FOLDER."""
    with session(ctx) as s:
        found = s.evaluations.show(names.evaluation(s, evaluation))
        Path(folder).mkdir(parents=True, exist_ok=True)
        for plot in found.plots:
            show.put(str(Path(folder, plot)), s.evaluations.plot(found.id, plot).read())
    click.echo(f"Wrote {len(found.plots)} plots of {found.ref} to {folder}.")
