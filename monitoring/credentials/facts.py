"""Values: what each source says of one client's credential, before anything is judged.

Times are epoch seconds (UTC), None where the source does not say. A whole source that could not
be read is None in `CredentialFacts`; a source that was read and knows nothing of the client is
`absent` in `Known`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Optional

from monitoring.anomaly.types import Usage
from monitoring.certainty import OK, UNKNOWN, Doubt
from monitoring.conjur.answers import Variable
from monitoring.services.families import CLIENTS, ENDS, FAILURES, MORE, USES, Unsure, leaves_open
from monitoring.tokens.results import TokenResult
from monitoring.tokens.stats import TokenStats

#: Names of the sources, as `sources`, `unavailable` and the findings' evidence spell them.
VAULT, CACHE, ROTATIONS = "conjur", "redis", "rotation-service"
EAPI, SAPI = "eapi-metrics", "sapi-metrics"
#: Why nothing rests on a source that there is not.
NOT_CONFIGURED = "not configured"
#: The rotation service was read: of those that it was not asked about one by one, none runs.
NOT_ASKED = "it was not asked about this client yet"

#: Rotation states as the rotation service names them (docs/protocols.md).
IN_ROTATION = ("initiated", "dual_active", "old_deprecated")
STATES = ("active", *IN_ROTATION, "failed", "disabled", "unknown")
#: The service's words for how a rotation goes (`status`), in upper case. It is in progress, it is
#: over, it is over and brought nothing; any other word says nothing that could be relied on.
GOING = ("IN_PROGRESS", "RUNNING", "PENDING", "STARTED", "ACTIVE", "INITIATED")
OVER = ("COMPLETED", "COMPLETE", "SUCCEEDED", "SUCCESS", "SUCCESSFUL", "DONE", "FINISHED")
BROKEN = (
    *("FAILED", "FAILURE", "ERROR", "ABORTED", "CANCELLED", "CANCELED", "ROLLED_BACK"),
    *("TIMED_OUT", "TIMEOUT", "REJECTED"),
)
#: Seconds between two looks above which the moment of a change is not known.
WATCH_GAP = 2 * 86400.0
#: Clocks of the services, the vault and ours may differ by so much (seconds).
SKEW = 300.0
VERDICTS = ("failed", "stuck", "overdue", "unused", "due_soon", UNKNOWN, OK)


_VERSION = re.compile(r"\s*(?:v|ver|version)?[ ._#-]?(\d{1,9})\s*\Z", re.I | re.ASCII)


def version_number(version: Optional[str]) -> Optional[int]:
    """`v7`, `7` and `version-7` are 7; None for anything else (a UUID, a date, a hash): a number
    found somewhere inside would set versions in an order that they do not have."""
    found = _VERSION.match(version or "")
    return int(found.group(1)) if found else None


@dataclass(frozen=True)
class VaultFacts:
    """The Conjur variable: `version` is the highest number (None: never set), `expires_at` that of
    the highest version, `rotator_ttl` the `rotation/ttl` annotation in seconds, `expiries` the
    `expires_at` of every version kept, `created_at` when the *variable* was made: no version is
    older. `moving`: `expires_at` changed since the last look and the version did not.
    `broken_ttl`: the `rotation/ttl` annotation where Conjur's rotator cannot read it."""

    version: Optional[int]
    expires_at: Optional[float] = None
    rotator: str = ""
    rotator_ttl: Optional[float] = None
    expiries: tuple[Optional[float], ...] = ()
    created_at: Optional[float] = None
    moving: bool = False
    broken_ttl: str = ""

    @property
    def has_rotator(self) -> bool:
        """Conjur's rotator looks after it: that needs all three (docs/protocols.md)."""
        return bool(self.rotator and self.rotator_ttl) and self.version is not None


