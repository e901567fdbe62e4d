"""Decision: which keys of the cache hold what, by the layouts of the known services."""

from __future__ import annotations

import re
from collections import Counter, Counter as CounterOf
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from monitoring.tokens.codecs.jwt_text import bare_jwt
from monitoring.tokens.codecs.table import clean_key

TOKEN, VALIDATION, CREDENTIAL, INDEX = "token", "validation", "credential", "index"
EXCLUDED = "excluded"
# Copies and indexes that Spring's @RedisHash keeps beside an entry.
COMPANIONS = (b":phantom", b":idx")
_JAVA_KEY = b"\xac\xed\x00\x05t"
_PREFIXES_KEPT = 40
_PREFIX_SAMPLE = 20
_WORD = re.compile(rb"[A-Za-z][A-Za-z_.-]{0,23}\Z")


@dataclass(frozen=True)
class Rule:
    """A family of keys. ``kind`` is the Redis type to try first; the scan learns if it differs."""

    pattern: str
    role: str = TOKEN
    kind: str = "string"


_TOKENS = Rule("token:*")
_TOKENS_BY_ID = Rule("token_id:*")
_HASHES = Rule("token:*", kind="hash")
_VALIDATIONS = Rule("validation:*", VALIDATION)
_CREDENTIALS = Rule("credential:*", CREDENTIAL)
_INDEXES = Rule("client:tokens:*", INDEX, "set")

PROFILES: Mapping[str, tuple[Rule, ...]] = {
    "auto": (_TOKENS, _TOKENS_BY_ID, _VALIDATIONS, _CREDENTIALS, _INDEXES),
    "eapi": (_TOKENS, _TOKENS_BY_ID, _VALIDATIONS, _CREDENTIALS),
    "sapi": (_TOKENS, _VALIDATIONS, _INDEXES),
    "hash": (_HASHES, _CREDENTIALS),
}


def profile_of(
    name: str, patterns: Sequence[str] = (), exclude: Sequence[str] = ()
) -> tuple[Rule, ...]:
    """The rules of a profile; own ``patterns`` take the place of its token patterns. Keys that
    match one of ``exclude`` are under no other rule.

    Raises KeyError for an unknown name.
    """
    rules = PROFILES[name]
    if exclude:
        left_out = tuple(Rule(pattern, EXCLUDED) for pattern in exclude)
        return left_out + profile_of(name, patterns)
    if not patterns:
        return rules
    kind = "hash" if name == "hash" else "string"
    own = tuple(Rule(pattern, TOKEN, kind) for pattern in patterns)
    return own + tuple(rule for rule in rules if rule.role != TOKEN)


