"""Present: the command line that the three scripts share; a usage error is one sentence, exit 3."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, Optional

from monitoring import __version__, text as durations
from monitoring.model import ExitStatus
from monitoring.output import report as outputs
from monitoring.output.logs import LOGGER

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class Parser(argparse.ArgumentParser):
    """argparse with the house's manners: exit 3 (2 means critical here), the error as a log line
    that names the flag and the cure, no abbreviations (they break when a flag is added)."""

    def __init__(self, script: str, description: str, examples: str) -> None:
        super().__init__(
            prog=f"{script}.py",
            description=description,
            epilog=f"examples:\n{examples}\n\nexit status of a single run: "
            "0 ok, 1 warning, 2 critical, 3 cannot tell",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._completing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, but first for a shell that completes the line."""
        if "_ARGCOMPLETE" in os.environ and not self._completing:
            self._completing = True  # the library parses the words before the last by this method
            _complete(self)
        words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(self._joined(words), namespace)

    def _joined(self, words: Sequence[str]) -> list[str]:
        """`--for -2h` as `--for=-2h`: what follows a flag that takes a value, begins with one minus
        and is no flag of ours is its value, to be read or refused as such."""
        flags = {option: action for action in self._actions for option in action.option_strings}
        joined: list[str] = []
        for word in words:
            value = word.startswith("-") and word.strip("-") and not word.startswith("--")
            taking = flags.get(joined[-1]) if joined else None
            if value and word not in flags and taking is not None and taking.nargs is None:
                joined[-1] += f"={word}"
            else:
                joined.append(word)
        return joined

    def error(self, message: str) -> NoReturn:
        bare = re.fullmatch(r"argument (\S+): expected one argument", message)
        if bare:
            message = f"{bare[1]} needs a value, and none follows it"
        LOGGER.error("%s: %s%s; see --help", self.prog, message, self._suggestion(message))
        sys.exit(ExitStatus.UNKNOWN)

    def _suggestion(self, message: str) -> str:
        """`did you mean` for a misspelt flag."""
        unknown = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        known = [option for action in self._actions for option in action.option_strings]
        near = difflib.get_close_matches(unknown.group(1), known, n=1) if unknown else []
        return f" (did you mean {near[0]}?)" if near else ""


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that completes a line, and end; without the library (`pip install
    argcomplete`, `eval "$(register-python-argcomplete payment-api-health-check)"`) nothing."""
    try:
        import argcomplete
    except ImportError:
        return
    argcomplete.autocomplete(parser)


def duration(text: str) -> float:
    """argparse type: `90s`, `15m`, `24h`, `7d`, `2w` or seconds, above zero; gives seconds."""
    try:
        seconds = durations.parse_duration(text)
    except ValueError as error:
        cure = f": write {text[1:]}" if text.startswith("-") else ""
        raise argparse.ArgumentTypeError(f"{text!r}: {error}{cure}") from error
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above zero")
    return seconds


def port(text: str) -> int:
    """argparse type: a TCP port; 0 lets the system choose one (it is logged)."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)


def positive(text: str) -> int:
    """argparse type: a whole number above zero."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def _output(text: str) -> str:
    try:
        return outputs.check_target(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _level(text: str) -> str:
    if text.upper() not in LEVELS:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {' '.join(LEVELS)}")
    return text.upper()


def _flag(group: Any, name: str, text: str, **more: Any) -> None:
    if not more:
        more = {"action": "store_true"}
    group.add_argument(name, help=text, **more)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that all three scripts share."""
    run = parser.add_argument_group("when to run")
    _flag(run, "--single-run", "one cycle, then exit with the status")
    _flag(
        run,
        "--interval",
        "loop with this interval (default: the configured one)",
        type=duration,
        metavar="SECONDS",
    )
    _flag(run, "--prometheus-port", "loop and serve /metrics", type=port, metavar="PORT")
    _flag(run, "--prometheus-address", "address to serve on", metavar="ADDR")
    run.add_argument(
        "--web-config",
        "--web.config.file",
        metavar="FILE",
        help="TLS and users of that port, in the format of Prometheus' exporter toolkit",
    )
    _add_results(parser.add_argument_group("results and alerts"))
    _add_logging(parser.add_argument_group("logging"))
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")


