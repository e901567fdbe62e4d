"""Keep: one look at all credentials: every source asked, compared with what is remembered, kept.

The script and the reports rest on the same look; whatever cannot be read is named, and costs what
rests on it alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import (
    NamedTuple,
    Optional,
)

from monitoring.anomaly.store import AnomalyStore, Reported, sensitivity_of
from monitoring.certainty import Doubt
from monitoring.components import EAPI as EAPI_SERVICE
from monitoring.conjur.answers import Variable
from monitoring.credentials.ages import age_of, cache_is_old, current_version
from monitoring.credentials.assembly import (
    CredentialInput,
    assemble,
    clients_of,
    known_elsewhere,
    registered,
)
from monitoring.credentials.cache_memory import CacheMemory
from monitoring.credentials.facts import (
    CACHE,
    EAPI,
    ROTATIONS,
    SAPI,
    VAULT,
    CachedFacts,
    CredentialFacts,
    Gained,
    Heard,
    VaultSeen,
    Window,
)
from monitoring.credentials.figures import Figures
from monitoring.credentials.findings import (
    NEVER,
    Unseen,
    findings,
    of_anomalies,
    of_clients,
    of_vault,
)
from monitoring.credentials.judged import ClientVerdict, doubts_of, judge_all, of_beginnings
from monitoring.credentials.memory import (
    Ledger,
    RotationMemory,
    ShownClients,
    Sightings,
    VaultMemory,
    remembered,
    to_ask,
)
from monitoring.credentials.source_kit import Asked, SourceAnswer
from monitoring.credentials.source_vault import ask_rights
from monitoring.credentials.sources import UNREADABLE, RotationsSeen, Sources, ask_clients
from monitoring.credentials.usage import LoginsSeen, UsageBook, UsageHistory
from monitoring.model import Finding, Source
from monitoring.services.families import LOGINS, findings as of_counters
from monitoring.store.state import State

#: Clients whose last rotation is asked for again in each cycle, though nothing says it changed.
ASKED_AGAIN = 20
#: The threshold on the age of secrets.
AGE = "security.credential_age_days"
#: Where logins are counted.
#: Failed logins in a row after which a success is worth a word.
GUESSES = 10.0


class _Wanted(NamedTuple):
    """Whose rotation must be asked for: that of `about`, and of `everybody` if so."""

    about: str
    everybody: bool


@dataclass(frozen=True)
class _Noted:
    """What a sound look at the vault says beside what is remembered of it. `sightings` None: there
    was no such look."""

    behind: Mapping[str, int] = field(default_factory=dict)
    moving: frozenset[str] = frozenset()
    gained: Sequence[Gained] = ()
    held: Sequence[tuple[str, str]] = ()
    remark: str = ""
    sightings: Optional[Sightings] = None


@dataclass(frozen=True)
class CredentialSnapshot:
    """What one look shows. `doubts`: why nothing good may be said of the whole."""

    at: float
    judged: Sequence[ClientVerdict]
    figures: Figures
    findings: Sequence[Finding]
    sources: Sequence[Source]
    unavailable: Mapping[str, str] = field(default_factory=dict)
    doubts: Sequence[Doubt] = ()


class CredentialWatch:
    """Looks again and again; what it must remember is in the state file, which others may share."""

    def __init__(self, asked: Asked, state: State) -> None:
        self._asked, self._settings = asked, asked.settings
        self._sources = Sources(asked)
        self._canary = asked.settings.canary.clients
        self._age_limit = asked.settings.thresholds.get(AGE, NEVER)
        self._ledger, self._vault = Ledger(state), VaultMemory(state)
        self._rotations, self._usage = RotationMemory(state), UsageBook(state, ignored=self._canary)
        self._history, self._shown = UsageHistory(state), ShownClients(state)
        self._cache = CacheMemory(state, asked.settings.tokens.max_lifetime)
        self._anomalies = AnomalyStore(state, sensitivity_of(asked.settings.credentials))

    def look(
        self, now: float, *, all_rotations: bool = False, about: str = ""
    ) -> CredentialSnapshot:
        """Ask everything once. `all_rotations`: every client's newest rotation is asked for, else
        those that may have changed, and in any case and first that of the client `about`."""
        answers = self._sources.ask()
        unavailable = {n: a.why_unavailable for n, a in answers.items() if a.why_unavailable}
        vault: Optional[VaultSeen] = answers[VAULT].data
        noted = self._note_vault(vault, VAULT not in unavailable, now)
        heard, unanswered = self._hear(answers, vault, now, _Wanted(about, all_rotations))
        looked = CredentialInput(
            unavailable=unavailable,
            vault=vault,
            cache=answers[CACHE].data,
            heard=heard,
            unanswered=unanswered,
            ledger=self._ledger.facts(),
            behind=noted.behind,
            moving=noted.moving,
            reborn=noted.sightings.reborn if noted.sightings else frozenset(),
            clock=_clock(answers[ROTATIONS].data),
            rotated_at=self._settings.credentials.rotated_at,
        )
        known = registered(looked, self._canary)
        counted = self._count(answers, known, now)
        totals = self._history.totals()
        looked = replace(looked, window=self._window(now), totals=totals, counted=counted.clients)
        judged = judge_all(self._facts(looked, now), self._settings.credentials, now)
        doubts = doubts_of(judged, unavailable.get(VAULT, ""), unavailable.get(ROTATIONS, ""))
        reported = self._learn(counted, now)
        return CredentialSnapshot(
            now,
            judged,
            replace(_figures(looked, known, counted, reported), shown=self._choose(judged, looked)),
            [
                *findings(judged, looked.window, now, ages=self._age_limit),
                *of_vault(noted.held, noted.gained),
                *of_clients(self._unseen(looked, noted, counted, now)),
                *of_beginnings(judged, known, looked.rotated_at, doubts),
                *_of_logins(reported, looked.window, counted),
            ],
            _rows(answers, next(iter(unanswered.values()), ""), noted.remark),
            unavailable,
            doubts,
        )

    def _note_vault(self, vault: Optional[VaultSeen], sound: bool, now: float) -> _Noted:
        """Old data of a stale follower is not kept: it would say that nothing has changed."""
        if vault is None or not sound:
            return _Noted()
        sightings = self._vault.sightings(vault.variables, vault.identity, now)
        behind = self._ledger.note(vault.variables, now, sightings.fresh)
        self._vault.keep(sightings, vault.identity)
        moving = self._vault.moving(vault.variables)
        rights = ask_rights(self._asked, vault.variables, self._vault.rights(), now)
        self._vault.keep_rights(rights.kinds)
        gained = self._vault.gained(rights.readers, now)
        return _Noted(behind, moving, gained, rights.held, rights.remark, sightings)

    def _unseen(
        self, looked: CredentialInput, noted: _Noted, counted: LoginsSeen, now: float
    ) -> Unseen:
        """What of the vault's clients is not as it was; nothing while it cannot be read."""
        vault = looked.vault
        if vault is None or noted.sightings is None:
            return Unseen()
        known = {c: why for c, why in known_elsewhere(looked).items() if c not in self._canary}
        lately = self._vault.strangers(counted.succeeded, now)
        strangers = {c: "it logs in at EAPI" for c in lately if c not in vault.variables}
        gone = {c: at for c, at in noted.sightings.vanished.items() if c not in self._canary}
        return Unseen(gone, noted.sightings.anew, {**strangers, **known})

    def _hear(
        self,
        answers: Mapping[str, SourceAnswer],
        vault: Optional[VaultSeen],
        now: float,
        wanted: _Wanted,
    ) -> tuple[dict[str, Heard], Mapping[str, str]]:
        """What was last heard of each client's rotation, and why some could not be asked for."""
        before = self._rotations.load()
        data: Optional[RotationsSeen] = answers[ROTATIONS].data
        if data is None:
            return before, {}
        active = {c: r for c, r in data.active.items() if c not in data.unreadable}
        variables: Mapping[str, Variable] = vault.variables if vault else {}
        cached = _cached(answers[CACHE])
        names = {*variables, *before, *cached}
        versions = {client: variable.version for client, variable in variables.items()}
        again = len(names) if wanted.everybody else ASKED_AGAIN
        some = to_ask(sorted(names), before, active, versions=versions, again=again)
        if wanted.about and wanted.about not in active:
            some = [wanted.about, *(client for client in some if client != wanted.about)]
        seconds = self._settings.run.cycle_deadline / 2
        answered, unanswered = ask_clients(self._asked, some, seconds)
        after = dict(before)
        heard_of = {**answered, **active}.items()
        for client, rotation in ((c, r) for c, r in heard_of if r or c in names):
            heard = remembered(rotation, before.get(client), now, cached=cached.get(client))
            after[client] = Heard(heard.rotation, now, versions.get(client))
        self._rotations.save(before, after, now)
        return after, {
            **unanswered,
            **{c: UNREADABLE for c in data.unreadable if c not in answered},
        }

    def _count(
        self, answers: Mapping[str, SourceAnswer], known: Optional[Collection[str]], now: float
    ) -> LoginsSeen:
        read = {name: answers[name].data for name in (EAPI, SAPI) if answers[name].data}
        look = self._usage.look(read, known, now)
        self._usage.fold(now)
        return look

    def _learn(self, counted: LoginsSeen, now: float) -> Sequence[Reported]:
        window = self._settings.credentials.failure_window
        return self._anomalies.feed(counted.to_learn, now, window)

    def _choose(self, judged: Sequence[ClientVerdict], looked: CredentialInput) -> frozenset[str]:
        top = self._settings.credentials.top_clients
        return self._shown.choose([each.client for each in judged], looked.totals, top)

    def _window(self, now: float) -> Window:
        seconds = self._settings.credentials.failure_window
        return self._history.window(now, seconds, guesses=GUESSES)

    def _facts(self, looked: CredentialInput, now: float) -> list[CredentialFacts]:
        """The facts of every client, once the ages and sightings they tell of are kept."""
        looked = _knowing(looked, registered(looked, self._canary))
        facts = assemble(looked, clients_of(looked, self._canary))
        self._ledger.learn((c, current_version(each), age_of(each)) for c, each in facts.items())
        sighted = [client for client, each in facts.items() if cache_is_old(each)]
        if sighted:
            at = looked.cache.at if looked.cache is not None else None
            self._usage.sighted(sighted, now if at is None else min(now, at))
            again = replace(looked, totals=self._history.totals())
            facts.update(assemble(again, sighted))
        cache = None if CACHE in looked.unavailable else looked.cache
        return list(self._cache.note(cache, facts, now).values())


