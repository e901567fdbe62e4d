"""Present: an Analysis in the format asked for; one file per format, one row each in REPORTS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable

from monitoring.analyze import formats, html as as_html
from monitoring.analyze.analysis import Analysis

#: format -> how an Analysis reads in it
REPORTS: Mapping[str, Callable[[Analysis], str]] = {
    "text": formats.render_text,
    "json": formats.render_json,
    "markdown": formats.render_markdown,
    "html": as_html.render,
}