@dataclass(frozen=True)
class CachedFacts:
    """`credential:{client}` as EAPI cached it at its last use of the vault (at most 15 min old).
    `unreadable`: it is cached, and what it says is not known."""

    active: Optional[bool] = None
    version: Optional[str] = None
    rotation_state: Optional[str] = None
    created_at: Optional[float] = None
    updated_at: Optional[float] = None
    expires_at: Optional[float] = None
    unreadable: bool = False


@dataclass(frozen=True)
class RotationFacts:
    """The client's newest rotation. `state` as the service says it; `entered_at` is when this
    monitor saw the state change (None: it was already so when first seen). `deprecated_by`: the
    old secret logs nobody in since then at the latest (None: it still may). `old_since`: when the
    rotation before this one began, that is, when the old version came. `status` is the service's
    word for how it goes, in upper case ("": it has none); `rivals` counts other rotations of the
    client that run at the same time; `failed_since` is why a later one failed while this one runs
    ("": none did)."""

    rotation_id: str
    state: str
    old_version: Optional[str] = None
    new_version: Optional[str] = None
    transition: Optional[float] = None
    started_at: Optional[float] = None
    completed_at: Optional[float] = None
    success: Optional[bool] = None
    message: str = ""
    entered_at: Optional[float] = None
    deprecated_by: Optional[float] = None
    old_since: Optional[float] = None
    status: str = ""
    rivals: int = 0
    failed_since: str = ""

    @property
    def running(self) -> bool:
        """By its state; `ongoing` also by its own word."""
        return self.state in IN_ROTATION

    @property
    def ongoing(self) -> bool:
        ended = self.completed_at is not None or self.status in (*OVER, *BROKEN)
        return self.running and not ended


@dataclass(frozen=True)
class LedgerFacts:
    """What this monitor remembers of the present version: `first_seen`, and `watched_since`, the
    last look at which the client did not have it yet (`first_seen` itself: there was none).
    `born` and `born_source`: when it came, as a better source once said."""

    first_seen: float
    watched_since: float
    born: Optional[float] = None
    born_source: str = ""

    @property
    def is_minimum(self) -> bool:
        """The version may be far older: it was there when we first looked, or came while nobody
        looked for longer than WATCH_GAP."""
        gap = self.first_seen - self.watched_since
        return gap <= 0 or gap > WATCH_GAP


@dataclass(frozen=True)
class UseFacts:
    """Logins in the window, from the services' counters: `uses` counts attempts, refused ones
    included; `at_least`: a service restarted meanwhile, so that there were more. `last_used` is the
    last that succeeded; with `last_used_at_most` it was then or earlier, since counters say only
    that it was before they were read. `last_failed` is the last that did not succeed,
    `old_version_seen` the last time the replaced version was seen in use. None: not known.
    `ends_open`: of some logins nothing says whether they succeeded."""

    uses: Optional[float] = None
    failures: Optional[float] = None
    at_least: bool = False
    last_used: Optional[float] = None
    last_used_at_most: bool = False
    ends_open: bool = False
    last_failed: Optional[float] = None
    old_version_seen: Optional[float] = None


@dataclass(frozen=True)
class NodeFacts:
    """INFO of one server of the cache. `fault` is why it is not known ("": it is). `role` primary,
    replica or what it says itself; `linked`: a replica hears its primary. `lives` names its data
    set, and changes with a restart or when another server takes over; `losses` are its counters of
    what takes keys away, or keeps them from being written, by name."""

    name: str
    fault: str = ""
    role: str = ""
    linked: bool = True
    loading: bool = False
    lives: str = ""
    uptime: Optional[float] = None
    losses: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ProofFacts:
    """What looks at the cache, one after another, say of tokens that are not in it.

    `intact_since`: nothing was lost from it since then (None: that cannot be told); `broken` says
    why not since earlier. `clear_since`: the first look after the last moment at which a token of
    the old secret could be minted, since which none was seen. `counted_until`: an old token that we
    counted lives until then, in the cache or not (infinity: for ever). `longest` is the longest
    life of the client's tokens that was seen or is allowed, in seconds."""

    intact_since: Optional[float] = None
    broken: str = "this monitor has not looked at it before"
    clear_since: Optional[float] = None
    counted_until: Optional[float] = None
    longest: float = 3600.0


