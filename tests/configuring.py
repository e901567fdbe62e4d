"""What the tests of the configuration share: a folder of scripts, and loading it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import pytest

from monitoring.config import load as configuration
from monitoring.config.load import ConfigurationError, Problem
from monitoring.config.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(__file__).parent / "data"


def scripts_in(folder: Path) -> Path:
    """A folder of scripts: the template alone, no config.py."""
    made = folder / "scripts"
    made.mkdir()
    shutil.copy(ROOT / "config.example.py", made)
    return made


def load(
    root: Path,
    own: str = "",
    extra: str = "",
    *,
    env: Optional[Mapping[str, str]] = None,
    script: str = "health_check",
) -> Settings:
    """Load with `own` as config.py, `extra` as the YAML of --config, and `env`."""
    file = root.parent / "extra.yaml"
    if own:
        (root / "config.py").write_text(own, encoding="utf-8")
    if extra:
        file.write_text(extra, encoding="utf-8")
    return configuration.load(
        script=script,
        root=root,
        config_file=str(file) if extra else None,
        environ={"HOME": str(root), **(env or {})},
        cwd=root.parent,
    )


def problems(root: Path, **layers: Any) -> tuple[Problem, ...]:
    """What `load` refuses these layers for."""
    with pytest.raises(ConfigurationError) as caught:
        load(root, **layers)
    return caught.value.problems


def origin(settings: Settings, name: str) -> str:
    return next(o.where for o in settings.origins if o.name == name)


def shown(settings: Settings, name: str) -> str:
    return next(o.shown for o in configuration.describe(settings) if o.name == name)
