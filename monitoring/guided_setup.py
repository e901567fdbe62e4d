"""Keep: `--setup`, the first hour: what must be known is asked for, tried at once and written."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional, Protocol

from monitoring import modes
from monitoring.certainty import combined
from monitoring.components import CACHE, EAPI, LOGIN, SAPI, VAULT
from monitoring.config import env
from monitoring.config.problems import ConfigurationError, Environment
from monitoring.config.settings import Settings
from monitoring.model import EXIT_OF, Component, ExitStatus, OperatorError, Outcome, Severity
from monitoring.output import logs, logs as streams
from monitoring.output.report import milliseconds
from monitoring.text import register

# -- `--setup`, the first hour: what must be known is asked for, tried at once and written.
# On a terminal each question shows what is known already, and Enter keeps it; elsewhere the answers
# are those of the environment. What is missing is told with what that costs. The answers are
# written to `.env` in the working directory, readable for its owner alone.


@dataclass(frozen=True)
class Question:
    """One variable: what is asked for. A secret is not shown while it is typed."""

    name: str
    asks: str
    secret: bool = False


@dataclass(frozen=True)
class Topic:
    """Questions that belong together. `tries`: the component that they lead to (empty: nothing to
    try). `needs`: the variables without which there is nothing to try (the rest has a default);
    `costs`: what is not known while it is missing or not well."""

    title: str
    questions: tuple[Question, ...]
    tries: str = ""
    needs: tuple[str, ...] = ()
    costs: str = ""


_Q = Question
TOPICS: tuple[Topic, ...] = (
    Topic("Environment", (_Q("MONITORING_ENV", "dev, test, staging or prod"),)),
    Topic(
        "Payment-EAPI, which gives tokens",
        (_Q("EAPI_ENDPOINT", "its URL, as https://payment-eapi.example.com"),),
        EAPI,
        (),
        "nobody watches whether clients can log in, and no failed login is counted",
    ),
    Topic(
        "Payment-SAPI, which checks tokens",
        (_Q("SAPI_ENDPOINT", "its URL"),),
        SAPI,
        (),
        "nobody watches whether tokens are accepted",
    ),
    Topic(
        "Redis, which holds the tokens",
        (
            _Q("REDIS_HOST", "its host"),
            _Q("REDIS_PORT", "its port"),
            _Q("REDIS_USERNAME", "the user of deploy/redis/users.acl"),
            _Q("REDIS_PASSWORD", "its password", secret=True),
            _Q("REDIS_SSL", "true where it wants TLS"),
        ),
        CACHE,
        (),
        "no token is counted, and --can-revoke can never say yes",
    ),
    Topic(
        "Conjur, which holds the clients' secrets",
        (
            _Q("CONJUR_URL", "its URL"),
            _Q("CONJUR_ACCOUNT", "the account"),
            _Q("CONJUR_AUTHN_LOGIN", "our identity, as host/monitoring"),
            _Q("CONJUR_AUTHN_API_KEY", "its API key", secret=True),
            _Q("CONJUR_CERT_FILE", "its CA certificate, where your system does not know it"),
        ),
        VAULT,
        ("CONJUR_AUTHN_LOGIN", "CONJUR_AUTHN_API_KEY"),
        "no secret has an age, and no rotation is followed",
    ),
    Topic(
        "Canary: a client of its own that logs in with each cycle",
        (
            _Q("MONITORING_CLIENT_ID", "its client id"),
            _Q("MONITORING_CLIENT_SECRET", "its secret", secret=True),
        ),
        LOGIN,
        ("MONITORING_CLIENT_ID", "MONITORING_CLIENT_SECRET"),
        "nobody proves that a login works from end to end",
    ),
    Topic(
        "Who is notified",
        (
            _Q("SLACK_WEBHOOK_URL", "Slack: the webhook", secret=True),
            _Q("PAGERDUTY_SERVICE_KEY", "PagerDuty: the integration key", secret=True),
            _Q("EMAIL_RECIPIENTS", "mail: the recipients, with commas"),
            _Q("SMTP_SERVER", "mail: the server"),
            _Q("SMTP_PORT", "mail: its port"),
            _Q("ALERTMANAGER_URL", "Alertmanager: its URL"),
        ),
        costs="what is wrong stands in the log, and nobody is woken by it",
    ),
)
#: Any of these makes a channel.
CHANNELS = (
    "SLACK_WEBHOOK_URL",
    "PAGERDUTY_SERVICE_KEY",
    "EMAIL_RECIPIENTS",
    "ALERTMANAGER_URL",
)

Known = Mapping[str, str]


class Host(Protocol):
    """Whoever is asked, and what answers are tried on."""

    def ask(self, question: Question, known: str) -> str:
        """The answer; `known` is what is known already."""

    def say(self, sentence: str, severity: Optional[Severity] = None) -> None:
        """Tell how it is; None: it is no word on how something stands."""

    def look(self, answers: Known, component: str) -> Component:
        """The component as it is with the answers so far. Raises OperatorError where they cannot
        be used."""

    def again(self, wrong: str) -> bool:
        """Whether to ask for a topic once more, after that sentence."""


def names() -> Iterator[Question]:
    """Every question, in the order in which they are asked."""
    for topic in TOPICS:
        yield from topic.questions


@dataclass(frozen=True)
class Result:
    """`answers`: what to write. `found`: how each component that was tried stands; `missing`:
    titles of topics without an answer."""

    answers: Known
    found: Mapping[str, Severity]
    missing: tuple[str, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Components that were tried and are not well."""
        return tuple(name for name, status in self.found.items() if status is not Severity.OK)

    @property
    def status(self) -> Severity:
        """The worst that was found; a WARNING at least where something is missing."""
        if self.missing:
            return max(Severity.WARNING, *self.found.values())
        return combined(self.found.values())


