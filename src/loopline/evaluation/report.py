"""The evaluation as one page that stands alone: verdict first, then why, then all that was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from loopline.evaluation.catalogue import FAIRNESS, METRICS
from loopline.evaluation.drawing import CSS, svg, variables
from loopline.evaluation.gates import decision
from loopline.evaluation.plots import figures, main_metric
from loopline.evaluation.records import Difference, Evidence, Fairness, Metric, Slice, Verdict
from loopline.statistics.intervals import widening

_STYLE = """
:root{--good:#00704f;--bad:#b44400;--wait:#7a5c00}
@media (prefers-color-scheme:dark){:root{--good:#3cc79a;--bad:#f08a4b;--wait:#e0b840}}
*{box-sizing:border-box}
html{color-scheme:light dark}
body{margin:0 auto;max-width:72rem;padding:1.5rem 1.25rem 3rem;background:var(--paper);color:var(--ink);
 font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
h1{font-size:1.45rem;line-height:1.3;margin:.2rem 0 .4rem}
h2{font-size:1.05rem;margin:2.2rem 0 .5rem}
p{margin:.3rem 0;max-width:48rem}
.faint{color:var(--faint)}
.good{color:var(--good)}.bad{color:var(--bad)}.wait{color:var(--wait)}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.3rem .9rem .3rem 0;border-bottom:1px solid var(--hair);vertical-align:top}
th{font-weight:600;color:var(--faint);font-size:.85rem}
td.number,th.number{text-align:right;white-space:nowrap}
td:last-child,th:last-child{padding-right:0}
td:last-child:not(.number){min-width:8.5rem}td.number .faint{font-size:.87em}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1rem;align-items:start}
figure{margin:0;border:1px solid var(--hair);padding:.4rem}
svg{display:block;width:100%;height:auto}
@media print{body{max-width:none}figure{break-inside:avoid}}
"""

_WORDS = {"pass": ("passes", "good"), "ask": ("needs a person", "wait"), "fail": ("is refused", "bad")}
_MARKS = {"pass": ("✓ pass", "good"), "ask": ("? ask", "wait"), "fail": ("✗ fail", "bad")}


def page(evidence: Evidence, verdicts: Sequence[Verdict] = ()) -> str:
    """The page (HTML with inline SVG, light and dark, nothing loaded from anywhere). Every name is escaped."""
    sections = [
        _head(evidence, verdicts),
        _gates(verdicts),
        _metrics(evidence),
        _differences(evidence),
        _plots(evidence),
        _slices(evidence),
        _fairness(evidence),
        _method(evidence),
    ]
    title = escape(f"Evaluation of {evidence.model}")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{variables()}{_STYLE}</style></head><body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body></html>\n"
    )


def sentence(evidence: Evidence, verdicts: Sequence[Verdict]) -> str:
    """The verdict in one sentence of plain text: what it comes to, and the first gates that decide it."""
    if not verdicts:
        return f"{evidence.model} was measured on {evidence.n:,} rows of {evidence.dataset}; no gate has judged it yet."
    outcome = decision(verdicts)
    said = f"{evidence.model} {_WORDS[outcome][0]}"
    if outcome == "pass":
        return f"{said}: all {len(verdicts)} gates are met." if len(verdicts) > 1 else f"{said}: its gate is met."
    deciding = [v.gate for v in verdicts if v.outcome == outcome]
    more = f" and {len(deciding) - 2} more" if len(deciding) > 2 else ""
    return f"{said}: {'; '.join(deciding[:2])}{more}."


def _head(evidence: Evidence, verdicts: Sequence[Verdict]) -> str:
    tone = _WORDS[decision(verdicts)][1] if verdicts else "faint"
    facts = [
        f"{evidence.n:,} rows of {evidence.dataset}, window {evidence.window}",
        f"{evidence.task}" + (f", threshold {evidence.threshold:.3g}" if evidence.threshold is not None else ""),
        f"look {evidence.looks} at this window, {_percent(evidence.confidence)} intervals",
    ]
    if evidence.latency_p99_ms is not None:
        facts.append(f"p99 of one prediction {evidence.latency_p99_ms:.3g} ms")
    return (
        f'<h1 class="{tone}">{escape(sentence(evidence, verdicts))}</h1>'
        f'<p class="faint">{escape(" · ".join(facts))}</p>'
    )


def _gates(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return ""
    rows = []
    for verdict in verdicts:
        mark, tone = _MARKS[verdict.outcome]
        rows.append([_cell(verdict.gate), f'<td class="{tone}">{mark}</td>', _cell(verdict.reason)])
    return "<h2>Gates</h2>" + _table([("Gate", ""), ("Verdict", ""), ("Why", "")], rows)


def _metrics(evidence: Evidence) -> str:
    rows = [
        [
            _cell(_title(m.name)),
            _number(m.value),
            _number(m.low, m.high),
            _cell("higher" if METRICS[m.name].higher_is_better else "lower"),
            _cell(m.method),
        ]
        for m in evidence.metrics
    ]
    interval = f"{_percent(evidence.confidence)} interval"
    columns = [("Metric", ""), ("Value", "number"), (interval, "number"), ("Better", ""), ("Method", "")]
    return "<h2>Metrics</h2>" + _table(columns, rows)


def _differences(evidence: Evidence) -> str:
    def row(found: Difference) -> list[str]:
        higher = METRICS[found.metric].higher_is_better
        gain = (found.low, found.high) if higher else (-found.high, -found.low)
        said, tone = (
            ("better", "good") if gain[0] > 0 else ("worse", "bad") if gain[1] < 0 else ("cannot tell", "faint")
        )
        return [
            _cell(found.opponent),
            _cell(_title(found.metric)),
            _number(found.a),
            _number(found.b),
            _number(found.value),
            _number(found.low, found.high),
            f'<td class="{tone}">{said}</td>',
        ]

    if not evidence.differences:
        return ""
    columns = [
        ("Against", ""),
        ("Metric", ""),
        ("This", "number"),
        ("Other", "number"),
        ("Difference", "number"),
        (f"{_percent(evidence.confidence)} interval", "number"),
        ("Says", ""),
    ]
    return "<h2>Against others, on the same rows</h2>" + _table(columns, [row(d) for d in evidence.differences])


def _plots(evidence: Evidence) -> str:
    drawn = [
        f'<figure role="img" aria-label="{escape(name)}">{svg(figure, inline=name).decode()}</figure>'
        for name, figure in figures(evidence, CSS).items()
    ]
    return f'<h2>Plots</h2><div class="plots">{"".join(drawn)}</div>' if drawn else ""


def _slices(evidence: Evidence) -> str:
    if not evidence.slices:
        return ""
    main = main_metric(evidence)
    names = list(dict.fromkeys([main, *[m.name for m in evidence.metrics if m.name in _SHOWN_BY_SLICE]]))[:4]

    def row(part: Slice) -> list[str]:
        known = {m.name: m for m in part.metrics}
        cells = [_cell(part.column), _cell(part.group), f'<td class="number">{part.n:,}</td>']
        if evidence.task == "binary":
            cells.append(f'<td class="number">{part.positives or 0:,}</td>')
        cells += [_with_interval(known.get(name)) for name in names]
        return [*cells, _cell(part.note)]

    columns = [("Column", ""), ("Group", ""), ("Rows", "number")]
    columns += [("Positive", "number")] if evidence.task == "binary" else []
    columns += [(_title(name), "number") for name in names] + [("Note", "")]
    return "<h2>Slices</h2>" + _table(columns, [row(part) for part in evidence.slices])


_SHOWN_BY_SLICE = ("recall", "precision", "brier", "f1_macro", "log_loss", "rmse", "r2")


def _fairness(evidence: Evidence) -> str:
    if not evidence.fairness:
        return ""

    def row(found: Fairness) -> list[str]:
        compared = len(found.groups) - len(found.too_few) >= 2
        return [
            _cell(found.column),
            _cell(FAIRNESS[found.metric]),
            _number(found.value) if compared else '<td class="number">–</td>',
            _number(found.low, found.high) if compared else '<td class="number">too few to tell</td>',
            _number(found.noise) if compared else '<td class="number">–</td>',
            _cell(" and ".join(found.between)),
            _cell(", ".join(found.too_few)),
        ]

    columns = [
        ("Column", ""),
        ("Difference", ""),
        ("Largest", "number"),
        (f"{_percent(evidence.confidence)} interval", "number"),
        ("Noise alone", "number"),
        ("Between", ""),
        ("Too few to tell", ""),
    ]
    rates = []
    for column in dict.fromkeys(found.column for found in evidence.fairness):
        groups = next(found.groups for found in evidence.fairness if found.column == column)
        rates += [
            [
                _cell(column),
                _cell(group.group),
                f'<td class="number">{group.n:,}</td>',
                f'<td class="number">{group.positives:,}</td>',
                *[
                    _number(rate) if rate is not None else '<td class="number">–</td>'
                    for rate in (group.selection_rate, group.true_positive_rate, group.false_positive_rate)
                ],
            ]
            for group in groups
        ]
    shown = [("Column", ""), ("Group", "")] + [
        (name, "number") for name in ("Rows", "Positive", "Selected", "True positive rate", "False positive rate")
    ]
    return (
        "<h2>Fairness</h2>"
        + _table(columns, [row(found) for found in evidence.fairness])
        + '<p class="faint">The largest of several noisy differences is above zero even between equal groups: '
        "“noise alone” is what groups of these sizes would show on average.</p>" + _table(shown, rates)
    )


def _method(evidence: Evidence) -> str:
    later = (
        f"This is look {evidence.looks} at the window, so the intervals are {widening(evidence.looks):.1f} times as wide as "
        "at the first one (Scheffé’s, with alpha spending): all later looks together miss with 5 %, also of models that were "
        "chosen by the estimates of earlier looks."
        if evidence.looks > 1
        else "This is the first look at the window; later looks will widen the intervals."
    )
    return (
        "<h2>How to read this</h2><p>A gate looks at the end of the interval that speaks against the model. "
        "Proportions have Wilson’s interval, ROC areas DeLong’s on the logit scale, other areas that of their "
        "influence function, all else a bootstrap of 1,000 replicates. Differences are paired on the same rows. "
        "Slices are not corrected for their number: with many groups, some stand out by chance. "
        f"{escape(later)}</p>"
    )


def _table(columns: Sequence[tuple[str, str]], rows: Iterable[list[str]]) -> str:
    head = "".join(
        f'<th scope="col" class="{kind}">{escape(name)}</th>' if kind else f'<th scope="col">{escape(name)}</th>'
        for name, kind in columns
    )
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str) -> str:
    return f"<td>{escape(text)}</td>"


def _number(value: float, end: float | None = None) -> str:
    shown = _digits(value) if end is None else f"{_digits(value)} to {_digits(end)}"
    return f'<td class="number">{shown}</td>'


def _with_interval(metric: Metric | None) -> str:
    if metric is None:
        return '<td class="number">–</td>'
    return (
        f'<td class="number">{_digits(metric.value)} '
        f'<span class="faint">{_digits(metric.low)} to {_digits(metric.high)}</span></td>'
    )


def _digits(value: float) -> str:
    shown = f"{value:.3f}" if abs(value) < 10 else f"{value:#,.4g}" if abs(value) < 1e3 else f"{value:,.0f}"
    return shown.replace("-", "−")


def _percent(confidence: float) -> str:
    return f"{confidence * 100:.4g} %"


def _title(metric: str) -> str:
    return METRICS[metric].title
