"""Past: the tokens, counters and cached credentials of traffic that came before we started."""

from __future__ import annotations

import random
from collections.abc import Iterator

import redis

from sandbox.eapi import EapiServer
from sandbox.sapi import SapiServer
from sandbox.token_cache import Wire
from sandbox.traffic import Habit, Traffic, rate_per_second

ASSUMED_SECONDS = 0.004


def _moments(habit: Habit, dice: random.Random, *, start: float, end: float) -> Iterator[float]:
    moment = start
    while True:
        moment += dice.expovariate(rate_per_second(habit, moment))
        if moment >= end:
            return
        yield moment


def preload(
    eapi: EapiServer, sapi: SapiServer, traffic: Traffic, *, client: redis.Redis, minutes: float
) -> int:
    """As if `traffic` had gone on for the last `minutes`; returns the number of tokens minted.

    Tokens go to Redis through `client`, with the TTL they have left; counters count every login
    and validation.
    """
    end = eapi.now()
    start = end - minutes * 60
    visits = sorted(
        (moment, client)
        for client, habit in traffic.habits.items()
        for moment in _moments(habit, traffic.dice, start=start, end=end)
    )
    wire = client.pipeline(transaction=False)
    for moment, name in visits:
        _visit(eapi, sapi, wire, name=name, moment=moment)
        _validations(sapi, name, traffic.habits[name])
        if traffic.dice.random() < traffic.habits[name].typos:
            eapi.metrics.authentication(name, False)
    wire.execute()
    for name in traffic.habits:
        if eapi.cache is not None:
            eapi.cache.store_credential(eapi.book.credential(name))
    return len(visits)


def _visit(eapi: EapiServer, sapi: SapiServer, wire: Wire, *, name: str, moment: float) -> None:
    eapi.metrics.authentication(name, True)
    eapi.metrics.generated(name, ASSUMED_SECONDS)
    eapi.metrics.request("/api/v1/auth/token", "POST", 200, seconds=ASSUMED_SECONDS)
    token = eapi.minter.mint(name, moment)
    if eapi.cache is None or sapi.cache is None:
        return
    if token.expires_at > eapi.now() + 1:
        eapi.cache.store_minted(token, wire)
        sapi.cache.store_seen(token, wire)
    else:
        # The set of the client's tokens never expires: the dead stay members.
        wire.sadd(f"client:tokens:{name}", token.jti)


def _validations(sapi: SapiServer, name: str, habit: Habit) -> None:
    for _ in range(habit.calls_per_login):
        sapi.metrics.validated(name, None, ASSUMED_SECONDS)
        sapi.metrics.request("/internal/v1/tokens/validate", "POST", 200, seconds=ASSUMED_SECONDS)
