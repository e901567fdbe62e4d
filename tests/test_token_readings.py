"""Whose a token is and until when it lives, over every shape of both, and what is said of it."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import json
import time
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Optional

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from monitoring.config.settings import Settings, TokenSettings
from monitoring.model import Severity
from monitoring.store.state import State
from monitoring.tokens import clients as clients_module, owners as owners_module
from monitoring.tokens.codecs import table as codecs
from monitoring.tokens.codecs.facts import Decoded, Unsure
from monitoring.tokens.codecs.records import FAR, IN_UNITS, NEVER, NO_ZONE, TEXT, ZERO, read_time
from monitoring.tokens.measurements import measurements
from monitoring.tokens.results import TokenResult, tokens_json
from monitoring.tokens.stats import TokenStats
from sandbox.options import Options
from sandbox.stack import Stack
from tests.scripts import run
from tests.token_kit import looked, settings, usage

NOW = 1_795_402_000
ENDED = NOW - 6 * 3600  # of the old secret
HOUR = 3600
KNOWN = ("client-001", "client-002", "other", "(none)")
UUID = "7c1d0e52-90aa-4b7e-8f1e-0d6a5b1c2f33"
USUAL = {
    "iss": "payment-eapi",
    "aud": "payment-sapi",
    "jti": "j-1",
    "permissions": ["view_status"],
}


def segment(content: Any) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=")


def jwt(claims: Mapping[str, Any], header: Any = None) -> bytes:
    return b".".join((segment(header or {"alg": "HS256"}), segment(claims), b"c2ln"))


def as_text(at: float, offset: float = 0.0) -> str:
    moment = dt.datetime.fromtimestamp(at + offset * HOUR, dt.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


#: Shape of the owner -> (claims, whose it is when KNOWN are known; None: nobody known).
OWNERS: Mapping[str, tuple[Mapping[str, Any], Optional[str]]] = {
    "sub is the client": ({"sub": "client-001"}, "client-001"),
    "azp beside a uuid": ({"sub": UUID, "azp": "client-001"}, "client-001"),
    "client_id beside a uuid": ({"sub": UUID, "client_id": "client-001"}, "client-001"),
    "clientId beside a uuid": ({"sub": UUID, "clientId": "client-001"}, "client-001"),
    "azp and client_id": ({"sub": UUID, "azp": "client-001", "client_id": "client-001"},
                          "client-001"),
    "appid": ({"sub": UUID, "appid": "client-001"}, "client-001"),
    "cid": ({"sub": "ann@example.com", "cid": "client-001"}, "client-001"),
    "at clients": ({"sub": "client-001@clients"}, "client-001"),
    "at clients beside azp": ({"sub": "client-001@clients", "azp": "client-001"}, "client-001"),
    "azp alone": ({"azp": "client-001"}, "client-001"),
    "azp null": ({"azp": None, "sub": "client-001"}, "client-001"),
    "a gateway in azp": ({"azp": "gateway", "sub": "client-001"}, "client-001"),
    "a list of one": ({"sub": UUID, "client_id": ["client-001"]}, "client-001"),
    "a list of several": ({"sub": UUID, "client_id": ["x", "client-001"]}, "client-001"),
    "an object": ({"sub": UUID, "client": {"id": "client-001", "name": "ACME"}}, "client-001"),
    "two known ones": ({"azp": "client-002", "sub": "client-001"}, "client-002"),
    "a client called other": ({"sub": "other"}, "other"),
    "a client called (none)": ({"sub": "(none)"}, "(none)"),
    "a uuid": ({"sub": UUID}, None),
    "a mail": ({"sub": "ann@example.com"}, None),
    "nothing": ({}, None),
    "a number": ({"sub": 17}, None),
}  # fmt: skip

_AT = NOW + 600
#: Shape of exp in a JWT -> (value, lives until, doubts). It is issued 30 min before the old ended.
TIMES: Mapping[str, tuple[Any, Optional[int], tuple[Any, ...]]] = {
    "whole": (_AT, _AT, ()),
    "float": (float(_AT), _AT, ()),
    "fraction": (_AT - 0.5, _AT, ()),
    "text": (str(_AT), _AT, (TEXT,)),
    "decimal text": (f"{_AT}.0", _AT, (TEXT,)),
    "fraction in text": (f"{_AT - 1}.25", _AT, (TEXT,)),
    "milliseconds": (_AT * 1000, NEVER, (IN_UNITS,)),
    "milliseconds that are over": ((NOW - 600) * 1000, NEVER, (IN_UNITS,)),
    "microseconds": (_AT * 10**6, NEVER, (IN_UNITS,)),
    "nanoseconds": (_AT * 10**9, NEVER, (IN_UNITS,)),
    "milliseconds in text": (str(_AT * 1000), NEVER, (IN_UNITS, TEXT)),
    "year 9999": (253402300799, NEVER, (FAR,)),
    "year 9999 in milliseconds": (253402300799999, NEVER, (FAR,)),
    "999999999999": (999999999999, NEVER, (FAR,)),
    "the longest number": (2**63 - 1, NEVER, (FAR,)),
    "1e300": (1e300, NEVER, (FAR,)),
    "the year 2100": (4102444800, 4102444800, ()),
    "zero": (0, NEVER, (ZERO,)),
    "minus one": (-1, NEVER, (ZERO,)),
    "none": (None, None, ()),
    "with a zone": (as_text(_AT) + "Z", _AT, (TEXT,)),
    "with an offset": (as_text(_AT, 2) + " +0200", _AT, (TEXT,)),
    "without a zone": (as_text(_AT), _AT + 12 * HOUR, (NO_ZONE, TEXT)),
    "without a zone, from the west": (as_text(_AT, -8), _AT + 4 * HOUR, (NO_ZONE, TEXT)),
}


def taken(value: bytes, *, reads: int = 1000) -> tuple[Decoded, TokenStats]:
    """The last of so many tokens under one header, and the census of that one alone."""
    stats = TokenStats(NOW, TokenSettings())
    stats.know(KNOWN)
    token = codecs.decode_many([value] * reads, stats.expect)[-1]
    stats.add_page([token])
    return token, stats


@pytest.mark.parametrize("moment", TIMES)
@pytest.mark.parametrize("owner", OWNERS)
def test_every_owner_with_every_time(owner: str, moment: str) -> None:
    (named, client), (exp, until, doubts) = OWNERS[owner], TIMES[moment]
    value = jwt({**USUAL, **named, "iat": ENDED - 1800, "exp": exp})
    token, stats = taken(value, reads=3)
    assert token.reason is None
    assert token.lives_until == until
    assert (token.unsure or Unsure()).doubts == doubts
    result = stats.result()
    assert (result.total, result.active, result.doubtful) == (1, 1, int(bool(doubts)))
    rows = {name: row.active for name, row in result.by_client.items()}
    assert sum(rows.values()) == (1 if named else 0)
    if client is None:
        assert result.unowned is not None
        assert result.unowned.active == 1
        old = stats.may_be_of("client-001", ENDED)
        assert stats.minted_before("client-001", ENDED) is None
    else:
        assert rows == {client: 1}
        assert result.unowned is not None
        assert result.unowned.active == 0
        found = stats.minted_before(client, ENDED)
        assert found is not None
        old = found
    assert old.live == 1
    assert old.last_dies == until
    assert old.endless == int(until is None)
    assert old.doubts == doubts


@pytest.mark.parametrize("owner", OWNERS)
def test_tokens_minted_after_the_end_are_not_old(owner: str) -> None:
    named, client = OWNERS[owner]
    _token, stats = taken(jwt({**USUAL, **named, "iat": NOW - 60, "exp": NOW + 3540}))
    for each in KNOWN:
        mine = stats.minted_before(each, ENDED)
        assert mine is None or mine.live == 0
        assert stats.may_be_of(each, ENDED).live == 0
    assert (client is None) == (stats.minted_before("client-001", NOW) is None and client is None)


def test_a_token_of_two_known_clients_is_a_doubt_for_the_second() -> None:
    claims = {**USUAL, "azp": "client-002", "sub": "client-001", "iat": ENDED - 9, "exp": NOW + 60}
    _token, stats = taken(jwt(claims))
    assert stats.may_be_of("client-001", ENDED).live == 1
    assert stats.may_be_of("client-002", ENDED).live == 0
    assert stats.may_be_of("other", ENDED).live == 0


@pytest.mark.parametrize(
    ("iat", "old"),
    [
        ((ENDED - 60) * 1000, True), (str(ENDED - 60), True), (ENDED - 0.5, True),
        (float(ENDED - 60), True), ((ENDED + 60) * 1000, False), (None, True), (0, True),
        (as_text(ENDED - 60, 9), True), (253402300799, True), (ENDED, False), (ENDED - 1, True),
    ],
)  # fmt: skip
def test_a_token_is_old_by_the_earlier_reading_of_its_issue(iat: Any, old: bool) -> None:
    claims = {**USUAL, "sub": "client-001", "iat": iat, "exp": NOW + 600}
    _token, stats = taken(jwt(claims))
    found = stats.minted_before("client-001", ENDED)
    assert found is not None
    assert found.live == int(old)


@pytest.mark.parametrize(
    ("value", "at", "earliest", "latest"),
    [
        (_AT * 1000, _AT, _AT, _AT),
        (_AT * 10**6, _AT, _AT, _AT),
        (str(_AT * 1000), _AT, _AT, _AT),
        (f"{_AT}".encode(), _AT, _AT, _AT),
        (as_text(_AT) + "Z", _AT, _AT, _AT),
        (as_text(_AT), _AT, _AT - 14 * HOUR, _AT + 12 * HOUR),
        ("2026-11-23", 1795392000, 1795392000 - 14 * HOUR, 1795392000 + 36 * HOUR),
        ([2026, 11, 23, 2, 0], 1795399200, 1795399200 - 14 * HOUR, 1795399200 + 12 * HOUR),
        (253402300799999, NEVER, 253402300.799999, NEVER),
    ],
)
def test_in_a_record_other_units_are_a_format(
    value: object, at: float, earliest: float, latest: float
) -> None:
    moment = read_time(value)
    assert moment is not None
    assert (moment.at, moment.earliest, moment.latest) == (at, earliest, latest)
    assert bool(moment.doubts) == (earliest != latest)


_CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ("exp", "iat", "nbf"),
            st.one_of(
                st.sampled_from([_AT, _AT * 1000, float(_AT), _AT + 0.5, str(_AT), 0, None, True]),
                st.integers(-5, 10**16),
            ),
        ),
        **dict.fromkeys(
            ("sub", "azp", "client_id", "appid", "cid", "client", "jti", "iss", "aud"),
            st.one_of(st.sampled_from(["a", "", "b@clients", None, 3]), st.lists(st.just("c"))),
        ),
        **dict.fromkeys(
            ("permissions", "scope", "scp", "roles", "realm_access", "authorities"),
            st.sampled_from([["x", "y"], "x z", [], None, {"roles": ["x"]}, 7, [""]]),
        ),
        **dict.fromkeys(("credential_version", "secretVersion"), st.sampled_from(["v1", None, 2])),
        "unheard": st.integers(),
    },
)


def _facts(token: Decoded) -> dict[str, Any]:
    found = {name: getattr(token, name) for name in Decoded.__struct_fields__}
    granted = {*(found.pop("permissions") or ()), *_words(found.pop("scope"))}
    return {**found, "granted": granted}


def _words(scope: Any) -> list[str]:
    return scope.split() if isinstance(scope, str) else list(scope or ())


@hypothesis_settings(max_examples=400, deadline=None, database=None, derandomize=True)
@given(_CLAIMS)
def test_the_first_of_a_header_is_read_as_the_thousandth(claims: Mapping[str, Any]) -> None:
    value, stats = jwt(claims), TokenStats(NOW, TokenSettings())
    slow = codecs.decode(value)
    for fast in (*codecs.decode_many([value] * 2), *codecs.decode_many([value] * 2, stats.expect)):
        assert _facts(fast) == _facts(slow)


def test_one_jwt_is_counted_one_way_however_its_times_are_written() -> None:
    def said(write: Callable[[int], Any]) -> Any:
        stats = TokenStats(NOW, TokenSettings())
        values = [
            jwt({**USUAL, "sub": "c", "jti": f"{n}", "iat": write(NOW - n), "exp": write(NOW + n)})
            for n in range(1, 2000, 7)
        ]
        stats.add_page(codecs.decode_many(values, stats.expect))
        return replace(stats.result(), hygiene=())

    whole = said(int)
    assert said(float) == whole


WRAPS: Mapping[str, Callable[[bytes], bytes]] = {
    "jwt": lambda text: text,
    "bearer": lambda text: b"Bearer " + text,
    "bearer in small letters": lambda text: b"bearer  " + text + b"\n",
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "zlib, quick": lambda text: zlib.compress(text, 1),
    "json text": lambda text: json.dumps(text.decode()).encode(),
    "bearer in a json text": lambda text: json.dumps("Bearer " + text.decode()).encode(),
    "bearer in json": lambda text: json.dumps({"token": "Bearer " + text.decode()}).encode(),
    "json in zlib": lambda text: zlib.compress(json.dumps({"token": text.decode()}).encode()),
    "java text": lambda text: b"\xac\xed\x00\x05t" + len(text).to_bytes(2, "big") + text,
    "bearer in java": lambda text: (
        b"\xac\xed\x00\x05t" + (len(text) + 7).to_bytes(2, "big") + b"Bearer " + text
    ),
}


@pytest.mark.parametrize("pretty", [None, 1, 2, "\t"])
@pytest.mark.parametrize("wrap", WRAPS)
def test_a_jwt_is_read_in_each_wrapping(wrap: str, pretty: Any) -> None:
    header = json.dumps({"alg": "HS256"}, indent=pretty).encode()
    text = base64.urlsafe_b64encode(header).rstrip(b"=")
    text += b"." + segment({**USUAL, "sub": "client-001", "exp": _AT, "iat": NOW}) + b".c2ln"
    for token in (
        codecs.decode(WRAPS[wrap](text)),
        codecs.decode_many([WRAPS[wrap](text)] * 3)[-1],
    ):
        assert (token.client, token.exp, token.reason, token.alg) == (
            "client-001", _AT, None, "HS256")  # fmt: skip


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\x81\xa3sub\xa1a", "msgpack"),
        (b"\xdc\x00\x10" + b"\xa1a" * 16, "msgpack"),
        (b"\xd9\x80eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "msgpack"),
        (b'O:5:"Token":1:{s:3:"sub";s:1:"a";}', "php"),
        (b'a:1:{s:3:"sub";s:1:"a";}', "php"),
        (b's:3:"abc";', "php"),
        (b"\x01\x00com.payment.eapi.model.Toke\xee\x01", "kryo"),
        (b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07abc.def\x94.", "pickle"),
        (b"\x80\x02X\x03\x00\x00\x00eyJ.", "pickle"),
        (b"\xff\x06\x00\x00sNaPpY\x01", "snappy"),
        (b"\x82SNAPPY\x00\x00\x00\x00\x01", "snappy"),
        (b"\xd2\x01\xf0\xd1eyJhbGciOiJIUzI1NiJ9", "snappy"),
        (b"\x04\x22\x4d\x18\x64\x40", "lz4"),
        (b"LZ4Block\x15", "lz4"),
        (b"\x28\xb5\x2f\xfd\x04", "zstd"),
        (b"\x78\x9cnonsense", "bad_zlib"),
        (b"opaque", "not_a_token"),
    ],
)
def test_foreign_values_are_named_by_their_first_bytes(value: bytes, reason: str) -> None:
    for token in (codecs.decode(value), *codecs.decode_many([value])):
        assert token.reason == reason


@pytest.mark.parametrize(
    ("claims", "outside"),
    [
        ({"scp": ["view_status"]}, False),
        ({"scp": "view_status process_payment"}, False),
        ({"roles": ["admin"]}, True),
        ({"realm_access": {"roles": ["view_status"]}}, False),
        ({"realm_access": {"roles": ["root"]}}, True),
        ({"realm_access.roles": ["root"]}, True),
        ({"scopes": ["root"]}, True),
        ({"authorities": ["ROLE_ADMIN"]}, True),
        ({"authorities": [{"authority": "ROLE_ADMIN"}]}, True),
        ({"authorities": [{"authority": "view_status"}]}, False),
        ({"scopes": {"root": True, "view_status": True}}, True),
        ({"scopes": {"root": False, "view_status": True}}, False),
        ({"scope": "openid profile view_status"}, False),
        ({"scope": "openid admin"}, True),
    ],
)
@pytest.mark.parametrize("beside", [True, False])
def test_permissions_in_every_claim(claims: Any, outside: bool, beside: bool) -> None:
    usual = USUAL if beside else {k: v for k, v in USUAL.items() if k != "permissions"}
    value = jwt({**usual, "sub": "c", "iat": NOW, "exp": _AT, **claims})
    for reads in (1, 9):
        found = {each.name for each in taken(value, reads=reads)[1].result().hygiene}
        assert found == ({"permissions_outside"} if outside else set())


@pytest.mark.parametrize(
    ("nbf", "found"),
    [
        (0, set()),  # some issuers write it: valid since 1970
        (NOW + 600, {"token_nbf_in_future"}),
        (253402300799, {"token_nbf_in_future"}),
    ],
)
def test_when_a_token_begins(nbf: int, found: set[str]) -> None:
    value = jwt({**USUAL, "sub": "c", "iat": NOW, "exp": _AT, "nbf": nbf})
    result = taken(value, reads=3)[1].result()
    assert {each.name for each in result.hygiene} == found


@pytest.mark.parametrize("zone", ["Z", " UTC", " GMT", "+00:00"])
def test_a_zone_may_be_a_word(zone: str) -> None:
    moment = read_time(as_text(_AT).replace("T", " ") + zone)
    assert moment is not None
    assert (moment.at, moment.doubts) == (_AT, ())


def test_claims_are_configurable() -> None:
    policy = TokenSettings(client_claims=("tenant.client",), permission_claims=("grants",))
    stats = TokenStats(NOW, policy)
    stats.know(["ours"])
    value = jwt({**USUAL, "sub": UUID, "tenant": {"client": "ours"}, "grants": ["root"],
                 "permissions": ["any"], "iat": NOW, "exp": _AT})  # fmt: skip
    stats.add_page(codecs.decode_many([value], stats.expect))
    result = stats.result()
    assert list(result.by_client) == ["ours"]
    assert [each.name for each in result.hygiene] == ["permissions_outside"]


def test_readings_of_one_client_stay_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A portal's claim azp stands beside the name of every user."""
    monkeypatch.setattr(owners_module, "READINGS_OF_A_CLIENT", 10)
    stats = TokenStats(NOW, TokenSettings())
    users = [*(f"user-{n}" for n in range(300)), "client-001"]
    values = [
        jwt({**USUAL, "jti": user, "azp": "portal", "sub": user, "iat": NOW - 9, "exp": _AT})
        for user in users
    ]
    stats.add_page(codecs.decode_many(values, stats.expect))
    stats.know(["portal", "client-001", "client-002"])
    result = stats.result()
    assert {name: row.tokens for name, row in result.by_client.items()} == {"portal": 301}
    assert stats.may_be_of("client-001", NOW).live > 0
    assert stats.may_be_of("client-002", NOW).live == 0


