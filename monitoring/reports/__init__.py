"""Present: an Analysis in the format asked for; one file per format, one row each in REPORTS."""

from __future__ import annotations

from typing import Callable, Mapping

from monitoring.analysis import Analysis
from monitoring.reports import as_html, as_json, as_markdown, as_text

#: format -> how an Analysis reads in it
REPORTS: Mapping[str, Callable[[Analysis], str]] = {
    "text": as_text.render,
    "json": as_json.render,
    "markdown": as_markdown.render,
    "html": as_html.render,
}
