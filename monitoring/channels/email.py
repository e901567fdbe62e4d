"""Present: notices as one mail per cycle, HTML and text, over SMTP.

Port 465 speaks TLS from the start; elsewhere STARTTLS, unless the server is on this host or
`starttls` says no. Certificates are verified (smtplib alone would not).
"""

from __future__ import annotations

import hashlib
import smtplib
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any, Optional

from monitoring.alerts.messages import Message, clean, render
from monitoring.channels.base import ChannelContext, Refusal, TransportError, listed
from monitoring.http import wire
from monitoring.model import Notice, Severity
from monitoring.output.logs import LOGGER
from monitoring.output.pages import PageError, page

BATCH = 200
_COLOURS = {Severity.CRITICAL: "#c62828", Severity.WARNING: "#e08600"}
_OVER, _OTHER = "#2e7d32", "#546e7a"
_DOMAIN = "payment-api-monitoring.invalid"
_MOST = 64 << 10  # bytes of all replies to one mail
_DETAILED = 25  # notices with all their lines; the rest of a very long digest is titles


def send(notices: Sequence[Notice], kit: ChannelContext) -> dict[str, Refusal]:
    """Send one mail with all notices. Returns the recipients that were refused while others were
    accepted, each an error in the log. Raises TransportError unless one was accepted."""
    recipients = _recipients(kit)
    mail = digest([render(notice, kit.rules) for notice in notices], kit, recipients)
    sending = False
    try:
        with _connected(kit) as server:
            sending = True
            refused = server.send_message(mail, to_addrs=list(recipients))
    except smtplib.SMTPRecipientsRefused as exc:
        raise _all_refused(exc.recipients, recipients) from None
    except (smtplib.SMTPException, wire.WireFault, OSError, ValueError) as exc:
        raise _translated(exc, sending=sending) from None
    return {address: _refusal(address, code) for address, (code, _) in refused.items()}


def digest(
    messages: Sequence[Message], kit: ChannelContext, recipients: Sequence[str]
) -> EmailMessage:
    """The mail. Header values are single clean lines, so that none can add a header."""
    mail = EmailMessage()
    mail["Subject"] = subject(messages)
    mail["From"] = clean(kit.text("sender", "monitoring@localhost"), 200)
    mail["To"] = ", ".join(recipients)
    mail["Date"] = formatdate(localtime=False)
    # Sent again after a lost answer it is the same mail: most servers show it once.
    mail["Message-ID"] = _identity(repr(messages))
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    if len(messages) == 1:
        # First, reminders and the resolve of an alert become one conversation.
        mail["References"] = _identity(messages[0].key)
    if any(m.severity is Severity.CRITICAL and not m.over for m in messages):
        mail["X-Priority"] = "1"
    mail.set_content("\n".join(_text(messages)))
    try:
        mail.add_alternative(_html(messages), subtype="html")
    except PageError as exc:  # the text says all of it
        LOGGER.error("a mail is sent as text alone: %s", exc)
    return mail


def _identity(text: str) -> str:
    # Short enough for one line: some servers do not take a folded one.
    return f"<{hashlib.sha256(text.encode()).hexdigest()[:32]}@{_DOMAIN}>"


def subject(messages: Sequence[Message]) -> str:
    """One line that says the worst of it."""
    worst = min(messages, key=lambda m: (m.over, -m.severity))
    more = f" (and {len(messages) - 1} more)" if len(messages) > 1 else ""
    return f"[payment-api] {clean(worst.title, 180)}{more}"


def _text(messages: Sequence[Message]) -> Iterator[str]:
    for number, message in enumerate(messages):
        yield message.title
        if number >= _DETAILED:
            continue
        yield from (f"  {label}: {text}" for label, text in message.lines)
        yield from (f"  - {member}" for member in message.members)
        yield from (f"  {name}: {value}" for name, value in message.fields)
        yield from (f"  {name}: {href}" for name, href in message.links)
        yield ""


def _html(messages: Sequence[Message]) -> str:
    shown = [
        (
            message,
            _OVER if message.over else _COLOURS.get(message.severity, _OTHER),
            number < _DETAILED,
        )
        for number, message in enumerate(messages)
    ]
    return page("mail.html", messages=shown)


# -- the server


def _recipients(kit: ChannelContext) -> tuple[str, ...]:
    recipients = listed(kit.config.get("recipients"))
    if not recipients:
        raise TransportError("no mail recipients are configured", permanent=True)
    return recipients