def test_odd_tokens_of_a_client_stay_few_and_never_look_safer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clients_module, "ODD_KEPT", 10)
    stats = TokenStats(NOW, TokenSettings())
    tokens = [
        Decoded(client="c", jti=f"{n}", iat=ENDED + 5000 * n, exp=None) for n in range(-50, 50)
    ]
    stats.add_page(tokens)
    found = stats.minted_before("c", ENDED)
    assert found is not None
    assert found.live >= 50
    assert found.last_dies is None


def test_names_of_keys_count_for_revocation_alone() -> None:
    stats = TokenStats(NOW, TokenSettings(), reads_names=True)
    stats.know(KNOWN)
    both = {**USUAL, "sub": "client-001", "iat": ENDED - 60, "exp": NOW + 60}
    alone = {**both, "jti": "j-2", "iat": ENDED - 70}
    odd = {**both, "jti": "j-3", "exp": (NOW - 60) * 1000}
    tokens = codecs.decode_many([jwt(both), jwt(alone), jwt(odd)], stats.expect)
    stats.add_named([*tokens, *tokens, codecs.decode(b"no token")])
    stats.add_page(tokens[:1])
    result = stats.result()
    assert (result.total, result.clients) == (1, 1)
    found = stats.minted_before("client-001", ENDED)
    assert found is not None
    assert (found.live, found.doubts) == (3, (IN_UNITS,))


