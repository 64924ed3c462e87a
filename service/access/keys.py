"""API keys: what a client holds, and what is kept of it.

A key is `tamvt_<id>_<secret>`. The id finds its record; of the rest only a SHA-256 is kept. The
secret has 256 random bits, so that a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, Protocol, get_args

from service.errors import Misconfigured

Scope = Literal["read", "write", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
MARK: Final = "tamvt_"  # what every key begins with, so that a leaked one is recognized
MAX_KEY_LENGTH: Final = 100
# A tenant's name is part of the names of keys in Redis: no braces, no spaces.
TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@|:+/-]{0,99}")
NO_KEY: Final = hashlib.sha256(b"").hexdigest()  # compared with where there is no record


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key. Times are ISO 8601 in UTC; an empty one means never."""

    key_id: str
    sha256: str
    tenant: str
    scopes: tuple[Scope, ...]
    created_at: str
    expires_at: str = ""
    revoked_at: str = ""
    comment: str = ""

    def __post_init__(self) -> None:
        if not TENANT.fullmatch(self.tenant):
            raise Misconfigured(f"no tenant may be called {self.tenant!r}: see docs/security.md")
        if not self.scopes or set(self.scopes) - set(SCOPES):
            raise Misconfigured(f"the scopes of a key are some of {', '.join(SCOPES)}")

    @classmethod
    def read(cls, members: Mapping[str, Any]) -> ApiKey:
        """Return the key of a stored record; raise TypeError, ValueError or Misconfigured."""
        key = cls(**{**members, "scopes": tuple(members.get("scopes", ()))})
        for moment in filter(None, (key.created_at, key.expires_at, key.revoked_at)):
            if datetime.fromisoformat(moment).tzinfo is None:
                raise ValueError(f"{moment} names no time zone")
        return key

    def members(self) -> dict[str, Any]:
        """Return what `read` reads."""
        return asdict(self)

    def state(self, now: datetime) -> str:
        """Return `valid`, `revoked` or `expired`."""
        if self.revoked_at:
            return "revoked"
        if self.expires_at and datetime.fromisoformat(self.expires_at) <= now:
            return "expired"
        return "valid"


class KeyStore(Protocol):
    """Where keys are kept."""

    async def find(self, key_id: str) -> ApiKey | None:
        """Return the key with this id, or None; raise StoreUnavailable."""
        ...

    async def keys(self) -> list[ApiKey]:
        """Return every key; raise StoreUnavailable."""
        ...

    async def put(self, key: ApiKey) -> None:
        """Keep the key in place of the one with the same id; raise StoreUnavailable."""
        ...


def make_key(
    tenant: str, scopes: Collection[Scope], *, expires_at: datetime | None = None, comment: str = ""
) -> tuple[str, ApiKey]:
    """Return a new key as its owner holds it, shown once, and what is kept of it."""
    key_id = secrets.token_hex(6)
    text = f"{MARK}{key_id}_{secrets.token_urlsafe(32)}"
    kept = ApiKey(
        key_id=key_id,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        tenant=tenant,
        scopes=tuple(scope for scope in SCOPES if scope in scopes),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        expires_at=expires_at.isoformat(timespec="seconds") if expires_at else "",
        comment=comment,
    )
    return text, kept


async def check_key(text: str, store: KeyStore) -> tuple[ApiKey | None, str]:
    """Return the key that `text` proves, or None and why not: for the log, never for the client.

    The digests are compared in constant time, also where no key has this id.
    """
    parts = text.split("_", 2)
    if len(text) > MAX_KEY_LENGTH or len(parts) != 3 or not text.isascii():
        return None, "malformed key"
    kept = await store.find(parts[1])
    digest = hashlib.sha256(text.encode()).hexdigest()
    is_equal = hmac.compare_digest(digest, kept.sha256 if kept else NO_KEY)
    if kept is None or not is_equal:
        return None, "unknown key"
    state = kept.state(datetime.now(UTC))
    return (kept, "") if state == "valid" else (None, f"{state} key {kept.key_id}")