class _Bounded:
    """What is added to the library's clients, which read replies without end: all replies
    together end within the timeout and hold at most _MOST bytes."""

    _deadline: Optional[wire.Deadline] = None
    timeout: float
    file: Any
    sock: Any

    def getreply(self) -> tuple[int, bytes]:
        """As the library has it. Raises WireFault (too_large), socket.timeout."""
        if self._deadline is None:
            self._deadline = wire.Deadline(self.timeout)
        if self.file is None:
            self.file = wire.TimedSocket(self.sock, self._deadline, most=_MOST).makefile("rb")
        return super().getreply()  # type: ignore[misc,no-any-return]


class _Smtp(_Bounded, smtplib.SMTP):
    """Without TLS, or until STARTTLS."""


class _Smtps(_Bounded, smtplib.SMTP_SSL):
    """TLS from the start."""


def _connected(kit: ChannelContext) -> smtplib.SMTP:
    """A server that is ready to take mail; closed by its `with` block."""
    host, port = kit.text("smtp_server"), int(kit.config.get("smtp_port") or 25)
    context = ssl.create_default_context(cafile=kit.text("ca_file") or None)
    # The default asks the resolver for our own name, which can hang for long.
    name = socket.gethostname() or "localhost"
    if port == 465:
        server: smtplib.SMTP = _Smtps(
            host, port, local_hostname=name, timeout=kit.timeout, context=context
        )
    else:
        server = _Smtp(host, port, local_hostname=name, timeout=kit.timeout)
    with ExitStack() as on_failure:
        on_failure.callback(server.close)
        _secure(server, host, kit, context)
        on_failure.pop_all()
    return server


def _secure(server: smtplib.SMTP, host: str, kit: ChannelContext, context: ssl.SSLContext) -> None:
    asked = kit.config.get("starttls", "auto")
    encrypted = isinstance(server, smtplib.SMTP_SSL)
    if not encrypted and (asked is True or (asked != False and not _local(host))):  # noqa: E712
        server.starttls(context=context)
    if kit.text("username"):
        server.login(kit.text("username"), kit.text("password"))


def _local(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _refusal(address: str, code: int) -> Refusal:
    """One refused recipient, said in the log."""
    later = "" if code >= 500 else ": tried again later"
    why = f"the mail server refused the recipient {clean(address, 100)} ({code}){later}"
    LOGGER.error("%s", why)
    return Refusal(code, why)


def _all_refused(
    refused: dict[str, tuple[int, bytes]], recipients: Sequence[str]
) -> TransportError:
    # The server may hang up (421) before it heard of them all.
    codes = {address: refused.get(address, (421, b""))[0] for address in recipients}
    said = ", ".join(str(code) for code in sorted(set(codes.values())))
    return TransportError(
        f"the mail server refused every recipient ({said})",
        permanent=all(code >= 500 for code in codes.values()),
        refused={address: _refusal(address, code) for address, code in codes.items()},
    )


_WORDS = {
    smtplib.SMTPAuthenticationError: "refused our login",
    smtplib.SMTPSenderRefused: "refused our sender address",
    smtplib.SMTPDataError: "refused the mail",
    smtplib.SMTPConnectError: "refused the connection",
    smtplib.SMTPHeloError: "refused our greeting",
    smtplib.SMTPNotSupportedError: "does not offer what we need (STARTTLS or login)",
    smtplib.SMTPServerDisconnected: "closed the connection",
}


def _translated(exc: Exception, *, sending: bool) -> TransportError:
    """The error as a sentence; the server's own words may repeat what we sent and are left out.
    A connection lost while sending may have carried the mail all the same."""
    if isinstance(exc, wire.WireFault):
        said = f"the mail server answers with {exc.fault.message}"
        return TransportError(said, unsure=sending)
    if not isinstance(exc, smtplib.SMTPException):
        return TransportError(f"mail server: {_why(exc)}", unsure=sending)
    if "timed out" in str(exc):
        return TransportError("mail server: no answer in time", unsure=sending)
    code = exc.smtp_code if isinstance(exc, smtplib.SMTPResponseException) else 0
    said = f" ({code})" if code else ""
    return TransportError(
        f"the mail server {_WORDS.get(type(exc), 'failed')}{said}",
        permanent=code >= 500 or isinstance(exc, smtplib.SMTPNotSupportedError),
        unsure=sending and isinstance(exc, smtplib.SMTPServerDisconnected),
    )


def _why(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {exc.verify_message}"
    if isinstance(exc, socket.timeout):
        return "no answer in time"
    return str(getattr(exc, "strerror", None) or type(exc).__name__)