# -- by the cycle and a real cache


def _written(value: Any) -> Any:
    """A time of a case, as `in` says."""
    if not isinstance(value, dict):
        return value
    at, how = int(time.time()) + value["now"], value.get("in", "s")
    ways: Mapping[str, Callable[[], Any]] = {
        "s": lambda: at,
        "ms": lambda: at * 1000,
        "us": lambda: at * 10**6,
        "text": lambda: str(at),
        "decimal": lambda: f"{at}.5",
        "float": lambda: float(at),
        "space": lambda: as_text(at).replace("T", " ") + " +0000",
    }
    return as_text(at, float(how[6:])) if how.startswith("local:") else ways[how]()


def _case(line: str) -> Any:
    case = json.loads(line)
    return pytest.param(case, id=case["case"])


CASES = (Path(__file__).parent / "data" / "cases" / "tokens.jsonl").read_text().splitlines()
MORE = (
    {"case": "nbf in the future", "claims": {"nbf": {"now": 900}}, "expect": "finding"},
    {"case": "nbf is iat", "claims": {"nbf": {"now": -60}}, "expect": "clean"},
    {"case": "times as float", "claims": {"iat": {"now": -60, "in": "float"},
     "exp": {"now": 3000, "in": "float"}}, "expect": "clean"},
    {"case": "microseconds", "claims": {"exp": {"now": 3000, "in": "us"}}, "expect": "finding",
     "alive": True},
    {"case": "exp 999999999999", "claims": {"exp": 999999999999}, "expect": "finding",
     "alive": True},
    {"case": "exp null", "claims": {"exp": None}, "expect": "finding", "alive": True},
    {"case": "exp 0", "claims": {"exp": 0}, "expect": "finding", "alive": True},
    {"case": "31 s past exp", "claims": {"iat": {"now": -3632}, "exp": {"now": -32}},
     "expect": "finding", "alive": False},
    {"case": "no zone, from the west", "claims": {"exp": {"now": 900, "in": "local:-7"}},
     "expect": "finding", "alive": True},
    {"case": "space", "claims": {"exp": {"now": 900, "in": "space"}}, "expect": "said",
     "alive": True},
    {"case": "decimal", "claims": {"exp": {"now": -900, "in": "decimal"},
     "iat": {"now": -3600, "in": "decimal"}}, "expect": "said", "alive": False},
    {"case": "roles", "claims": {"roles": ["admin"]}, "expect": "finding"},
)  # fmt: skip


