"""How the server's own pages look: one frame, one style, and the marks of a status (picture and word, never colour alone)."""

from __future__ import annotations

import base64

from loopline.api.pages.html import Html, element, joined

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""What a page of ours may do, unless it says otherwise (its Content-Security-Policy)."""

_STYLE = """
:root{color-scheme:light dark;--paper:#f8f9fa;--card:#fff;--ink:#1f2328;--soft:#59636e;--line:#d9dee3;--accent:#0b57d0;
--good:#12693a;--warn:#8a5200;--bad:#b3261e;--wash:#eef1f4}
@media (prefers-color-scheme:dark){:root{--paper:#121417;--card:#1a1d21;--ink:#e4e7ea;--soft:#9ba5af;--line:#30363c;
--accent:#8ab4f8;--good:#6fcf97;--warn:#e9b949;--bad:#ff8a80;--wash:#23282d}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:14px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans",sans-serif}
header,main,footer{max-width:1160px;margin:0 auto;padding:0 24px}
header{display:flex;flex-wrap:wrap;align-items:baseline;gap:4px 16px;padding-top:16px;padding-bottom:12px}
header nav{margin-left:auto;display:flex;flex-wrap:wrap;gap:4px 16px}
.brand{font-size:16px;font-weight:650}
main{padding-bottom:24px}footer{color:var(--soft);font-size:12px;padding-bottom:32px}
h1{font-size:20px;line-height:1.35;margin:4px 0 8px;font-weight:650;overflow-wrap:anywhere}h2{font-size:16px;margin:32px 0 8px}
h3{font-size:12px;margin:16px 0 4px;color:var(--soft);font-weight:600}
p{margin:4px 0}a{color:var(--accent);text-underline-offset:2px}
a:focus-visible,summary:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
code,pre,.id{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;overflow-wrap:anywhere}
pre{margin:4px 0;padding:8px 12px;background:var(--wash);border-radius:6px;white-space:pre-wrap;overflow-wrap:anywhere}
.soft{color:var(--soft)}.small{font-size:12px}.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}.accent{color:var(--accent)}
.card{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:16px;margin:0 0 16px;min-width:0}
.card.needs{border-left:3px solid var(--warn)}.card.needs li{margin:0 0 8px}.card.needs li:last-child{margin:0}
.card ul{margin:8px 0 0;padding:0;list-style:none}summary{cursor:pointer;color:var(--accent)}
.status{display:inline-flex;align-items:baseline;gap:6px;font-weight:600;white-space:nowrap}
.status svg{width:15px;height:15px;flex:none;align-self:center}
.verdict{font-size:16px;line-height:1.4;margin:2px 0 0;overflow-wrap:anywhere}
.title{display:flex;flex-wrap:wrap;align-items:baseline;gap:4px 12px}
.title h2{margin:0;font-size:16px;overflow-wrap:anywhere}
td.nb a+a{margin-left:16px}
.links{display:flex;flex-wrap:wrap;gap:4px 16px;margin-top:4px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:5px 16px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600;font-size:12px;white-space:nowrap}tr:last-child td{border-bottom:0}
th.n,td.n{text-align:right;white-space:nowrap}td.nb{white-space:nowrap}td:last-child,th:last-child{padding-right:0}
td:not([class]){min-width:13rem}td .id,td code{white-space:nowrap}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,9.8rem),1fr));gap:8px 16px;margin:8px 0 0}
.facts div{min-width:0}.facts dt{color:var(--soft);font-size:12px}.facts dd{margin:0;font-variant-numeric:tabular-nums}
.facts b{font-size:16px;font-weight:600}
ol.stages{display:flex;flex-wrap:wrap;gap:4px;margin:4px 0;padding:0;list-style:none}
ol.stages li{border:1px solid var(--line);border-radius:6px;padding:1px 10px;color:var(--soft)}
ol.stages li.now{border-color:var(--accent);color:var(--accent);font-weight:600}ol.stages li.past{background:var(--wash)}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,26rem),1fr));gap:16px;margin:16px 0}
.plot{width:100%;height:auto}
@media (max-width:640px){header,main,footer{padding-left:16px;padding-right:16px}header nav{margin-left:0}.card{padding:12px}}
@media print{body{background:none}.card{break-inside:avoid}}
"""

_ICONS = {
    "good": '<circle cx="8" cy="8" r="7"/><path d="M4.6 8.2l2.3 2.3 4.5-4.8"/>',
    "warn": '<path d="M8 1.6L15 14H1z"/><path d="M8 6.2v3.6M8 12v.1"/>',
    "bad": '<circle cx="8" cy="8" r="7"/><path d="M5.4 5.4l5.2 5.2M10.6 5.4l-5.2 5.2"/>',
    "moving": '<circle cx="8" cy="8" r="7"/><path d="M4.5 8h6.5M8.4 5.2L11.2 8l-2.8 2.8"/>',
    "person": '<circle cx="8" cy="5" r="3"/><path d="M2 14.4c.6-3.3 3-5 6-5s5.400 1.700 6 5"/>',
    "soft": '<circle cx="8" cy="8" r="7"/><path d="M5 8h6"/>',
}
_COLOURS = {"moving": "accent", "person": "warn"}
_ICON = base64.b64encode(
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" fill="none" stroke="#4c8df6" stroke-width="2.4">'
    b'<path d="M13.500 8a5.500 5.500 0 1 1-1.600-3.900"/><path d="M12.400 1v3.600H8.800"/></svg>'
).decode()


def document(title: str, nav: Html, body: Html, foot: Html, script: Html | None = None) -> str:
    """A whole page; `script` comes last."""
    head = joined(
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width,initial-scale=1"),
        element("title", title),
        element("link", rel="icon", href=f"data:image/svg+xml;base64,{_ICON}"),
        element("style", Html(_STYLE)),
    )
    shown = joined(element("header", nav), element("main", body), element("footer", foot), script)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{shown}</body></html>\n'


def status(kind: str, word: str) -> Html:
    """A status: its picture and its word, in its colour. `kind`: good, warn, bad, moving, person or soft."""
    picture = Html(
        '<svg viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" '
        f'stroke-linejoin="round" aria-hidden="true">{_ICONS[kind]}</svg>'
    )
    return element("span", picture, word, class_=f"status {_COLOURS.get(kind, kind)}")


def table(
    head: list[str], rows: list[list[object]], *, numbers: tuple[int, ...] = (), whole: tuple[int, ...] = ()
) -> Html:
    """A table; `numbers` are the columns aligned to the right, `whole` those whose lines are not broken."""

    def kind(place: int) -> str:
        return "n" if place in numbers else "nb" if place in whole else ""

    names = joined(*(element("th", name, scope="col", class_=kind(i)) for i, name in enumerate(head)))
    lines = joined(
        *(element("tr", *(element("td", cell, class_=kind(i)) for i, cell in enumerate(row))) for row in rows)
    )
    return element(
        "div", element("table", element("thead", element("tr", names)), element("tbody", lines)), class_="scroll"
    )
