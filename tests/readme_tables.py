"""The tables of docs/reference are made from the code.

`python -m tests.readme_tables --write` writes them (`make generate`); without `--write` it says
whether they are up to date, as a test does.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Callable

from monitoring import catalog
from monitoring.config import load as configuration

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in cells])


def settings() -> str:
    """Every setting but the thresholds, which have a table of their own."""
    rows = [
        (f"`{r.name}`", f"`{r.env}`" if r.env else "", f"`{r.default}`", r.meaning)
        for r in configuration.reference()
        if not r.name.startswith("ALERT_THRESHOLDS")
    ]
    return _table(("setting", "environment", "default", "meaning"), rows)


def thresholds() -> str:
    defaults = {r.name: r.default for r in configuration.reference()}
    rows = []
    for limit in catalog.THRESHOLDS.values():
        name = f"ALERT_THRESHOLDS['{limit.category}']['{limit.key}']"
        levels = [defaults[f"{name}['{level}']"] for level in ("warning", "critical")]
        runbook = f"[{limit.runbook}](../runbooks/{limit.runbook}.md)" if limit.runbook else ""
        name = f"`{limit.category}` / `{limit.key}`"
        rows.append((name, *levels, limit.unit, limit.help, runbook))
    return _table(("threshold", "warning", "critical", "unit", "what it judges", "runbook"), rows)


def metrics() -> str:
    rows = [
        (f"`{m.name}`", m.kind, ", ".join(f"`{label}`" for label in m.labels), m.help)
        for m in catalog.METRICS.values()
    ]
    return _table(("metric", "kind", "labels", "meaning"), rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "settings": settings,
    "thresholds": thresholds,
    "metrics": metrics,
}


def page(name: str) -> Path:
    """The page that holds the table."""
    return ROOT / "docs" / "reference" / f"{name}.md"


def filled(name: str, text: str) -> str:
    """`text` of a page with what stands between `<!-- table NAME -->` and `<!-- end -->` anew."""
    pattern, table = rf"(<!-- table {name} -->\n).*?(<!-- end -->)", TABLES[name]()
    fresh, found = re.subn(pattern, lambda m: f"{m[1]}\n{table}\n\n{m[2]}", text, flags=re.DOTALL)
    if found != 1:
        raise ValueError(f"{page(name)}: {found} places for the table {name}, one is needed")
    return fresh


def main() -> int:
    stale = []
    for name in TABLES:
        text = page(name).read_text(encoding="utf-8")
        fresh = filled(name, text)
        if fresh != text:
            stale.append(name)
        if "--write" in sys.argv:
            page(name).write_text(fresh, encoding="utf-8")
    return int(bool(stale) and "--write" not in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
