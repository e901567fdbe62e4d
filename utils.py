"""What the three scripts share: settings in, live HTTP, Redis, Conjur, alerting and run modes out.

It decides which timeout, which CA file and which token each part gets; no wire format, SQL, vendor
name or threshold stands here. The map of the house is in monitoring/__init__.py.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Callable, Optional, Union

from monitoring import cli, stopping
from monitoring.config import env, load as layers
from monitoring.config.settings import ComponentSettings, ServiceSettings, Settings, TlsSettings
from monitoring.model import ExitStatus, OperatorError, Outcome
from monitoring.output import logs
from monitoring.store.state import State, StateError
from monitoring.text import redact, register

ROOT = Path(__file__).resolve().parent


class Runtime:
    """Live things made from the settings on first use, closed together at the end of the run."""

    def __init__(self, script: str, settings: Settings, args: argparse.Namespace) -> None:
        self.script, self.settings, self.args = script, settings, args
        self.clock: Callable[[], float] = time.time
        self.screen: Any = None  # what a loop on a terminal is shown on
        self._closing, self._state = ExitStack(), None  # type: ExitStack, Optional[State]

    @property
    def interval(self) -> float:
        """Seconds between cycles: asked for, else from cron, else the configured loop's."""
        if self.args.interval:
            return float(self.args.interval)
        run = self.settings.run
        return run.cron_interval if self.args.single_run else run.intervals[self.script]

    @property
    def state(self) -> State:
        """What is kept between cycles and runs. Where the file cannot be used it says so in a
        critical log line, and nothing depends on it."""
        if self._state is None:
            self._state = State.open(self.settings.state_dir)
            self._closing.callback(self._state.close)
        return self._state

    @property
    def kept(self) -> State:
        """The state, for a report on what was kept. Raises StateError where that cannot be read:
        a report on nothing would look like good news."""
        if self.state.trouble:
            raise StateError(self.state.trouble)
        return self.state

    def http(self, service: Union[ServiceSettings, ComponentSettings, None] = None) -> Any:
        """An HttpClient with the service's TLS and deadline, else with ours for third parties."""
        from monitoring.http.client import HttpClient

        tls, timeout = (service.tls, service.timeout) if service else (TlsSettings(), 5.0)
        client = HttpClient(tls=tls, timeout=timeout, user_agent=self.settings.run.user_agent)
        self._closing.callback(client.close)
        return client

    def cache(self) -> Any:
        """The Redis cache, connected lazily. Raises RedisFault where it is used."""
        from monitoring.redis import client as redis_client

        cache = redis_client.Cache(self.settings.redis)
        self._closing.callback(cache.close)
        return cache

    def conjur(self) -> Any:
        from monitoring.conjur.client import ConjurClient
        from monitoring.http.client import HttpClient

        vault = self.settings.conjur
        client = HttpClient(
            tls=vault.tls, timeout=vault.timeout, user_agent=self.settings.run.user_agent
        )
        self._closing.callback(client.close)
        return ConjurClient(client, vault, self.clock)

    def history(self) -> Any:
        """Where lookbacks are read: the state file, or the configured Prometheus."""
        from monitoring.store.prometheus_history import open_history

        state = self.state if self.settings.history.prometheus_url else self.kept
        return open_history(state, self.settings.history, self.http)

    def recorder(self) -> Any:
        """Where this run's samples are kept: always the state file."""
        from monitoring.store.history import LocalHistory

        return LocalHistory(self.state, self.settings.history)

    def notifier(self) -> Any:
        from monitoring.alerts.notifier import Notifier

        return Notifier(self.settings, self.state, self.clock, interval=self.interval)

    def show(self, text: str, *, prose: bool = False) -> None:
        """Print a report. `prose`: it is for a person to read, so a terminal gets it in colour."""
        show_report(text, prose=prose)

    def close(self) -> None:
        self._closing.close()


def parser(script: str, description: str, examples: str) -> argparse.ArgumentParser:
    """A command line with the shared flags; the script adds its own."""
    made = cli.Parser(script, description, examples)
    cli.add_common_arguments(made)
    return made


