"""What follows from a service's address: timeouts, and whether a proxy may stand between."""

from __future__ import annotations

import os
import ssl
from ipaddress import ip_address

import httpx

from tamvt_client.errors import Unreachable

CONNECT_DEADLINE_S = 5.0


def is_loopback(url: str) -> bool:
    """Return whether the address is this machine's own, which no proxy can reach for us."""
    host = httpx.URL(url).host
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def credential(key: str) -> dict[str, str]:
    """Return the header that proves who calls; none without a key or token."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def http_client(
    url: str, *, deadline_s: float, key: str = "", tls: ssl.SSLContext | None = None
) -> httpx.AsyncClient:
    """Return a client with `deadline_s` for each wait, and less to connect.

    Raise Unreachable where the environment names a proxy or authorities that cannot be used.
    """
    timeout = httpx.Timeout(deadline_s, connect=min(deadline_s, CONNECT_DEADLINE_S))
    # httpx reads it only together with the environment's proxies, which loopback does without.
    authorities = os.environ.get("SSL_CERT_FILE")
    if tls is None and authorities:
        try:
            tls = ssl.create_default_context(cafile=authorities)
        except OSError as error:
            raise Unreachable(f"SSL_CERT_FILE={authorities}: {error}") from error
    try:
        return httpx.AsyncClient(
            base_url=url,
            timeout=timeout,
            headers=credential(key),
            verify=tls or True,
            trust_env=not is_loopback(url),
        )
    except (ImportError, ValueError) as error:  # SOCKS without its package; no proxy's address
        raise Unreachable(f"the proxy that the environment names: {error}") from error