@pytest.mark.parametrize("case", [*map(_case, CASES), *(_case(json.dumps(c)) for c in MORE)])
def test_what_is_said_of_a_token_in_the_cache(
    case: Mapping[str, Any], cache: Any, redis_server: Any, tmp_path: Path
) -> None:
    usual = {**USUAL, "sub": "client-001", "iat": {"now": -60}, "exp": {"now": 3000}}
    claims = {name: _written(value) for name, value in {**usual, **case["claims"]}.items()}
    for number in range(12):  # a lone token would be judged for being alone
        cache.set(f"token:row-{number}", jwt({**claims, "jti": f"j-{number}"}), ex=3000)
    made = settings(tmp_path, {}, host="127.0.0.1", port=redis_server.port)
    with State.open(tmp_path) as state:
        outcome = usage(made, state).cycle(time.time())
    found = {each.reason: each.severity for each in outcome.findings}
    found = {reason: severity for reason, severity in found.items() if reason != "expiry_cliff"}
    bad = {reason for reason, severity in found.items() if severity >= Severity.WARNING}
    expect = case["expect"]
    assert bool(bad) == (expect == "finding") or expect == "said", found
    assert found or expect not in ("said", "finding")
    if "alive" in case:
        assert (outcome.tokens or {})["active"] == 12 * case["alive"]
    if "milliseconds" in case["case"]:
        assert found["token_time_in_milliseconds"] is Severity.CRITICAL


