"""Nothing secret leaves: canaries in every setting, header, stored value, key name and reply, and
every output of every script searched for them in plain, base64, hex and URL-encoded form."""

from __future__ import annotations

import json
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable

import pytest

from sandbox import jwt_codec
from sandbox.options import CANARY, Options
from sandbox.stack import Stack
from tests import scripts
from tests.canaries import CommandLines, Search, canary, of_alerts, of_cache, plain
from tests.faults.ground import Ground
from tests.faults.resp_proxy import read_command
from tests.faults.servers import RawServer, answers, http
from tests.faults.web import switched
from tests.scripts import SCRIPTS

pytestmark = pytest.mark.xdist_group("secrets")

ECHO = canary("reply-body")
REPLIES = {"reply-body": ECHO, "reply-header": plain("reply-header")}
LOUD = ("--debug", "--verbose", "--log-level", "DEBUG")
MODES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "health_check": (("--sla",), ("--sla", "--format", "json")),
    "token_usage_metrics": (("--analyze",), ("--analyze", "--format", "html")),
    "credential_usage_metrics": (
        ("--check-rotation",),
        ("--inventory", "--format", "json"),
        ("--can-revoke", "client-002"),
        ("--replay", "history"),
    ),
}


class House:
    """A stack in which everything that can hold a secret holds a canary."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.secrets: dict[str, str] = dict(REPLIES)
        self.env: dict[str, str] = {}
        self._settings()
        self._stored()

    def _settings(self) -> None:
        api_key, url = canary("conjur-key"), self.stack.receivers.url
        self.stack.vault.api_keys["host/monitoring"] = api_key
        self._set("CONJUR_AUTHN_API_KEY", api_key)
        self._set("REDIS_PASSWORD", self.stack.options.redis_password)
        self._set("MONITORING_CLIENT_SECRET", self.stack.book.secret(CANARY))
        self._set("MONITORING_AUTH_TOKEN", plain("auth-token"))
        self._set("PAGERDUTY_SERVICE_KEY", plain("pagerduty")[:32].ljust(32, "0"))
        hook = plain("slack")
        self._set("SLACK_WEBHOOK_URL", f"{url}/slack/services/T0/B0/{hook}", hook)
        ping = plain("heartbeat")
        self._set("HEARTBEAT_URL", f"{url}/heartbeat/{ping}", ping)
        user = plain("userinfo")
        self._set("ALERTMANAGER_URL", url.replace("//", f"//watch:{user}@"), user)

    def _set(self, name: str, value: str, secret: str = "") -> None:
        self.env[name] = value
        self.secrets[name] = secret or value

    def overlay(self) -> dict[str, Any]:
        """Settings that have no environment name; some of them are a secret to somebody."""
        header, bearer = plain("webhook-header"), plain("alertmanager-bearer")
        hook = plain("webhook-path")
        self.secrets.update({"webhook": header, "alertmanager": bearer, "webhook path": hook})
        webhook = {
            "url": f"{self.stack.receivers.url}/webhook?key={hook}",
            "headers": {"X-Key": header},
        }
        return {"CHANNEL_CONFIG": {"webhook": webhook}, "ALERT_MANAGER": {"bearer_token": bearer}}

    def _stored(self) -> None:
        stored = {
            "a token key": f"token:{canary('key-name')}",
            "a jti": f"token_id:{plain('jti')}",
            "an unknown key": f"session:{canary('session')}",
            "a validation": f"validation:{plain('validation') * 3}:none",
        }
        values = {
            "text": canary("value"),
            "bytes": b"\xac\xed\x00\x05t\x00" + plain("java").encode(),
        }
        with self.stack.redis_client() as client:
            for key in stored.values():
                client.set(key, values["text"], ex=900)
            client.hset(f"credential:{plain('owner')}", mapping={"hashedSecret": canary("hash")})
            client.set("credential:client-001", values["bytes"], ex=900)
            self.secrets.update(of_cache(client))
        self.secrets.update({name: key.split(":")[1] for name, key in stored.items()})
        self.secrets.update(value=canary("value"), java=plain("java"), hash=canary("hash"))
        # an id of a client is no secret; that of a key we cannot read may be one
        self.secrets.pop("a token key")


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    options = Options(
        clients=6, preload=20, traffic=False, encoding="jwt", redis_password=plain("redis")
    )
    with Stack(options) as stack:
        yield House(stack)


@pytest.fixture
def ground(house: House, tmp_path: Path) -> Ground:
    house.stack.faults.clear()
    house.stack.bag.clear()
    made = Ground(house.stack, tmp_path)
    made.env.update(house.env)
    overlay = house.overlay()
    channels = made.overlay.get("CHANNEL_CONFIG", {})
    made.setting("CHANNEL_CONFIG", {**channels, **overlay["CHANNEL_CONFIG"]})
    made.setting("ALERT_MANAGER", overlay["ALERT_MANAGER"])
    made.setting("ALERTS", {"failure_threshold": 1, "send_budget": "3s"})
    everyone = ["pagerduty", "slack", "email", "webhook"]
    made.setting("NOTIFICATION_CHANNELS", {"critical": everyone, "warning": everyone})
    return made


def searched(ground: Ground, house: House, runs: Any) -> None:
    """Fails when a canary is in what the runs said, wrote, kept or told."""
    search = Search()
    for run in runs:
        search.add(f"{run.script} stdout", run.out)
        search.add(f"{run.script} stderr", run.err)
    # the overlay is the operator's file, and holds what he wrote into it
    (ground.folder / "overlay.yaml").unlink(missing_ok=True)
    search.add_folder(ground.folder)
    for kind in ("slack", "pagerduty", "webhook", "alertmanager", "heartbeat", "smtp"):
        for text in of_alerts(house.stack.received(kind)):
            search.add(f"told to {kind}", text)
    assert search.texts
    assert search.hits(house.secrets) == []


def test_the_search_finds_what_is_there() -> None:
    """A test of the test: each form, wherever it begins."""
    import base64

    search = Search()
    secret = canary("found")
    search.add("plain", f"x{secret}x")
    for lead in (b"", b"a", b"ab"):
        search.add("base64", base64.b64encode(lead + secret.encode() + b"after").decode())
    assert len({hit.split(":")[0] for hit in search.hits({"it": secret})}) == 4
    assert search.hits({"it": canary("another")}) == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_mode(script: str, ground: Ground, house: House) -> None:
    outputs = [("--single-run", *LOUD, "--output", f"r.{end}") for end in ("json", "csv", "prom")]
    asked = [
        *outputs,
        ("--single-run", *LOUD, "--log-format", "text", "--output", "r.jsonl"),
        ("--check-config", *LOUD),
        ("--check-config", "--log-format", "text"),
        ("--test-alerts", *LOUD),
        ("--alerts",),
        *((*words, *LOUD) for words in MODES[script]),
    ]
    with CommandLines() as lines:
        runs = [ground.run(script, *words) for words in asked]
    for words, run in zip(asked, runs):
        assert "Traceback" not in run.out + run.err, (words, run.said())
    assert (ground.folder / "r.json").stat().st_size > 500
    assert lines.seen, "no command line was seen"
    (ground.folder / "cmdlines").write_text("\n".join(lines.seen))
    searched(ground, house, runs)


def test_a_token_or_a_password_where_an_id_is_meant(ground: Ground, house: House) -> None:
    """Keys, subjects and cached credentials that name a whole token, and a subject that is the
    password of the cache: what all three scripts keep, tell and print of it in two rounds."""
    now = int(time.time())
    claims = {"iat": now, "exp": now + 900, "iss": "payment-eapi"}
    whole = jwt_codec.sign(b"k" * 32, {**claims, "sub": "client-001", "jti": plain("whole")})
    planted = {
        f"token:{whole}": jwt_codec.sign(b"k" * 32, {**claims, "sub": whole, "jti": "a"}),
        "token:planted": jwt_codec.sign(
            b"k" * 32, {**claims, "sub": house.stack.options.redis_password, "jti": "b"}
        ),
        f"validation:{whole}:none": '{"valid":true}',
        f"client:tokens:{whole}": whole,
    }
    runs = []
    with house.stack.redis_client() as client:
        for key, value in planted.items():
            client.set(key, value, ex=900)
        client.hset(f"credential:{whole}", mapping={"clientId": whole, "version": "1"})
        for _round in range(2):
            runs += [ground.run(s, "--single-run", *LOUD, "--output", f"{s}.json") for s in SCRIPTS]
        runs.append(ground.run("credential_usage_metrics", "--can-revoke", whole))
        client.delete(*planted, f"credential:{whole}")
    assert "[redacted]~" in (ground.folder / "token_usage_metrics.json").read_text()
    search = Search()
    for run in runs:
        search.add(run.script, run.out + run.err)
    (ground.folder / "overlay.yaml").unlink(missing_ok=True)
    search.add_folder(ground.folder)
    signature = whole.split(".")[2]
    assert search.hits({**house.secrets, "a token": whole, "its signature": signature}) == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_exporter(script: str, ground: Ground, house: House) -> None:
    words = ("--prometheus-port", "0", "--prometheus-address", "127.0.0.1", "--interval", "1h")
    process = ground.start(script, *words, *LOUD, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    said, url = [], ""
    for text in process.stdout:
        said.append(text)
        found = re.search(r"serving metrics on (\S+/metrics)", text)
        url = found.group(1) if found else url
        if re.search(f'"message":"{script} (ok|warning|critical|unknown):', text):
            break
    page = urllib.request.urlopen(url).read().decode()
    assert "payment_api_last_cycle_timestamp_seconds" in page
    (ground.folder / "page").write_text(page)
    process.send_signal(signal.SIGTERM)
    said.append(process.communicate(timeout=30)[0])
    (ground.folder / "said").write_text("".join(said))
    searched(ground, house, [])


def _echo(status: str, **headers: str) -> bytes:
    """A reply that says back everything it should not."""
    body = json.dumps({"error": f"jdbc://root:{ECHO}@db refused", "message": ECHO, "status": "UP"})
    secret = {"X-Debug": REPLIES["reply-header"], "Set-Cookie": f"s={REPLIES['reply-header']}"}
    return http(body.encode(), status, Content_Type="application/json", **secret, **headers)


def _echoing(status: str, **headers: str) -> Callable[[Ground], Any]:
    def make(ground: Ground) -> Any:
        stack = ExitStack()
        server = stack.enter_context(RawServer(answers(_echo(status, **headers))))
        for name in ("EAPI_ENDPOINT", "SAPI_ENDPOINT", "CONJUR_URL", "ROTATION_ENDPOINT"):
            ground.env[name] = server.url.replace("//", f"//u:{plain('userinfo')}@")
        ground.env["SLACK_WEBHOOK_URL"] = f"{server.url}/services/T0/B0/{plain('slack')}"
        ground.env["PROMETHEUS_URL"] = server.url
        return stack

    return make


def _refused_password(ground: Ground) -> Any:
    ground.env["REDIS_PASSWORD"] = plain("userinfo")
    ground.env["REDIS_USERNAME"] = "nobody"
    return ExitStack()


def _bug(ground: Ground) -> Any:
    """A fault of our own whose text holds what we know."""
    ground.launch["bug"] = " ".join(ground.env.values())
    return ExitStack()


def _repeated(head: bytes) -> bytes:
    """A page of Prometheus' form that repeats the request behind so much that a reader who cuts it
    cuts a secret in two."""
    said = {"status": "error", "errorType": "bad_data"}
    cuts = [{**said, "error": "x" * n + head.decode("latin-1")} for n in (0, 150, 180)]
    pages = {"message": cuts[0]["error"], "errors": [cut["error"] for cut in cuts], **cuts[1]}
    return json.dumps(pages).encode()


def _repeating(ground: Ground) -> Any:
    """Everybody answers with what we sent: every header, in JSON."""
    stack = ExitStack()

    def say(wire: Any, request: bytes) -> None:
        body = _repeated(request)
        wire.sendall(http(body, "400 Bad Request", Content_Type="application/json"))

    server = stack.enter_context(RawServer(say))
    for name in ("EAPI_ENDPOINT", "SAPI_ENDPOINT", "CONJUR_URL", "ROTATION_ENDPOINT"):
        ground.env[name] = server.url
    for name in ("PROMETHEUS_URL", "HEARTBEAT_URL"):
        ground.env[name] = f"{server.url}/{plain('heartbeat')}"
    ground.env["SLACK_WEBHOOK_URL"] = f"{server.url}/services/T0/B0/{plain('slack')}"
    ground.env["ALERTMANAGER_URL"] = server.url
    secret = {"X-Scope": f"tenant {plain('alertmanager-bearer')}"}
    ground.setting("HISTORY", {"prometheus_headers": secret})
    pagerduty = {**ground.overlay["CHANNEL_CONFIG"].get("pagerduty", {}), "url": server.url}
    ground.setting("CHANNEL_CONFIG", {"pagerduty": pagerduty})
    return stack


def _mail_repeats(ground: Ground) -> Any:
    """A mail server that refuses our login, and says what it was."""
    ground.env["SMTP_USERNAME"], ground.env["SMTP_PASSWORD"] = "watcher", plain("userinfo")

    def say(wire: Any, _request: bytes) -> None:
        stream = wire.makefile("rwb")
        stream.write(b"220 x\r\n")
        stream.flush()
        for line in stream:
            greeted = line.upper().startswith(b"EHLO")
            stream.write(b"250-x\r\n250 AUTH PLAIN LOGIN\r\n" if greeted else b"535 no: " + line)
            stream.flush()

    stack = ExitStack()
    server = stack.enter_context(RawServer(say, deaf=True))
    ground.env["SMTP_PORT"] = str(server.port)
    return stack


def _redis_repeats(ground: Ground) -> Any:
    """As Redis 5 does: `unknown command HELLO, with args beginning with: AUTH <user> <it>`."""

    def say(wire: Any, _request: bytes) -> None:
        stream = wire.makefile("rb")
        while True:
            command = read_command(stream)
            if command is None:
                return
            words = b" ".join(b"`" + word + b"`," for word in command[1])
            wire.sendall(b"-ERR unknown command with args beginning with: " + words + b"\r\n")

    stack = ExitStack()
    server = stack.enter_context(RawServer(say, deaf=True))
    ground.env["REDIS_PORT"] = str(server.port)
    return stack


LEAKS: Mapping[str, Callable[[Ground], Any]] = {
    "200 that echoes": _echoing("200 OK"),
    "401 that echoes": _echoing("401 Unauthorized"),
    "500 that echoes": _echoing("500 Oops"),
    "a redirect that echoes": _echoing(
        "302 Found", Location=f"http://u:{plain('userinfo')}@localhost:1/?token={plain('slack')}"
    ),
    "everybody repeats what we sent": _repeating,
    "the mail server repeats the login": _mail_repeats,
    "redis repeats the login": _redis_repeats,
    "redis refuses the login": _refused_password,
    "redis is readonly": switched("redis-readonly"),
    "the vault refuses": switched("conjur-unauthorized"),
    "slack is broken": switched("slack-500"),
    "a forged token is taken": switched("auth-accepts-alg-none"),
    "an internal error": _bug,
}


@pytest.mark.parametrize("leak", LEAKS)
def test_every_failure(leak: str, ground: Ground, house: House) -> None:
    asked = [(script, ("--single-run", "--output", "r.jsonl")) for script in SCRIPTS]
    if "repeats" in leak:
        asked += [(script, MODES[script][0]) for script in SCRIPTS]
    with LEAKS[leak](ground):
        runs = [ground.run(script, *words, *LOUD) for script, words in asked]
    searched(ground, house, runs)


def test_permissions(ground: Ground) -> None:
    for script in SCRIPTS:
        ground.run(script)
    assert stat.S_IMODE(ground.state.stat().st_mode) == 0o700
    files = [path for path in ground.state.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    result = ground.folder / "health_check.json"
    assert stat.S_IMODE(result.stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022


def test_ruff_finds_no_unsafe_code_and_every_exception_has_its_reason() -> None:
    ruff = shutil.which("ruff") or str(Path(sys.executable).with_name("ruff"))
    if not Path(ruff).exists():
        pytest.skip("ruff belongs to requirements-dev.txt")
    paths = ["monitoring", "utils.py", *(f"{name}.py" for name in SCRIPTS)]
    command = [ruff, "check", "--select", "S", *paths]
    done = subprocess.run(command, cwd=scripts.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    for path in [*(scripts.ROOT / "monitoring").rglob("*.py"), *scripts.ROOT.glob("*.py")]:
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if re.search(r"# noqa: S\d", line):
                reason = re.search(r"# noqa: S\d+ - \w", line)
                above = [other for other in lines[number - 3 : number] if "#" in other]
                above += re.findall(r'assert .*, "', line)  # its message is its reason
                assert reason or above, f"{path}: {line.strip()}"
