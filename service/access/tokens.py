"""Tokens of an OpenID Connect issuer (JWT), checked with the issuer's public keys.

Issuer, audience and algorithms are the operator's; of the token only its claims are believed, once
its signature is right. The issuer's keys are fetched within a deadline, kept for an hour, and asked
for again, at most twice a minute, when a token names a key that is not known. Who shows a token of
a known key does not wait for the issuer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
import jwt

from service.access.keys import SCOPES, TENANT, Scope
from service.errors import IssuerUnavailable

# Asymmetric ones alone: with a shared secret the issuer's public key could be made to sign.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
LEEWAY_S: Final = 30.0  # between the issuer's clock and ours
KEPT_S: Final = 3600.0
STALE_S: Final = 86_400.0  # known keys serve so long where the issuer does not answer
AGAIN_S: Final = 30.0  # between two fetches
MAX_TOKEN_LENGTH: Final = 8192
MAX_DOCUMENT_BYTES: Final = 500_000
# Of the way, or of what is answered there: any JSON, or something that only looks like it.
FETCH_ERRORS: Final = (
    *(httpx.HTTPError, httpx.InvalidURL, TimeoutError, jwt.PyJWTError),
    *(ValueError, KeyError, TypeError, AttributeError, RecursionError),
)
DISCOVERY: Final = "/.well-known/openid-configuration"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose tokens are taken, and for whom; without `jwks_url` it is found by discovery."""

    url: str
    audience: str
    jwks_url: str = ""
    tenant_claim: str = "tenant"
    scope_claim: str = "scope"
    deadline_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says: whose it is, and what it allows."""

    subject: str
    tenant: str
    scopes: frozenset[Scope]


class TokenVerifier:
    """Checks tokens of one issuer."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._fetching = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None

    @property
    def knows_keys(self) -> bool:
        """Return whether the issuer has told its keys."""
        return bool(self._keys)

    async def check(self, token: str) -> tuple[Claims | None, str]:
        """Return the claims of a valid token, or None and why not: for the log alone.

        Raise IssuerUnavailable where no key of the issuer is known.
        """
        if len(token) > MAX_TOKEN_LENGTH:
            return None, "long token"
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS:
                return None, "a token of another algorithm"
            public = await self._key(str(header.get("kid", "")))
            if public is None:
                return None, "a token of an unknown key"
            claims = jwt.decode(
                token,
                key=public,
                algorithms=ALGORITHMS,
                audience=self._issuer.audience,
                issuer=self._issuer.url,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            return None, type(error).__name__
        tenant, scopes = claims.get(self._issuer.tenant_claim), claims.get(self._issuer.scope_claim)
        if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
            return None, "a token without a tenant"
        words = set(scopes.split()) if isinstance(scopes, str) else set()
        allowed = frozenset(scope for scope in SCOPES if {scope, f"tamvt:{scope}"} & words)
        return Claims(str(claims["sub"]), tenant, allowed), ""

    async def _key(self, key_id: str) -> jwt.PyJWK | None:
        """Return the issuer's key of this id, after a fetch where none is known."""
        known, age_s = self._keys.get(key_id), time.monotonic() - self._fetched
        if known is None or age_s >= STALE_S:
            await self._refresh()
        elif age_s >= KEPT_S and (self._refreshing is None or self._refreshing.done()):
            self._refreshing = asyncio.create_task(self._refresh())
        if time.monotonic() - self._fetched > STALE_S:
            raise IssuerUnavailable("the issuer of the tokens does not answer")
        return self._keys.get(key_id)

    async def _refresh(self) -> None:
        """Get the issuer's keys, unless that was tried a moment ago."""
        async with self._fetching:
            if time.monotonic() - self._tried >= AGAIN_S:
                await self.fetch()

    async def close(self) -> None:
        """End the fetch that nobody waits for."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)

    async def fetch(self) -> None:
        """Get the issuer's keys; without an answer those that are known stay, and the log says."""
        self._tried = time.monotonic()
        issuer = self._issuer
        try:
            async with asyncio.timeout(issuer.deadline_s), httpx.AsyncClient() as http:
                address = issuer.jwks_url
                if not address:
                    found = await _read_document(http, issuer.url.rstrip("/") + DISCOVERY)
                    if found.get("issuer") != issuer.url:
                        raise ValueError("the document of discovery is of another issuer")
                    address = str(found["jwks_uri"])
                document = await _read_document(http, address)
            self._keys = read_jwks(document)
        except FETCH_ERRORS as error:
            log.warning("no keys of the issuer %s: %s", issuer.url, error or type(error).__name__)
        else:
            self._fetched = time.monotonic()


def read_jwks(document: Mapping[str, Any]) -> dict[str, jwt.PyJWK]:
    """Return the keys of a JWKS that sign and whose algorithm is taken, by their id."""
    found: dict[str, jwt.PyJWK] = {}
    for members in document["keys"]:
        if members.get("kty") == "oct" or members.get("use", "sig") != "sig":
            continue
        try:
            public = jwt.PyJWK(members)
        except jwt.PyJWTError:  # of a kind that is not known here: others may be
            continue
        if public.algorithm_name in ALGORITHMS:
            found[str(members.get("kid", ""))] = public
    if not found:
        raise ValueError("it names no key that signs")
    return found


async def _read_document(http: httpx.AsyncClient, address: str) -> dict[str, Any]:
    """Return a JSON object that is fetched; raise httpx.HTTPError or ValueError."""
    read = bytearray()
    async with http.stream("GET", address, follow_redirects=False) as answer:
        answer.raise_for_status()
        async for chunk in answer.aiter_bytes():
            read += chunk
            if len(read) > MAX_DOCUMENT_BYTES:
                raise ValueError(f"{address} is too large")
    document = json.loads(read)
    if not isinstance(document, dict):
        raise ValueError(f"{address} is no JSON object")
    return document
