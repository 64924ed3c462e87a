"""The store's Lua scripts: each is atomic and runs on Redis 6.2+, Valkey and Redis Cluster.

KEYS are a session's [1] session, [2] entries and [3] masks, and [4] stream for a commit that names
one; those of `reserve` and `settle` are a tenant's [1] sessions, [2] bytes and [3] objects, that of
`take` one of its buckets, those of `enter` and `leave` its streams and their tokens.
`service/store/__init__.py` says what each holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the SHA-1 by which Redis knows it."""

    name: str
    text: str
    sha: str


def read_script(name: str) -> Script:
    """Return the script `<name>.lua` of this package."""
    text = resources.files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


COMMIT = read_script("commit")
LOAD = read_script("load")
ENTRIES = read_script("entries")
MASKS = read_script("masks")
DELETE = read_script("delete")
RESERVE = read_script("reserve")
SETTLE = read_script("settle")
TAKE = read_script("take")
ENTER = read_script("enter")
LEAVE = read_script("leave")
# By what a command names a script with: its SHA-1, or its text.
NAMES = {
    word: script.name
    for script in (COMMIT, LOAD, ENTRIES, MASKS, DELETE, RESERVE, SETTLE, TAKE, ENTER, LEAVE)
    for word in (script.sha, script.text)
}