def test_excluded_keys_are_no_tokens_and_no_strangers(
    cache: Any, redis_server: Any, tmp_path: Path
) -> None:
    pipe = cache.pipeline(transaction=False)
    for number in range(400):
        pipe.set(f"token:blacklist:{number}", "revoked", ex=600)
    pipe.set(java_key("token:blacklist:java"), "revoked", ex=600)
    pipe.set("token:mine", jwt_now({}), ex=600)
    pipe.execute()
    made = settings(tmp_path, {}, host="127.0.0.1", port=redis_server.port)
    for exclude, undecodable in (((), 401), (("token:blacklist:*",), 0)):
        tokens = replace(made.tokens, exclude=exclude)
        found = document_of(replace(made, tokens=tokens), tmp_path)
        assert (found["total"], found["undecodable"]) == (1, undecodable)
        assert found["scan"]["excluded"] == 401 - undecodable
        assert found["scan"]["unknown_prefixes"] == {}


def java_key(name: str) -> bytes:
    return b"\xac\xed\x00\x05t" + len(name).to_bytes(2, "big") + name.encode()


def jwt_now(claims: Mapping[str, Any], **more: Any) -> bytes:
    now = int(time.time())
    return jwt({**USUAL, "sub": "client-001", "iat": now - 60, "exp": now + 600, **claims, **more})


