"""Values: what alerts say to a person who was just woken up.

Plain sentences: what it means for whom, then the first thing to do. No figures: an alert brings
its own. Pages are those of docs/runbooks.
"""

from __future__ import annotations

from collections.abc import Mapping

from monitoring.components import EAPI, SAPI

#: Threshold.name -> (meaning, first thing to do); noun and page are the catalogue's.
THRESHOLDS: Mapping[str, tuple[str, str]] = {
    "performance.api_response_time": (
        "Every client that logs in or has a token checked waits this long.",
        "Compare the request phases: slow connect is the network, slow first byte the service.",
    ),
    "performance.vault_response_time": (
        "Logins that miss the credential cache wait for the vault.",
        "Look at the vault's load and storage; check whether a follower is nearer.",
    ),
    "performance.redis_response_time": (
        "Every token lookup waits for the cache, so all clients are slower.",
        "Run SLOWLOG GET 10 on the node and look for a client that scans or fetches whole hashes.",
    ),
    "performance.authentication_time": (
        "A client needs this long to get a token; callers with short timeouts fail.",
        "See in the details which step of the login is slow, then open that component's page.",
    ),
    "performance.token_validation_time": (
        "Each payment waits this long for its token to be checked.",
        "Check SAPI's load first, then its connection to the cache.",
    ),
    "performance.clock_skew": (
        "Tokens look expired or not yet valid to a host whose clock is off.",
        "Check time synchronisation (chronyc tracking) on that host, and on the monitor's.",
    ),
    "performance.redis_memory_used": (
        "At the limit the cache evicts live tokens or refuses writes; clients must log in again.",
        "Look for tokens without expiry and for other users of the cache; then raise maxmemory.",
    ),
    "performance.redis_hit_ratio": (
        "More lookups miss: tokens are evicted or asked for after their end, and logins grow.",
        "Compare evictions with memory use, and token lifetimes with renewals.",
    ),
    "performance.redis_replication_lag": (
        "A failover now would lose the newest tokens; their clients would have to log in again.",
        "Check the replica's link and the network between the two nodes.",
    ),
    "performance.redis_evictions": (
        "The cache drops keys under memory pressure; those clients lose live tokens.",
        "Look at memory use and at tokens without expiry.",
    ),
    "performance.redis_rejected_connections": (
        "Some callers get no connection to the cache at all.",
        "Find who holds the connections (CLIENT LIST) and compare with maxclients.",
    ),
    "performance.redis_clients_used": (
        "Soon the cache refuses new connections, and callers that need one get none.",
        "Find who holds the connections (CLIENT LIST) and compare with maxclients.",
    ),
    "performance.redis_blocked_clients": (
        "Callers wait on blocking commands; a growing number means a stuck consumer.",
        "Find them with CLIENT LIST and look who uses blocking commands.",
    ),
    "performance.service_error_ratio": (
        "This share of requests fails for the clients of the service.",
        "Read the service's error log since the alert began; look at its dependencies.",
    ),
    "availability.tls_certificate_days": (
        "When it expires every client of the component is refused at once.",
        "Renew the certificate that the details name; it may be an intermediate certificate.",
    ),
    "availability.conjur_replication_lag": (
        "A failover now would lose the newest secrets, rotated ones among them.",
        "Check the standby and the network between the two; do not promote it before it is level.",
    ),
    "availability.conjur_follower_silence": (
        "The follower answers with old data: a secret rotated since then does not log in there.",
        "Check the follower's network to the leader, then its subscriptions.",
    ),
    "availability.conjur_subscriptions": (
        "The follower gets no changes: a secret that is rotated now does not log in there.",
        "Enrol the follower with its leader again, and take it out of the load balancer.",
    ),
    "availability.conjur_initial_replication": (
        "The follower lacks part of the data: logins that reach it may fail.",
        "Keep it out of the load balancer until its first copy is complete.",
    ),
    "availability.conjur_free_space": (
        "Without disk the vault stops: no login that misses the cache, no rotation.",
        "Free or add disk on the vault's host; most often audit logs have filled it.",
    ),
    "availability.conjur_free_inodes": (
        "Without inodes the vault can write no file, however much space is left: it stops.",
        "Look for a folder of very many small files on the vault's host, and empty it.",
    ),
    "availability.error_budget_burn_rate": (
        "At this speed the month's allowance of downtime is gone early.",
        "Find the component that is down or flapping and open its page.",
    ),
    "availability.expiry_cliff": (
        "Their clients will all log in at the same moment and may overload EAPI and the vault.",
        "See when it is due; renew some clients early or ask them to spread their renewals.",
    ),
    "security.authentication_failures": (
        "A client uses a wrong or old secret, or somebody tries to guess it.",
        "See whether its secret was just rotated; if not, find the callers and block them.",
    ),
    "security.authentication_failure_ratio": (
        "A large part of all logins fails: a broken rotation, a broken vault, or an attack.",
        "Check the last rotation and the vault; the clients that fail most are named beside this.",
    ),
    "security.token_validation_failures": (
        "Payments are refused because tokens do not pass: expired, of a wrong key, or forged.",
        "Look at the reasons: expired points to renewals, signature to keys or forgery.",
    ),
    "security.token_validation_success": (
        "The rest of the calls is refused, and their payments with them.",
        "Look at the reasons of failure and at the clients concerned.",
    ),
    "security.credential_access_anomalies": (
        "Credentials are used in a way their owners never did before.",
        "Read the findings beside this alert and ask the owners of the clients named.",
    ),
    "security.unauthorized_access_attempts": (
        "Somebody tries client ids that should not exist or may no longer log in.",
        "Find the source addresses in the service's access log; block what is not ours.",
    ),
    "security.credential_age_days": (
        "The older a secret, the more people and systems may know it; policy wants it replaced.",
        "Start a rotation of this client and watch it with --check-rotation.",
    ),
    "security.tokens_without_ttl": (
        "They stay in the cache for ever: a stolen one is never cleaned up, and memory fills.",
        "Find the writer that sets tokens without EX, and give the keys a time to live.",
    ),
    "security.undecodable_tokens": (
        "Nobody can say whether these tokens are valid; statistics leave them out.",
        "See the encodings named; a new service version may have changed how it serialises.",
    ),
}

