"""Keep: how many forged tokens the canary has had refused, so that no count of failures holds them.

`health_check` proves once an hour that forgeries are refused; the service cannot say whose they
were and counts them as failures of an unknown client. Scripts that share the state file know.
"""

from __future__ import annotations

from typing import Mapping, Optional

from monitoring.state import State

_SCOPE = "canary"
#: Proofs that show SAPI a forged token; the wrong secret goes to EAPI under the canary's own id.
FORGERIES = ("tampered", "expired", "alg_none")


def refused(proofs: Mapping[str, Mapping[str, object]]) -> int:
    """How many forged tokens a round of proofs has had refused; `accepted` False says it."""
    return sum(proofs.get(name, {}).get("accepted") is False for name in FORGERIES)


class CanaryLog:
    """A number that only grows, kept by environment."""

    def __init__(self, state: State, environment: str) -> None:
        self._state, self._environment = state, environment

    def note(self, count: int) -> None:
        """`count` more forged tokens were refused."""
        if count:
            self._state.put(_SCOPE, f"refused/{self._environment}", str(self.total() + count))

    def total(self) -> int:
        """Forged tokens refused since the state file began."""
        return self._number(f"refused/{self._environment}")

    def since_last_look(self, script: str) -> int:
        """Those refused since `script` last asked this; 0 the first time."""
        key, total = f"looked/{self._environment}/{script}", self.total()
        before: Optional[str] = self._state.get(_SCOPE, key)
        self._state.put(_SCOPE, key, str(total))
        return 0 if before is None else max(0, total - int(before))

    def _number(self, key: str) -> int:
        return int(self._state.get(_SCOPE, key) or 0)
