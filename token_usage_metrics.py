"""How are tokens minted, validated, renewed and expiring, per client and overall, and what is
wrong with them that nobody else looks at?

One cycle: take the census of the token cache while the services' counters are read, hold every
figure against its limit, and hand over one Outcome. `--analyze` reads the recorded history instead.
"""

from __future__ import annotations

import os
import sys

# First of all, so that a signal or a missing library cannot end an import with a traceback.
if __name__ == "__main__":
    sys.excepthook = lambda _, error, __: os._exit(os.write(2, f"{error!r}\n".encode()) and 3)
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # left out by `python -I`
from monitoring import stopping

if __name__ == "__main__":
    stopping.guard_imports()

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Optional

import utils
from monitoring import __version__, cli
from monitoring.analyze.analysis import Period
from monitoring.analyze.history import local_zone
from monitoring.config.settings import Settings
from monitoring.model import ExitStatus
from monitoring.output import logs
from monitoring.output.logs import LOGGER
from monitoring.store.lookback import HistoryError
from monitoring.tokens.cycle import SCRIPT, TokenUsage, following, with_progress

WEEK = 7 * 86400.0
FORMATS = ("text", "json", "markdown", "html")
TOP = 10

EXAMPLES = """\
  python token_usage_metrics.py --single-run                          one look at the cache
  python token_usage_metrics.py --single-run --max-keys 100000 --verbose
  python token_usage_metrics.py --prometheus-port 9091                loop, and serve /metrics
  python token_usage_metrics.py --single-run --output tokens.json     the result for programs
  python token_usage_metrics.py --analyze --lookback 7d
  python token_usage_metrics.py --analyze --lookback 3w --format html > tokens.html"""


def build_parser() -> argparse.ArgumentParser:
    parser = utils.parser(SCRIPT, __doc__ or "", EXAMPLES)
    scan = parser.add_argument_group("how to look")
    scan.add_argument(
        "--max-keys",
        type=cli.positive,
        metavar="N",
        help="end the scan of the cache after about N keys",
    )
    scan.add_argument(
        "--time-budget",
        type=cli.duration,
        metavar="TIME",
        help="end the scan after this time, e.g. 10s",
    )
    scan.add_argument(
        "--top",
        type=cli.positive,
        metavar="N",
        help="clients shown by name, the rest is summed (default: the configured number; "
        f"--analyze: {TOP})",
    )
    report = parser.add_argument_group("reports")
    report.add_argument(
        "--analyze", action="store_true", help="report on the recorded history and exit"
    )
    report.add_argument(
        "--lookback",
        type=cli.duration,
        metavar="TIME",
        help="how far --analyze looks back, e.g. 24h, 7d (default: 7d)",
    )
    report.add_argument("--format", choices=FORMATS, help="of the --analyze report (default: text)")
    return parser


def check_usage(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Flags that mean nothing without another one."""
    for flag in ("lookback", "format"):
        if getattr(args, flag) is not None and not args.analyze:
            parser.error(f"--{flag} belongs to --analyze")
    for flag in ("max_keys", "time_budget"):
        if getattr(args, flag) is not None and args.analyze:
            parser.error(f"--{flag.replace('_', '-')} limits a scan, and --analyze makes none")


def with_flags(settings: Settings, args: argparse.Namespace) -> Settings:
    """The settings with what the command line says instead."""
    given = {
        "max_keys": args.max_keys,
        "time_budget": args.time_budget,
        "top_clients": args.top,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    return replace(settings, tokens=replace(settings.tokens, **changed))


_EXITS = {True: ExitStatus.OK, False: ExitStatus.WARNING, None: ExitStatus.UNKNOWN}


def analyze(kit: utils.Runtime, lookback: float, form: str, top: int) -> int:
    """The `--analyze` report; the status is 0 when the success target was met, 1 when it was
    missed, 3 when that is not known: nothing was recorded, or too little was watched."""
    from monitoring.analyze import REPORTS
    from monitoring.analyze.history import analysis

    now = kit.clock()
    name, zone = local_zone()
    period = Period(now - lookback, now, zone, name, kit.settings.sla.minimum_watched)
    target = kit.settings.sla.authentication_success
    try:
        found = analysis(kit.history(), period, success_target=target, top=top)
    except HistoryError as error:
        LOGGER.error("the history cannot be read: %s", error)
        return int(ExitStatus.UNKNOWN)
    if found is None:
        LOGGER.error("%s", nothing_recorded(kit.settings, lookback))
        return int(ExitStatus.UNKNOWN)
    found = replace(found, environment=kit.settings.environment, version=__version__)
    kit.show(REPORTS[form](found), prose=form == "text")
    return int(_EXITS[found.meets_target])


def nothing_recorded(settings: Settings, lookback: float) -> str:
    from monitoring.text import say

    if settings.history.prometheus_url:
        return (
            f"PROMETHEUS_URL has no token figures of the last {say(lookback)}: scrape "
            f"`{SCRIPT}.py --prometheus-port PORT`, or look back further with --lookback"
        )
    return (
        f"nothing was recorded in the last {say(lookback)} in {settings.state_dir}: run "
        f"`{SCRIPT}.py --single-run` from cron, or the loop, as the same user with the same "
        "MONITORING_STATE_DIR, and ask again; or look back further with --lookback"
    )


@utils.guarded
def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = build_parser()
    args, settings = utils.load(parser, SCRIPT, argv)
    check_usage(parser, args)

    def do(kit: utils.Runtime) -> int:
        kit.settings = with_flags(kit.settings, args)
        if args.analyze:
            return analyze(kit, args.lookback or WEEK, args.format or "text", args.top or TOP)
        services = kit.http(kit.settings.eapi), kit.http(kit.settings.sapi)
        person = sys.stderr.isatty() and not logs.json_wanted(args.log_format, sys.stderr)

        def shown() -> bool:
            """Not over a screen that already shows a cycle."""
            return person and not (kit.screen is not None and kit.screen.on)

        follows = (
            kit.settings.tokens.follow and not args.single_run and kit.settings.redis.configured
        )
        with following(kit.settings) if follows else nullcontext() as follower:
            usage = TokenUsage(
                kit.settings, kit.state, eapi=services[0], sapi=services[1], follower=follower
            )
            return utils.run(kit, with_progress(usage.cycle, shown))

    return utils.work(SCRIPT, args, settings, do)


if __name__ == "__main__":
    utils.leave(main())