#: A component without a row of its own: (meaning when it is down, first thing to do, page).
ANY_COMPONENT = (
    "Something that the payment API's authentication needs does not work.",
    "Check the component itself, then the network between it and the monitor.",
    "component-down",
)

#: A component that is up and not well: (meaning, first thing to do).
DEGRADED = (
    "It works, but not as it should: the next failure may take it down.",
    "Look at the part that its own answer names (health_check.py --single-run --verbose).",
)

#: Kinds of faults of a component that answers -> what they mean: the fault may be our own.
SEEN_IN_PART = dict.fromkeys(
    ("auth", "noperm", "config"), "It answers, but the monitor does not see all of it."
)

#: Kinds of faults that do not say their cause.
UNEXPLAINED = ("connect", "refused", "timeout", "http")
#: Fault kind -> what it hints at.
FAULTS: Mapping[str, str] = {
    "dns": "Its name does not resolve: check the address in the settings and the resolver.",
    "connect": "No connection: check the network, routes and firewall.",
    "refused": "Nothing listens on the port: the process is gone or the address is wrong.",
    "timeout": "It accepts but does not answer in time: it hangs or is overloaded.",
    "tls": "The TLS handshake fails: check the certificate and the CA the monitor trusts.",
    "http": "It answers with an error: its log says why.",
    "auth": "It refuses the monitor's credentials: see whether they were rotated.",
    "redirect": "It redirects elsewhere: the address in the settings may be out of date.",
    "body": "Its answer cannot be read: see whether a proxy answers in its place.",
    "protocol": "Something else answers on that port: check the address in the settings.",
    "too_large": "Its answer is far too large: see whether the address is right.",
    "loading": "It loads its data after a start: it will be back by itself.",
    "busy": "A script blocks it: SCRIPT KILL ends one that has not written.",
    "readonly": "It is a replica now: a failover happened and callers use the old address.",
    "masterdown": "The replica has lost its primary: check the primary and its link.",
    "clusterdown": "Part of the hash slots has no owner: check the cluster's nodes.",
    "oom": "It is out of memory and refuses writes: look for what fills it, then raise maxmemory.",
    "noperm": "The monitor's user may not run a command that it needs: compare deploy/redis.",
    "maxclients": "It has no connection left: see who holds them.",
    "config": "The settings do not fit: run --check-config.",
    "internal": "The monitor itself failed: its log has the traceback.",
}

#: (service that failed a login, is the login refused) -> the first thing to do.
_LOGIN_FAILED: Mapping[tuple[str, bool], str] = {
    (EAPI, True): "See whether clients log in: if they do, MONITORING_CLIENT_SECRET is no longer "
    "the canary's secret; if not, look at payment-eapi's last change and at the vault.",
    (EAPI, False): "Look in payment-eapi's log for this login, by its trace id.",
    (SAPI, True): "See what was changed last: the signing key of one of the two services, or the "
    "canary's permission.",
    (SAPI, False): "Look in payment-sapi's log for this login, by its trace id.",
}


def login_failed(service: str, error: str) -> str:
    """The first thing to do about a login that `service` did not let through, and the hint of the
    kind of `error`, if that is not said by it."""
    refused = error == "auth"
    hint = "" if refused or error == "http" else FAULTS.get(error, "")
    return f"{_LOGIN_FAILED[service, refused]} {hint}".strip()


BLIND = (
    "It may be healthy or not: nobody is watching it right now.",
    "Check the monitor's own access: settings (--check-config), credentials, network.",
    "monitoring-blind",
)

#: Category -> (meaning, first thing to do) where nothing better is known, and the page.
CATEGORIES: Mapping[str, tuple[str, str]] = {
    "security": (
        "Credentials or tokens may be misused.",
        "Read the evidence beside this alert and ask the owner of the client named.",
    ),
    "performance": (
        "Clients of the payment API wait longer, or will soon.",
        "Look at the component's dashboard for what changed when the alert began.",
    ),
    "availability": (
        "Clients of the payment API may fail to log in.",
        "Check the component named, then what it depends on.",
    ),
}
GENERAL: Mapping[str, str] = {
    "security": "security-finding",
    "performance": "slow-service",
    "availability": "component-down",
}
