from __future__ import annotations

import base64
import html
import json
import re
import time
import urllib.parse
from pathlib import Path

import pytest

from monitoring.alerts import messages
from monitoring.channels import pagerduty
from monitoring.config.load import secrets_of
from monitoring.config.secret import Secret
from monitoring.conjur import answers as vault_health
from monitoring.health import judging, words as health_words
from monitoring.http.reply import BodyError, HttpFault, Reply, read_body
from monitoring.output import logs
from monitoring.store import prometheus_history as prometheus
from monitoring.text import MASK, is_word, printable, redact, redacted, register, safe_id
from tests.canaries import forms

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjbGllbnQtMDAxIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (f"GET validation:{JWT}:none", JWT),
        (f"Authorization: Bearer {JWT}", JWT),
        ("Authorization: Basic bW9uaXRvcjpodW50ZXIy", "bW9uaXRvcjpodW50ZXIy"),
        ('Authorization: Token token="abc=="', "abc=="),
        ("redis://:hunter2secret@cache:6379/0", "hunter2secret"),
        ("redis://monitor:hunter2secret@cache:6379/0", "monitor"),
        ("https://hooks.slack.com/services/T0/B0/XXXX", "T0/B0/XXXX"),
        (f"cut off: {JWT[:30]}", JWT[:30]),
        ("redis://:p@ss:w@rd@cache:6379/0", "w@rd"),
        ('Authorization: Token token=\\"abc==\\"', "abc=="),
        ("sent bEaReR hunter2secret to it", "hunter2secret"),
        ("the key validation:some-opaque-words-of-it:none", "opaque"),
        ("ſent: baſic hunter2secret", "hunter2secret"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, hidden: str) -> None:
    shown = redact(text)
    assert hidden not in shown
    assert MASK in shown


SECRETS = (
    "pässword/with+signs=1",
    "quo\"te\\back<slash>&it's",
    "Zq7Kp0vb9Lw2",
    "s3cr3t",
    "a line\nand-Another-1",
)


@pytest.mark.parametrize("secret", SECRETS)
def test_a_registered_secret_is_masked_in_every_encoding(secret: str) -> None:
    register(secret)
    raw = secret.encode()
    written = [
        secret,
        urllib.parse.quote(secret, safe=""),
        re.sub(r"%[0-9A-F]{2}", lambda m: m[0].lower(), urllib.parse.quote(secret)),
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        html.escape(secret),
        repr(secret)[1:-1],
    ]
    for text in written:
        assert redact(f"<{text}>") == f"<{MASK}>"


@pytest.mark.parametrize("secret", [secret for secret in SECRETS if len(secret) > 8])
@pytest.mark.parametrize("user", ["", "u", "us", "use"])
def test_a_password_in_a_basic_header_is_masked(secret: str, user: str) -> None:
    """Its base64 depends on what stands before it; a mail server repeats `AUTH PLAIN` like that."""
    register(secret)
    sent = base64.b64encode(f"{user}:{secret}:more".encode()).decode()
    shown = redact(f"535 denied: {sent}")
    assert MASK in shown
    assert not [form for form in forms(secret) if form in shown]


def test_of_an_address_the_secret_parts_are_masked_alone() -> None:
    """Libraries say the path without the host (`Max retries exceeded with url: /services/...`)."""
    register("https://watch:p%2Bw0rd9x@hooks.internal/services/T00000/B0/Xk3nLq8w?key=Zu77rest")
    said = "url: /services/T00000/B0/Xk3nLq8w?key=Zu77rest of hooks.internal as p+w0rd9x p%2Bw0rd9x"
    masked = f"url: /services/{MASK}/B0/{MASK}?key={MASK} of hooks.internal as {MASK} {MASK}"
    assert redact(said) == masked


def test_what_stands_in_the_address_of_a_service_is_known() -> None:
    urls = {
        "urls": ("http://h/metrics?token=Tk77aa11", "https://Xq81ToKeN@h/", "http://u:Pw%2F9x1@h")
    }
    assert {"Tk77aa11", "Xq81ToKeN", "Pw%2F9x1", "Pw/9x1"} <= set(secrets_of(urls))


