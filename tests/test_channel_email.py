"""Mail through real SMTP servers: plain, STARTTLS, TLS, login, refusals, hangs."""

from __future__ import annotations

import contextlib
import datetime
import email
import email.policy
import ipaddress
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Optional

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from monitoring.channels import email as channel
from monitoring.channels.base import ChannelContext, TransportError
from monitoring.config.secret import Secret
from monitoring.config.settings import AlertSettings
from monitoring.output import pages
from tests.alerting_kit import WARNING, alert, free_port, notice


@dataclass
class Sink:
    """What a test server got, and whom it refuses (address -> SMTP answer)."""

    refuses: dict[str, str] = field(default_factory=dict)
    mails: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    login: str = ""
    port: int = 0

    async def handle_RCPT(  # noqa: N802, PLR0917 - aiosmtpd's
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        if address in self.refuses:
            return self.refuses[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.mails.append((list(envelope.rcpt_tos), mail))  # type: ignore[arg-type]
        self.encrypted.append(session.ssl is not None)
        return "250 taken"

    def check(  # noqa: PLR0917 - aiosmtpd's
        self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.login = data.login.decode()
        return AuthResult(success=data.password == b"right", handled=False)


@contextlib.contextmanager
def smtp(sink: Optional[Sink] = None, **options: Any) -> Iterator[Sink]:
    sink = sink or Sink()
    sink.port = free_port()
    controller = Controller(sink, hostname="127.0.0.1", port=sink.port, **options)
    controller.start()
    try:
        yield sink
    finally:
        controller.stop()


def kit(port: int, **more: Any) -> ChannelContext:
    config = {
        "recipients": ("ops@example.com", "sec@example.com"),
        "sender": "monitoring@example.com",
        "smtp_server": "127.0.0.1",
        "smtp_port": port,
        "starttls": "auto",
        **more,
    }
    return ChannelContext(config, AlertSettings(runbooks="https://wiki.example"), timeout=5.0)


# -- a certificate authority of our own


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """(file of our authority, a server context with a certificate for 127.0.0.1)."""
    folder = tmp_path_factory.mktemp("ca")
    authority_key, authority = _certificate("test authority")
    key, leaf = _certificate("127.0.0.1", (authority_key, authority))
    ca_file, pair = folder / "ca.pem", folder / "server.pem"
    ca_file.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    pair.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + leaf.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    return ca_file, context


def _certificate(name: str, issuer: Any = None) -> tuple[Any, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    signer, parent = issuer or (key, None)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(parent.subject if parent else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=parent is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(
                True, False, False, False, False, parent is None, parent is None, False, False
            ),
            critical=True,
        )
    )
    if parent:
        address = x509.IPAddress(ipaddress.ip_address(name))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return key, builder.sign(signer, hashes.SHA256())


# -- delivery


def test_one_mail_for_all_notices_of_a_cycle() -> None:
    told = [
        notice(severity=WARNING, component="payment-eapi"),
        notice(),
        notice("resolved", component="conjur-vault"),
    ]
    with smtp() as sink:
        channel.send(told, kit(sink.port))
    ((recipients, mail),) = sink.mails
    assert recipients == ["ops@example.com", "sec@example.com"]
    assert mail["To"] == "ops@example.com, sec@example.com"
    assert mail["From"] == "monitoring@example.com"
    subject = "[payment-api] CRITICAL in test: redis-cache is in trouble (and 2 more)"
    assert mail["Subject"].strip() == subject  # its fold is not always taken out by the parser
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"].endswith("-0000")
    text, html = (part.get_content() for part in mail.iter_parts())
    for place in ("payment-eapi", "redis-cache", "conjur-vault"):
        assert place in text
        assert place in html
    assert sink.encrypted == [False], "the server is on this host"


def test_the_notices_of_one_alert_are_one_conversation() -> None:
    with smtp() as sink:
        for reason in ("first", "reminder", "resolved"):
            channel.send([notice(reason)], kit(sink.port))
        channel.send([notice(component="payment-eapi")], kit(sink.port))
    threads = [mail["References"] for _, mail in sink.mails]
    assert threads[0] == threads[1] == threads[2] != threads[3]
    assert len({mail["Message-ID"] for _, mail in sink.mails}) == 4


def test_sent_again_it_is_the_same_mail() -> None:
    with smtp() as sink:
        for _ in range(2):
            channel.send([notice()], kit(sink.port))
    one, again = [mail["Message-ID"] for _, mail in sink.mails]
    assert one == again
    assert len(f"Message-ID: {one}") <= 78, "never folded"


def test_starttls_is_verified(papers: tuple[Path, ssl.SSLContext]) -> None:
    ca_file, context = papers
    with smtp(tls_context=context, require_starttls=True) as sink:
        channel.send([notice()], kit(sink.port, starttls=True, ca_file=str(ca_file)))
        with pytest.raises(TransportError, match="certificate is not trusted"):
            channel.send([notice()], kit(sink.port, starttls=True))
    assert sink.encrypted == [True]


def test_a_server_without_starttls_is_not_trusted_with_the_mail() -> None:
    with smtp() as sink, pytest.raises(TransportError, match="does not offer"):
        channel.send([notice()], kit(sink.port, starttls=True))
    assert sink.mails == []


def test_tls_from_the_start_on_465(
    papers: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    ca_file, context = papers
    with smtp(ssl_context=context) as sink:
        connect = socket.create_connection

        def to_sink(address: tuple[str, int], *args: Any, **more: Any) -> socket.socket:
            return connect(
                (address[0], sink.port if address[1] == 465 else address[1]), *args, **more
            )

        monkeypatch.setattr(socket, "create_connection", to_sink)
        channel.send([notice()], kit(465, ca_file=str(ca_file)))
    assert len(sink.mails) == 1


@pytest.mark.parametrize(("password", "works"), [("right", True), ("wrong", False)])
def test_login(papers: tuple[Path, ssl.SSLContext], password: str, works: bool) -> None:
    ca_file, context = papers
    sink = Sink()
    options = {"tls_context": context, "require_starttls": True, "authenticator": sink.check}
    logged_in = {"username": "monitor", "password": Secret(password), "ca_file": str(ca_file)}
    with smtp(sink, **options), contextlib.ExitStack() as stack:
        if not works:
            failed = stack.enter_context(pytest.raises(TransportError, match="refused our login"))
        channel.send([notice()], kit(sink.port, starttls=True, **logged_in))
    assert sink.login == "monitor"
    assert len(sink.mails) == int(works)
    assert works or failed.value.permanent
    assert works or "wrong" not in str(failed.value)


# -- refusals and failures


def test_one_refused_recipient_does_not_keep_the_mail_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    with smtp(Sink(refuses={"sec@example.com": "550 no such user"})) as sink:
        channel.send([notice()], kit(sink.port))
    assert [recipients for recipients, _ in sink.mails] == [["ops@example.com"]]
    assert "refused the recipient sec@example.com (550)" in caplog.text


@pytest.mark.parametrize(("answer", "permanent"), [("550 no", True), ("451 later", False)])
def test_every_recipient_refused(answer: str, permanent: bool) -> None:
    sink = Sink(refuses=dict.fromkeys(("ops@example.com", "sec@example.com"), answer))
    with smtp(sink), pytest.raises(TransportError, match="refused every recipient") as failed:
        channel.send([notice()], kit(sink.port))
    assert failed.value.permanent is permanent


def test_no_recipients_is_said_and_not_sent() -> None:
    for nobody in ((), ("",), ""):
        with pytest.raises(TransportError, match="no mail recipients"):
            channel.send([notice()], kit(1, recipients=nobody))


def test_nobody_listens() -> None:
    with pytest.raises(TransportError, match="Connection refused") as failed:
        channel.send([notice()], kit(free_port()))
    assert not failed.value.permanent
    assert not failed.value.unsure


def test_a_server_that_hangs_costs_its_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        hanging = kit(mute.getsockname()[1])
        with pytest.raises(TransportError, match="no answer in time") as failed:
            channel.send([notice()], ChannelContext(hanging.config, timeout=0.3))
    assert not failed.value.unsure, "it never got as far as the mail"


def test_a_server_that_closes_may_have_taken_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as rude:
        closing = threading.Thread(target=_greet_and_close, args=(rude,))
        closing.start()
        with pytest.raises(TransportError, match="closed the connection") as failed:
            channel.send([notice()], kit(rude.getsockname()[1]))
        closing.join()
    assert failed.value.unsure


def _greet_and_close(server: socket.socket) -> None:
    """Takes everything up to the end of the mail and then says nothing more."""
    caller, _ = server.accept()
    with caller, caller.makefile("rb") as lines:
        caller.sendall(b"220 hello\r\n")
        for line in lines:
            caller.sendall(b"354 go on\r\n" if line.startswith(b"data") else b"250 fine\r\n")
            if line.startswith(b"data"):
                break
        while lines.readline() != b".\r\n":
            continue


# -- what it looks like


def test_no_header_can_be_injected() -> None:
    nasty = "x\r\nBcc: thief@example.com\r\n\r\n<script>alert(1)</script>"
    with smtp() as sink:
        channel.send([notice(summary=nasty, client=nasty, evidence={nasty: nasty})], kit(sink.port))
    ((recipients, mail),) = sink.mails
    assert recipients == ["ops@example.com", "sec@example.com"]
    assert mail["Bcc"] is None
    html = [part.get_content() for part in mail.iter_parts()][1]
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_a_group_is_a_list_and_a_long_digest_stays_readable() -> None:
    also = tuple(alert(client=f"client-{n}") for n in range(30))
    many = [notice(component=f"component-{n}", meaning="Bad.") for n in range(60)]
    with smtp() as sink:
        channel.send([notice(also=also, runbook="page"), *many], kit(sink.port))
    text = next(iter(sink.mails[0][1].iter_parts())).get_content()
    assert "- client-0: " in text
    assert "and 10 more" in text
    assert "https://wiki.example/page.md" in text
    assert text.count("component-59 is in trouble") == 1
    assert text.count("What it means") == 24, "the first 25 in detail, one of them without meaning"


def test_a_mail_whose_template_is_gone_is_sent_as_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Files may be exchanged under a running loop: the look of a mail never costs the mail."""

    def gone(template: str, **values: Any) -> str:
        raise pages.PageError(f"{template}: TemplateNotFound")

    monkeypatch.setattr(channel, "page", gone)
    with smtp() as sink:
        channel.send([notice()], kit(sink.port))
    ((_, mail),) = sink.mails
    assert "redis-cache is in trouble" in mail.get_content()
    assert "sent as text alone: mail.html: TemplateNotFound" in caplog.text


def test_a_template_without_its_values_is_an_error_that_names_it() -> None:
    with pytest.raises(pages.PageError, match=r"mail\.html: UndefinedError"):
        pages.page("mail.html")
    with pytest.raises(pages.PageError, match=r"nowhere\.html: TemplateNotFound"):
        pages.page("nowhere.html")
