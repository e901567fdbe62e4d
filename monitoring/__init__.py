"""Everything behind the three scripts: acquire, evaluate, keep, present; utils.py has the map."""

from __future__ import annotations

__version__ = "1.0.0"