def test_a_rotated_file_is_masked_from_its_first_use(tmp_path: Path) -> None:
    file = tmp_path / "password"
    secret = Secret(path=str(file))
    for word in ("first-Password-1", "second-Password-2"):
        file.write_text(word + "\n")
        assert secret.reveal() == word
        assert redact(f"AUTH {word}") == f"AUTH {MASK}"
    file.write_bytes(b"\xff\xfe-broken")
    with pytest.raises(OSError, match="not UTF-8"):
        secret.reveal()


AWKWARD = ("true", "null", "redis", "message", "1234", "2026", "12345678", "value", "Info")


def test_a_secret_that_is_one_of_our_words_does_not_break_what_is_printed() -> None:
    """It cannot be told from the text around it, and is in every list of passwords."""
    before = {
        "component": "redis-cache",
        "ok": True,
        "at": "2026-11-25",
        "value": 12345678,
        "e": None,
    }
    for secret in AWKWARD:
        assert is_word(secret)
        register(secret)
    line = logs.json_line(redacted(before))
    assert json.loads(line) == before
    assert redact(line) == line


def test_a_short_secret_is_masked_where_it_stands_alone() -> None:
    register("pa5s")
    assert redact('{"said":"pa5s, AUTH pa5s"}') == f'{{"said":"{MASK}, AUTH {MASK}"}}'
    assert redact("repa5sed client-pa5s") == "repa5sed client-pa5s"


def test_a_document_is_masked_text_by_text() -> None:
    register('a"b\\c,"d":1')
    document = {'x a"b\\c,"d":1': ['a"b\\c,"d":1', 1, 2.5, None, True, {"k": ("t", JWT)}]}
    expected = {f"x {MASK}": [MASK, 1, 2.5, None, True, {"k": ["t", MASK]}]}
    assert redacted(document) == expected