@dataclass(frozen=True)
class TokenFacts:
    """The client's live tokens from the census. `old` may be of the secret before the present one:
    minted while it could still log in, or by their own word (None: it is not known since when it
    cannot); the last of those dies at `old_until`. `near` more lie so close to that moment or to
    their own end that clocks, or EAPI's cache of the secret, may put them on either side; the
    last of those dies at `near_until`. `complete` False: the scan ended early, so the counts are
    minima. `unreadable`: values under token keys that could be anybody's token; `unowned`: live
    tokens that could, the last of which dies at `unowned_until`. `any_live` False: of no client was
    a live token seen. `longest`: the longest life of one of them in seconds (infinity: one has no
    end; 0: none was seen). `doubts`: why the cache may show other tokens than it was given."""

    live: int
    old: Optional[int] = None
    old_until: Optional[float] = None
    near: int = 0
    near_until: Optional[float] = None
    complete: bool = True
    unreadable: int = 0
    unowned: int = 0
    unowned_until: Optional[float] = None
    any_live: bool = True
    longest: float = 0.0
    doubts: tuple[Doubt, ...] = ()
    proof: ProofFacts = ProofFacts()

    def known(self, count: Optional[int]) -> Optional[int]:
        """`count`, which is a minimum while not `complete`; then nothing seen is not none."""
        return count if self.complete or count else None


@dataclass(frozen=True)
class CredentialFacts:
    """Everything known of one client; a source that could not be read is None and named in
    `unavailable` with the reason. `clock`: that of the rotation service minus ours, in seconds.
    `rotated_at`: when it was last rotated, as the configuration says."""

    client: str
    vault: Optional[VaultFacts] = None
    cached: Optional[CachedFacts] = None
    rotation: Optional[RotationFacts] = None
    ledger: Optional[LedgerFacts] = None
    use: UseFacts = UseFacts()
    tokens: Optional[TokenFacts] = None
    unavailable: Mapping[str, str] = field(default_factory=dict)
    clock: Optional[float] = None
    rotated_at: Optional[float] = None


@dataclass(frozen=True)
class Policy:
    """Rotation policy of one client, in seconds. `excluded`: it needs no rotation."""

    max_age: float = 90 * 86400.0
    due_soon: float = 14 * 86400.0
    transition: float = 3600.0
    unused_after: float = 7 * 86400.0
    excluded: bool = False


@dataclass(frozen=True)
class Age:
    """Seconds since the present secret came, and which source says so (rotation_service, cache,
    vault_expiry, ledger, configuration). `at_least`: it may be older, but came after
    `oldest` (None: nobody knows). `since` None: not known."""

    since: Optional[float]
    source: str
    at_least: bool = False
    oldest: Optional[float] = None

    def seconds(self, now: float) -> Optional[float]:
        return None if self.since is None else max(0.0, now - self.since)


# -- what was seen of all clients together

#: Clients that nobody registered, pooled.
UNKNOWN_CLIENT = ""


@dataclass(frozen=True)
class Heard:
    """The newest rotation (None: there never was one), `asked` when the service last told, and
    `version` the vault's version at that time."""

    rotation: Optional[RotationFacts]
    asked: float
    version: Optional[int] = None


@dataclass(frozen=True)
class Gained:
    """A role that may read a client's secret and could not before; `since` we saw it."""

    client: str
    role: str
    since: float


@dataclass(frozen=True)
class VaultSeen:
    """`variables` by client. `identity` stands for the vault, the account and the template."""

    variables: Mapping[str, Variable]
    identity: str = ""


