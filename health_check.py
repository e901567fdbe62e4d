"""Is every component up, fast enough, and does a login really work from end to end? Are we inside
our service levels?

One cycle: ask the five components at the same time, judge what they answered, hold every figure
against its limit, and hand over one Outcome. `--sla` reads the recorded history instead.
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
import difflib
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Optional

import utils
from monitoring import __version__, cli, thresholds
from monitoring.components import COMPONENTS, LOGIN
from monitoring.config.settings import Settings, unconfigured
from monitoring.health import judges as health
from monitoring.health.asking import Team, probes_of
from monitoring.health.judging import ProbeVerdict
from monitoring.health.memory import Memory, Remembered
from monitoring.health.probing import ProbeContext, RetainedToken
from monitoring.model import ExitStatus, Measurement, Outcome, Reading
from monitoring.output.logs import LOGGER
from monitoring.services import memory as canary_log
from monitoring.sla import report as sla_report
from monitoring.sla.history import SlaGauges, availability, overdue_after, targets_of
from monitoring.sla.levels import BURN_WINDOWS, OVERALL, report as sla_of
from monitoring.store.lookback import HistoryError

SCRIPT = "health_check"
MONTH = 30 * 86400.0

EXAMPLES = """\
  python health_check.py --setup                               asks, tries, writes .env
  python health_check.py --single-run                          one look, exit status says how it is
  python health_check.py --single-run --component redis-cache --verbose
  python health_check.py --prometheus-port 9090                loop, and serve /metrics
  python health_check.py --single-run --output health.json     the result for other programs
  python health_check.py --sla --lookback 30d --format markdown"""


def all_components(settings: Settings) -> tuple[str, ...]:
    """The five, and those that the configuration adds."""
    return (*COMPONENTS, *(row.name for row in settings.components))


def check_component(parser: argparse.ArgumentParser, text: str, there: Sequence[str]) -> None:
    """`--component` names one that is watched."""
    if text in there:
        return
    near = difflib.get_close_matches(text, there, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]}? " if near else ""
    parser.error(f"argument --component: {text!r}: {hint}Components are {', '.join(there)}")


def build_parser() -> argparse.ArgumentParser:
    parser = utils.parser(SCRIPT, __doc__ or "", EXAMPLES)
    own = parser.add_argument_group("what to check")
    which = own.add_argument(
        "--component",
        action="append",
        metavar="NAME",
        help=f"check this one only; repeatable: {', '.join(COMPONENTS)}",
    )
    which.completer = lambda **_asked: COMPONENTS  # type: ignore[attr-defined]  # argcomplete's name
    own.add_argument(
        "--setup",
        action="store_true",
        help="ask for what must be known, try each at once, write .env, show a first true table",
    )
    own.add_argument("--sla", action="store_true", help="report the service levels and exit")
    own.add_argument(
        "--lookback",
        type=cli.duration,
        metavar="TIME",
        help="how far --sla looks back, e.g. 24h, 7d (default: 30d)",
    )
    own.add_argument(
        "--format",
        choices=tuple(sla_report.FORMATS),
        help="of the --sla report (default: text)",
    )
    return parser


def check_usage(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Flags that mean nothing without another one."""
    for flag in ("lookback", "format"):
        if getattr(args, flag) is not None and not args.sla:
            parser.error(f"--{flag} belongs to --sla")


