"""The listening socket: connections are counted, and refused politely beyond their limits.

asyncio accepts whatever comes. When the process has no file descriptor left it writes one traceback
for each place in the backlog, and nobody hears why (python/cpython#151615).
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import resource
import socket
from collections import Counter
from contextlib import suppress
from typing import Any, Final

from service.errors import Misconfigured, Overloaded
from service.server.bounds import WriteRefusal

UNSENT_BYTES: Final = 131_072  # of a connection, that the kernel keeps (decision 37)
SILENT_MS: Final = 60_000  # until the kernel closes a connection whose peer reads nothing
OWN_FILES: Final = 128  # for Redis, the model, pipes of children and uploads
READ_BYTES: Final = 65_536

log = logging.getLogger(__name__)


class Connections:
    """How many connections are open, of this process and of each peer."""

    def __init__(self, *, limit: int, peer_limit: int) -> None:
        self.limit = limit
        self._peer_limit = peer_limit
        self._of_peer: Counter[str] = Counter()
        self._open = 0

    def add(self, peer: str) -> None:
        """Count one more connection of a peer; raise Overloaded where that is too many."""
        if self._open >= self.limit:
            raise Overloaded(f"{self.limit} connections are open; try again")
        if self._of_peer[peer] >= self._peer_limit:
            raise Overloaded(f"{self._peer_limit} connections of your address are open; try again")
        self._open += 1
        self._of_peer[peer] += 1

    def remove(self, peer: str) -> None:
        """Count one connection of a peer less."""
        self._open -= 1
        self._of_peer[peer] -= 1
        if not self._of_peer[peer]:
            del self._of_peer[peer]


class Listener(socket.socket):
    """A listening socket that asyncio accepts from; what is beyond the limits is answered 503."""

    def __init__(
        self, listening: socket.socket, connections: Connections, write_refusal: WriteRefusal
    ) -> None:
        super().__init__(
            listening.family, listening.type, listening.proto, fileno=listening.detach()
        )
        self._connections = connections
        self._write_refusal = write_refusal
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        # Accepted connections inherit the options that are set here.
        # Otherwise an answer's second packet waits some 40 ms for the client's acknowledgement of
        # the first: asyncio does not set this option on a socket that it did not open.
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # decision 37: masks that are not read wait in the stream's queue, which notices it.
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        # Otherwise a client that has stopped reading keeps its closed connection for ever.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_MS)

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection; raise BlockingIOError if there is none, or it was refused."""
        try:
            descriptor, address = self._accept()  # type: ignore[attr-defined]
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self._refuse_without_files()
            raise BlockingIOError(errno.EAGAIN, "refused") from error
        accepted = Accepted(self.family, self.type, self.proto, fileno=descriptor)
        try:
            accepted.count_in(self._connections, _name_peer(address))
        except Overloaded as refusal:
            log.warning("a connection was refused: %s", refusal)
            self._refuse(accepted, refusal)
            raise BlockingIOError(errno.EAGAIN, "refused") from refusal
        return accepted, address

    def _refuse_without_files(self) -> None:
        """Answer one connection with the descriptor that is kept for this, and keep it again."""
        log.error("no file descriptor is left (ulimit -n): a connection was refused")
        with suppress(OSError):
            if self._spare >= 0:
                os.close(self._spare)
            self._spare = -1
            descriptor, _ = self._accept()  # type: ignore[attr-defined]
            accepted = socket.socket(self.family, self.type, self.proto, fileno=descriptor)
            self._refuse(accepted, Overloaded("no file descriptor is left; try again"))
        with suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _refuse(self, accepted: socket.socket, refusal: Overloaded) -> None:
        """Send the refusal as far as that needs no waiting, and close the connection."""
        with accepted, suppress(OSError):
            accepted.setblocking(False)
            accepted.send(self._write_refusal(refusal))
            accepted.shutdown(socket.SHUT_WR)
            # What is left unread would make the kernel reset the connection, answer and all.
            accepted.recv(READ_BYTES)

    def close(self) -> None:
        """Stop listening."""
        super().close()
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1


class Accepted(socket.socket):
    """A connection that is counted until it is closed, whichever protocol it speaks by then."""

    _counted: tuple[Connections, str] | None = None

    def count_in(self, connections: Connections, peer: str) -> None:
        """Count this connection until it is closed; raise Overloaded."""
        connections.add(peer)
        self._counted = (connections, peer)

    def close(self) -> None:
        """Close the connection and count it no longer."""
        super().close()
        if self._counted is not None:
            connections, peer = self._counted
            self._counted = None
            connections.remove(peer)


def open_listener(
    host: str, port: int, *, connections: Connections, write_refusal: WriteRefusal
) -> Listener:
    """Return a listening socket; raise Misconfigured if the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise Misconfigured(f"cannot listen on {host}, port {port}: {error}") from error
    return Listener(listening, connections, write_refusal)


def allow_connections(wanted: int) -> int:
    """Return how many connections there are file descriptors for, at most `wanted`.

    The soft limit is raised towards the hard one. Raise Misconfigured where none is left.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted + OWN_FILES and soft != resource.RLIM_INFINITY:
        most = wanted + OWN_FILES if hard == resource.RLIM_INFINITY else hard
        soft = min(wanted + OWN_FILES, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    allowed = wanted if soft == resource.RLIM_INFINITY else min(wanted, soft - OWN_FILES)
    if allowed < 1:
        raise Misconfigured(f"{soft} open files (ulimit -n) are too few: allow {2 * OWN_FILES}")
    if allowed < wanted:
        log.warning("%s open files (ulimit -n) leave room for %s connections", soft, allowed)
    return allowed


def _name_peer(address: Any) -> str:
    """Return who is counted as one: an IPv4 address, or a network of 64 bits of IPv6."""
    if not isinstance(address, tuple):
        return "local"
    try:
        host = ipaddress.ip_address(address[0].partition("%")[0])
    except ValueError:
        return str(address[0])
    if isinstance(host, ipaddress.IPv6Address):
        return str(host.ipv4_mapped or host.packed[:8].hex())
    return str(host)
