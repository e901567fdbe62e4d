"""EAPI and SAPI over real sockets and a real Redis: they check, mint, cache and refuse."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from sandbox import jwt_codec
from sandbox.clock import SimulatedClock
from sandbox.options import Options
from sandbox.stack import Stack

CLIENT = "client-001"


class Caller:
    """Asks the stack as a vendor would."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.web = requests.Session()

    def login(self, secret: str, client: str = CLIENT) -> requests.Response:
        body = {"client_id": client, "client_secret": secret}
        return self.web.post(f"{self.stack.eapi.url}/api/v1/auth/token", json=body, timeout=5)

    def token(self) -> str:
        answer = self.login(self.stack.book.secret(CLIENT))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])

    def validate(self, token: str, permission: str = "view_status") -> requests.Response:
        body = {"tokenString": token, "requiredPermission": permission}
        url = f"{self.stack.sapi.url}/internal/v1/tokens/validate"
        return self.web.post(url, json=body, timeout=5)

    def get(self, url: str) -> requests.Response:
        return self.web.get(url, timeout=5)


def quiet(**more: Any) -> Options:
    return Options(clients=3, traffic=False, rotating=False, redis_patience=10, **more)


@pytest.fixture(scope="module")
def shared() -> Iterator[Stack]:
    with Stack(quiet(now=SimulatedClock())) as stack:
        yield stack


@pytest.fixture
def stack(shared: Stack) -> Iterator[Stack]:
    yield shared
    shared.faults.clear()


@pytest.fixture
def caller(stack: Stack) -> Iterator[Caller]:
    made = Caller(stack)
    yield made
    made.web.close()


def claims_of(token: str) -> dict[str, Any]:
    return dict(json.loads(jwt_codec.unsegment(token.split(".")[1])))


def forged(token: str, header: dict[str, Any], **changes: Any) -> str:
    claims = json.dumps({**claims_of(token), **changes}).encode()
    head = jwt_codec.segment(json.dumps(header).encode())
    return f"{head}.{jwt_codec.segment(claims)}.{token.split('.')[2]}"


def tampered(token: str) -> str:
    return forged(token, jwt_codec.HEADER, sub="client-002")


def unsigned(token: str) -> str:
    return forged(token, {"alg": "none"}).rpartition(".")[0] + "."


def test_a_right_secret_gets_a_token_with_the_right_claims(caller: Caller, stack: Stack) -> None:
    answer = caller.login(stack.book.secret(CLIENT)).json()
    claims = claims_of(answer["token"])
    assert answer["token_type"] == "Bearer"
    assert answer["expires_at"].endswith(".000+0000")
    assert list(claims) == ["sub", "iss", "aud", "exp", "iat", "jti", "permissions"]
    assert (claims["sub"], claims["iss"], claims["aud"]) == (CLIENT, "payment-eapi", "payment-sapi")
    assert (claims["iat"], claims["exp"] - claims["iat"]) == (int(stack.now()), 3600)


@pytest.mark.parametrize("client", [CLIENT, "nobody"])
def test_a_wrong_secret_gets_401_with_a_code(caller: Caller, client: str) -> None:
    answer = caller.login("wrong", client)
    assert answer.status_code == 401
    assert set(answer.json()) == {"errorCode", "message", "requestId", "timestamp"}


def test_headers_work_as_the_body_does(caller: Caller, stack: Stack) -> None:
    headers = {"X-Client-ID": CLIENT, "X-Client-Secret": stack.book.secret(CLIENT)}
    url = f"{stack.eapi.url}/api/v1/auth/header-token"
    assert caller.web.post(url, headers=headers, timeout=5).status_code == 200


def test_refresh_takes_a_good_token_only(caller: Caller, stack: Stack) -> None:
    url, token = f"{stack.eapi.url}/api/v1/auth/refresh", caller.token()
    assert caller.web.post(url, data=token, timeout=5).status_code == 200
    assert caller.web.post(url, data=tampered(token), timeout=5).status_code == 401


def test_a_token_stands_in_redis_three_times_under_the_listed_keys(
    caller: Caller, stack: Stack
) -> None:
    token = caller.token()
    jti = claims_of(token)["jti"]
    assert caller.validate(token).json()["isValid"] is True
    with stack.redis_client() as client:
        ttl = {key: client.ttl(key) for key in (f"token:{CLIENT}", f"token_id:{jti}")}
        assert all(3560 <= seconds <= 3570 for seconds in ttl.values()), ttl
        assert 3590 <= client.ttl(f"token:{jti}") <= 3600
        assert 95 <= client.ttl(f"validation:{token}:view_status") <= 100
        assert 890 <= client.ttl(f"credential:{CLIENT}") <= 900
        assert client.ttl(f"client:tokens:{CLIENT}") == -1
        assert client.sismember(f"client:tokens:{CLIENT}", jti)
        assert token.encode() in client.get(f"token:{CLIENT}")
        assert client.get(f"token:{jti}").startswith(b"\xac\xed\x00\x05sr")