def guide(known: Known, host: Host) -> Result:
    """Go through the topics with what is known already."""
    answers = dict(known)
    found: dict[str, Severity] = {}
    missing: list[str] = []
    for topic in TOPICS:
        host.say(topic.title)
        while True:
            answers.update(_answers(topic, answers, host))
            if lack := _lack(topic, answers):
                host.say(lack, Severity.WARNING)
                missing.append(topic.title)
                answers.update(_half(topic, answers, host))
                break
            if not topic.tries:
                break
            found[topic.tries], wrong = _try(topic, _so_far(topic, answers), host)
            if found[topic.tries] is Severity.OK or not host.again(wrong):
                break
    return Result(answers, found, tuple(missing))


def _answers(topic: Topic, known: Known, host: Host) -> Iterator[tuple[str, str]]:
    for question in topic.questions:
        if f"{question.name}_FILE" in known:
            continue  # a file holds it
        said = host.ask(question, known.get(question.name, "")).strip()
        if said or question.name in known:
            yield question.name, said


def _lack(topic: Topic, answers: Known) -> str:
    """What is missing and what that costs; empty: nothing."""
    lacks = [name for name in topic.needs if not _has(answers, name)]
    nobody = not topic.tries and not any(_has(answers, name) for name in CHANNELS)
    if not topic.costs or not (lacks or nobody):
        return ""
    which = f" ({', '.join(lacks)})" if lacks else ""
    return f"not set{which}: {topic.costs}"


def _half(topic: Topic, answers: Known, host: Host) -> Iterator[tuple[str, str]]:
    """Leave out what is there of an identity that is not whole: no script would start with it."""
    for need in topic.needs:
        for name in (need, f"{need}_FILE"):
            if answers.get(name):
                host.say(f"{name} is left out until the rest is there", Severity.WARNING)
                yield name, ""


def _so_far(last: Topic, answers: Known) -> Known:
    """The answers up to that topic: what comes later may be half given, and is asked for then."""
    later = TOPICS[TOPICS.index(last) + 1 :]
    names_later = {question.name for topic in later for question in topic.questions}
    return {name: value for name, value in answers.items() if name not in names_later}


def _try(topic: Topic, answers: Known, host: Host) -> tuple[Severity, str]:
    """How the component of a topic stands with these answers, and what is wrong with it."""
    try:
        found = host.look(answers, topic.tries)
    except OperatorError as error:
        host.say(str(error), Severity.CRITICAL)
        return Severity.CRITICAL, str(error)
    took = "" if found.response_time_ms is None else f", in {milliseconds(found.response_time_ms)}"
    sentence = f"{found.name}: {found.status.word}{took}"
    host.say(f"{sentence}: {found.message}" if found.message else sentence, found.status)
    if found.up is not True:  # what is up and not well is watched all the same
        host.say(f"until that is mended {topic.costs}", found.status)
    return found.status, found.message


def _has(answers: Known, name: str) -> bool:
    return bool(answers.get(name) or answers.get(f"{name}_FILE"))


