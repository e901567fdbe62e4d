"""Who uses which credential, how old is it, is its rotation on track and safe to finish, and does
somebody misuse one?

One cycle: ask Conjur's metadata, the cache, the rotation service and the services' counters at the
same time, compare with what is remembered, judge every client, and hand over one Outcome. No right
to read a secret is needed, and holding one is a finding.
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
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Optional

import utils
from monitoring import __version__, cli, text as redact, thresholds
from monitoring.anomaly import replay
from monitoring.anomaly.grading import Label
from monitoring.anomaly.store import sensitivity_of
from monitoring.anomaly.types import Bucket
from monitoring.config.settings import Settings
from monitoring.credentials import report as credential_report
from monitoring.credentials.figures import bounded, measurements, to_judge
from monitoring.credentials.judged import rows
from monitoring.credentials.revocation import can_revoke, unknown_client
from monitoring.credentials.shared_census import SharedCensus
from monitoring.credentials.source_kit import Asked, rotation_service
from monitoring.credentials.usage import UsageHistory
from monitoring.credentials.watch import CredentialSnapshot, CredentialWatch
from monitoring.model import ExitStatus, Outcome, Severity
from monitoring.output.logs import LOGGER, columns, json_wanted

SCRIPT = "credential_usage_metrics"
HISTORY = "history"
MONTH = 30 * 86400.0

EXAMPLES = """\
  python credential_usage_metrics.py --single-run              one look, exit status says how it is
  python credential_usage_metrics.py --check-rotation          each rotation, and what to do next
  python credential_usage_metrics.py --can-revoke client-017   0 yes, 2 no, 3 cannot tell
  python credential_usage_metrics.py --inventory --format csv  every credential, for a spreadsheet
  python credential_usage_metrics.py --replay history --lookback 30d   what would have been found"""


def build_parser() -> argparse.ArgumentParser:
    parser = utils.parser(SCRIPT, __doc__ or "", EXAMPLES)
    own = parser.add_argument_group("what to report instead of running a cycle")
    one = own.add_mutually_exclusive_group()
    one.add_argument(
        "--check-rotation",
        action="store_true",
        help="its rotation and what to do, a line per client (on a terminal of those that need a "
        "look; --verbose: of all); exits 0, 1 or 2 by the worst, 3: nobody can tell",
    )
    one.add_argument(
        "--can-revoke",
        metavar="CLIENT",
        help="may the old version of this client's secret be revoked? exits 0 yes, 2 no, 3 "
        "cannot tell",
    )
    one.add_argument("--inventory", action="store_true", help="every client's credential")
    one.add_argument(
        "--replay",
        metavar="FILE",
        help="run the anomaly detector over recorded buckets (JSON lines, - for standard input, "
        "'history' for what this monitor recorded) and print what it finds (piped: JSON lines)",
    )
    own.add_argument(
        "--labels",
        metavar="FILE",
        help="what is known to be misuse in the recording of --replay, to grade the findings by: "
        'JSON lines {"client":…,"kind":…,"from":TIME,"to":TIME}',
    )
    own.add_argument(
        "--lookback",
        type=cli.duration,
        metavar="TIME",
        help="how far --replay history looks back (default: 30d)",
    )
    own.add_argument(
        "--format",
        choices=tuple(credential_report.FORMATS),
        help="of the report (default: text)",
    )
    return parser


def check_usage(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Flags that mean nothing without another one."""
    if args.lookback is not None and args.replay != HISTORY:
        parser.error("--lookback belongs to --replay history")
    if args.labels is not None and args.replay is None:
        parser.error("--labels belongs to --replay")
    if args.format is not None and not (
        args.check_rotation or args.can_revoke is not None or args.inventory
    ):
        parser.error("--format belongs to --check-rotation, --can-revoke or --inventory")
    if args.can_revoke is not None and args.format not in (None, "text", "json"):
        parser.error("--can-revoke answers as text or json")


def watch_of(kit: utils.Runtime, *, shared: bool = True) -> CredentialWatch:
    """`shared`: what the token script has counted lately may be used."""
    from monitoring.redis import client as redis_client

    settings = kit.settings
    asked = Asked(
        settings=settings,
        clock=kit.clock,
        eapi=kit.http(settings.eapi),
        sapi=kit.http(settings.sapi),
        rotations=kit.http(rotation_service(settings)),
        conjur=kit.conjur(),
        # a new one each time: who is primary is looked up again, and the question closes it
        cache=lambda: redis_client.Cache(settings.redis),
        shared=SharedCensus(kit.state, settings, kit.interval) if shared else None,
    )
    return CredentialWatch(asked, kit.state)


class CredentialUsage:
    """The cycle of this script, with what lives from one to the next."""

    def __init__(self, kit: utils.Runtime) -> None:
        self._settings = kit.settings
        self._watch = watch_of(kit)

    def cycle(self, now: float) -> Outcome:
        """Look, compare with the limits, say what is wrong."""
        started = time.monotonic()
        picture = self._watch.look(now)
        return replace(outcome_of(picture, self._settings), seconds=time.monotonic() - started)


