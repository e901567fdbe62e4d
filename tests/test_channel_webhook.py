"""The generic webhook: a documented body, an idempotency key, secrets only on the wire."""

from __future__ import annotations

from typing import Any

import pytest

from monitoring.channels import webhook
from monitoring.channels.base import ChannelContext, TransportError, retry_after
from monitoring.config.secret import Secret
from tests.alerting_kit import alert, free_port, notice, receiver


def kit(url: str, **more: Any) -> ChannelContext:
    return ChannelContext({"url": Secret(url + "/in?token=SECRET"), **more}, timeout=2.0)


def test_the_document() -> None:
    told = notice(value=1.5, threshold=1.0, unit="x", meaning="Bad.", also=(alert(client="c1"),))
    with receiver() as got:
        webhook.send([told, notice("resolved")], kit(got.url, headers={"X-Key": Secret("k1")}))
    (seen,) = got.seen
    assert (seen.path, seen.headers["x-key"]) == ("/in?token=SECRET", "k1")
    document = seen.json()
    assert document["version"] == 1
    first, second = document["notices"]
    assert (first["status"], second["status"]) == ("firing", "resolved")
    assert (first["was"], second["was"]) == ("", "redis-cache is in trouble")
    assert first["key"] == second["key"] == "test/health_check/redis-cache/health_status/"
    assert (first["value"], first["threshold"], first["unit"]) == (1.5, 1.0, "x")
    assert (first["since"], first["lasted_seconds"]) == ("2026-11-23T02:11:20.000Z", 120.0)
    assert first["also"] == ["c1"]


def test_sent_again_it_has_the_same_idempotency_key() -> None:
    with receiver() as got:
        for told in (notice(), notice(), notice("resolved")):
            webhook.send([told], kit(got.url))
    one, again, other = [seen.headers["idempotency-key"] for seen in got.seen]
    assert one == again != other


@pytest.mark.parametrize(
    ("case", "answer", "permanent", "wait"),
    [
        ("400", (400, {}, b""), True, None),
        ("404", (404, {}, b""), True, None),
        ("410", (410, {}, b""), True, None),
        ("408", (408, {}, b""), False, None),
        ("429", (429, {"Retry-After": "7"}, b""), False, 7.0),
        ("500", (500, {}, b""), False, None),
        ("reset", "reset", False, None),
        ("redirect elsewhere", (302, {"Location": "http://127.0.0.9/"}, b""), False, None),
    ],
)
def test_answers(case: str, answer: Any, permanent: bool, wait: Any) -> None:
    with receiver(answer) as got, pytest.raises(TransportError) as failed:
        webhook.send([notice()], kit(got.url))
    assert (failed.value.permanent, failed.value.retry_after) == (permanent, wait), case
    assert "SECRET" not in str(failed.value)


def test_a_hanging_receiver_costs_its_timeout() -> None:
    with receiver("hang") as got, pytest.raises(TransportError) as failed:
        webhook.send([notice()], ChannelContext(kit(got.url).config, timeout=0.5))
    assert failed.value.unsure


def test_a_refused_connection_has_not_arrived() -> None:
    with pytest.raises(TransportError) as failed:
        webhook.send([notice()], kit(f"http://127.0.0.1:{free_port()}"))
    assert not failed.value.unsure


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 3 ", 3.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("Mon, 23 Nov 2026 02:14:20 GMT", 60.0),
        ("Mon, 23 Nov 2026 02:00:00 GMT", 0.0),
    ],
)
def test_retry_after(text: str, seconds: Any) -> None:
    headers = {"retry-after": text, "date": "Mon, 23 Nov 2026 02:13:20 GMT"}
    assert retry_after(headers) == seconds


def test_a_date_without_a_date_to_measure_it_by_is_no_wait() -> None:
    assert retry_after({"retry-after": "Mon, 23 Nov 2026 02:14:20 GMT"}) is None