class KeySorter:
    """Sorts pages of key names by rule, the first that matches, and counts what matches none."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._excluded = [_compiled(rule.pattern) for rule in rules if rule.role == EXCLUDED]
        rules = [rule for rule in rules if rule.role != EXCLUDED]
        # Fixed prefixes before globs, a longer one before that which it begins with.
        self._rules = sorted(((rule, _compiled(rule.pattern)) for rule in rules), key=_order)
        self._may_reorder = _disjoint([compiled for _rule, compiled in self._rules])
        self.matched: CounterOf[str] = Counter({rule.pattern: 0 for rule in rules})
        self.prefixes: CounterOf[str] = Counter()
        self.jwt_in_key = 0
        self.excluded = 0

    def sort(self, keys: Sequence[bytes]) -> list[tuple[Rule, list[bytes]]]:
        """The page's keys by rule. Names are judged without Java's prefix, and kept with it."""
        if self._excluded:
            keys = self._without_excluded(keys)
        names = b"\n".join(keys)  # asking the page as a whole costs a tenth of asking each key
        self.jwt_in_key += sum([b"eyJ" in key for key in keys]) if b"eyJ" in names else 0
        found: dict[Rule, list[bytes]] = {}
        commonest = self._rules[0][0]
        if self._all_of_commonest(names, len(keys)):
            found[commonest], rest = list(keys), []
        elif _JAVA_KEY in names:
            plain = [key for key in keys if not key.startswith(_JAVA_KEY)]
            rest = self._take(plain, found)
            rest += self._take_java([key for key in keys if key.startswith(_JAVA_KEY)], found)
        else:
            rest = self._take(keys, found)
        for rule, some in found.items():
            self.matched[rule.pattern] += len(some)
        if self._may_reorder:
            self._rules.sort(key=lambda row: -self.matched[row[0].pattern])
        self._note_strangers(rest)
        return list(found.items())

    def _without_excluded(self, keys: Sequence[bytes]) -> list[bytes]:
        def left_out(key: bytes) -> bool:
            name = clean_key(key)
            return any(
                glob.match(name) if glob is not None else name.startswith(prefix)
                for prefix, glob in self._excluded
            )

        kept = [key for key in keys if not left_out(key)]
        self.excluded += len(keys) - len(kept)
        return kept

    def _all_of_commonest(self, names: bytes, count: int) -> bool:
        """Whether every key of the page falls under the rule that comes first."""
        prefix, glob = self._rules[0][1]
        if glob is not None or not prefix or names.count(b"\n") != count - 1:
            return False
        return (b"\n" + names).count(b"\n" + prefix) == count

    def _take(self, keys: Sequence[bytes], found: dict[Rule, list[bytes]]) -> list[bytes]:
        left = list(keys)
        for rule, (prefix, glob) in self._rules:
            if glob is None:
                mine = [key for key in left if key.startswith(prefix)]
            else:
                mine = [key for key in left if glob.match(key)]
            if mine:
                found.setdefault(rule, []).extend(mine)
                taken = set(mine)
                left = [key for key in left if key not in taken] if len(mine) < len(left) else []
            if not left:
                break
        return left

    def _take_java(self, keys: list[bytes], found: dict[Rule, list[bytes]]) -> list[bytes]:
        named = {clean_key(key): key for key in keys}
        taken: dict[Rule, list[bytes]] = {}
        rest = self._take(list(named), taken)
        for rule, names in taken.items():
            found.setdefault(rule, []).extend(named[name] for name in names)
        return rest

    def _note_strangers(self, keys: Sequence[bytes]) -> None:
        """The beginnings of a few unmatched names, as far as they are plain words."""
        for key in keys[:_PREFIX_SAMPLE]:
            prefix = masked_prefix(key)
            if prefix in self.prefixes or len(self.prefixes) < _PREFIXES_KEPT:
                self.prefixes[prefix] += 1


def masked_prefix(key: bytes) -> str:
    """What of a key's name may be shown: its first part when that is a plain word, else dots.

    Names hold client ids, token ids and whole tokens, so nothing after the first part is shown.
    """
    first, colon, _rest = clean_key(key).partition(b":")
    if _WORD.match(first) and not first.startswith(b"eyJ") and colon:
        return f"{first.decode('ascii')}:…"
    return "…"


def client_and_id(key: bytes) -> tuple[Optional[str], Optional[str]]:
    """Of ``token:{client}:{id}`` the client and the id; (None, None) for another shape."""
    parts = clean_key(key).decode("utf-8", "replace").split(":")
    return (":".join(parts[1:-1]), parts[-1]) if len(parts) >= 3 else (None, None)


def jwt_of_name(key: bytes) -> bytes:
    """The key of a verdict names the token it is about: `validation:{JWT}:{permission}`, or
    wherever else between the colons it stands."""
    rest = clean_key(key).partition(b":")[2]
    found = (bare_jwt(part) for part in rest.split(b":"))
    return next((jwt for jwt in found if jwt), rest.rpartition(b":")[0])


_Compiled = tuple[bytes, Optional["re.Pattern[bytes]"]]


def _compiled(pattern: str) -> _Compiled:
    """A fixed prefix when the pattern is one followed by a star, else an expression."""
    fixed = pattern[:-1]
    if pattern.endswith("*") and not set(fixed) & set("*?[]\\"):
        return fixed.encode(), None
    return b"", re.compile(_expression(pattern).encode(), re.DOTALL)


def prefixes_of(patterns: Sequence[str]) -> list[bytes]:
    """Beginnings of all names that match one of the patterns, as the services write them and as
    Java does; none begins with another. A pattern that begins with a star has the empty one."""
    begins = {re.split(r"[*?\[\\]", pattern, maxsplit=1)[0].encode() for pattern in patterns}
    begins.add(_JAVA_KEY)
    if b"" in begins:
        return [b""]
    return sorted(b for b in begins if not any(b != o and b.startswith(o) for o in begins))


def _disjoint(compiled: Sequence[_Compiled]) -> bool:
    """Whether no name can match two of the patterns, so that their order does not matter."""
    prefixes = sorted(prefix for prefix, glob in compiled if glob is None)
    apart = not any(b.startswith(a) for a, b in zip(prefixes, prefixes[1:]))
    return apart and len(prefixes) == len(compiled)


def _expression(pattern: str) -> str:
    """Redis' glob: ``*``, ``?``, ``[a-c]``, ``[^a]``, and a backslash before a literal."""
    out, at = "", 0
    while at < len(pattern):
        sign = pattern[at]
        closing = pattern.find("]", at + 1) if sign == "[" else -1
        if sign == "\\" and at + 1 < len(pattern):
            at += 1
            out += re.escape(pattern[at])
        elif closing > 0:
            out += "[" + pattern[at + 1 : closing].replace("\\", "\\\\") + "]"
            at = closing
        else:
            out += {"*": ".*", "?": "."}.get(sign) or re.escape(sign)
        at += 1
    return out + r"\Z"


def _order(compiled: tuple[Rule, _Compiled]) -> tuple[bool, int]:
    _rule, (prefix, glob) = compiled
    return (glob is not None, -len(prefix))
