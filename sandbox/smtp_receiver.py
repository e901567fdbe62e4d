"""SMTP receiver: takes mail and keeps it. On the standard library alone, so it is always there.

It offers no STARTTLS and no login: the channel's own tests use a full server for those.
"""

from __future__ import annotations

import email
import email.policy
import socketserver
import threading
import time
from email.message import EmailMessage
from typing import Any, Callable, Optional

from sandbox.clock import iso_time
from sandbox.faults import FaultBoard
from sandbox.receivers import Mailbag

MAX_MAIL = 10 * 1024 * 1024


def _part(message: EmailMessage, kind: str) -> Optional[str]:
    body = message.get_body(preferencelist=(kind,))
    return None if body is None else str(body.get_content())


class Session(socketserver.StreamRequestHandler):
    """One client's conversation."""

    timeout = 30
    server: SmtpReceiver

    def setup(self) -> None:
        """A fresh envelope."""
        super().setup()
        self.sender = ""
        self.recipients: list[str] = []

    def reply(self, line: str) -> None:
        """Say one line."""
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self) -> None:
        """Greet, then obey one command after another until QUIT or the end of the line."""
        self.reply("220 sandbox ESMTP")
        while True:
            line = self.rfile.readline(4096).decode("utf-8", "replace").strip()
            verb, _, rest = line.partition(" ")
            if not line or verb.upper() == "QUIT":
                self.reply("221 bye")
                return
            COMMANDS.get(verb.upper(), Session.unknown)(self, rest)

    def unknown(self, _rest: str) -> None:
        """Anything we do not speak."""
        self.reply("502 command not implemented")

    def hello(self, _rest: str) -> None:
        """EHLO and HELO."""
        self.wfile.write(b"250-sandbox\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 10485760\r\n")

    def mail(self, rest: str) -> None:
        """MAIL FROM."""
        self.sender, self.recipients = _address(rest), []
        self.reply("250 ok")

    def rcpt(self, rest: str) -> None:
        """RCPT TO; the fault refuses everybody."""
        if self.server.faults.on("smtp-refuse"):
            self.reply("550 no such user here")
            return
        self.recipients.append(_address(rest))
        self.reply("250 ok")

    def data(self, _rest: str) -> None:
        """DATA, up to the lonely dot."""
        if not self.recipients:
            self.reply("503 no valid recipients")
            return
        self.reply("354 go ahead")
        lines: list[bytes] = []
        size = 0
        while size < MAX_MAIL:
            line = self.rfile.readline()
            if line in (b".\r\n", b".\n", b""):
                break
            lines.append(line[1:] if line.startswith(b".") else line)
            size += len(line)
        self.server.keep(self.sender, self.recipients, b"".join(lines))
        self.reply("250 kept")

    def ok(self, _rest: str) -> None:
        """NOOP; RSET clears the envelope by way of the next MAIL."""
        self.reply("250 ok")


COMMANDS: dict[str, Callable[[Session, str], None]] = {
    "EHLO": Session.hello,
    "HELO": Session.hello,
    "MAIL": Session.mail,
    "RCPT": Session.rcpt,
    "DATA": Session.data,
    "RSET": Session.ok,
    "NOOP": Session.ok,
}


def _address(rest: str) -> str:
    return rest.partition("<")[2].partition(">")[0]


class SmtpReceiver(socketserver.ThreadingTCPServer):
    """Listens on loopback; mails land in the bag under `smtp`."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(
        self,
        bag: Optional[Mailbag] = None,
        *,
        faults: Optional[FaultBoard] = None,
        now: Callable[[], float] = time.time,
        port: int = 0,
    ) -> None:
        super().__init__(("127.0.0.1", port), Session)
        self.bag = bag or Mailbag()
        self.faults = faults or FaultBoard()
        self.now = now
        self.port: int = self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the middle is no news."""

    def keep(self, sender: str, recipients: list[str], raw: bytes) -> None:
        """Store one mail with its texts taken apart."""
        message = email.message_from_bytes(raw, policy=email.policy.default)
        self.bag.put(
            "smtp",
            {
                "at": iso_time(self.now()),
                "sender": sender,
                "recipients": list(recipients),
                "subject": str(message["subject"]),
                "headers": {name: str(value) for name, value in message.items()},
                "text": _part(message, "plain"),
                "html": _part(message, "html"),
                "raw": raw.decode("utf-8", "replace"),
            },
        )

    def start(self) -> SmtpReceiver:
        """Serve in the background; returns itself."""
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop serving."""
        self.shutdown()
        self.server_close()

    def __enter__(self) -> SmtpReceiver:  # noqa: PYI034 - Self needs 3.11
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()