@pytest.mark.parametrize(
    "text",
    [
        "payment-eapi answered in 51.9 ms at http://127.0.0.1:8080/api/v1/health",
        "basic authentication with a bearer token is off, basic credentials are not sent",
        "mail oncall@example.com",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact(text) == text


def test_a_secret_too_short_to_tell_from_words_is_not_registered() -> None:
    register("abc")
    assert redact("abcdef") == "abcdef"


@pytest.mark.parametrize(
    ("client", "shown"),
    [
        ("client-001", "client-001"),
        ("клиент-é", "клиент-é"),
        ("x" * 64, "x" * 64),
    ],
)
def test_a_client_id_that_is_fit_to_print_stays_as_it_is(client: str, shown: str) -> None:
    assert safe_id(client) == shown


@pytest.mark.parametrize(
    ("one", "other", "begins"),
    [
        ("a\nb\r\x1b[31m", "a\\nb\\r\\x1b[31m", "a\\nb\\r\\x1b[31m~"),
        ("\u202eevil", "\u202fevil", "\\u202eevil~"),
        ("\ud800", "\ud801", "\\ud800~"),
        ("x" * 65, "x" * 64 + "y", "x" * 55 + "~"),
        ("a" * 70 + "GOOD", "a" * 70 + "EVIL", "a" * 55 + "~"),
        (JWT, JWT[:-1] + "A", MASK + "~"),
        (f"validation:{JWT}", f"validation:{JWT}:none", f"validation:{MASK}~"),
    ],
)
def test_two_ids_never_become_one(one: str, other: str, begins: str) -> None:
    shown = safe_id(one)
    assert shown.startswith(begins)
    assert shown != safe_id(other)
    assert len(shown) <= 64
    assert shown.isprintable()
    assert safe_id(shown) == shown  # doors may stand behind each other


def test_no_hash_helps_to_guess_a_secret_that_is_known() -> None:
    register("hunter2-of-redis")
    assert safe_id("hunter2-of-redis") == MASK


def test_what_a_stranger_repeats_is_masked_before_it_is_cut() -> None:
    """Half a secret is told by no list."""
    secret = "Zq7Kp0vb9Lw2Xt5m"
    register(secret)

    class Refusal:
        def json(self) -> object:
            return {"errors": ["x" * 290 + secret]}

    for cut in (
        prometheus._clean("x" * 190 + secret),
        vault_health.word("x" * 110 + secret),
        pagerduty._message(Refusal()),
        safe_id("x" * 50 + secret),
        messages.clean("x" * 990 + secret),
    ):
        assert "Zq7K" not in cut
        assert "[re" in cut


def test_long_texts_of_strangers_are_not_remembered() -> None:
    """A cache of 65,536 answers to texts of as many characters would take gigabytes."""
    from monitoring import text
    from monitoring.services import labels

    for remember, cache in (
        (text.identity_of, text._identity),
        (labels.plain, labels._short_plain),
    ):
        cache.cache_clear()
        assert remember("client-1" * 30) == remember("client-1" * 30)
        assert cache.cache_info().currsize == 0
        assert remember("client-2") == remember("client-2")
        assert cache.cache_info().currsize == 1


def test_any_way_to_escape_a_secret_in_an_address_or_in_json_is_masked() -> None:
    """Which characters are escaped, and in which case, differs from library to library."""
    secret = "Pa$$/w~rd*(9k)ü"
    register(secret)
    wholly = "".join(f"%{byte:02x}" for byte in secret.encode())
    for written in (
        wholly,
        wholly.upper(),
        urllib.parse.quote(secret, safe="!~*'()"),  # as JavaScript does
        urllib.parse.quote(secret, safe="/:@!$&'()*+,;=~"),  # as paths may
        "".join(f"\\u{ord(character):04X}" for character in secret),
        secret.replace("/", "\\u002f"),
        secret.encode().hex().upper(),
        secret.encode().decode("latin-1"),
    ):
        assert redact(f"at {written} there") == f"at {MASK} there", written


@pytest.mark.parametrize("piece", ["a.", "a-", "a://", "://@", "validation:", "basic ", "eyJ"])
def test_a_long_text_is_masked_in_time(piece: str) -> None:
    """The time must grow with the length, not with its square: 64,000 characters took 40 seconds,
    and no deadline ends a search. Measured against a text eight times as short."""

    def took(length: int) -> float:
        text = piece * (length // len(piece))
        begun = [time.process_time()]
        for _ in range(3):
            redact(text)
            begun.append(time.process_time())
        return min(later - before for before, later in zip(begun, begun[1:]))

    assert took(64_000) < 30 * took(8_000) + 0.05


def test_what_a_door_cuts_is_masked_before() -> None:
    """The types and packings that a server names, names in its answers, its certificates."""
    secret = "Kw8Jr3Tz6Hn1Vb4Q"
    register(secret)
    reply = Reply(200, {"content-type": "x" * 50 + secret}, b"<", 0.0, {}, "http://eapi")
    with pytest.raises(HttpFault) as no_json:
        reply.json()
    with pytest.raises(BodyError) as packed:
        read_body(lambda _: b"", {"content-encoding": "x" * 50 + secret}, 1000)
    name = judging.clean("x" * 55 + secret)
    for cut in (str(no_json.value), str(packed.value), name, printable("x" * 190 + secret, 200)):
        assert "kw8j" not in cut.lower()
    assert "KW8J" not in health_words.normal(secret)  # capitals would hide it from the mask
    assert judging.clean("x" * 63 + "a" * 9) != judging.clean("x" * 63 + "b" * 9)


def test_a_token_in_base64_or_in_hexadecimal_is_masked_as_well() -> None:
    raw = JWT.encode()
    for written in (base64.b64encode(raw).decode(), raw.hex(), raw.hex().upper()):
        assert redact(f"client {written}") == f"client {MASK}"
        assert safe_id(written).startswith(f"{MASK}~")
