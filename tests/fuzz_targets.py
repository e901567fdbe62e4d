"""What is fuzzed: everything that reads bytes of strangers (or of an operator in a hurry). A target
takes any bytes; what it may raise is its contract, everything else is a crash."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable

from prometheus_client.parser import text_string_to_metric_families

from monitoring import text as durations, text as redact, text as timestamps
from monitoring.alerts import state as alert_state
from monitoring.anomaly import profiles as anomaly_codec, replay
from monitoring.channels import base
from monitoring.config import env, load as configuration
from monitoring.config.settings import (
    HistorySettings,
    ServiceMetricsSettings,
    Settings,
    TokenSettings,
)
from monitoring.config.yaml import YamlError, parse as parse_yaml
from monitoring.conjur.answers import read_enterprise, read_variable
from monitoring.conjur.client import ConjurClient
from monitoring.credentials import sources as source_rotations
from monitoring.health import judges as health, login_probe as jwt_claims
from monitoring.health.judging import Context
from monitoring.health.login_probe import probe_login
from monitoring.health.probes import probe_service, probe_vault
from monitoring.health.probing import ProbeContext
from monitoring.http import reply as http_reply, reply as http_urls
from monitoring.http.reply import HttpFault, Reply
from monitoring.model import Measurement, Outcome, Source
from monitoring.output import exposition, logs, report
from monitoring.redis import topology as redis_topology
from monitoring.redis.faults import NONSENSE
from monitoring.services import counters as service_counters, labels as prometheus_text
from monitoring.store.lookback import HistoryError
from monitoring.store.prometheus_history import PrometheusHistory
from monitoring.tokens.codecs import records, records as times, table as token_codecs
from monitoring.tokens.results import tokens_json
from monitoring.tokens.stats import TokenStats
from tests.alerting_kit import alert, notice

ROOT = Path(__file__).resolve().parent.parent
NOW = 1_795_400_000.0
MAPPING = ServiceMetricsSettings()


@dataclass(frozen=True)
class Target:
    """`run` reads the bytes; `may` are the errors it may raise; `seeds` are good inputs, which are
    mutated; `share`: of the usual number of examples, for what is slow."""

    name: str
    run: Callable[[bytes], object]
    seeds: Sequence[bytes]
    may: tuple[type[BaseException], ...] = ()
    share: float = 1.0


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def json_of(data: bytes) -> Any:
    """The bytes as the JSON that a reply would give; None for what is none."""
    try:
        return reply(data).json()
    except HttpFault:
        return None


def reply(data: bytes, **headers: str) -> Reply:
    return Reply(200, headers, data, 0.01, dict.fromkeys(http_reply.PHASES, 0.0), "http://x:1")


class Answering:
    """An HttpClient to whom every request brings the same bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def get(self, *_: Any, **__: Any) -> Reply:
        return reply(self._data, **{"content-type": "application/json"})

    post = get

    def close(self) -> None:
        """Nothing is open."""


def metrics_page(data: bytes) -> None:
    found = prometheus_text.read(text_of(data), service_counters.wanted(MAPPING))
    service_counters.counters(found.samples, "http://x:1", MAPPING)
    service_counters.gauges(found.samples, "http://x:1")
    service_counters.instance_of("http://x:1", found.samples)


def packed_body(data: bytes) -> None:
    """The first byte picks the encoding, the second how the wire cuts it."""
    encoding = ("gzip", "deflate", "identity", "br", "x-gzip")[(data[:1] or b"\0")[0] % 5]
    step, rest = 1 + (data[1:2] or b"\0")[0], data[2:]
    chunks = iter([rest[n : n + step] for n in range(0, len(rest), step)] + [b""])
    http_reply.read_body(lambda _n: next(chunks, b""), {"content-encoding": encoding}, 1000)


def urls(data: bytes) -> None:
    url, _, location = text_of(data).partition(" ")
    http_urls.origin(http_urls.parse(url))
    http_urls.next_url(url, location)


def headers(data: bytes) -> None:
    text = data.decode("latin-1")
    http_reply.date_of({"date": text})
    base.retry_after({"retry-after": text, "date": "Mon, 23 Nov 2026 02:00:00 GMT"})
    base.retry_after({"retry-after": "Mon, 23 Nov 2026 02:00:00 GMT", "date": text})


