"""Rows: what Conjur can do wrong beyond what every HTTP service can."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Callable, Optional

from sandbox.web import Answer, Request
from tests.faults.ground import Ground
from tests.faults.row import EAPI, LOGIN, VAULT, Expect, Make, Row, classes
from tests.faults.web import switched

CREDENTIALS = "credential_usage_metrics"


def blind(kinds: str, status: int) -> Mapping[str, Expect]:
    """health_check's exit status; credential_usage_metrics cannot look at the vault."""
    named = classes(kinds)
    return {
        # EAPI notices too, and says so on its detailed page
        "health_check": Expect({VAULT: named}, (status,), frozenset({EAPI, LOGIN})),
        # 3: where no other source knows a client there is nothing to judge
        CREDENTIALS: Expect({"conjur": named}, (1, 2, 3)),
    }


def judged(kinds: str, status: int) -> Mapping[str, Expect]:
    return {"health_check": Expect({VAULT: classes(kinds)}, (status,))}


@contextlib.contextmanager
def expiring(ground: Ground) -> Iterator[None]:
    """The first token is refused at its second use, as one that ran out between two requests."""
    vault, real, uses = ground.stack.vault, ground.stack.vault.login_of, []

    def login_of(token: Any) -> Optional[Any]:
        uses.append(token)
        return None if len(uses) == 2 else real(token)

    before = ground.stack.conjur.authentications
    vault.login_of = login_of  # type: ignore[method-assign]
    try:
        yield
    finally:
        vault.login_of = real  # type: ignore[method-assign]
    assert ground.stack.conjur.authentications - before >= 2, "it did not log in again"


def granting(answer: Answer) -> Make:
    """Logins end in `answer`."""

    @contextlib.contextmanager
    def make(ground: Ground) -> Iterator[None]:
        server = ground.stack.conjur
        real: Callable[[Request, str], Answer] = server._grant
        server._grant = lambda request, login: answer  # type: ignore[method-assign]
        try:
            yield
        finally:
            server._grant = real  # type: ignore[method-assign]

    return make


_OSS = (
    Row(
        "conjur: no key and no token is good (401)",
        switched("conjur-unauthorized"),
        blind("auth", 1),
    ),
    Row("conjur: may not read (403)", switched("conjur-forbidden"), blind("noperm|auth", 1)),
    Row(
        "conjur: a token expires in the middle",
        expiring,
        {"health_check": Expect(), CREDENTIALS: Expect({}, (0, 1, 2))},
    ),
    Row(
        "conjur: logins answer a page",
        granting(Answer(200, b"<html>")),
        blind("body|protocol|auth", 1),
    ),
    Row("conjur: its database is down", switched("conjur-database-down"), blind("http", 2)),
    Row("conjur: the wrong data key", switched("conjur-wrong-data-key"), blind("auth", 1)),
    Row("conjur: shows us nothing", switched("conjur-sees-nothing"), blind("config", 1)),
    Row(
        "conjur: does not tell who may read",
        switched("conjur-roles"),
        {"health_check": Expect(), CREDENTIALS: Expect({}, (0, 1))},
    ),
    Row("conjur: logins answer 503", granting(Answer(503, b"")), blind("busy", 2)),
)
_ENTERPRISE = (
    Row("conjur: appliance says 502", switched("conjur-502"), blind("http", 2)),
    Row("conjur: degraded", switched("conjur-degraded"), judged("none", 2)),
    Row(
        "conjur: a follower that stopped replicating",
        switched("conjur-follower-stale"),
        judged("none", 2),
    ),
)
ROWS = (
    *(replace(row, group="vault") for row in _OSS),
    *(
        replace(row, group="vault", options=replace(row.options, conjur="enterprise"))
        for row in _ENTERPRISE
    ),
)
