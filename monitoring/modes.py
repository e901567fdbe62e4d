"""Keep: the run modes (once, loop, serve) and what every script answers about its alerts."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Callable

from monitoring.channels import CHANNELS
from monitoring.config import env, load as configuration
from monitoring.config.settings import Settings
from monitoring.model import ExitStatus, Outcome
from monitoring.output import logs
from monitoring.output.logs import LOGGER
from monitoring.run import CycleStep, Pipeline, Runner, cured
from monitoring.stopping import (
    Stopped,
    heard,
    notify_service_manager,
    reread_asked,
    reread_on_hangup,
)
from monitoring.text import counted

#: Passes of Python's collector over young objects before one over all of them, of a run that ends
#: with its one cycle: what that makes is held to its end; to look through it again and again was
#: a tenth of a large cycle's time. Never would keep what ten thousand requests leave behind.
_SELDOM = 30
#: What `run` gives when a loop was asked to read its settings again; no exit status.
REREAD = -1


def run(kit: Any, cycle: Callable[[float], Outcome]) -> int:
    """Run as `kit.args` asks. Returns the exit status: of the cycle when it ran once, 0 when a
    loop was stopped, 3 when another run of the script holds the state file; or REREAD."""
    args = kit.args
    if args.test_alerts is not None:
        return test_alerts(kit)
    if args.alerts:
        return _show_alerts(kit)
    if args.silence is not None or args.unsilence is not None:
        return _silence(kit)
    if configuration.untouched(kit.settings) and not getattr(args, "setup", False):
        LOGGER.warning(
            "no address is set, so localhost is watched; to begin: python health_check.py --setup"
        )
    if args.single_run:
        with ExitStack() as stack:
            stack.callback(gc.set_threshold, *gc.get_threshold())
            gc.set_threshold(*gc.get_threshold()[:2], _SELDOM)
            return int(_runner(kit, cycle, stack).once().exit_status)
    return _loop(kit, cycle)


def _runner(kit: Any, cycle: Callable[[float], Outcome], stack: ExitStack) -> Runner:
    args, settings = kit.args, kit.settings
    notifier = None if args.no_alerts else kit.notifier()
    pipeline = Pipeline(
        interval=kit.interval,
        state=kit.state,
        history=kit.recorder(),
        notifier=notifier,
        exporter=_exporter(kit, stack, notifier.attempts() if notifier else ()),
        output=args.output or "",
        log_format=args.log_format,
        verbose=args.verbose or args.debug,
        screen=_screen(kit, stack),
        runbooks=settings.alerts.runbooks,
        send_budget=settings.alerts.send_budget,
    )

    def exclusive() -> Any:
        return kit.state.lock(kit.script, wait=settings.run.lock_wait)

    before = [kit.state.retry]
    if not args.no_alerts:
        before.append(lambda: pipeline.notifier.heartbeat("start"))
    return Runner(
        kit.script,
        settings.environment,
        cured(cycle, kit.state),
        [_remembering(step, kit.state) for step in pipeline.steps()],
        before=before,
        exclusive=exclusive,
        clock=kit.clock,
    )


def _remembering(step: CycleStep, state: Any) -> CycleStep:
    """The step, done again without memory where that is to blame for its failure."""
    return (
        replace(step, run=cured(step.run, state))
        if step.name in ("record", "tell", "share")
        else step
    )


def _screen(kit: Any, stack: ExitStack) -> Any:
    """What a loop on a terminal is shown on; None: each cycle is printed below the last."""
    from monitoring.output import terminal

    if kit.args.single_run or kit.args.debug or not terminal.live_wanted(kit.args.log_format):
        return None
    kit.screen = terminal.LiveScreen(kit.interval, verbose=kit.args.verbose)
    stack.callback(kit.screen.close)
    return kit.screen


def _exporter(kit: Any, stack: ExitStack, attempts: Sequence[tuple[str, str]]) -> Any:
    """The exporter, already serving, or None when no port was asked for. `attempts`: the
    (channel, outcome) pairs of notifications."""
    if kit.args.prometheus_port is None:
        return None
    from monitoring.output.exposition import Exporter
    from monitoring.output.server import rules_of

    deadline = kit.settings.run.cycle_deadline
    interval = kit.interval
    exporter = Exporter(kit.script, interval=interval, deadline=deadline, attempts=attempts)
    address = kit.args.prometheus_address or "0.0.0.0"  # noqa: S104 - a scraper is elsewhere
    rules, tls = rules_of(kit.args.web_config)
    server = exporter.serve(address, kit.args.prometheus_port, rules)
    stack.callback(server.close)
    scheme = "https" if tls else "http"
    LOGGER.info("serving metrics on %s://%s:%d/metrics", scheme, address, server.port)
    return exporter


def _loop(kit: Any, cycle: Callable[[float], Outcome]) -> int:
    reread_on_hangup()  # before all else: ended by SIGHUP, a loop would end well and stay down
    manager = env.current().get("NOTIFY_SOCKET", "")

    def idle() -> bool:
        """Between two cycles: we live; True: the settings are to be read again."""
        notify_service_manager(manager, "WATCHDOG=1")
        return reread_asked()

    try:
        with ExitStack() as stack:
            runner = _runner(kit, cycle, stack)
            LOGGER.info("%s every %g s; Ctrl-C or SIGTERM ends it", kit.script, kit.interval)
            notify_service_manager(manager, "READY=1")
            runner.loop(kit.interval, idle)
            LOGGER.info("SIGHUP: reading the settings again")
            return REREAD
    except Stopped as stopped:
        heard()
        LOGGER.info("stopped by %s", stopped)
    return int(ExitStatus.OK)


def test_alerts(kit: Any) -> int:
    """One test alert and its resolve through each channel: 0 all worked, 2 one did not, 3 none
    is configured."""
    wanted = kit.args.test_alerts or None
    if wanted is not None and wanted not in CHANNELS:
        LOGGER.error("--test-alerts %s: no such channel; there are %s", wanted, ", ".join(CHANNELS))
        return int(ExitStatus.UNKNOWN)
    results = kit.notifier().test(wanted)
    if results and not logs.json_wanted(kit.args.log_format, sys.stdout):
        well = sum(ok for _, ok, _ in results)
        kit.show(f"{well} of {counted(len(results), 'channel')} took the test alert", prose=True)
    for channel, ok, why in results:
        said = f"{channel}: {'delivered' if ok else 'failed'}{': ' + why if why else ''}"
        fields = {"payment_api.channel": channel, "event.outcome": "success" if ok else "failure"}
        _say(kit, "info" if ok else "error", said, fields)
    if not results:
        _say(kit, "error", "no notification channel is configured; --check-config says why", {})
        return int(ExitStatus.UNKNOWN)
    return int(ExitStatus.OK if all(ok for _, ok, _ in results) else ExitStatus.CRITICAL)


def _show_alerts(kit: Any) -> int:
    from monitoring.alerts import report as alert_report

    rows = kit.notifier().report()
    as_json = logs.json_wanted(kit.args.log_format, sys.stdout)
    said = alert_report.as_json(rows) if as_json else alert_report.as_text(rows)
    kit.show(said, prose=not as_json)
    return int(ExitStatus.OK)


def _silence(kit: Any) -> int:
    """`--silence` and `--unsilence`: 0 done, 3 there is no such silence. Raises StateError and
    OperatorError."""
    import getpass

    from monitoring.alerts import silences
    from monitoring.config.settings import Silence

    if kit.args.unsilence is not None:
        name = kit.args.unsilence
        there = silences.remove(kit.kept, name)
        said = "is no longer silenced" if there else "was not silenced; --alerts shows what is"
        _say(kit, "info" if there else "error", f"{name} {said}", {})
        return int(ExitStatus.OK if there else ExitStatus.UNKNOWN)
    asked, until = kit.args.silence, kit.clock() + kit.args.hush
    who = silences.owner(env.current(), getpass.getuser())
    found = [
        Silence(match, who, kit.args.reason.strip(), until)
        for match in silences.names(asked, kit.notifier().known())
    ]
    silences.put(kit.kept, asked, found)
    _say(kit, "info", silences.said(asked, found[0], kit.args.hush), {})
    return int(ExitStatus.OK)


def show_settings(settings: Settings, log_format: str, *, everything: bool) -> None:
    """`--check-config`: what differs from the defaults (or every setting), and where it came
    from."""
    rows = configuration.describe(settings, everything=everything)
    verdict = configuration.verdict(settings)
    if not logs.json_wanted(log_format, sys.stdout):
        from monitoring.output import terminal

        logs.say("\n".join([*_by_origin(rows), verdict, ""]), terminal.painted)
        return
    for row in rows:
        fields = {"payment_api.setting": row.name, "payment_api.origin": row.where}
        logs.result("info", f"{row.name} = {row.shown} (from {row.where})", fields)
    logs.result("info", verdict, {})


def _by_origin(rows: Sequence[Any]) -> Iterator[str]:
    """The settings below where they come from. The channels are the verdict's, and the warnings
    have been logged."""
    places: dict[str, list[str]] = {}
    known = any(row.name == "MONITORING_STATE_DIR" and row.shown != "''" for row in rows)
    hidden = ("channel", "warning", *(["state"] if known else []))
    for row in rows:
        if row.name.partition(" ")[0] not in hidden:
            place, _, variable = row.where.rpartition(" ")
            if not place or not variable.isupper():
                place, variable = row.where, ""
            by = f" ({variable})" if variable not in ("", row.name) else ""
            places.setdefault(place, []).append(f"  {row.name} = {row.shown}{by}")
    for place, lines in places.items():
        yield f"{place}:"
        yield from [*lines, ""]


def _say(kit: Any, level: str, message: str, fields: dict[str, str]) -> None:
    if logs.json_wanted(kit.args.log_format, sys.stdout):
        logs.result(level, message, fields)
    else:
        kit.show(message, prose=True)