def document_of(made: Settings, folder: Path) -> Mapping[str, Any]:
    with State.open(folder) as state:
        return usage(made, state).cycle(time.time()).tokens or {}


def test_the_script_says_whose_tokens_are_and_until_when(
    cache: Any, redis_server: Any, tmp_path: Path
) -> None:
    """By the real script on a real server, which knows its clients by their cached credentials."""
    for client in ("client-001", "client-002", "other", "(none)"):
        cache.set(f"credential:{client}", json.dumps({"clientId": client, "active": True}))
    rows = {
        "a": {"sub": UUID, "azp": "client-001"},
        "b": {"sub": UUID, "tenant": {"name": "client-002"}},
        "c": {"sub": "other"},
        "d": {"sub": "(none)", "exp": None},
        "e": {"sub": None},
        "f": {"sub": "client-002", "exp": int(time.time() + 600) * 1000},
    }
    for name, claims in rows.items():
        cache.set(f"token:{name}", b"Bearer " * (name == "c") + jwt_now(claims, jti=name), ex=600)
    (tmp_path / "more.yaml").write_text("TOKENS: {top_clients: 2}\n")
    env = {
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(redis_server.port),
        "MONITORING_STATE_DIR": str(tmp_path / "state"),
        "MONITORING_CONFIG": str(tmp_path / "more.yaml"),
    }
    words = ("--single-run", "--no-alerts", "--output", "-")
    done = run("token_usage_metrics", *words, env=env, cwd=tmp_path)
    document = next(each for each in map(json.loads, done.stdout.splitlines()) if "tokens" in each)
    tokens = document["tokens"]
    assert (tokens["total"], tokens["active"], tokens["doubtful"]) == (6, 6, 1)
    assert tokens["other_clients"]["active"] == 3
    assert sum(row["active"] for row in tokens["by_client"].values()) == 2  # and no sum
    assert tokens["without_client"]["active"] == 1
    assert tokens["without_known_client"]["active"] == 2
    found = {each["reason"]: each for each in document["findings"]}
    assert found["token_time_in_milliseconds"]["severity"] == "critical"
    assert found["missing_exp"]["severity"] == "warning"
    assert found["token_client_claim"]["severity"] == "warning"
    assert found["token_client_claim"]["evidence"]["claims"] == {"tenant.name": 1}
    assert found["tokens_of_no_known_client"]["evidence"]["active"] == 2
    assert done.returncode == 2


