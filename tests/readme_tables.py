"""The tables of README.md that are made from the code: `python -m tests.readme_tables --write`.

Without `--write` it says whether README.md is up to date (a test does the same).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Callable, Iterable, Mapping, Sequence

from monitoring import catalog, configuration

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
        runbook = f"[{limit.runbook}](docs/runbooks/{limit.runbook}.md)" if limit.runbook else ""
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


def filled(text: str) -> str:
    """`text` with what stands between `<!-- table NAME -->` and `<!-- end -->` made anew."""
    for name, make in TABLES.items():
        pattern = rf"(<!-- table {name} -->\n).*?(<!-- end -->)"
        table = make()
        text, found = re.subn(
            pattern, lambda m, table=table: f"{m[1]}\n{table}\n\n{m[2]}", text, flags=re.DOTALL
        )
        if found != 1:
            raise ValueError(f"README.md: {found} places for the table {name}, one is needed")
    return text


def main() -> int:
    text = README.read_text(encoding="utf-8")
    fresh = filled(text)
    if "--write" in sys.argv:
        README.write_text(fresh, encoding="utf-8")
        return 0
    return int(text != fresh)


if __name__ == "__main__":
    sys.exit(main())