@dataclass(frozen=True)
class CacheSeen:
    """`stats` answers for single clients, `result` for all; `whole` False: not every key was seen,
    so counts are minima. `unreadable`: values under token keys that are no token we can read.
    `readers` are the servers that were read, `primaries` those that are written to (the same,
    unless replicas are read); `cluster`: why not all of its slots are served ("": they are). `at`:
    when the other script counted this (None: it was counted for this look)."""

    stats: TokenStats
    result: TokenResult
    credentials: Mapping[str, CachedFacts] = field(default_factory=dict)
    whole: bool = True
    unreadable: int = 0
    readers: tuple[NodeFacts, ...] = ()
    primaries: tuple[NodeFacts, ...] = ()
    cluster: str = ""
    at: Optional[float] = None

    @property
    def named(self) -> set[str]:
        """The clients that have a cached credential by its own word, not by a key's name alone."""
        return {client for client, fact in self.credentials.items() if not fact.unreadable}

    def knowing(self, clients: Iterable[str]) -> CacheSeen:
        """The same, with tokens that may be of several clients given to those that there are."""
        self.stats.know(clients)
        return replace(self, result=self.stats.result(None))


@dataclass(frozen=True)
class Totals:
    """What was counted of a client since this state file began, and when it last did what, at the
    latest: the end of the span in which it was counted. `unknown` of the attempts ended in some
    way that nothing says."""

    attempts: float = 0.0
    failures: float = 0.0
    last_ok: Optional[float] = None
    last_failed: Optional[float] = None
    old_seen: Optional[float] = None
    unknown: float = 0.0


@dataclass(frozen=True)
class Window:
    """Logins by client in the last `span` seconds, of which `seconds` were watched (None: none, so
    nothing is known). Of a bucket that reaches back before the window (nobody looked for long)
    its share counts. `recovered`: (failures, first success after them) of a client that failed
    repeatedly, with hardly a success between, and then succeeded. `unsure`: what the counts leave
    open; the methods give only what is known, None for what is not."""

    seconds: Optional[float] = None
    clients: Mapping[str, Usage] = field(default_factory=dict)
    recovered: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    span: float = 0.0
    unsure: tuple[Unsure, ...] = ()

    def uses(self, client: str) -> Optional[float]:
        """The attempts of one client, refused ones included."""
        known = self.by_client and not leaves_open(self.unsure, USES)
        return self._of(client).attempts if known else None

    def failures(self, client: str) -> Optional[float]:
        known = self.by_client and not leaves_open(self.unsure, FAILURES)
        usage = self._of(client)
        return usage.failed if known and not usage.unknown else None

    def failed_at_least(self, client: str) -> Optional[float]:
        """Those that are known to have failed."""
        return self._of(client).failed if self.by_client else None

    @property
    def all(self) -> Usage:
        """Of everybody, registered or not."""
        every = self.clients.values()
        return Usage(
            sum(u.ok for u in every), sum(u.failed for u in every),
            unknown=sum(u.unknown for u in every),
        )  # fmt: skip

    @property
    def all_failures(self) -> Optional[float]:
        open_ = self.seconds is None or leaves_open(self.unsure, FAILURES, ENDS)
        return None if open_ or self.all.unknown else self.all.failed

    @property
    def failure_share(self) -> Optional[float]:
        """0..1; None too where nobody logged in."""
        failed, attempts = self.all_failures, self.all.attempts
        if failed is None or not attempts or leaves_open(self.unsure, USES):
            return None
        return failed / attempts

    @property
    def success_share(self) -> Optional[float]:
        """0..1; None where `failure_share` is."""
        return None if self.failure_share is None else self.all.ok / self.all.attempts

    @property
    def by_client(self) -> bool:
        """Whether it is known whose logins they are."""
        return self.seconds is not None and not leaves_open(self.unsure, CLIENTS)

    @property
    def at_least(self) -> bool:
        """A service restarted, or is new: there were more logins than were counted."""
        return leaves_open(self.unsure, MORE)

    def _of(self, client: str) -> Usage:
        return self.clients.get(client, Usage(0.0, 0.0))
