"""Present: what every page of ours has: one look, one file, nothing fetched from anywhere."""

from __future__ import annotations

from typing import Sequence

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6577; --line: #d9dee7; --card: #fff;
  --page: #f4f6f9; --hue: #2563c9; --good: #1d7a46; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7ebf2; --soft: #9aa5b8; --line: #343c4b;
  --card: #1d232e; --page: #12161d; --hue: #78a9ff; --good: #6fd39a; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
header p, .soft { color: var(--soft); margin: .2rem 0 1rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1rem; margin: 1rem 0; break-inside: avoid; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr));
  gap: .2rem 1.5rem; margin: .6rem 0 0; }
.facts div { display: flex; flex-direction: column; border-top: 1px solid var(--line);
  padding: .3rem 0; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; font-variant-numeric: tabular-nums; }
table { width: 100%; border-collapse: collapse; } th { text-align: left; color: var(--soft);
  font-weight: 500; font-size: .85rem; }
td, th { padding: .3rem .5rem .3rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bar { height: .5rem; border-radius: .25rem; background: var(--hue); min-width: 2px; }
.share { width: 35%; }
svg { width: 100%; height: auto; display: block; } .grid { stroke: var(--line); stroke-width: 1; }
.axis { fill: var(--soft); font-size: 11px; } .line { fill: none; stroke: var(--hue);
  stroke-width: 1.8; stroke-linejoin: round; } .area { fill: var(--hue); opacity: .12; }
.dot { fill: var(--hue); } .hit { fill: transparent; }
.hit:hover { fill: var(--hue); opacity: .15; }
h3 { font-size: .95rem; margin: .8rem 0 0; } .strip { height: 1.4rem; margin: 0 0 .3rem; }
.strip .up { fill: var(--good); } .strip .part { fill: var(--hue); }
.strip .down { fill: var(--bad); } .strip .unknown { fill: var(--soft); opacity: .6; }
.strip .hole { fill: var(--card); }
section > p { margin: .3rem 0; } .verdict { font-size: 1.1rem; font-weight: 600; }
.good { color: var(--good); } .bad { color: var(--bad); }
.wide { overflow-x: auto; } .wide th { white-space: nowrap; }
.wide td { overflow-wrap: break-word; vertical-align: top; }
td.when { min-width: 5.5rem; } td.word { white-space: nowrap; }
@media (max-width: 40rem) { .axis { font-size: 19px; } .axis.even { display: none; }
  .share { display: none; } .wide th { display: none; }
  .wide tr { display: block; border-bottom: 1px solid var(--line); padding: .4rem 0; }
  .wide td { display: block; border: 0; padding: 0; overflow-wrap: anywhere; }
  .wide td::before { content: attr(data-of) " "; color: var(--soft); font-size: .85rem; } }
@media print { body { background: #fff; } section { border-color: #bbb; } main { padding: 0; } }
"""


def page(head: str, body: Sequence[str]) -> str:
    """A whole page of escaped parts; `head` is its title. It fetches nothing from anywhere."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>{head}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )
