"""What a cached value says, over real Java streams, every JSON dialect, hashes, and rubbish."""

from __future__ import annotations

import base64
import gzip
import json
import os
import random
import struct
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from monitoring.tokens.codecs import records, table as codecs
from monitoring.tokens.codecs.java import JavaObject, JavaStreamError, read_object
from monitoring.tokens.codecs.records import epoch_seconds

DATA = Path(__file__).parent / "data" / "java-serialised"
FIXTURES = {path.stem: path.read_bytes() for path in sorted(DATA.glob("*.bin"))}
ISSUED = 1795400000.0
FUZZ = int(os.environ.get("FUZZ_EXAMPLES", "4000"))


def segment(content: Any) -> bytes:
    raw = json.dumps(content, ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def jwt(header: Optional[dict[str, Any]] = None, **claims: Any) -> bytes:
    content = {
        "sub": "client-001",
        "iss": "payment-eapi",
        "aud": "payment-sapi",
        "jti": "j-1",
        "iat": 1795400000,
        "exp": 1795403600,
        "permissions": ["process_payment"],
        **claims,
    }
    return b".".join((segment(header or {"alg": "HS256", "typ": "JWT"}), segment(content), b"sig"))


EXPECTED = codecs.Decoded(
    client="client-001", jti="j-1", iat=ISSUED, exp=ISSUED + 3600, aud="payment-sapi",
    iss="payment-eapi", permissions=("process_payment",), alg="HS256",
)  # fmt: skip


def seen(token: codecs.Decoded) -> tuple[Any, ...]:
    return (token.client, token.jti, token.iat, token.exp, token.encoding, token.reason)


@pytest.mark.parametrize(
    ("name", "client", "jti", "life"),
    [
        ("eapi-token", "client-001", "0b9f7c1e-0001", 3600),
        ("eapi-token-immutable-list", "client-002", "0b9f7c1e-0002", 3600),
        ("eapi-token-unicode-client", "клиент-é", "0b9f7c1e-0003", 900),
        ("eapi-token-without-jwt", "client-004", "0b9f7c1e-0005", 3600),
        ("sapi-token", "client-001", "0b9f7c1e-0004", 3600),
    ],
)
def test_java_tokens(name: str, client: str, jti: str, life: int) -> None:
    token = codecs.decode(FIXTURES[name])
    assert seen(token) == (client, jti, ISSUED, ISSUED + life, "java", None)
    assert (token.iss, token.aud) == ("payment-eapi", "payment-sapi")
    assert [_fields(many) for many in codecs.decode_many([FIXTURES[name]])] == [_fields(token)]
    zipped = codecs.decode(gzip.compress(FIXTURES[name]))
    assert seen(zipped) == (client, jti, ISSUED, ISSUED + life, "java+gzip", None)


def test_list_of_permissions_of_each_java_kind() -> None:
    without_jwt = FIXTURES["eapi-token-immutable-list"].replace(b"eyJ", b"xyJ")
    assert codecs.decode(without_jwt).permissions == ("process_payment",)  # List.of: CollSer
    mutable = FIXTURES["eapi-token"].replace(b"eyJ", b"xyJ")
    assert codecs.decode(mutable).permissions == ("process_payment", "view_status")  # ArrayList
    assert codecs.decode(FIXTURES["eapi-token-without-jwt"]).permissions is None


@pytest.mark.parametrize("name", [n for n in FIXTURES if n != "string"])
def test_own_reader_agrees_with_javaobj(name: str) -> None:
    javaobj = pytest.importorskip("javaobj")
    theirs = javaobj.loads(FIXTURES[name])
    ours = read_object(FIXTURES[name])
    assert ours.name == theirs.classdesc.name
    for field, value in ours.fields.items():
        other = getattr(theirs, field)
        if isinstance(value, JavaObject):
            assert other.classdesc.name == value.name
            if value.name == "java.util.Date":
                assert other.annotations[0].encode("latin-1") == value.extras[0]
        else:
            assert (None if other is None else str(other)) == (
                None if value is None else str(value)
            )


@pytest.mark.parametrize(
    ("name", "valid", "reason", "renewed"),
    [
        ("validation-valid", True, "ok", False),
        ("validation-invalid", False, "invalid_signature", False),
        ("validation-expired", False, "expired", False),
        ("validation-forbidden", False, "forbidden", False),
        ("validation-renewed", True, "ok", True),
    ],
)
def test_java_validation_results(name: str, valid: bool, reason: str, renewed: bool) -> None:
    fact = codecs.decode_validation(FIXTURES[name])
    assert fact == codecs.ValidationFact(valid, reason, renewed)  # type: ignore[arg-type]
    assert codecs.decode_validation(gzip.compress(FIXTURES[name])) == fact


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'{"isValid":true,"isRenewed":false}', (True, "ok", False)),
        (b'{"valid":false,"expired":true}', (False, "expired", False)),
        (b'["com.payment.V",{"valid":false,"forbidden":true}]', (False, "forbidden", False)),
        (b'{"isValid":false,"errorMessage":"Token was revoked"}', (False, "revoked", False)),
        (b'{"isValid":false,"errorMessage":"Wrong issuer"}', (False, "invalid_claims", False)),
        (b'{"isValid":false,"error":"malformed token"}', (False, "parse_error", False)),
        (b'{"isValid":false,"error":"teapot"}', (False, "unknown", False)),
        (b"true", (True, "ok", False)),
        (b'"false"', (False, "unknown", False)),
        (b"invalid_signature", (False, "invalid_signature", False)),
    ],
)
def test_other_validation_results(value: bytes, expected: tuple[Any, ...]) -> None:
    assert codecs.decode_validation(value) == codecs.ValidationFact(*expected)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{}", "bad_claims"), (b"{", "bad_json"), (b"", "empty"), (None, "wrong_type"),
        (b"perhaps", "not_a_token"), (FIXTURES["string"], "bad_java"),
        (b"x" * (codecs.VALUE_LIMIT + 1), "too_large"), (b"\x1f\x8bxx", "bad_gzip"),
        (FIXTURES["credential-active"], "bad_claims"),
    ],
)  # fmt: skip
def test_unreadable_validation_results(value: Optional[bytes], reason: str) -> None:
    assert codecs.decode_validation(value) == codecs.Undecodable(reason)  # type: ignore[arg-type]


DAY = 86400.0


@pytest.mark.parametrize(
    ("name", "client", "active", "version", "state", "age", "left"),
    [
        ("active", "client-001", True, "v3", None, 42, 48.0),
        ("dual-active", "client-002", True, "v4", "dual_active", 91, None),
        ("old-deprecated", "client-003", True, "v7", "old_deprecated", 120, 0.0),
        ("inactive", "client-004", False, "v1", None, 400, -30.0),
    ],
)
def test_java_credentials(  # noqa: PLR0917 - a row of the table
    name: str, client: str, active: bool, version: str, state: Optional[str],
    age: int, left: Optional[float],
) -> None:  # fmt: skip
    fact = codecs.decode_credential(FIXTURES[f"credential-{name}"])
    assert fact == codecs.CredentialFact(
        client, active, version, state, ISSUED - age * DAY, ISSUED,
        None if left is None else ISSUED + left * DAY,
    )  # fmt: skip
    assert "notARealHash" not in repr(fact)


def test_credentials_of_other_layouts() -> None:
    plain = {"clientId": "c", "active": True, "version": 3, "rotationState": "DUAL_ACTIVE",
             "createdAt": 1795400000000, "hashedSecret": "$2a$secret"}  # fmt: skip
    expected = codecs.CredentialFact("c", True, "3", "dual_active", ISSUED, None, None)
    assert codecs.decode_credential(json.dumps(plain).encode()) == expected
    wrapped = {**plain, "@class": "com.payment.Credential",
               "createdAt": ["java.util.Date", 1795400000000]}  # fmt: skip
    assert codecs.decode_credential(json.dumps(wrapped).encode()) == expected
    fields = {b"clientId": b"c", b"active": b"true", b"version": b"3",
              b"rotationState": b"DUAL_ACTIVE", b"createdAt": b"2026-11-23T02:13:20Z"}  # fmt: skip
    assert codecs.decode_credential(fields) == expected
    assert codecs.decode_credential({b"other": b"1"}) == codecs.Undecodable("bad_claims")
    assert b"hashedSecret" not in codecs.CREDENTIAL_FIELDS


TEXT = jwt()
NO_JWT = {
    "clientId": "client-001",
    "jti": "j-1",
    "iat": 1795400000,
    "exp": 1795403600,
    "iss": "payment-eapi",
    "aud": "payment-sapi",
    "permissions": ["process_payment"],
}


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        (TEXT, "jwt"),
        (b"  " + TEXT + b"\n", "jwt"),
        (gzip.compress(TEXT), "jwt+gzip"),
        (json.dumps(TEXT.decode()).encode(), "json"),
        (json.dumps({"tokenString": TEXT.decode(), "clientId": "x"}).encode(), "json"),
        (json.dumps(["com.payment.Token", {"token": TEXT.decode()}]).encode(), "json"),
        (gzip.compress(json.dumps({"token": TEXT.decode()}).encode()), "json+gzip"),
        (b"\xac\xed\x00\x05t" + struct.pack(">H", len(TEXT)) + TEXT, "java"),
        (b"\xac\xed\x00\x05|" + struct.pack(">Q", len(TEXT)) + TEXT + b"tqsx", "java"),
    ],
)
def test_a_jwt_in_any_wrapping(value: bytes, encoding: str) -> None:
    expected = EXPECTED.__class__(**{**_fields(EXPECTED), "encoding": encoding})
    assert codecs.decode(value) == expected
    read = [_fields(many) for many in codecs.decode_many([value, value])]
    assert read == [_fields(expected), _fields(expected)]


def _fields(token: codecs.Decoded) -> dict[str, Any]:
    return {name: getattr(token, name) for name in codecs.Decoded.__struct_fields__}


@pytest.mark.parametrize(
    "record",
    [
        NO_JWT,
        {**NO_JWT, "iat": 1795400000000, "exp": 1795403600000},
        {**NO_JWT, "iat": "2026-11-23T02:13:20Z", "exp": "2026-11-23T04:13:20.000+0100"},
        {**NO_JWT, "exp": ["java.util.Date", 1795403600000], "@class": "com.payment.eapi.Token",
         "permissions": ["java.util.ArrayList", ["process_payment"]]},
        {"@class": "com.payment.eapi.Token", "claims": {"@class": "com.payment.Claims", **NO_JWT}},
        ["com.payment.eapi.Token", NO_JWT],
        {"client_id": "client-001", "token_id": "j-1", "issued_at": "1795400000", "issuer":
         "payment-eapi", "expires_at": 1795403600.0, "audience": "payment-sapi",
         "scope": "process_payment"},
    ],
)  # fmt: skip
def test_json_without_a_jwt(record: Any) -> None:
    token = codecs.decode(json.dumps(record).encode())
    expected = {**_fields(EXPECTED), "alg": None, "encoding": "json"}
    assert _fields(token) == expected


def test_claims_that_are_odd_but_legal() -> None:
    assert codecs.decode(jwt(exp=1795403600000)).exp == ISSUED + 3600
    assert codecs.decode(jwt(exp="1795403600")).exp == ISSUED + 3600
    assert codecs.decode(jwt(aud=["a", "b"])).aud == ("a", "b")
    assert codecs.decode(jwt(permissions="view_status process_payment")).permissions == (
        "view_status", "process_payment")  # fmt: skip
    assert codecs.decode(jwt(sub=None, client_id="x")).client == "x"
    assert codecs.decode(jwt({"alg": "none"})).alg == "none"
    assert codecs.decode(jwt({"typ": "JWT"})).alg == "none"
    assert codecs.decode(jwt(exp=None)).exp is None
    assert codecs.decode(jwt(credential_version="v4")).version == "v4"
    for client in ("клиент-é", "a?b~c>d", "日本語", "\x7f~~~???>>>"):  # "-" and "_" in base64
        value = jwt(sub=client)
        assert codecs.decode(value).client == client
        assert codecs.decode_many([value] * 2)[1].client == client


def test_long_names_are_cut() -> None:
    long = "x" * 5000
    value = jwt(sub=long, jti=long, iss=long, permissions=[long])
    for read in (codecs.decode(value), codecs.decode_many([value])[0]):
        assert {len(read.client or ""), len(read.jti or ""), len(read.iss or "")} == {256}
        assert [len(word) for word in read.permissions or ()] == [256]


def test_what_a_policy_expects_comes_as_its_kind() -> None:
    expect = codecs.Expectation(
        issuer="payment-eapi",
        audience="payment-sapi",
        permissions=("process_payment",),
        algorithms=("HS256",),
    )
    usual = [TEXT, jwt(sub="é"), jwt(permissions=[])]
    odd = [
        jwt(iss="x"), jwt(aud="x"), jwt(aud=["payment-sapi"]), jwt(permissions=["root"]),
        jwt(iss=None), jwt(jti=None), jwt(sub=""), jwt(exp=1795403600.5),
        jwt({"alg": "none"}), jwt({"alg": "none"}), jwt({"alg": "RS256"}), jwt({"alg": "RS256"}),
    ]  # fmt: skip
    for value, met in [*((value, True) for value in usual), *((value, False) for value in odd)]:
        _first, read = codecs.decode_many([value, value], expect)  # the header was met before
        assert (type(read) is expect.kind) is met
        assert _fields(read) == _fields(codecs.decode(value))
    for odd_too in codecs.decode_many([jwt(jti=""), jwt(scope="root")], expect):
        assert type(odd_too) is not expect.kind
    free = codecs.Expectation(issuer="", audience="", permissions=(), algorithms=())
    (any_issuer, unsigned) = codecs.decode_many(
        [jwt(iss="any", aud="any"), jwt({"alg": "None"}, iss="any")], free
    )
    assert type(any_issuer) is free.kind
    assert type(unsigned) is not free.kind


def test_strange_headers_do_not_make_ours_unknown_for_good() -> None:
    codecs.decode_many([jwt({"alg": "HS256", "kid": str(n)}) for n in range(1000)])
    free = codecs.Expectation(issuer="", audience="", permissions=(), algorithms=())
    _first, read = codecs.decode_many([TEXT, TEXT], free)
    assert type(read) is free.kind


def test_no_claim_passes_for_a_fact_of_ours() -> None:
    hostile = {"~alg": "HS256", "~encoding": "java", "~reason": "empty", "alg": "HS256"}
    for value in (jwt({"alg": "none"}, **hostile), jwt({"alg": "none"}, **hostile)):
        (token,) = codecs.decode_many([value])
        assert (token.alg, token.encoding, token.reason) == ("none", "jwt", None)


BOMB = gzip.compress(b"\x00" * 50_000_000)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (None, "wrong_type"),
        (b"opaque-token-0123456789", "not_a_token"),
        (b"eyJhbGciOiJIUzI1NiJ9", "not_a_token"),
        (b"eyJhbGciOiJIUzI1NiJ9.a.b.c.d", "encrypted"),
        (TEXT + b".x", "not_a_token"),
        (TEXT.rpartition(b".")[0], "not_a_token"),
        (segment({"alg": "HS256"}) + b".!!!!.sig", "bad_base64"),
        (segment({"alg": "HS256"}) + b".YWJj.sig", "bad_json"),
        (segment({"alg": "HS256"}) + b"." + segment([1]) + b".sig", "bad_claims"),
        (segment({"alg": "HS256"}) + b"." + segment({"a": 1}) + b".sig", "bad_claims"),
        (jwt(exp="tomorrow"), "bad_time"),
        (jwt(exp=-5), "bad_time"),
        (jwt(iat=True), "bad_time"),
        (b'{"tokenString":', "bad_json"),
        (b'{"a":1}', "bad_claims"),
        (b"[" * 60_000, "bad_json"),
        (b'{"a":' * 12_000, "bad_json"),
        (b"[1,2,3]", "bad_json"),
        (FIXTURES["string"], "bad_java"),
        (FIXTURES["eapi-token-without-jwt"][:-60], "bad_java"),
        (FIXTURES["validation-valid"], "bad_claims"),
        (b"\xac\xed\x00\x05", "bad_java"),
        (b"\x1f\x8b\x08broken", "bad_gzip"),
        (gzip.compress(TEXT)[:-9], "bad_gzip"),
        (gzip.compress(gzip.compress(TEXT)), "not_a_token"),
        (BOMB, "too_large"),
        (TEXT + b"x" * codecs.VALUE_LIMIT, "too_large"),
        (b"eyJ" + b"A" * 1_000_000 + b".a.b", "too_large"),
    ],
)
def test_what_cannot_be_read_has_a_name(value: Optional[bytes], reason: str) -> None:
    token = codecs.decode(value)
    assert token.reason == reason
    assert (token.client, token.jti, token.exp) == (None, None, None)
    assert codecs.decode_many([value]) == [token]


@pytest.mark.parametrize(
    ("fields", "key", "expected"),
    [
        ({b"iat": b"1795400000", b"exp": b"1795403600"}, ("c", "t"), ("c", "t", None)),
        ({b"iat": b"1795400000", b"exp": b"1795403600", b"sub": b"s"}, ("c", "t"),
         ("s", "t", None)),
        ({b"_class": b"x.Y", b"claims.sub": b"s", b"claims.iat": b"1795400000000", b"jti": b"j",
          b"claims.exp": b"1795403600000"}, (None, None), ("s", "j", None)),
        ({b"tokenString": TEXT, b"jti": None}, (None, None), ("client-001", "j-1", None)),
        ({b"iat": None, b"exp": None}, ("c", "t"), (None, None, "bad_hash")),
        ({b"exp": b"soon"}, ("c", "t"), (None, None, "bad_time")),
    ],
)  # fmt: skip
def test_hashes(
    fields: dict[bytes, Optional[bytes]], key: tuple[Any, Any], expected: tuple[Any, ...]
) -> None:
    token = codecs.decode_hash(fields, client=key[0], jti=key[1])
    assert (token.client, token.jti, token.reason) == expected
    assert token.encoding == "hash"
    if token.reason is None:
        assert (token.iat, token.exp) == (ISSUED, ISSUED + 3600)


def test_flattened_permissions() -> None:
    fields: dict[bytes, Optional[bytes]] = {
        b"sub": b"s", b"permissions.[0]": b"a", b"permissions.[1]": b"b", b"permissions.[2]": None,
    }  # fmt: skip
    assert codecs.decode_hash(fields).permissions == ("a", "b")


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (b"\xac\xed\x00\x05t\x00\x0amykey12345", b"mykey12345"),
        (b"token:abc", b"token:abc"),
        (b"\xac\xed\x00\x05t\x00\xffshort", b"\xac\xed\x00\x05t\x00\xffshort"),
        (b"\xac\xed\x00\x05", b"\xac\xed\x00\x05"),
    ],
)
def test_clean_key(raw: bytes, clean: bytes) -> None:
    assert codecs.clean_key(raw) == clean


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1795400000, ISSUED), (1795400000000, ISSUED), ("1795400000.5", ISSUED + 0.5),
        (b"1795400000", ISSUED), ("2026-11-23T02:13:20Z", ISSUED),
        ("2026-11-23T03:13:20+01:00[Europe/Paris]", ISSUED),
        ("2026-11-23T02:13:20.250+0000", ISSUED + 0.25), ("2026-11-23 02:13:20", ISSUED),
        ("later", None), (None, None), (True, None), (-1, None), (1e300, None), ("nan", None),
        ("inf", None), (b"\xff\xfe", None), ([], None), ("2026-13-45T00:00:00Z", None),
        ([2026, 11, 23, 2, 13, 20, 250_000_000], ISSUED), ([2026, 11, 23, 2, 13], ISSUED - 20),
        ([2026, 13, 23], None), ([10**30, 1, 1], None), ([True, 1, 1], None), (["a", 1, 1], None),
        ([1900, 1, 1], None), ([1, 2], None), ([1] * 8, None),
    ],
)  # fmt: skip
def test_epoch_seconds(value: object, seconds: Optional[float]) -> None:
    assert epoch_seconds(value) == seconds


def _mutants(count: int, seed: int) -> list[bytes]:
    """Fixtures and texts with bytes flipped, cut, doubled and spliced."""
    chance = random.Random(seed)
    seeds = [*FIXTURES.values(), TEXT, json.dumps(NO_JWT).encode(), gzip.compress(TEXT),
             json.dumps({"tokenString": TEXT.decode()}).encode()]  # fmt: skip
    made = []
    for _ in range(count):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 6)):
            spot = chance.randrange(len(data) + 1)
            action = chance.randrange(4)
            if action == 0 and spot < len(data):
                data[spot] = chance.randrange(256)
            elif action == 1:
                del data[spot : spot + chance.randint(1, 40)]
            elif action == 2:
                data[spot:spot] = data[: chance.randint(0, 60)]
            else:
                data[spot:spot] = bytes([chance.choice(b'\x70\x71\x72\x73\x74\x75\x78{["e.')])
        made.append(bytes(data))
    return made


def _try_all(value: bytes) -> None:
    token = codecs.decode(value)
    assert isinstance(token, codecs.Decoded)
    (many,) = codecs.decode_many([value])
    # The typed decoder skips fields it does not want, and so forgives bad bytes inside those.
    same = _fields(many) == _fields(token)
    assert same or (token.reason == "bad_json" and many.reason is None)
    assert isinstance(codecs.decode_validation(value), (codecs.ValidationFact, codecs.Undecodable))
    assert isinstance(codecs.decode_credential(value), (codecs.CredentialFact, codecs.Undecodable))
    hash_token = codecs.decode_hash({b"iat": value, value[:9]: value, b"token": value})
    assert isinstance(hash_token, codecs.Decoded)
    codecs.clean_key(value)


def test_fuzz_mutated_values_never_raise() -> None:
    for value in _mutants(FUZZ, seed=20261123):
        _try_all(value)


@settings(
    max_examples=min(FUZZ // 10, 10_000), deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
@given(
    st.one_of(
        st.binary(max_size=400),
        st.binary(max_size=200).map(lambda tail: b"\xac\xed\x00\x05" + tail),
        st.binary(max_size=200).map(lambda body: b"eyJhbGciOiJIUzI1NiJ9." + body + b".s"),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(
                        ["claims", "exp", "iat", "sub", "permissions", "aud", "isValid"]
                    ),
                    inner,
                    max_size=5,
                )
            ),
            max_leaves=12,
        ).map(lambda content: json.dumps(content).encode()),
    )
)
def test_fuzz_arbitrary_values_never_raise(value: bytes) -> None:
    _try_all(value)
    _try_all(gzip.compress(value))


@pytest.mark.parametrize(
    "tail",
    [
        b"u" + b"r\x00\x02[B" + b"\x00" * 8 + b"\x02\x00\x00xp" + b"\x7f\xff\xff\xff",
        b"|" + b"\x00\x00\x01\x00\x00\x00\x00\x00",
        b"z\x7f\xff\xff\xff",
        b"z\xff\xff\xff\xff",
        b"sr\x00\x01A" + b"\x00" * 8 + b"\x02\x00\x00xq\x00\x7e\x00\x00",  # its own parent
        b"u" * 500,
        b"sr\x00\x01A" * 400,
        b"}\xff\xff\xff\xff",
        b"q\xff\xff\xff\xff",
    ],
)
def test_java_bombs_are_refused(tail: bytes) -> None:
    with pytest.raises(JavaStreamError):
        read_object(b"\xac\xed\x00\x05" + tail)


def test_a_java_object_that_holds_itself() -> None:
    # class A { Object a; Object claims; } with both pointing back at the instance
    loop = (
        b"\xac\xed\x00\x05sr\x00\x01A" + b"\x00" * 8 + b"\x02\x00\x02"
        b"L\x00\x01at\x00\x01LL\x00\x06claimst\x00\x01Lxp" + b"q\x00\x7e\x00\x03" * 2
    )  # fmt: skip
    instance = read_object(loop)
    assert instance.fields["a"] is instance
    assert codecs.decode(loop).reason == "bad_claims"


def test_ids_that_are_cut_stay_two() -> None:
    """Two clients that share 300 characters are two; masked before they are cut."""
    one, other = ("x" * 300 + end for end in "AB")
    for of in (str, str.encode):
        assert records.text(of(one)) != records.text(of(other))
        assert records.text(of(one)) == records.text(one)
    clients = [codecs.decode(jwt(sub=sub)).client for sub in (one, other, [one], [other])]
    assert len(set(clients)) == 2
    assert "eyJ" not in (records.text("x" * 240 + "eyJhbGciOiJIUzI1NiJ9.e30.c2ln") or "eyJ")
