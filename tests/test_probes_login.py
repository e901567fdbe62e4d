"""The canary against a real stack: what must be refused, and that its token goes nowhere."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from monitoring.components import LOGIN
from monitoring.health.judges import judge
from monitoring.health.judging import Context
from monitoring.health.login import PROOFS
from monitoring.health.login_probe import probe_login
from monitoring.health.probing import RetainedToken
from sandbox.options import CANARY, Options
from sandbox.stack import Stack
from tests.health_kit import live_of, settings_of


@pytest.fixture(scope="module")
def stack():
    with Stack(Options(clients=2, traffic=False, rotating=False)) as started:
        yield started


@pytest.fixture
def settings(stack, tmp_path):
    stack.faults.clear()
    return settings_of(stack, tmp_path)


class Watching:
    """An HttpClient that notes what goes through it."""

    def __init__(self, http):
        self.http, self.sent = http, []

    def post(self, url, **how):
        self.sent.append((url, how))
        return self.http.post(url, **how)


def test_without_being_due_no_forgery_is_sent(settings):
    live = live_of(settings)
    sapi = Watching(live.sapi)
    reading = probe_login(LOGIN, replace(live, sapi=sapi))
    assert "proofs" not in reading.facts
    assert len(sapi.sent) == 1


def test_a_sound_stack_refuses_all_four(settings):
    reading = probe_login(LOGIN, live_of(settings, prove=True))
    refused = {name: {"accepted": False} for name in PROOFS}
    assert reading.facts["proofs"] == {**refused, "expired": {"accepted": False, "forged": True}}
    assert set(reading.facts["steps"]) == {"token", "decode", "validate", *PROOFS}


@pytest.mark.parametrize(
    ("fault", "proof"),
    [
        ("auth-accepts-tampered", "tampered"),
        ("auth-accepts-alg-none", "alg_none"),
        ("auth-accepts-wrong-secret", "wrong_secret"),
    ],
)
def test_what_is_accepted_is_found(stack, settings, fault, proof):
    stack.faults.set(fault)
    reading = probe_login(LOGIN, live_of(settings, prove=True))
    accepted = {name for name, answer in reading.facts["proofs"].items() if answer["accepted"]}
    assert accepted == {proof}
    findings = judge(reading, Context(canary=settings.canary)).findings
    assert [f.reason for f in findings] == [f"accepts_{proof}"]


def test_a_token_that_truly_ran_out_shows_what_an_altered_one_cannot(stack, settings):
    stack.faults.set("auth-accepts-expired")
    assert probe_login(LOGIN, live_of(settings, prove=True)).facts["proofs"]["expired"] == {
        "accepted": False,
        "forged": True,  # the altered one fails for its signature
    }
    now = time.time()
    old = stack.eapi.minter.mint(CANARY, now - 4000, expires_at=now - 400).jwt
    kept = RetainedToken(old, now - 400)
    reading = probe_login(LOGIN, live_of(settings, prove=True, keepsake=kept))
    assert reading.facts["proofs"]["expired"] == {"accepted": True}
    assert kept.token == old, "tried again, to see when that ends"
    stack.faults.clear("auth-accepts-expired")
    reading = probe_login(LOGIN, live_of(settings, prove=True, keepsake=kept))
    assert reading.facts["proofs"]["expired"] == {"accepted": False}
    assert kept.token not in ("", old)  # used up; the new one is kept for the next time


@pytest.mark.parametrize("kept", [True, False])
def test_a_clock_that_leapt_makes_no_living_token_look_run_out(stack, settings, kept):
    now = time.time()
    living = stack.eapi.minter.mint(CANARY, now).jwt  # it lives an hour
    keepsake = RetainedToken(living, now + 3600) if kept else RetainedToken()
    live = live_of(settings, prove=True, keepsake=keepsake)
    # two hours: what is altered to have run out an hour ago has the times of the real one again
    ahead = replace(live, clock=lambda: now + 7200)
    reading = probe_login(LOGIN, ahead)
    assert reading.facts["proofs"]["expired"] == {"accepted": False, "forged": True}


def test_a_kept_token_is_not_used_before_its_time():
    kept = RetainedToken()
    kept.offer("first", 1000.0)
    kept.offer("second", 2000.0)
    assert kept.ripe(1100.0, 120.0) == ""
    assert kept.ripe(1120.0, 120.0) == "first"
    assert kept.ripe(9999.0, 120.0) == "first", "until it was refused"
    kept.forget()
    assert kept.ripe(9999.0, 120.0) == ""
    assert "first" not in repr(RetainedToken("first", 1.0))


def test_a_service_that_refuses_everything_proves_nothing(stack, settings):
    paths = {**settings.sapi.paths, "validate": "/internal/v1/nowhere"}
    moved = replace(settings, sapi=replace(settings.sapi, paths=paths))
    assert "proofs" not in probe_login(LOGIN, live_of(moved, prove=True)).facts


class Dying:
    """A SAPI that is gone after its first answer."""

    def __init__(self, http):
        self.http, self.asked = http, 0

    def post(self, url, **how):
        self.asked += 1
        port = "1" if self.asked > 1 else None
        return self.http.post(f"http://127.0.0.1:{port}/" if port else url, **how)


def test_a_proof_that_could_not_be_done_is_unknown(settings):
    live = live_of(settings, prove=True)
    dying = Dying(live.sapi)
    reading = probe_login(LOGIN, replace(live, sapi=dying))
    assert {answer["accepted"] for answer in reading.facts["proofs"].values()} == {None}
    assert dying.asked == 2  # the first silence ends the series


def test_no_fact_holds_the_token_or_the_secret(stack, settings):
    live = live_of(settings, prove=True)
    sapi = Watching(live.sapi)
    reading = probe_login(LOGIN, replace(live, sapi=sapi))
    token = sapi.sent[0][1]["json"]["tokenString"]
    judged = judge(reading, Context(canary=settings.canary))
    shown = repr(reading) + repr(judged) + repr(live)
    assert token.count(".") == 2
    for part in (*token.split("."), stack.book.secret(CANARY)):
        assert part not in shown
    assert "jti" not in reading.facts["claims"]


def test_the_wrong_secret_is_wrong_and_the_permission_is_asked_for(settings):
    live = live_of(settings, prove=True)
    eapi, sapi = Watching(live.eapi), Watching(live.sapi)
    probe_login(LOGIN, replace(live, eapi=eapi, sapi=sapi))
    right, wrong = (how["json"]["client_secret"] for _, how in eapi.sent)
    assert right != wrong
    assert all(how["json"]["requiredPermission"] == "view_status" for _, how in sapi.sent)


def test_the_vendors_path_takes_headers(settings):
    paths = {**settings.eapi.paths, "token": "/api/v1/auth/header-token"}
    moved = replace(settings, eapi=replace(settings.eapi, paths=paths))
    reading = probe_login(LOGIN, live_of(moved))
    assert reading.facts["validate"]["valid"] is True