@pytest.mark.parametrize(
    ("make", "status", "code"),
    [
        (tampered, 401, "INVALID_TOKEN"),
        (unsigned, 401, "INVALID_TOKEN"),
        (lambda token: "not.a.jwt", 401, "INVALID_TOKEN"),
        (lambda token: token[: len(token) // 2], 401, "INVALID_TOKEN"),
    ],
)
def test_bad_tokens_are_rejected(caller: Caller, make: Any, status: int, code: str) -> None:
    answer = caller.validate(make(caller.token()))
    assert (answer.status_code, answer.json()["errorCode"]) == (status, code)


def test_a_missing_permission_is_403(caller: Caller) -> None:
    answer = caller.validate(caller.token(), "drop_tables")
    assert (answer.status_code, answer.json()["errorCode"]) == (403, "INSUFFICIENT_PERMISSIONS")


def test_time_renews_and_then_expires_a_token(caller: Caller, stack: Stack) -> None:
    token = caller.token()
    stack.advance(3400)
    answer = caller.validate(token).json()
    assert answer["isRenewed"] is True
    assert claims_of(answer["renewedTokenString"])["exp"] == int(stack.now()) + 3600
    stack.advance(300)
    assert caller.validate(token).status_code == 401


def test_renew_answers_with_its_three_statuses(caller: Caller, stack: Stack) -> None:
    url, token = f"{stack.sapi.url}/internal/v1/tokens/renew", caller.token()
    table = [(token, 200), ("nonsense", 400), (tampered(token), 500)]
    for text, status in table:
        answer = caller.web.post(url, json={"tokenString": text}, timeout=5)
        assert answer.status_code == status


def broken_secret(caller: Caller) -> int:
    return caller.login(caller.stack.book.secret(CLIENT)).status_code


def wrong_secret(caller: Caller) -> int:
    return caller.login("wrong").status_code


def tampered_token(caller: Caller) -> int:
    return caller.validate(tampered(caller.token())).status_code


def unsigned_token(caller: Caller) -> int:
    return caller.validate(unsigned(caller.token())).status_code


def expired_token(caller: Caller) -> int:
    token = caller.token()
    caller.stack.advance(4000)
    return caller.validate(token).status_code


@pytest.mark.parametrize(
    ("fault", "probe", "expected"),
    [
        ("auth-broken", broken_secret, [200, 401, 200]),
        ("auth-accepts-wrong-secret", wrong_secret, [401, 200, 401]),
        ("auth-accepts-tampered", tampered_token, [401, 200, 401]),
        ("auth-accepts-alg-none", unsigned_token, [401, 200, 401]),
        ("auth-accepts-expired", expired_token, [401, 200, 401]),
    ],
)
def test_authentication_faults_show_and_go(
    caller: Caller, fault: str, probe: Any, expected: list[int]
) -> None:
    seen = [probe(caller)]
    caller.stack.faults.set(fault)
    seen.append(probe(caller))
    caller.stack.faults.clear(fault)
    seen.append(probe(caller))
    assert seen == expected


def test_health_in_both_layouts(caller: Caller, stack: Stack) -> None:
    eapi, sapi = f"{stack.eapi.url}/api/v1/health", f"{stack.sapi.url}/internal/v1/health"
    assert caller.get(eapi).json() == {"service": "Payment-EAPI", "status": "UP"}
    assert set(caller.get(f"{sapi}/detailed").json()) >= {"redis", "database", "token_validation"}
    assert caller.get(f"{stack.eapi.url}/actuator/health").json()["status"] == "UP"
    assert caller.get(f"{eapi}/liveness").content == b""
    stack.faults.set("eapi-degraded")
    detailed = caller.get(f"{eapi}/detailed")
    assert (detailed.status_code, detailed.json()["status"]) == (503, "DEGRADED")
    assert detailed.json()["redisCache"] == "UP"
    assert caller.get(f"{eapi}/readiness").status_code == 503


def test_a_vault_that_is_away_is_noticed_once_the_cached_credential_is_gone(
    caller: Caller, stack: Stack
) -> None:
    caller.token()
    stack.faults.set("conjur-down")
    assert caller.login(stack.book.secret(CLIENT)).status_code == 200
    with stack.redis_client() as client:
        client.delete(f"credential:{CLIENT}")
    assert caller.login(stack.book.secret(CLIENT)).status_code == 503


def test_redis_being_away_stops_nobody(caller: Caller, stack: Stack) -> None:
    stack.faults.set("redis-refused")
    assert caller.validate(caller.token()).status_code == 200
    health = caller.get(f"{stack.eapi.url}/api/v1/health/detailed").json()
    assert health["redisCache"] == "UP"


def test_cache_no_ttl_and_expiry_cliff(caller: Caller, stack: Stack) -> None:
    stack.faults.set("cache-no-ttl")
    stack.faults.set("expiry-cliff", "90s")
    first = claims_of(caller.token())
    stack.advance(30)
    assert claims_of(caller.token())["exp"] == first["exp"] == first["iat"] + 90
    with stack.redis_client() as client:
        assert client.ttl(f"token:{CLIENT}") == -1


@pytest.mark.parametrize("encoding", ["json", "jwt", "hash"])
def test_other_encodings(encoding: str) -> None:
    with Stack(quiet(encoding=encoding)) as stack:
        token = Caller(stack).token()
        jti = claims_of(token)["jti"]
        with stack.redis_client() as client:
            if encoding == "hash":
                kept = client.hgetall(f"token:{CLIENT}:{jti}")
                assert int(kept[b"exp"]) == claims_of(token)["exp"]
                return
            value = client.get(f"token_id:{jti}")
    expected = token if encoding == "jwt" else json.loads(value)["tokenString"]
    assert value.decode() == token if encoding == "jwt" else expected == token


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def total(found: dict[str, Any], name: str, **labels: str) -> float:
    rows = found.get(name, [])
    return float(sum(value for have, value in rows if labels.items() <= have.items()))


def counted(**options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    with Stack(quiet(**options)) as stack:
        caller = Caller(stack)
        token = caller.token()
        caller.login("wrong")
        caller.validate(token)
        caller.validate(tampered(token))
        eapi = samples(caller.get(f"{stack.eapi.url}/actuator/prometheus").text)
        return eapi, samples(caller.get(f"{stack.sapi.url}/management/prometheus").text)


def test_micrometer_names() -> None:
    eapi, sapi = counted()
    attempts = "payment_authentication_attempts_total"
    assert total(eapi, attempts, clientId=CLIENT, success="true") == 1
    assert total(eapi, attempts, clientId=CLIENT, success="false") == 1
    assert total(eapi, "payment_token_generation_count_total", clientId=CLIENT) == 1
    assert total(eapi, "payment_token_generation_time_seconds_count") == 1
    validated = "payment_token_validation_count_total"
    assert total(sapi, validated, valid="true") == total(sapi, validated, valid="false") == 1
    requests_seen = "http_server_requests_seconds_count"
    assert total(eapi, requests_seen, uri="/api/v1/auth/token", status="401") == 1
    assert {"jvm_memory_used_bytes", "process_cpu_usage"} <= set(eapi)


def test_the_alternative_family() -> None:
    eapi, sapi = counted(metrics_family="alternative")
    assert total(eapi, "payment_authentication_attempts_total", client_id=CLIENT) == 2
    assert total(eapi, "payment_authentication_failures_total", client_id=CLIENT) == 1
    failures = "payment_token_validation_failures_total"
    assert total(sapi, failures, failure_type="invalid_signature") == 1
    assert total(sapi, "payment_token_validation_attempts_total") == 2


def test_the_access_log_keeps_user_agents(caller: Caller, stack: Stack) -> None:
    caller.web.headers["User-Agent"] = "canary/1"
    caller.get(f"{stack.eapi.url}/api/v1/health")
    request, status = stack.eapi.recorded[-1]
    assert (request.headers["User-Agent"], status) == ("canary/1", 200)


def test_the_sandbox_stands_alone() -> None:
    root = Path(__file__).parent.parent
    for folder, forbidden in (("sandbox", "monitoring"), ("monitoring", "sandbox")):
        for path in (root / folder).rglob("*.py"):
            lines = path.read_text(encoding="utf-8").splitlines()
            imports = [line for line in lines if line.lstrip().startswith(("import ", "from "))]
            assert not [line for line in imports if line.split()[1].split(".")[0] == forbidden]


def test_a_token_is_base64url_without_padding(caller: Caller) -> None:
    part = caller.token().split(".")[2]
    assert "=" not in part
    assert len(base64.urlsafe_b64decode(part + "=")) == 32