def settings() -> Settings:
    environ = {
        "MONITORING_ENV": "dev",
        "CONJUR_URL": "http://127.0.0.1:1",
        "CONJUR_AUTHN_LOGIN": "host/monitoring",
        "CONJUR_AUTHN_API_KEY": "secret-key",
        "MONITORING_CLIENT_ID": "canary",
        "MONITORING_CLIENT_SECRET": "secret-word",
    }
    return configuration.load(
        script="health_check", root=ROOT, config_file=None, environ=environ, cwd=ROOT
    )


_LOADED: list[Settings] = []


def health_page(data: bytes) -> None:
    """Every answer of every component is these bytes; a figure, a row and a sentence come out."""
    if not _LOADED:
        _LOADED.append(settings())
    loaded, client = _LOADED[0], Answering(data)
    conjur = ConjurClient(client, loaded.conjur, time.time)  # type: ignore[arg-type]
    live = ProbeContext(
        settings=loaded,
        clock=lambda: NOW,
        eapi=client,
        sapi=client,
        cache=lambda: None,
        conjur=lambda: conjur,
        prove=True,
    )
    readings = [
        probe_service("payment-eapi", live),
        probe_vault("conjur-vault", live),
        probe_login("authentication-flow", live),
    ]
    judged = [health.judge(each, Context(canary=loaded.canary)) for each in readings]
    outcome = Outcome(
        "health_check",
        "dev",
        "1",
        NOW,
        0.1,
        components=tuple(each.component for each in judged),
        measurements=tuple(m for each in judged for m in each.measurements),
        findings=tuple(f for each in judged for f in each.findings),
    )
    document = logs.json_line(report.as_json(outcome))
    assert json.loads(document)["components"]
    assert all(c.isprintable() for c in report.sentence(outcome))
    exposition.render(outcome)


def vault_page(data: bytes) -> None:
    body = json_of(data)
    if isinstance(body, dict):
        found = read_enterprise(body, replace(reply(data), server_date=NOW))
        assert all(c.isprintable() for message in found.messages for c in message)


def variable(data: bytes) -> None:
    for entry in [json_of(data)]:
        read_variable(entry, "payment/credentials/{client_id}")


def rotations(data: bytes) -> None:
    body = json_of(data)
    source_rotations._by_client(body if isinstance(body, list) else [body])


def history_page(data: bytes) -> None:
    asked = PrometheusHistory(Answering(data), HistorySettings(prometheus_url="http://x:1"))
    asked.series("payment_api_system_up", {}, NOW - 3600, NOW)


def redis_words(data: bytes) -> None:
    redis_topology.cluster_members(data, "seed", prefer_names=True)
    redis_topology.fields(data)
    found = json_of(data)
    redis_topology.sentinel_replicas(found, "primary:1")
    redis_topology.slow_commands(found, 5)
    redis_topology.pairs(found)
    if isinstance(found, dict):
        redis_topology.info_replicas(found, "primary:1")


def labels(data: bytes) -> None:
    """Whatever a client calls itself, the page stays a page that a parser reads."""
    text = text_of(data)
    figures = (
        Measurement("payment_api_authentication_failures_total", 3.0, {"client_id": text}),
        Measurement("payment_api_response_time_ms", 3.0, {"component": text}),
    )
    source = Source(text, ok=True)
    outcome = Outcome("health_check", "dev", "1", NOW, 0.1, (), figures, sources=(source,))
    page = exposition.render(outcome).decode()
    families = {f.name: f for f in text_string_to_metric_families(page)}
    assert "payment_api_response_time_ms" in families or not text


def shown(data: bytes) -> None:
    """A text that we repeat is one line, of bounded length, and JSON stays JSON."""
    text = text_of(data)
    safe = redact.safe_id(text)
    assert len(safe) <= 64
    assert safe.isprintable()
    line = logs.json_line({"message": redact.redact(text), text: text})
    assert len(line.splitlines()) == 1
    assert json.loads(line)[text] == text or text == "message"


def plain_json(data: bytes) -> None:
    json.dumps(report.plain_json(json_of(data)), allow_nan=False)


