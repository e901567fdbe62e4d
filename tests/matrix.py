"""The tests on every Python that is found, with the oldest allowed and the newest libraries.

    python -m tests.matrix                            every cell
    python -m tests.matrix --ends                     oldest:oldest and newest:newest of those found
    python -m tests.matrix --cells 3.9:oldest 3.13:newest -- -x tests/test_cli.py

Environments are kept in .venv-matrix/ and reused while the requirements stay the same.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-matrix"
SUPPORTED = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
LIBRARIES = ("oldest", "newest")
AT_ONCE = ("-n", os.environ.get("WORKERS", "2"), "--dist", "loadgroup")


def interpreters() -> Mapping[str, str]:
    """Version -> path of each supported Python on PATH or below ~/.pyenv."""
    found: dict[str, str] = {}
    pyenv = sorted(Path.home().glob(".pyenv/versions/*/bin/python"))
    named = [shutil.which(f"python{version}") for version in SUPPORTED]
    for path in [*map(str, pyenv), *filter(None, named), sys.executable]:
        version = _version(path)
        if version in SUPPORTED:
            found.setdefault(version, path)
    return dict(sorted(found.items(), key=lambda pair: SUPPORTED.index(pair[0])))


def _version(path: str) -> str:
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([path, "-c", ask], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def floors() -> Iterator[str]:
    """`name==floor` for each line of requirements.txt."""
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        found = re.match(r"([A-Za-z0-9-]+)(?:\[[a-z]+\])?>=([\w.]+)", line)
        if found:
            yield f"{found.group(1)}=={found.group(2)}"


def prepare(version: str, path: str, libraries: str) -> Path:
    """The Python of an environment with the libraries wanted; raises CalledProcessError."""
    wanted = "".join((ROOT / n).read_text() for n in sorted(p.name for p in ROOT.glob("req*.txt")))
    stamp = hashlib.sha256(wanted.encode()).hexdigest()
    folder = FOLDER / f"{version}-{libraries}"
    python, mark = folder / "bin" / "python", folder / "stamp"
    if mark.exists() and mark.read_text() == stamp:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([path, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    constraints: list[str] = []
    if libraries == "oldest":
        pinned = folder / "constraints.txt"
        pinned.write_text("\n".join(floors()) + "\n")
        constraints = ["-c", str(pinned)]
    subprocess.run([*pip, "-r", str(ROOT / "requirements-test.txt"), *constraints], check=True)
    mark.write_text(stamp)
    return python


def run(cell: str, words: Sequence[str], *, only_prepare: bool = False) -> bool:
    version, libraries = cell.split(":")
    path = interpreters().get(version)
    if path is None:
        sys.stdout.write(f"{cell}: no such Python here\n")
        return False
    python = prepare(version, path, libraries)
    if only_prepare:
        return True
    done = subprocess.run([str(python), "-m", "pytest", *AT_ONCE, *words], cwd=ROOT, check=False)
    return done.returncode == 0


def main() -> int:
    """0 when every cell passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    found = list(interpreters())
    everything = [f"{version}:{libraries}" for version in found for libraries in LIBRARIES]
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--cells", nargs="+", default=everything, metavar="3.9:oldest")
    parser.add_argument("--ends", action="store_true", help="the two ends of what is found")
    parser.add_argument("--prepare", action="store_true", help="make the environments, and end")
    parser.add_argument("words", nargs="*", metavar="PYTEST_ARGUMENT")
    args = parser.parse_args()
    ends = [f"{found[0]}:oldest", f"{found[-1]}:newest"]
    results = {}
    for cell in ends if args.ends else args.cells:
        sys.stdout.write(f"== Python {cell} libraries\n")
        sys.stdout.flush()
        results[cell] = run(cell, args.words, only_prepare=args.prepare)
    for cell, passed in results.items():
        good = "prepared" if args.prepare else "passed"
        sys.stdout.write(f"{cell:14} {good if passed else 'FAILED'}\n")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