def written(before: str, answers: Known) -> str:
    """The text of `.env` with the answers in it; other lines stay. Raises OperatorError for an
    answer that no `.env` can hold."""
    left = dict(answers)
    lines = []
    for line in before.splitlines():
        found = re.match(r"\s*(?:export\s+)?(\w+)\s*=", line)
        if found and found[1] in answers:
            if found[1] in left:
                lines.append(_line(found[1], left.pop(found[1])))
            continue
        lines.append(line)
    lines += [_line(name, value) for name, value in left.items()]
    return "".join(f"{line}\n" for line in lines)


def _line(name: str, value: str) -> str:
    if re.search(r"[\r\n\0]", value):
        raise OperatorError(f"{name} has a line break in it, which no .env can hold")
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{name}='{quoted}'"


def save(path: Path, text: str) -> None:
    """Replace a file at once, for its owner alone. Raises OperatorError."""
    made = ""
    try:
        handle, made = tempfile.mkstemp(prefix=".env-", dir=path.parent)  # mode 0600
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(made, path)
    except OSError as exc:
        if made:  # half a file with secrets in it
            Path(made).unlink(missing_ok=True)
        raise OperatorError(f"{path} cannot be written: {exc.strerror}") from exc


def to_write(result: Result, environ: Known) -> Known:
    """Of the answers, what belongs into `.env`: what was asked for and has a value."""
    asked = [name for question in names() for name in (question.name, f"{question.name}_FILE")]
    wanted = {name: result.answers.get(name, "") for name in asked}
    return {n: v for n, v in wanted.items() if v or (n in result.answers and environ.get(n))}


#: What the Redis user of the monitor needs, and nothing else (deploy/redis/users.acl).
REDIS_ACL = (
    "user monitoring on #REPLACE-WITH-SHA256-OF-THE-PASSWORD resetkeys resetchannels -@all "
    "%R~token:* %R~token_id:* %R~client:tokens:* %R~validation:* %R~credential:* +ping +info "
    "+dbsize +scan +mget +hmget +pttl +type +scard +slowlog|get +acl|whoami +cluster|info "
    "+cluster|nodes +cluster|slots +readonly"
)
#: The monitor's identity in the vault (deploy/conjur/policy.yml).
CONJUR_POLICY = """\
- !group monitoring-access
- !host
  id: monitoring
- !grant
  role: !group monitoring-access
  member: !host monitoring
- !permit
  role: !group monitoring-access
  privileges: [read]
  resources:
    - !variable payment/credentials/client-001"""


def rights(result: Result) -> Iterator[tuple[str, str]]:
    """What to offer whoever has no identity yet, or one that does not work: title and lines."""
    failed, titles = result.failed, {topic.tries: topic.title for topic in TOPICS}
    if CACHE in failed or not _has(result.answers, "REDIS_USERNAME"):
        yield "A Redis user that may do what the scripts need and nothing else:", REDIS_ACL
    if VAULT in failed or titles[VAULT] in result.missing:
        yield "An identity in Conjur that may see secrets' dates and read none:", CONJUR_POLICY


# -- `--setup` with a person or an environment behind it: asks, tries, writes, shows.

Cycle = Callable[[Any, Sequence[str]], Callable[[float], Outcome]]
_LEVELS: Mapping[Any, str] = {
    Severity.UNKNOWN: "warning",
    Severity.WARNING: "warning",
    Severity.CRITICAL: "error",
}
_MARKS: Mapping[Any, str] = {**dict.fromkeys(_LEVELS, "? "), Severity.CRITICAL: "! "}


def _only_what_was_read(found: Environment) -> None:
    """Refuse to replace a `.env` whose lines are not known, or that somebody else may have
    written. Raises OperatorError."""
    wrong = [problem.sentence for problem in found.problems] + list(found.refused)
    if wrong:
        raise OperatorError(f"--setup: {' '.join(wrong)}; mend or remove it, nothing was written")


def worst_exit(statuses: Iterable[int]) -> int:
    """Of exit statuses the one to end with: what does not work before what cannot be told."""
    order = (ExitStatus.OK, ExitStatus.WARNING, ExitStatus.UNKNOWN, ExitStatus.CRITICAL)
    return int(max((ExitStatus(status) for status in statuses), key=order.index))


