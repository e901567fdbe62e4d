"""Keep: `--setup` with a person or an environment behind it: asks, tries, writes, shows.

What is asked and said is `setup_guide`'s; here are the terminal, the file and the first true table.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, ContextManager, Mapping, Optional, Sequence

from monitoring import env, logs, modes, setup_guide, streams
from monitoring.config.problems import ConfigurationError
from monitoring.model import EXIT_OF, Component, ExitStatus, OperatorError, Outcome, Severity
from monitoring.redact import register
from monitoring.settings import Settings

Cycle = Callable[[Any, Sequence[str]], Callable[[float], Outcome]]
_LEVELS: Mapping[Any, str] = {
    Severity.UNKNOWN: "warning",
    Severity.WARNING: "warning",
    Severity.CRITICAL: "error",
}
_MARKS: Mapping[Any, str] = {**dict.fromkeys(_LEVELS, "? "), Severity.CRITICAL: "! "}


class Setup:
    """`load` makes settings of an environment (raises ConfigurationError), `open_kit` a kit of
    settings, `cycle` a look at some components, or at all for none."""

    def __init__(
        self,
        args: argparse.Namespace,
        load: Callable[[Mapping[str, str]], Settings],
        open_kit: Callable[[Settings, argparse.Namespace], ContextManager[Any]],
        cycle: Cycle,
    ) -> None:
        self._args, self._load, self._open, self._cycle = args, load, open_kit, cycle
        self._terminal = sys.stdin.isatty() and sys.stdout.isatty()
        self._environ = env.current()
        self._tries = Path()

    def run(self, scripts: Path) -> int:
        """0 all that was asked for works; 1 something is missing; 2 something does not work."""
        folder = env.here(scripts)
        known = env.gather(self._environ, (scripts, folder)).values
        names = {q.name for q in setup_guide.names()}
        known = {n: v for n, v in known.items() if n in names or n[: -len("_FILE")] in names}
        with tempfile.TemporaryDirectory(prefix="payment-api-setup-") as tries:
            self._tries = Path(tries)
            result = setup_guide.guide(known, self)
        for title, lines in setup_guide.rights(result.failed):
            self.say(f"{title}\n{lines}")
        path = folder / ".env"
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        answers = setup_guide.to_write(result, self._environ)
        setup_guide.save(path, setup_guide.written(before, answers))
        self.say(f"{path} is written, readable for you alone")
        try:
            self._first_look(result)
        except OperatorError as error:
            self.say(str(error), Severity.CRITICAL)
            return int(ExitStatus.CRITICAL)
        return int(EXIT_OF[result.status])

    def look(self, answers: Mapping[str, str], component: str) -> Component:
        """One component with these answers, without memory. Raises OperatorError."""
        with self._opened(answers, MONITORING_STATE_DIR=str(self._tries / "state")) as kit:
            return self._cycle(kit, (component,))(kit.clock()).components[0]

    @contextlib.contextmanager
    def _opened(self, answers: Mapping[str, str], **more: str) -> Any:
        given = {name: value for name, value in answers.items() if value}
        for question in setup_guide.names():
            if question.secret and given.get(question.name):
                register(given[question.name])
        quiet = argparse.Namespace(**{**vars(self._args), "single_run": True, "no_alerts": True})
        asked = {question.name for question in setup_guide.names()}
        base = {name: value for name, value in self._environ.items() if name not in asked}
        try:
            settings = self._load({**base, **given, **more})
        except ConfigurationError as error:
            raise OperatorError(" ".join(p.sentence for p in error.problems)) from error
        with self._open(settings, quiet) as kit:
            yield kit

    def _first_look(self, result: setup_guide.Result) -> None:
        """The first true table, and a test alert to whoever is told."""
        with self._opened(result.answers) as kit:
            modes.run(kit, self._cycle(kit, ()))
            told = any(result.answers.get(name) for name in setup_guide.CHANNELS)
            if told and self._agrees("Send a test alert and its end through each channel?"):
                modes.test_alerts(kit)
        self.say(
            "Next, a line for cron: */5 * * * * cd "
            f"{env.here(Path())} && {sys.executable} {Path(sys.argv[0]).absolute()} --single-run",
        )

    # -- the person, or nobody

    def ask(self, question: setup_guide.Question, known: str) -> str:
        """The answer of the person, or what is known. Raises OperatorError."""
        if not self._terminal:
            return known
        shown = "set" if question.secret and known else known
        prompt = f"  {question.name} ({question.asks}){f' [{shown}]' if shown else ''}: "
        try:
            if question.secret:
                return getpass.getpass(prompt) or known
            return input(prompt) or known
        except EOFError as exc:
            raise OperatorError("--setup: the answers have ended; nothing was written") from exc

    def say(self, sentence: str, severity: Optional[Severity] = None) -> None:
        """Print a sentence; a log line where nobody reads."""
        if self._terminal or not logs.json_wanted(self._args.log_format, sys.stdout):
            streams.say(f"{_MARKS.get(severity, '')}{sentence}\n")
        else:
            logs.result(_LEVELS.get(severity, "info"), sentence, {})

    def again(self, _wrong: str) -> bool:
        """A person may try once more."""
        return self._terminal and self._agrees("Ask for these again?")

    def _agrees(self, what: str) -> bool:
        """Yes unless a person says no; where nobody can be asked it is done."""
        if not self._terminal:
            return True
        try:
            return not input(f"{what} [Y/n] ").strip().lower().startswith("n")
        except EOFError:
            return False
