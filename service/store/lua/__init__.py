"""The store's Lua scripts. All keys of one session share a hash tag. KEYS are [1] session (hash:
state, version, next_frame, kept_from, token), [2] entries (hash by frame and revision), [3] masks
(hash by frame); `reserve` and `settle` have the one key of a tenant, on a node of its own
(`service/store/quotas.py`). Each script is atomic and runs on Redis 6.2+, Valkey and Cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """One script and the name under which Redis caches it."""

    text: str
    sha: str


def read_script(name: str) -> Script:
    """The script `<name>.lua` of this package."""
    text = resources.files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


COMMIT = read_script("commit")
LOAD = read_script("load")
ENTRIES = read_script("entries")
MASKS = read_script("masks")
DELETE = read_script("delete")
RESERVE = read_script("reserve")
SETTLE = read_script("settle")