def outcome_of(picture: CredentialSnapshot, settings: Settings) -> Outcome:
    """What one look comes to: the one status of the cycle and of the reports is a part of it."""
    figures = measurements(picture.judged, picture.figures, picture.at)
    judged = to_judge(picture.judged, figures, picture.figures.window.all.attempts)
    verdicts = thresholds.judge(judged, settings.thresholds)
    exported = bounded(
        figures,
        picture.judged,
        verdicts,
        totals=picture.figures.totals,
        top=settings.credentials.top_clients,
    )
    shown = {id(figure) for figure in exported}
    return Outcome(
        script=SCRIPT,
        environment=settings.environment,
        version=__version__,
        at=picture.at,
        seconds=0.0,
        measurements=tuple(exported),
        verdicts=tuple(
            v for v in verdicts if id(v.measurement) in shown or v.severity > Severity.UNKNOWN
        ),
        findings=tuple(picture.findings),
        sources=tuple(picture.sources),
        credentials=rows(picture.judged, picture.at),
        subjects=tuple(each.verdict.severity for each in picture.judged),
        doubts=tuple(picture.doubts),
        top_clients=settings.credentials.top_clients,
    )


def check_rotation(kit: utils.Runtime, form: str) -> int:
    """`--check-rotation`."""
    picture = watch_of(kit).look(kit.clock(), all_rotations=True)
    return _show(kit, picture, credential_report.rotations, form)


def inventory(kit: utils.Runtime, form: str) -> int:
    """`--inventory`."""
    return _show(kit, watch_of(kit).look(kit.clock()), credential_report.inventory, form)


def _show(
    kit: utils.Runtime, picture: CredentialSnapshot, render: credential_report.Render, form: str
) -> int:
    for source in picture.sources:
        if source.configured and not source.ok:
            LOGGER.warning("source %s: %s", source.name, source.why)
    outcome = outcome_of(picture, kit.settings)
    width = columns()
    folded = width is not None and not kit.args.verbose
    said = render(credential_report.Seen(picture, outcome, folded), form, width)
    kit.show(said, prose=form == "text")
    return int(outcome.exit_status)


def revocation(kit: utils.Runtime, client: str, form: str) -> int:
    """`--can-revoke CLIENT`."""
    now = kit.clock()
    client = redact.identity_of(client)
    picture = watch_of(kit, shared=False).look(now, about=client)
    facts = next((each.facts for each in picture.judged if each.client == client), None)
    answer = (
        unknown_client(client, picture.unavailable) if facts is None else can_revoke(facts, now)
    )
    kit.show(credential_report.revocation(answer, form), prose=form == "text")
    return int(answer.exit_status)


def back_test(kit: utils.Runtime, file: str, lookback: float, labels: Optional[str]) -> int:
    """`--replay`: 0, or 3 when something is not a recording of buckets, or there was none: of
    nothing it cannot be said that nothing was found."""
    sensitivity = sensitivity_of(kit.settings.credentials)
    prose = not json_wanted(kit.args.log_format, sys.stdout)
    try:
        known = None if labels is None else _labels(labels)
        recorded = _recorded(kit, file, lookback)
        done = replay.replay(
            recorded,
            sensitivity,
            partial(kit.show, prose=True) if prose else sys.stdout.write,
            known,
            line=replay.as_text if prose else replay.as_line,
        )
    except (OSError, replay.ReplayError) as error:
        said = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        sys.stdout.flush()
        LOGGER.error("--replay %s: %s", file, said)
        return int(ExitStatus.UNKNOWN)
    sys.stdout.flush()
    for told in done.left_out:
        LOGGER.warning("--replay %s: %s", file, told)
    if prose and done.read:
        kit.show(replay.headline(done), prose=True)
    if not done.read:
        said = "was recorded in that time" if file == HISTORY else "stands there: no bucket at all"
        LOGGER.error("--replay %s: nothing %s", file, said)
        return int(ExitStatus.UNKNOWN)
    for told in done.graded:
        LOGGER.info("--replay %s: %s", file, told)
    return int(ExitStatus.OK)


def _labels(file: str) -> list[Label]:
    with open(file, "rb") as lines:
        return replay.labels(replay.lines_of(lines))


def _recorded(kit: utils.Runtime, file: str, lookback: float) -> Iterator[Bucket]:
    if file == HISTORY:
        yield from UsageHistory(kit.kept).buckets(kit.clock() - lookback)
    elif file == "-":
        yield from replay.buckets(replay.lines_of(sys.stdin.buffer))
    else:
        with open(file, "rb") as lines:
            yield from replay.buckets(replay.lines_of(lines))


@utils.guarded
def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = build_parser()
    args, settings = utils.load(parser, SCRIPT, argv)
    check_usage(parser, args)

    def do(kit: utils.Runtime) -> int:
        if args.replay is not None:
            return back_test(kit, args.replay, args.lookback or MONTH, args.labels)
        if args.can_revoke is not None:
            return revocation(kit, args.can_revoke, args.format or "text")
        if args.check_rotation:
            return check_rotation(kit, args.format or "text")
        if args.inventory:
            return inventory(kit, args.format or "text")
        return utils.run(kit, CredentialUsage(kit).cycle)

    return utils.work(SCRIPT, args, settings, do)


if __name__ == "__main__":
    utils.leave(main())