class Setup:
    """`load` makes settings of an environment (raises ConfigurationError), `open_kit` a kit of
    settings, `cycle` a look at some components, or at all for none."""

    def __init__(
        self,
        args: argparse.Namespace,
        load: Callable[[Mapping[str, str]], Settings],
        open_kit: Callable[[Settings, argparse.Namespace], AbstractContextManager[Any]],
        cycle: Cycle,
    ) -> None:
        self._args, self._load, self._open, self._cycle = args, load, open_kit, cycle
        self._terminal = sys.stdin.isatty() and sys.stdout.isatty()
        self._wrong = ""  # what was said last
        self._environ = env.current()
        self._tries = Path()

    def run(self, scripts: Path) -> int:
        """0 all that was asked for works; 1 something is missing; 2 something does not work."""
        folder = env.here(scripts)
        found = env.gather(self._environ, (scripts, folder))
        _only_what_was_read(found)
        known = found.values
        asked = {question.name for question in names()}
        known = {n: v for n, v in known.items() if n in asked or n[: -len("_FILE")] in asked}
        with tempfile.TemporaryDirectory(prefix="payment-api-setup-") as tries:
            self._tries = Path(tries)
            result = guide(known, self)
        for title, lines in rights(result):
            self.say(f"{title}\n{lines}", whole=True)
        path = folder / ".env"
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        answers = to_write(result, self._environ)
        save(path, written(before, answers))
        self.say(f"{path} is written, readable for you alone")
        try:
            looked, notified = self._first_look(result)
        except OperatorError as error:
            self.say(str(error), Severity.CRITICAL)
            return int(ExitStatus.CRITICAL)
        return worst_exit((int(EXIT_OF[result.status]), looked, notified))

    def look(self, answers: Mapping[str, str], component: str) -> Component:
        """One component with these answers, without memory. Raises OperatorError."""
        with self._opened(answers, MONITORING_STATE_DIR=str(self._tries / "state")) as kit:
            return self._cycle(kit, (component,))(kit.clock()).components[0]

    @contextlib.contextmanager
    def _opened(self, answers: Mapping[str, str], **more: str) -> Any:
        given = {name: value for name, value in answers.items() if value}
        for question in names():
            if question.secret and given.get(question.name):
                register(given[question.name])
        quiet = argparse.Namespace(**{**vars(self._args), "single_run": True, "no_alerts": True})
        asked = {question.name for question in names()}
        base = {name: value for name, value in self._environ.items() if name not in asked}
        try:
            settings = self._load({**base, **given, **more})
        except ConfigurationError as error:
            raise OperatorError(" ".join(p.sentence for p in error.problems)) from error
        with self._open(settings, quiet) as kit:
            yield kit

    def _first_look(self, result: Result) -> tuple[int, int]:
        """The first true table, and a test alert to whoever is told: their exit statuses."""
        alerted = int(ExitStatus.OK)
        with self._opened(result.answers) as kit:
            looked = modes.run(kit, self._cycle(kit, ()))
            notified = any(result.answers.get(name) for name in CHANNELS)
            if notified and self._agrees("Send a test alert and its end through each channel?"):
                alerted = modes.test_alerts(kit)
        self.say(
            "Next, a line for cron: */5 * * * * cd "
            f"{env.here(Path())} && {sys.executable} {Path(sys.argv[0]).absolute()} --single-run",
            whole=True,
        )
        return looked, alerted

    # -- the person, or nobody

    def ask(self, question: Question, known: str) -> str:
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

    def say(
        self, sentence: str, severity: Optional[Severity] = None, *, whole: bool = False
    ) -> None:
        """Print a sentence; a log line where nobody reads. `whole`: its lines are not broken, since
        somebody will copy them."""
        if self._terminal or not logs.json_wanted(self._args.log_format, sys.stdout):
            from monitoring.output import terminal

            text = f"{_MARKS.get(severity, '')}{sentence}\n"
            streams.say(text, str if whole else terminal.painted)
        else:
            logs.result(_LEVELS.get(severity, "info"), sentence, {})

    def again(self, wrong: str) -> bool:
        """A person may try once more; who was told the same a second time goes on by Enter."""
        same, self._wrong = wrong == self._wrong, wrong
        return self._terminal and self._agrees("Ask for these again?", usual=not same)

    def _agrees(self, what: str, *, usual: bool = True) -> bool:
        """What a person says, Enter for what is `usual`; where nobody can be asked it is done."""
        if not self._terminal:
            return True
        try:
            said = input(f"{what} {'[Y/n]' if usual else '[y/N]'} ").strip().lower()[:1]
        except EOFError:
            return False
        return said != "n" if usual else said == "y"
