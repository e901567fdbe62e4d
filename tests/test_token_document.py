from __future__ import annotations

import json

from monitoring.output import token_rows as terminal_tokens
from monitoring.output.report import plain_json
from monitoring.redis.count import ValidationTotals
from monitoring.tokens.measurements import CensusInput
from monitoring.tokens.present import document
from monitoring.tokens.services import ServiceFigures, Validations
from tests.token_kit import looked, report_of, token

#: docs/reference/results.md, `tokens`.
DESIGNED = {
    *("total", "active", "expired", "undecodable", "without_ttl", "duplicates_merged"),
    *("generation_rate_per_minute", "expiring", "lifetime_seconds", "remaining_seconds"),
    *("validations", "renewals", "by_client", "hygiene"),
}
TOKENS = [token("a", n, left=3600 - 10 * n) for n in range(30)]
COUNTED = Validations(90, {"expired": 10}, "services", 300.0)
TOTALS = Validations(900, {"expired": 100}, "services")


def test_every_field_of_the_design_is_there() -> None:
    found = document(looked(TOKENS))
    assert set(found) >= DESIGNED
    assert set(found["expiring"]) == {"5m", "15m", "1h"}
    assert set(found["lifetime_seconds"]) == {"min", "mean", "p50", "p95", "p99", "max"}
    assert set(found["renewals"]) >= {"count", "late", "early", "median_remaining_seconds"}
    assert set(found["by_client"]["a"]) >= {"tokens", "active", "generation_rate", "last_issued"}
    assert found["total"] == found["active"] == 30
    assert found["validations"]["success_rate"] is None
    json.dumps(plain_json(found), allow_nan=False)


def test_an_unreadable_cache_leaves_every_field_unknown() -> None:
    found = document(CensusInput(ServiceFigures()))
    unknown = DESIGNED - {"validations"}
    assert {name: found[name] for name in unknown} == dict.fromkeys(unknown)
    assert found["scan"] is None


def test_validations_name_their_source_and_their_time() -> None:
    report = report_of(30, validations=ValidationTotals(18, 2, 0, {"expired": 2}, {}))
    services = ServiceFigures(None, TOTALS, None, COUNTED, 300.0)
    both = document(looked(TOKENS, report=report, services=services))["validations"]
    assert (both["source"], both["seconds"], both["success_rate"]) == ("services", 300.0, 0.9)
    assert (both["cache"]["success"], both["totals"]["success"]) == (18, 900)
    first = document(looked(TOKENS, report=report, services=ServiceFigures(None, TOTALS)))
    assert (first["validations"]["source"], first["validations"]["seconds"]) == ("services", None)
    alone = document(looked(TOKENS, report=report))["validations"]
    assert (alone["source"], alone["by_reason"]) == ("cache", {"expired": 2})


def test_client_ids_are_made_fit_to_print_everywhere() -> None:
    evil = "x\x1b[2J\n"
    tokens = [token(evil, n, left=3600 - n) for n in range(30)]
    text = json.dumps(document(looked(tokens)), ensure_ascii=False)
    assert "\x1b" not in text
    assert "\\\\x1b[2J\\\\n" in text  # told, but as text


def test_an_unknown_layout_is_not_a_zero() -> None:
    report = report_of(50, matched={}, prefixes={"session:…": 50})
    found = document(looked([], report=report, layout_known=False))
    assert found["total"] is None
    assert found["scan"]["unknown_prefixes"] == {"session:…": 50}


def test_the_terminal_says_sources_and_dashes() -> None:
    services = ServiceFigures(None, TOTALS, 25.0, COUNTED, 300.0)
    rows = dict(terminal_tokens.rows(document(looked(TOKENS, services=services))))
    assert rows["active"] == "30"
    assert rows["generated per minute"] == "2.0 (the services count 5.0)"
    assert rows["lifetime"] == "1 h each"
    assert rows["validations that succeed"] == "90.00 % of 100 (counted in 5 min)"
    assert rows["failed for"] == "expired 10"
    blind = dict(terminal_tokens.rows(document(CensusInput(ServiceFigures()))))
    assert set(blind.values()) == {"-"}


def test_an_estimate_is_called_one() -> None:
    found = document(looked(TOKENS))
    assert dict(terminal_tokens.rows(found))["without ttl"] == "0"
    asked = {**found, "without_ttl": 1200, "ttl_asked": 5000, "ttl_keys": 90_000}
    assert dict(terminal_tokens.rows(asked))["without ttl"] == "about 1,200"
    assert dict(terminal_tokens.rows({**asked, "without_ttl": None}))["without ttl"] == "-"


def test_of_a_scan_that_ended_early_people_read_what_it_says_of_the_whole() -> None:
    """A third of the cache holds thirty live tokens: not `30 live tokens`."""
    third = report_of(30, truncated="time", share_seen=0.3)
    found = document(looked(TOKENS, report=third))
    rows = dict(terminal_tokens.rows(found))
    assert (found["total"], rows["total"], rows["active"]) == (30, "about 100", "about 100")
    assert rows["expiring within"].startswith("5m: about ")
    assert terminal_tokens.live_tokens(found) == "about 100 live tokens"
    assert terminal_tokens.in_the_cache(found, "active") == 100
    whole = document(looked(TOKENS))
    assert dict(terminal_tokens.rows(whole))["total"] == "30"
    assert terminal_tokens.live_tokens(whole) == "30 live tokens"


def test_of_a_scan_that_says_nothing_of_the_rest_counts_are_the_least() -> None:
    cut = report_of(30, truncated="fault", share_seen=0.3)
    found = document(looked(TOKENS, report=cut))
    assert dict(terminal_tokens.rows(found))["active"] == "at least 30"
    assert terminal_tokens.live_tokens(found) == "at least 30 live tokens"
    assert terminal_tokens.in_the_cache(found, "active") is None


def test_one_token_that_was_seen_may_stand_for_many() -> None:
    third = report_of(1, truncated="time", share_seen=0.1)
    found = document(looked(TOKENS[:1], report=third))
    assert terminal_tokens.live_tokens(found) == "about 10 live tokens"
    asked = {**found, "without_ttl": 3, "ttl_asked": 5, "ttl_keys": 5}
    assert dict(terminal_tokens.rows(asked))["without ttl"] == "at least 3"
