from __future__ import annotations

import base64
import urllib.parse

import pytest

from monitoring.redact import MASK, redact, register, safe_id

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
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, hidden: str) -> None:
    shown = redact(text)
    assert hidden not in shown
    assert MASK in shown


def test_a_registered_secret_is_masked_in_every_encoding() -> None:
    secret = "pässword/with+signs=1"
    register(secret)
    forms = [
        secret,
        urllib.parse.quote(secret, safe=""),
        base64.b64encode(secret.encode()).decode(),
        base64.urlsafe_b64encode(secret.encode()).decode(),
    ]
    for form in forms:
        assert redact(f"<{form}>") == f"<{MASK}>"


def test_ordinary_text_is_left_alone() -> None:
    text = "payment-eapi answered in 51.9 ms at http://127.0.0.1:8080/api/v1/health"
    assert redact(text) == text


def test_a_secret_too_short_to_tell_from_words_is_not_registered() -> None:
    register("abc")
    assert redact("abcdef") == "abcdef"


@pytest.mark.parametrize(
    ("client", "shown"),
    [
        ("client-001", "client-001"),
        ("клиент-é", "клиент-é"),
        ("a\nb\r\x1b[31m", "a\\nb\\r\\x1b[31m"),
        ("\u202eevil", "\\u202eevil"),
        ("x" * 80, "x" * 63 + "…"),
        (JWT, MASK),
    ],
)
def test_client_ids_are_made_fit_to_print(client: str, shown: str) -> None:
    assert safe_id(client) == shown
