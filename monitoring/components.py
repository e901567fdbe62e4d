"""Values: the components of the payment API, one row each. Their names are spelt here alone.

How one is asked and judged follows from its kind (`health/asking.py`, `health/judges.py`). What a
user adds (`COMPONENTS` of config.py) has kinds of its own and no row here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

EAPI, SAPI = "payment-eapi", "payment-sapi"
VAULT, CACHE = "conjur-vault", "redis-cache"
LOGIN = "authentication-flow"
#: Asked about rotations, and never judged by itself.
ROTATION = "rotation-service"
#: Where something is that no component owns.
WHOLE = "payment-api"


@dataclass(frozen=True)
class ComponentRow:
    """One component.

    kind: which probe asks it and which judge reads the answer.
    sections: parts of the Settings (`eapi`, `conjur`) whose timeouts, added, are its time; twice
      where it is asked twice. The address is the first one's.
    source: how the names of what is read from it begin, also those of parts in health answers.
    down_with: components whose failure explains that this one is down.
    leans_on: components whose failure explains that it is up but degraded.
    figures: how the names of its figures begin that have no `component` label.
    meaning, action: what it means when it is down, and the first thing to do.
    runbook: the page in docs/runbooks.
    """

    kind: str
    sections: tuple[str, ...]
    source: str
    figures: tuple[str, ...]
    meaning: str
    action: str
    runbook: str
    down_with: tuple[str, ...] = ()
    leans_on: tuple[str, ...] = ()


ROWS: Mapping[str, ComponentRow] = {
    EAPI: ComponentRow(
        "service",
        ("eapi",),
        "eapi",
        ("authentication", "unauthorized", "credential_access"),  # where the credential is used
        "No client can log in; those with live tokens work on until these end.",
        "Look at the service's pods and log; restart it if it hangs.",
        "payment-eapi-down",
        leans_on=(SAPI, VAULT, CACHE),
    ),
    SAPI: ComponentRow(
        "service",
        ("sapi",),
        "sapi",
        ("token_validation",),
        "Tokens cannot be validated, so payments are refused.",
        "Look at the service's pods and log; check its way to the cache.",
        "payment-sapi-down",
        leans_on=(CACHE,),
    ),
    VAULT: ComponentRow(
        "vault",
        ("conjur", "conjur"),
        "conjur",
        ("conjur", "credential"),
        "Logins that miss the credential cache fail, and no credential can be rotated.",
        "Check the vault's own health page and its database; consider its standby.",
        "conjur-vault-down",
    ),
    CACHE: ComponentRow(
        "cache",
        ("redis", "redis"),
        "redis",
        ("redis", "token"),
        "Tokens can be neither stored nor found; every payment needs a new login.",
        "Check the server process, then memory and disk of its host; consider a failover.",
        "redis-cache-down",
    ),
    LOGIN: ComponentRow(
        "login",
        ("eapi", "sapi"),
        "",
        ("authentication_step",),
        "A login does not work from end to end, though the components may look healthy.",
        "See in the details which step failed, then open that component's page.",
        "authentication-flow",
        down_with=(EAPI, SAPI),
        leans_on=(EAPI, SAPI, VAULT, CACHE),
    ),
}
COMPONENTS = tuple(ROWS)
SERVICES = tuple(name for name, row in ROWS.items() if row.kind == "service")
#: The nearest to a cause first: each waits for those before it.
NEAREST_FIRST = (CACHE, VAULT, SAPI, EAPI, LOGIN)
#: How the names of sources begin, and of which component they tell.
SOURCES: Mapping[str, str] = {row.source: name for name, row in ROWS.items() if row.source}


#: How a service fails for a reason that lies behind it: with a server error, or too late.
PASSED_ON = ("http", "timeout")


def explained_by(name: str, *, down: bool, error: str = "", at: str = "") -> tuple[str, ...]:
    """The components whose failure explains that this one is down, or up but degraded; none of one
    that has no row here. `error` and `at` say how and at which service a login failed: one that is
    refused (`auth`) fails for a reason of its own, even while the vault is down."""
    row = ROWS.get(name)
    if row is None:
        return ()
    if not down:
        return row.leans_on
    behind = ROWS[at].leans_on if at in row.down_with and error in PASSED_ON else ()
    return tuple(dict.fromkeys((*row.down_with, *behind)))


def of_source(source: str) -> str:
    """The component that a source (`redis`, `eapi-metrics`) tells of; empty for another name."""
    return next((name for start, name in SOURCES.items() if source.startswith(start)), "")


def of_figure(metric: str) -> str:
    """The component whose figure a metric without a `component` label is: the longest beginning in
    `figures` decides. `metric` is the name with or without `payment_api_`; empty for another."""
    short = metric[len("payment_api_") :] if metric.startswith("payment_api_") else metric
    starts = [
        (len(start), name)
        for name, row in ROWS.items()
        for start in row.figures
        if short.startswith(start)
    ]
    return max(starts, default=(0, ""))[1]