def config_file(data: bytes) -> None:
    """A whole --config file in YAML."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "more.yaml"
        path.write_bytes(data)
        configuration.load(
            script="health_check", root=ROOT, config_file=str(path), environ={}, cwd=Path(folder)
        )


def dot_env(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / ".env").write_bytes(data)
        found = env.gather({}, (Path(folder),))
        assert all(isinstance(value, str) for value in found.values.values())


def moments(data: bytes) -> None:
    text = text_of(data)
    times.epoch_seconds(text)
    times.epoch_seconds(data)
    at = timestamps.parse_iso(text)
    timestamps.iso(at)


def spans(data: bytes) -> None:
    seconds = durations.parse_duration(text_of(data))
    assert seconds >= 0
    durations.say(seconds)


def claims(data: bytes) -> None:
    for text in (text_of(data), data.decode("latin-1")):
        found = jwt_claims.decode(text)
        if found is not None:
            jwt_claims.tampered(found)
            jwt_claims.expired(found, NOW)
            jwt_claims.unsigned(found)


def token_value(data: bytes) -> None:
    """Whatever lies under a token key: read one way, alone or among others, and counted."""
    stats = TokenStats(NOW, TokenSettings(), reads_names=True)
    alone = token_codecs.decode(data)
    many = token_codecs.decode_many([data, data], stats.expect)
    assert all(each.reason is None for each in many) or alone.reason is not None
    token_codecs.texts_of(data)
    token_codecs.decode_validation(data)
    token_codecs.decode_credential(data)
    fields = dict.fromkeys(token_codecs.TOKEN_FIELDS, data[:200])
    counted([alone, *many, token_codecs.decode_hash(fields)], stats)


def token_claims(data: bytes) -> None:
    """JSON of any shape as the claims of a JWT, and as a record."""
    found = json_of(data)
    if not isinstance(found, dict):
        found = {"exp": found, "iat": found, "sub": found, "azp": found, "realm_access": found}
    stats = TokenStats(NOW, TokenSettings(), reads_names=True)
    names = stats.expect.names
    claims = records.from_claims(found, "jwt", names)
    assert claims.lives_until is None or 0 <= claims.lives_until <= times.NEVER
    counted([claims, records.from_record(found, "json", names)], stats)


def counted(tokens: Sequence[token_codecs.Decoded], stats: TokenStats) -> None:
    stats.add_page(tokens)
    stats.add_named(tokens)
    stats.add_ttls(tokens, [1000] * len(tokens))
    stats.know(["c1", "client-001"])
    result = stats.result()
    assert result.active <= result.total <= len(tokens)
    for client in ("c1", "nobody"):
        stats.minted_before(client, NOW)
        stats.may_be_of(client, NOW)
    json.dumps(tokens_json(result), allow_nan=False)


BUCKET = {"at": "2026-03-02T00:00:00Z", "seconds": 60, "clients": {"c": {"ok": 1, "failed": 2}}}
VARIABLE = {
    "id": "a:variable:payment/credentials/c1",
    "created_at": "2021-03-23T16:37:14.455+00:00",
    "annotations": [{"name": "rotation/ttl", "value": "P30D"}],
    "secrets": [{"version": 20, "expires_at": "2026-12-20T00:00:00Z"}],
    "permissions": [{"privilege": "read", "role": "a:group:m"}],
}
VAULT = {
    "ok": True,
    "role": "follower",
    "services": {"possum": "ok", "ok": True},
    "database": {
        "ok": True,
        "free_space": {"main": {"kbytes": 1, "inodes": 2}},
        "replication_status": {"pg_stat_replication": [{"state": "x", "replication_lag_bytes": 0}]},
        "logical_replication_status": {
            "subscriptions": [
                {"name": "s", "enabled": False, "last_msg_receipt_time": "2026-01-01T00:00:00Z"}
            ]
        },
    },
    "cluster": {"ok": False, "status": "running", "message": None},
}
ROTATION = {
    "rotation_id": "r",
    "client_id": "c",
    "current_state": "dual_active",
    "old_version": "1",
    "new_version": 2,
    "transition_period_minutes": 60,
    "started_at": "2026-11-22T16:53:20.000+0000",
    "success": None,
}
MATRIX = {
    "status": "success",
    "warnings": ["partial"],
    "data": {"resultType": "matrix", "result": [{"metric": {"a": "b"}, "values": [[NOW, "1"]]}]},
}
DETAILED = {
    "service": "Payment-EAPI",
    "status": "DEGRADED",
    "conjurVault": "DOWN",
    "redisCache": "UP",
    "token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjMSIsImV4cCI6MTc5NTQwMzYwMH0.c2ln",
    "expires_at": "2026-11-23T03:00:00Z",
    "isValid": True,
}
PAGE = b"""# TYPE payment_authentication_attempts_total counter
payment_authentication_attempts_total{clientId="c",success="true",} 5.0
process_start_time_seconds 1.7954E9
jvm_memory_used_bytes{area="heap",id="x"} 4.2E7
payment_token_validation_count_total{clientId="c",valid="false"} 1 1700000000000
"""
YAML = b"""ALERT_THRESHOLDS:
  performance:
    api_response_time: {warning: 1, critical: 2}
