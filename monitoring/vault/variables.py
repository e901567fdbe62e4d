"""Decision: what a vault's metadata says of its variables; never a value."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, List, Mapping, Optional, Tuple

from monitoring.redact import identity_of
from monitoring.timestamps import parse_iso
from monitoring.vault.health import items, word


@dataclass(frozen=True)
class Variable:
    """One variable. `id` without account and kind; `client` by the template ("" if it does not
    fit). `version`: the highest number (None: never set), not the count. `expires_at`, epoch: that
    of the highest version (None: set by hand, or never); `expiries` of every version kept, in
    order. `created_at` is when the *variable* was made: no version has a time of its own.
    `permissions`: (privilege, full role id); `owner` the full id of the role that owns it."""

    id: str
    client: str
    version: Optional[int]
    expires_at: Optional[float] = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    created_at: Optional[float] = None
    expiries: Tuple[Optional[float], ...] = ()
    permissions: Tuple[Tuple[str, str], ...] = ()
    owner: str = ""


def read_variable(entry: Any, template: str) -> Variable:
    """One element of GET /resources. Raises ValueError for what is no variable."""
    full = entry.get("id") if isinstance(entry, Mapping) else None
    if not isinstance(full, str) or full.count(":") < 2 or len(full) > 2000:
        raise ValueError("an entry that is no variable")
    name = full.split(":", 2)[2]
    versions = _versions(entry.get("secrets"))
    return Variable(
        id=name,
        client=client_of(name, template),
        version=versions[-1][0] if versions else None,
        expires_at=versions[-1][1] if versions else None,
        annotations={
            word(a.get("name")): word(a.get("value")) for a in items(entry.get("annotations"))
        },
        created_at=_moment(entry.get("created_at")),
        expiries=tuple(expires for _, expires in versions),
        permissions=tuple(
            (word(p.get("privilege")), word(p.get("role"))) for p in items(entry.get("permissions"))
        ),
        owner=word(entry.get("owner")),
    )


def _versions(value: Any) -> List[Tuple[int, Optional[float]]]:
    found = {
        row["version"]: _moment(row.get("expires_at"))
        for row in items(value)
        if type(row.get("version")) is int and 0 < row["version"] < 10**9
    }
    return sorted(found.items())


def _moment(value: Any) -> Optional[float]:
    try:
        return parse_iso(word(value))
    except (ValueError, OverflowError):
        return None


def client_of(name: str, template: str) -> str:
    """The client id that makes `template` into `name`; "" when none does."""
    before, mark, after = template.partition("{client_id}")
    if not mark:
        return ""
    found = re.fullmatch(re.escape(before) + r"([^/]+)" + re.escape(after), name)
    return identity_of(found.group(1)) if found else ""
