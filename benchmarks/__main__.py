"""Present: one table of what has a budget, measured on this machine.

    make bench                              all parts, a few minutes
    python -m benchmarks --only scrape --only state
    python -m benchmarks --keys 1000000 --credbench PATH

Ratios are to something measured in the same run, since machines differ and are shared.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from benchmarks.parts import PARTS


def parsed(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    add = made.add_argument
    add("--only", action="append", choices=sorted(PARTS), help="this part; repeatable")
    add("--keys", type=int, default=200_000, help="keys of each encoding (%(default)s)")
    add("--repeat", type=int, default=3, help="scans of each kind (%(default)s)")
    add("--rounds", type=int, default=7, help="runs of each script (%(default)s)")
    add("--scrapes", type=int, default=300, help="scrapes of each size (%(default)s)")
    add("--days", type=int, default=4, help="days of cycles for the state file (%(default)s)")
    add("--credbench", type=Path, help="folder of credbench.py, for the detector's figures")
    return made.parse_args(argv)


def machine() -> str:
    """What the figures were measured on."""
    import redis
    import requests

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    today = datetime.datetime.now(datetime.timezone.utc).date()
    return (
        f"{today}, {os.cpu_count()} cores ({_processor()}), {memory:.0f} GB, "
        f"load {os.getloadavg()[0]:.1f}, {platform.system()} {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, redis-py {redis.__version__}, "
        f"requests {requests.__version__}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Print the table; 1 when a budget does not hold."""
    options = parsed(argv)
    print(f"Measured {machine()}\n")
    print("| what | measured | budget | |\n|---|---|---|---|")
    broken = 0
    for name, part in PARTS.items():
        if options.only and name not in options.only:
            continue
        for row in part(options):
            verdict = "" if not row.limit else "holds" if row.holds else "DOES NOT HOLD"
            broken += not row.holds
            print(f"| {row.what} | {row.measured} | {row.limit} | {verdict} |", flush=True)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