TIMEOUTS: {payment-eapi: 5s}
NOTIFICATION_ROUTES: [{match: {category: security}, channels: [slack]}]
MAINTENANCE_WINDOWS: [{cron: "0 2 * * sun", duration: 2h, timezone: Europe/Berlin}]
SILENCES: [{match: {client: c}, owner: j, reason: r, until: "2026-12-24T12:00:00Z"}]
"""
NODES = (
    b"07c3 127.0.0.1:30004@31004,host slave e7d1 0 1426238317239 4 connected\n"
    b"e7d1 127.0.0.1:30001@31001 myself,master - 0 0 1 connected 0-5460\n"
)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _replayed(data: bytes) -> None:
    list(replay.buckets(data.split(b"\n")))


VALUE = (ValueError,)
CLAIMS = {
    "sub": "c1@clients",
    "azp": ["c2"],
    "exp": 1795403600000,
    "iat": "1795400000.5",
    "nbf": [2026, 11, 23],
    "realm_access": {"roles": ["a"]},
}
_JWT = str(DETAILED["token"]).encode()
TOKENS = (
    *(_JWT, b"Bearer " + _JWT, zlib.compress(_JWT), gzip.compress(_JWT)),
    *(b"\xac\xed\x00\x05t\x00" + bytes([len(_JWT)]) + _JWT, _json({"token": _JWT.decode()})),
    *(b"\x81\xa3sub\xa1a", b'O:1:"T":0:{}', b"\x80\x04\x95.", b"\x28\xb5\x2f\xfd", _json(CLAIMS)),
)

TARGETS: tuple[Target, ...] = (
    Target("metrics-page", metrics_page, [PAGE], VALUE),
    Target("reply-json", lambda data: reply(data).json(), [_json(VAULT)], (HttpFault,)),
    Target("packed-body", packed_body, [b"\0\x05\x1f\x8b\x08\0"], (http_reply.BodyError,)),
    Target("urls", urls, [b"http://h:8080/a?b=c /d", b"https://[::1]/ //other/"], VALUE),
    Target("reply-headers", headers, [b"Mon, 23 Nov 2026 02:00:00 GMT", b"120"]),
    Target("health-page", health_page, [_json(DETAILED), _json(VAULT), _json([VARIABLE])], (), 0.3),
    Target("vault-page", vault_page, [_json(VAULT)]),
    Target("variable", variable, [_json(VARIABLE)], VALUE),
    Target("rotations", rotations, [_json([ROTATION])]),
    Target("history-page", history_page, [_json(MATRIX)], (HistoryError,)),
    Target("redis-words", redis_words, [NODES, _json([[1, 2, 3000, ["GET", "k"]]])], NONSENSE),
    Target("label", labels, [b'a"b\\n{}'], (), 0.3),
    Target("shown", shown, [b"eyJhbGciOiJIUzI1NiJ9.eyJ9.x \x1b[31m http://u:p@h/"]),
    Target("plain-json", plain_json, [_json(VAULT), b"[1e999]"]),
    Target("yaml", lambda data: parse_yaml(text_of(data)), [YAML], (YamlError,)),
    Target("config-file", config_file, [YAML], (configuration.ConfigurationError,), 0.1),
    Target("dot-env", dot_env, [b'A="b c"\nexport D=${E}\n# x\n'], (), 0.5),
    Target("moment", moments, [b"2026-11-22T16:53:20.000+0000", b"2026-11-22"], VALUE),
    Target("token-value", token_value, TOKENS),
    Target("token-claims", token_claims, [_json(CLAIMS)]),
    Target("duration", spans, [b"90s", b"1.5h", b"2w"], VALUE),
    Target("jwt", claims, [DETAILED["token"].encode()]),  # type: ignore[attr-defined]
    Target("replay-line", _replayed, [_json(BUCKET)], (replay.ReplayError,)),
    Target(
        "alert-state",
        lambda data: alert_state.load_state(text_of(data)),
        [alert_state.dump_state(alert_state.AlertState(alert())).encode()],
        VALUE,
    ),
    Target(
        "notice",
        lambda data: alert_state.load_notice(text_of(data)),
        [alert_state.dump_notice(notice()).encode()],
        VALUE,
    ),
    Target("profile", anomaly_codec.decode, [b'{"v":1,"born":1}'], VALUE),
)