def _knowing(looked: CredentialInput, registered: Optional[Collection[str]]) -> CredentialInput:
    """With every token given to a client that there is, or that there once was."""
    if looked.cache is None or registered is None:
        return looked
    known = {*registered, *(client for client, _version in looked.ledger)}
    return replace(looked, cache=looked.cache.knowing(known))


def _clock(rotations: Optional[RotationsSeen]) -> Optional[float]:
    return rotations.clock if rotations else None


def _of_logins(reported: Sequence[Reported], window: Window, look: LoginsSeen) -> Iterator[Finding]:
    """What is strange about logins, and what their counts leave open in the window; before there is
    one, on the page."""
    yield from of_anomalies([each.anomaly for each in reported])
    unsure = window.unsure if window.seconds is not None else look.unsure
    yield from of_counters(LOGINS, unsure, EAPI_SERVICE)


def _cached(answer: SourceAnswer) -> Mapping[str, CachedFacts]:
    return answer.data.credentials if answer.data is not None else {}


def _figures(
    looked: CredentialInput,
    known: Optional[Collection[str]],
    counted: LoginsSeen,
    reported: Sequence[Reported],
) -> Figures:
    watched, bucket = looked.window.seconds is not None, counted.to_learn
    new = [each.anomaly for each in reported if bucket and each.at >= bucket.at + bucket.seconds]
    return Figures(
        window=looked.window,
        totals=looked.totals,
        known=known,
        counted=counted.clients,
        anomalies=new if bucket is not None else None,
        recent=len(reported) if watched else None,
        countable=counted.read,
        unsure=counted.unsure,
    )


def _rows(answers: Mapping[str, SourceAnswer], why: str, rights: str) -> list[Source]:
    """The sources' rows; that single rotations could not be asked for is a fault of theirs, that
    the rights were not told a remark on the vault's."""
    rows = [answer.source for answer in answers.values()]
    if rights:
        rows = [_remarked(row, rights) if row.name == VAULT else row for row in rows]
    if not why:
        return rows
    return [replace(row, ok=False, why=why, error="http") if _asked(row) else row for row in rows]


def _remarked(row: Source, remark: str) -> Source:
    return replace(row, why=f"{row.why}; {remark}" if row.why else remark)


def _asked(row: Source) -> bool:
    return row.name == ROTATIONS and row.ok