class HealthCheck:
    """The cycle of this script, with what lives from one to the next."""

    def __init__(self, kit: utils.Runtime, asked: Optional[Sequence[str]]) -> None:
        self._kit, self._settings = kit, kit.settings
        self._all = all_components(kit.settings)
        self._asked = tuple(dict.fromkeys(asked or self._all))
        self._memory = Memory(kit.state, kit.settings)
        self._team, self._keepsake = Team(probes_of(kit.settings)), RetainedToken()
        self._further = {row.name: kit.http(row) for row in kit.settings.components if row.url}
        self._eapi, self._sapi = kit.http(kit.settings.eapi), kit.http(kit.settings.sapi)
        self._conjur = kit.conjur()
        self._levels = SlaGauges(kit.recorder(), kit.settings.sla, overdue_after(kit.settings.run))

    def cycle(self, now: float) -> Outcome:
        """Ask, judge, compare with the limits, remember."""
        started = time.monotonic()
        before = self._memory.load()
        prove = LOGIN in self._asked and self._memory.claim(before, now)
        both = self._team.ask(
            self._live(prove),
            self._asked,
            judge=lambda reading: (reading, health.judge(reading, before.context)),
        )
        judged = [each for _, each in both]
        self._remember(now, before, both, prove)
        figures = [figure for each in judged for figure in each.measurements]
        figures += [*self._whole(judged), *self._service_levels(now)]
        verdicts = thresholds.judge(figures, self._settings.thresholds)
        return Outcome(
            script=SCRIPT,
            environment=self._settings.environment,
            version=__version__,
            at=now,
            seconds=time.monotonic() - started,
            components=tuple(health.raised(each.component, verdicts) for each in judged),
            measurements=tuple(figures),
            verdicts=verdicts,
            findings=tuple(finding for each in judged for finding in each.findings),
            sources=tuple(
                source for reading, each in both for source in health.sources_of(reading, each)
            ),
        )

    def _live(self, prove: bool) -> ProbeContext:
        from monitoring.redis import client as redis_client

        settings = self._settings
        return ProbeContext(
            settings=settings,
            clock=self._kit.clock,
            eapi=self._eapi,
            sapi=self._sapi,
            # a new one each time: who is primary is looked up again, and the probe closes it
            cache=lambda: redis_client.Cache(settings.redis),
            conjur=lambda: self._conjur,
            further=self._further,
            prove=prove,
            keepsake=self._keepsake,
        )

    def _whole(self, judged: Sequence[ProbeVerdict]) -> list[Measurement]:
        """Whether all was up; said only by a cycle that asked all."""
        if set(self._asked) != set(self._all):
            return []
        up = health.system_up(each.component for each in judged)
        return [Measurement("payment_api_system_up", up)]

    def _service_levels(self, now: float) -> Iterator[Measurement]:
        """Of the components that were asked: no others are this run's business."""
        known = {*self._asked, *([OVERALL] if set(self._asked) == set(self._all) else [])}
        for figure in self._levels.measurements(now):
            if figure.labels.get("component", OVERALL) in known:
                yield figure

    def _remember(
        self,
        now: float,
        before: Remembered,
        judged: Sequence[tuple[Reading, ProbeVerdict]],
        prove: bool,
    ) -> None:
        counters = {key: n for _, each in judged for key, n in each.counters.items()}
        worked = [identity for _, each in judged for identity in each.worked]
        self._memory.save(now, counters, before=before, worked=worked)
        for reading, each in judged:
            if prove and reading.source == LOGIN:
                # a probe that was given up may have sent them; one that says it did not, did not
                sent = "proofs" in reading.facts or not reading.facts
                tried = now if sent else before.tried
                self._memory.save_proofs(tried, each.proofs)
                self._memory.note_forgeries(canary_log.refused(reading.facts.get("proofs", {})))


def show_levels(kit: utils.Runtime, lookback: float, form: str) -> int:
    """The `--sla` report; the status is 0 inside, 1 at risk or partly unknown, 2 missed, 3 too
    little watched."""
    now = kit.clock()
    longest = max(lookback, *BURN_WINDOWS.values())
    try:
        history, targets = kit.history(), targets_of(kit.settings.sla)
        overdue = overdue_after(kit.settings.run)
        points = {
            name: availability(history, name, now=now, lookback=longest, overdue=overdue)
            for name in targets
        }
    except HistoryError as error:
        LOGGER.error("service levels are not known: %s", error)
        return int(ExitStatus.UNKNOWN)
    levels = sla_of(
        points,
        targets,
        now=now,
        lookback=lookback,
        least=kit.settings.sla.minimum_watched,
        unconfigured=unconfigured(kit.settings),
    )
    kit.show(sla_report.FORMATS[form](levels), prose=form == "text")
    return int(levels.exit_status)


def set_up(args: argparse.Namespace) -> int:
    """The first hour; see monitoring/setup.py."""
    from monitoring.guided_setup import Setup

    opened, loaded = partial(utils.kit, SCRIPT), partial(utils.loaded, SCRIPT, args)
    asked = Setup(args, loaded, opened, lambda kit, names: HealthCheck(kit, names).cycle)
    return asked.run(utils.ROOT)


@utils.guarded
def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = build_parser()
    args = utils.parsed(parser, SCRIPT, argv)
    if args.setup:  # before the settings are read: it may be there to mend them
        return set_up(args)
    args, settings = utils.load(parser, SCRIPT, argv)
    check_usage(parser, args)
    for name in args.component or ():
        check_component(parser, name, all_components(settings))

    def do(kit: utils.Runtime) -> int:
        if args.sla:
            return show_levels(kit, args.lookback or MONTH, args.format or "text")
        return utils.run(kit, HealthCheck(kit, args.component).cycle)

    return utils.work(SCRIPT, args, settings, do)


if __name__ == "__main__":
    utils.leave(main())
