"""Traffic: clients with habits, who log in, call the service and sometimes mistype."""

from __future__ import annotations

import heapq
import http.client
import itertools
import json
import math
import random
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Optional
from urllib.parse import urlsplit

from sandbox.credentials import CredentialBook
from sandbox.faults import FaultBoard

BURST_PAUSE = 0.2
TICK = 0.1


@dataclass(frozen=True)
class Habit:
    """How a kind of client behaves. `rhythm` 1 means twice the rate at noon, none at midnight."""

    logins_per_minute: float
    calls_per_login: int
    typos: float = 0.0
    refreshes: float = 0.0
    rhythm: float = 0.0


HABITS = {
    "steady": Habit(1.0, 3),
    "busy": Habit(3.0, 4, typos=0.002),
    "office": Habit(1.0, 3, typos=0.005, rhythm=0.8),
    "saver": Habit(0.4, 6, refreshes=0.7),
    "clumsy": Habit(0.5, 2, typos=0.05),
    "rare": Habit(0.1, 1),
}


def rate_per_second(habit: Habit, now: float) -> float:
    """Logins a second that this habit calls for at `now`."""
    day = math.sin((now % 86400) / 86400 * 2 * math.pi - math.pi / 2)
    return habit.logins_per_minute / 60 * max(0.02, 1 + habit.rhythm * day)


class Caller:
    """Asks EAPI and SAPI over HTTP with connections that stay open."""

    def __init__(self, timeout: float = 2.0) -> None:
        self._timeout = timeout
        self._open: dict[str, http.client.HTTPConnection] = {}
        self.failures = 0

    def _connection(self, url: str) -> tuple[http.client.HTTPConnection, str]:
        parts = urlsplit(url)
        connection = self._open.get(parts.netloc)
        if connection is None and parts.scheme == "https":
            trusting = ssl._create_unverified_context()  # the clients' TLS is not what we test
            connection = http.client.HTTPSConnection(
                parts.netloc, timeout=self._timeout, context=trusting
            )
        if connection is None:
            connection = http.client.HTTPConnection(parts.netloc, timeout=self._timeout)
        self._open[parts.netloc] = connection
        return connection, parts.path

    def post(self, url: str, body: Any) -> Optional[dict[str, Any]]:
        """The JSON object of a 200, else None. Trouble is counted: clients live with it."""
        connection, path = self._connection(url)
        data = body if isinstance(body, str) else json.dumps(body)
        try:
            connection.request("POST", path, data, {"User-Agent": "vendor-client/2.1"})
            answer = connection.getresponse()
            text = answer.read(1 << 20)
            found = json.loads(text) if answer.status == 200 else None
        except (OSError, http.client.HTTPException, ValueError, RecursionError):
            self.failures += 1
            connection.close()
            return None
        return found if isinstance(found, dict) else None

    def close(self) -> None:
        """Close all connections."""
        for connection in self._open.values():
            connection.close()


class Traffic:
    """All clients on one schedule; `run_until(now)` does what is due by then."""

    def __init__(
        self,
        book: CredentialBook,
        *,
        eapi_url: str,
        sapi_url: str,
        faults: FaultBoard,
        clients: list[str],
        now: Callable[[], float] = time.time,
        seed: int = 1,
        forge: Optional[Callable[[str], str]] = None,
    ) -> None:
        """`forge` signs a token of a client with the real key, for the fault forged-token."""
        self.book = book
        self._forge = forge
        self._forged: Optional[str] = None
        self._forged_due = now()
        self.now = now
        self.faults = faults
        self.dice = random.Random(seed)
        kinds = itertools.cycle(HABITS)
        self.habits = {client: HABITS[next(kinds)] for client in clients}
        self.logins = 0
        self._eapi, self._sapi = eapi_url, sapi_url
        self._caller = Caller()
        self._tokens: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self._burst_due = now()
        self._chores: list[Callable[[], None]] = []
        self._due = [(self._next(client, now()), client) for client in clients]
        heapq.heapify(self._due)

    def _next(self, client: str, after: float) -> float:
        return after + self.dice.expovariate(rate_per_second(self.habits[client], after))

    def run_until(self, now: float) -> None:
        """Do everything that is due by `now`."""
        while self._due and self._due[0][0] <= now and not self._stop.is_set():
            _, client = heapq.heappop(self._due)
            self._visit(client, self.habits[client])
            heapq.heappush(self._due, (self._next(client, now), client))
        self._burst(now)
        self._use_forged(now)

    def _use_forged(self, now: float) -> None:
        """Once a second, with a token that was made when the fault was switched on."""
        if self._forge is None or not self.faults.on("forged-token"):
            self._forged = None
        elif self._forged_due <= now:
            self._forged = self._forged or self._forge(self.faults.value("forged-token"))
            body = {"tokenString": self._forged, "requiredPermission": "process_payment"}
            self._caller.post(f"{self._sapi}/internal/v1/tokens/validate", body)
            self._forged_due = now + 1.0

    def _burst(self, now: float) -> None:
        if not self.faults.on("failures-burst"):
            self._burst_due = now
            return
        while self._burst_due <= now and not self._stop.is_set():
            self._burst_due += BURST_PAUSE
            self._login(self.faults.value("failures-burst"), "guess-" + str(self._burst_due))

    def _visit(self, client: str, habit: Habit) -> None:
        token = None
        if client in self._tokens and self.dice.random() < habit.refreshes:
            token = self._token_of(f"{self._eapi}/api/v1/auth/refresh", self._tokens[client])
        if token is None:
            if self.dice.random() < habit.typos:
                self._login(client, "mistyped")
            in_use = self.book.accounts[client].in_use
            token = self._login(client, self.book.secret(client, in_use))
        if token is None:
            self._tokens.pop(client, None)
            return
        self._tokens[client] = token
        for _ in range(habit.calls_per_login):
            permission = self.dice.choice(("process_payment", "view_status"))
            self._validate(client, permission)

    def _login(self, client: str, secret: str) -> Optional[str]:
        self.logins += 1
        body = {"client_id": client, "client_secret": secret}
        return self._token_of(f"{self._eapi}/api/v1/auth/token", body)

    def _token_of(self, url: str, body: Any) -> Optional[str]:
        answer = self._caller.post(url, body)
        return answer.get("token") if answer else None

    def _validate(self, client: str, permission: str) -> None:
        body = {"tokenString": self._tokens[client], "requiredPermission": permission}
        answer = self._caller.post(f"{self._sapi}/internal/v1/tokens/validate", body)
        if answer and answer.get("renewedTokenString"):
            self._tokens[client] = answer["renewedTokenString"]

    def also(self, chore: Callable[[], None]) -> None:
        """Call `chore` at every tick of the background loop."""
        self._chores.append(chore)

    def start(self) -> None:
        """Run in the background, on the clock given."""
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while not self._stop.wait(TICK):
            self.run_until(self.now())
            for chore in self._chores:
                chore()

    def stop(self) -> None:
        """Send everybody home."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._caller.close()
