"""Who calls: proved by a key, by a token or by a trusted proxy, or nobody in particular.

What a caller is comes from the credential alone. Where the service is open everybody is one tenant
and may do everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from service.access.keys import MARK, SCOPES, KeyStore, Scope, check_key
from service.access.tokens import TokenVerifier
from service.errors import Misconfigured, MissingScope, Unauthenticated
from service.store.records import DEFAULT_TENANT
from service.telemetry.audit import audit_denial

Network = IPv4Network | IPv6Network
EVERYTHING: Final = frozenset(SCOPES)
BEARER: Final = "bearer "


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: whose sessions it may use, what it may do, whose share of the places it takes."""

    tenant: str
    scopes: frozenset[Scope]
    holder: str
    name: str = ""  # of the key or the token's subject; empty: nobody in particular

    def require(self, scope: Scope) -> None:
        """Raise MissingScope unless the caller may do this."""
        if scope not in self.scopes:
            audit_denial(f"without {scope}", tenant=self.tenant, name=self.name)
            raise MissingScope(f"this needs a key or token with the scope {scope}")


class Callers:
    """Tells who calls, by what the operator chose: keys and tokens, or a proxy, or neither."""

    def __init__(
        self,
        *,
        keys: KeyStore | None = None,
        tokens: TokenVerifier | None = None,
        tenant_header: str = "",
        proxies: Sequence[Network] = (),
    ) -> None:
        self._keys, self._tokens = keys, tokens
        self._tenant_header = tenant_header
        self._proxies = proxies

    @property
    def are_proved(self) -> bool:
        """Return whether a caller has to prove who it is."""
        return self._keys is not None or self._tokens is not None

    async def close(self) -> None:
        """End what is fetched of the issuer."""
        if self._tokens is not None:
            await self._tokens.close()

    async def identify(self, headers: Mapping[str, str], peer: str) -> Caller:
        """Return who sends these headers from the address `peer`; raise Unauthenticated."""
        if self.are_proved:
            return await self._prove(headers.get("authorization", ""), peer)
        if not self._tenant_header:
            return Caller(DEFAULT_TENANT, EVERYTHING, holder=peer)
        if not is_within(peer, self._proxies):
            raise self._denied("a proxy that is not trusted", peer)
        tenant = headers.get(self._tenant_header) or DEFAULT_TENANT
        named = tenant if self._tenant_header in headers else ""
        return Caller(tenant, EVERYTHING, holder=tenant, name=named)

    async def identify_stream(
        self, headers: Mapping[str, str], peer: str, *, has_ticket: bool
    ) -> Caller:
        """Return who opens a stream. One with a ticket needs no more: the ticket says whose it is.

        A browser sends no header of ours with a WebSocket.
        """
        if self.are_proved and has_ticket and "authorization" not in headers:
            return Caller(DEFAULT_TENANT, frozenset(("write",)), holder=peer)
        return await self.identify(headers, peer)

    async def _prove(self, given: str, peer: str) -> Caller:
        credential = given[len(BEARER) :].strip()
        if not given.lower().startswith(BEARER) or not credential:
            raise self._denied("no credential", peer)
        reason = "no such kind of credential"
        if credential.startswith(MARK):
            if self._keys is not None:
                key, reason = await check_key(credential, self._keys)
                if key is not None:
                    return Caller(key.tenant, frozenset(key.scopes), key.tenant, key.key_id)
        elif self._tokens is not None:
            claims, reason = await self._tokens.check(credential)
            if claims is not None:
                return Caller(claims.tenant, claims.scopes, claims.tenant, claims.subject)
        raise self._denied(reason, peer)

    @staticmethod
    def _denied(reason: str, peer: str) -> Unauthenticated:
        """Return the one error of all that is not proved: why not is told to the log alone."""
        audit_denial(reason, peer=peer)
        return Unauthenticated("this needs a valid key or token in the header Authorization")


def is_within(peer: str, networks: Sequence[Network]) -> bool:
    """Return whether an address is in one of the networks; a Unix socket's is in none."""
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    return any(address in network for network in networks)


def read_networks(text: str) -> tuple[Network, ...]:
    """Read addresses and networks in a list with commas; raise Misconfigured."""
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise Misconfigured(f"TAMVT_TRUSTED_PROXIES: {error}") from error