@pytest.mark.parametrize("top", [1, 50])
def test_a_client_called_other_keeps_its_own_row(top: int) -> None:
    stats = TokenStats(NOW, TokenSettings(top_clients=top))
    names = ["other", "other", "(none)", None, "a"]
    stats.add_page([
        Decoded(client=name, jti=f"{n}", iat=NOW - 9, exp=_AT) for n, name in enumerate(names)
    ])  # fmt: skip
    result = stats.result()
    rows = {
        each.labels["client_id"]: each.value
        for each in measurements(looked([], result=result))
        if each.name == "payment_api_client_tokens_active"
    }
    assert (result.by_client["other"].active, rows["client:other"]) == (2, 2)
    assert sum(value or 0 for value in rows.values()) == 5
    assert tokens_json(result)["by_client"]["other"]["active"] == 2
    if top == 1:
        assert rows == {"client:other": 2, "other": 2, "(none)": 1}
    else:
        assert rows == {"client:other": 2, "client:(none)": 1, "a": 1, "(none)": 1}


def test_a_sum_of_renewals_says_when_it_is_capped() -> None:
    def renewed(times: int) -> TokenResult:
        stats = TokenStats(NOW, TokenSettings())
        stats.add_page([
            Decoded(client="c", jti=f"{n}", iat=NOW - 60 * n, exp=NOW - 60 * n + HOUR)
            for n in range(times + 1)
        ])  # fmt: skip
        return stats.result()

    for times, capped in ((31, False), (39, True)):
        result = renewed(times)
        assert result.renewals is not None
        assert (len(result.renewals.remaining), result.renewals.capped) == (
            min(times, 32), int(capped))  # fmt: skip
        assert result.by_client["c"].renewals_capped is capped


@pytest.mark.parametrize("encoding", ["bearer", "zlib"])
def test_the_script_reads_a_whole_stack_in_unusual_encodings(encoding: str, tmp_path: Path) -> None:
    with Stack(Options(clients=3, preload=10, traffic=False, encoding=encoding)) as stack:
        env = {**stack.environment, "MONITORING_STATE_DIR": str(tmp_path / "state")}
        words = ("--single-run", "--no-alerts", "--output", "-")
        done = run("token_usage_metrics", *words, env=env, cwd=tmp_path)
    tokens = next(d["tokens"] for d in map(json.loads, done.stdout.splitlines()) if "tokens" in d)
    assert (tokens["undecodable"], len(tokens["by_client"])) == (0, 3)
    assert set(tokens["encodings"]) == {"bearer" if encoding == "bearer" else "json+zlib"}
    assert tokens["doubtful"] == 0
    assert done.returncode == 0, done.stdout
