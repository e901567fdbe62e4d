"""What `pip install` puts on the path: each command runs a script of `app` as if it were called
from its folder, so that nothing named `utils` or `config` stands at the top of site-packages."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

_APP = Path(__file__).resolve().parent / "app"


def _run(script: str) -> None:
    path = str(_APP / f"{script}.py")
    sys.argv[0] = path
    runpy.run_path(path, run_name="__main__")


def health_check() -> None:
    """`payment-api-health-check`."""
    _run("health_check")


def token_usage_metrics() -> None:
    """`payment-api-token-usage-metrics`."""
    _run("token_usage_metrics")


def credential_usage_metrics() -> None:
    """`payment-api-credential-usage-metrics`."""
    _run("credential_usage_metrics")