def _add_results(group: Any) -> None:
    endings = " ".join(outputs.SUFFIXES)
    _flag(
        group,
        "--output",
        f"write each cycle's result: {endings}, or - for standard output",
        type=_output,
        metavar="FILE",
    )
    _flag(group, "--config", "YAML or Python file laid over the configuration", metavar="FILE")
    _flag(group, "--check-config", "validate, print what is no default and exit (0 or 3)")
    _flag(group, "--all", "with --check-config: the defaults too")
    _flag(
        group,
        "--test-alerts",
        "send a test alert and its resolve through each configured channel",
        nargs="?",
        const="",
        default=None,
        metavar="CHANNEL",
    )
    _flag(group, "--alerts", "show what is firing, who was notified and what waits, then exit")
    _flag(group, "--no-alerts", "measure and report, notify nobody")
    _flag(
        group,
        "--silence",
        "notify nobody of this alert (a name, or a key of --alerts); needs --for and --reason",
        metavar="ALERT",
    )
    _flag(
        group, "--for", "how long a silence holds", type=duration, metavar="DURATION", dest="hush"
    )
    _flag(group, "--reason", "why, for whoever reads --alerts", metavar="TEXT")
    _flag(group, "--unsilence", "end a silence before its time", metavar="ALERT")


def _add_logging(group: Any) -> None:
    _flag(group, "--log-level", f"one of {' '.join(LEVELS)}", type=_level, metavar="LEVEL")
    _flag(
        group,
        "--log-format",
        "auto (default): text on a terminal, JSON otherwise",
        choices=("auto", "json", "text"),
        default="auto",
    )
    _flag(group, "--verbose", "show the details of each result")
    _flag(group, "--debug", "connection settings, request phases, sizes, where time went")


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse combinations that cannot mean anything."""
    if args.single_run and args.prometheus_port is not None:
        parser.error(
            "--single-run ends before anyone could scrape --prometheus-port; "
            "use --output FILE.prom with the textfile collector, or leave --single-run out"
        )
    if args.single_run and args.interval is not None:
        parser.error("--single-run runs once, so --interval has no meaning; leave one out")
    report = next((name for name in _REPORTS if _asked(args, name)), "")
    for flag in ("output", "interval", "prometheus_port") if report else ():
        if getattr(args, flag) is not None:
            parser.error(
                f"--{flag.replace('_', '-')} is for cycles; what --{report.replace('_', '-')} says"
                " goes to standard output"
            )
    if args.all and not args.check_config:
        parser.error("--all belongs to --check-config")
    if args.prometheus_address and args.prometheus_port is None:
        parser.error("--prometheus-address needs --prometheus-port")
    _check_silence(parser, args)
    if args.web_config and args.prometheus_port is None:
        parser.error("--web-config needs --prometheus-port")


def _check_silence(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.silence is not None and args.unsilence is not None:
        parser.error("--silence begins a silence and --unsilence ends one; ask for one at a time")
    if args.silence is not None and (args.hush is None or not (args.reason or "").strip()):
        parser.error("--silence needs --for (how long, as 2h) and --reason (why, in a few words)")
    if args.silence is None and (args.hush is not None or args.reason is not None):
        parser.error("--for and --reason say how long and why --silence ALERT holds")


#: Flags that ask for something by name and run no cycle.
_REPORTS = (
    *("sla", "analyze", "check_rotation", "inventory", "can_revoke", "replay"),
    *("alerts", "silence", "unsilence", "setup", "check_config", "test_alerts"),
)


def _asked(args: argparse.Namespace, name: str) -> bool:
    return getattr(args, name, None) not in (None, False)


def effective_level(args: argparse.Namespace) -> str:
    """`--log-level`, else DEBUG for `--debug`, else INFO."""
    return args.log_level or ("DEBUG" if args.debug else "INFO")


def requested_format(argv: Optional[Sequence[str]]) -> str:
    """The log format asked for, read before the command line is parsed, so that a usage error is
    already printed the right way; a wrong value is left to the parser."""
    words = list(sys.argv[1:] if argv is None else argv)
    for flag, value in zip(words, [*words[1:], ""]):
        asked = flag.partition("=")[2] if flag.startswith("--log-format=") else value
        if flag.startswith("--log-format") and asked in ("json", "text"):
            return asked
    return "auto"