def parsed(
    made: argparse.ArgumentParser, script: str, argv: Optional[Sequence[str]]
) -> argparse.Namespace:
    environment = os.environ.get("MONITORING_ENV", "")
    logs.setup("INFO", cli.requested_format(argv), script, environment)
    args = made.parse_args(argv)
    cli.check(made, args)
    logs.setup(cli.effective_level(args), args.log_format, script, environment)
    return args


def load(
    made: argparse.ArgumentParser, script: str, argv: Optional[Sequence[str]]
) -> tuple[argparse.Namespace, Settings]:
    """The parsed command line and the settings; exits 3 naming every problem, and answers
    `--check-config`."""
    args = parsed(made, script, argv)
    if (settings := _settings(script, args)) is None:
        sys.exit(ExitStatus.UNKNOWN)
    if args.check_config:
        from monitoring import modes

        modes.show_settings(settings, args.log_format, everything=args.all)
        sys.exit(ExitStatus.OK)
    return args, settings


def loaded(script: str, args: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """Raises ConfigurationError."""
    places = {"root": ROOT, "cwd": env.here(ROOT)}
    return layers.load(script=script, config_file=args.config, environ=environ, **places)


def _settings(script: str, args: argparse.Namespace) -> Optional[Settings]:
    """The settings, their secrets and warnings heeded; None: they cannot be used, and each problem
    has been logged."""
    try:
        settings = loaded(script, args, env.current())
    except layers.ConfigurationError as error:
        for problem in error.problems:
            logs.LOGGER.error("configuration: %s", problem.sentence)
        return None
    for secret in layers.secrets_of(settings):
        register(secret)
    logs.setup(cli.effective_level(args), args.log_format, script, settings.environment)
    for warning in settings.warnings:
        logs.LOGGER.warning("configuration: %s", warning)
    for row in layers.connections(settings):
        logs.LOGGER.debug("%s = %s", row.name, row.shown)
    return settings


@contextmanager
def kit(script: str, settings: Settings, args: argparse.Namespace) -> Iterator[Runtime]:
    made = Runtime(script, settings, args)
    try:
        yield made
    finally:
        made.close()


def work(script: str, args: Any, settings: Settings, do: Callable[[Runtime], int]) -> int:
    """What `do` makes of a kit: an exit status. A loop that is sent SIGHUP begins anew with the
    settings as they are then; where those cannot be used, with the old ones."""
    from monitoring import modes

    while True:
        with kit(script, settings, args) as made:
            status = do(made)
        if status != modes.REREAD:
            return status
        if (again := _settings(script, args)) is None:
            logs.LOGGER.error("the settings in force are kept; mend them and send SIGHUP again")
        settings = again or settings


def run(made: Runtime, cycle: Callable[[float], Outcome]) -> int:
    """Run `cycle` as the command line says: once, in a loop, or as an exporter."""
    from monitoring import modes

    return modes.run(made, cycle)


def show_report(text: str, *, prose: bool = False) -> None:
    """A report that was asked for by name goes to standard output as it is, secrets masked."""
    whole = redact(text if text.endswith("\n") else text + "\n")
    if not prose:
        logs.say(whole)
        return
    from monitoring.output import terminal

    logs.say(whole, terminal.painted)


def guarded(main: Callable[..., int]) -> Callable[..., int]:
    """The top guard: whatever happens inside `main` becomes log lines and an exit status."""

    @functools.wraps(main)
    def guard(argv: Optional[Sequence[str]] = None) -> int:
        logs.prepare()
        # before a signal can end the run with a line: it must be of the form asked for
        script, environment = Path(sys.argv[0]).stem, os.environ.get("MONITORING_ENV", "")
        logs.setup("INFO", cli.requested_format(argv), script, environment)
        stopping.stop_on_signals()
        try:
            return int(main(argv))
        except stopping.Stopped as stopped:
            stopping.heard()
            logs.LOGGER.warning("stopped by %s before the run was finished", stopped)
        except OperatorError as error:
            logs.LOGGER.error("%s", error)
        except Exception as error:  # noqa: BLE001 - the top guard
            logs.LOGGER.critical("%s: %s", type(error).__name__, error, exc_info=True)
        return int(ExitStatus.UNKNOWN)

    return guard


def leave(status: int) -> None:
    """End the process now: a probe that hangs in a thread was given up and must not hold us."""
    logging.shutdown()
    logs.finish()
    os._exit(status)
