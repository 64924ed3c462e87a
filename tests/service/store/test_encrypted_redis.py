"""A Redis over TLS, alone or a cluster: authorities of SSL_CERT_FILE are trusted, and no others.

So the chart's gateways reach an external Redis (`redis.tls.caSecret`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from service.errors import StoreUnavailable
from service.store.redis_client import open_redis, translate_errors
from tests.support.authority import Authority
from tests.support.redis_servers import SLOTS, RedisServer, free_port, programs, wait_until

pytestmark = pytest.mark.anyio


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def behind_tls(url: str, authority: Authority) -> AsyncIterator[str]:
    """The address at which a Redis is reached by TLS, whether or not it was built with any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("redis"))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(url.removeprefix("unix://"))
        await asyncio.gather(pass_on(reader, back), pass_on(there, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield f"rediss://localhost:{server.sockets[0].getsockname()[1]}/0"


async def count_keys(url: str) -> int:
    """Ask as a gateway does."""
    async with open_redis(url, deadline_s=30.0, max_connections=2) as redis:
        with translate_errors():
            return int(await redis.dbsize())


async def test_a_redis_is_trusted_by_the_authorities_of_the_environment(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, another = Authority(tmp_path), Authority(tmp_path, "another")
    async with behind_tls(redis_url, authority) as url:
        with pytest.raises(StoreUnavailable):
            await count_keys(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(another.file))
        with pytest.raises(StoreUnavailable):
            await count_keys(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        assert await count_keys(url) >= 0


@contextmanager
def encrypted_cluster(folder: Path, authority: Authority, program: str) -> Iterator[str | None]:
    """A cluster of three masters that is reached by TLS and asks for a password.

    None where the program was built without TLS: the wheel's Valkey is.
    """
    certificate, key = map(str, authority.issue("node"))
    own = {
        "cluster-enabled": "yes",
        "cluster-node-timeout": "2000",
        "requirepass": "secret",
        "tls-cluster": "yes",
        "tls-auth-clients": "no",
        "tls-cert-file": certificate,
        "tls-key-file": key,
        "tls-ca-cert-file": str(authority.file),
    }
    with ExitStack() as stack:
        nodes: list[RedisServer] = []
        ports = [free_port() for _ in range(3)]
        for number, port in enumerate(ports):
            (folder / str(number)).mkdir(parents=True)
            options = {**own, "tls-port": str(port)}
            node = RedisServer(
                folder / str(number), free_port(), program, options, password="secret"
            )
            stack.callback(node.stop)
            node.launch()
            wait_until(partial(has_settled, node), what="a node")
            nodes.append(node)
        if any(has_ended(node) for node in nodes):
            yield None
            return
        for number, node in enumerate(nodes):
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3
            with node.client() as client:
                client.execute_command("CLUSTER ADDSLOTS", *range(first, last))
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for node in nodes:
            with node.client() as client:
                for port in ports:  # each meets all: that is faster than what they tell each other
                    client.execute_command("CLUSTER MEET", "127.0.0.1", port)
        wait_until(lambda: all(is_well(node) for node in nodes), what="a Redis Cluster")
        yield "rediss+cluster://:secret@" + ",".join(f"127.0.0.1:{port}" for port in ports)


def has_ended(node: RedisServer) -> bool:
    return node.process is None or node.process.poll() is not None


def has_settled(node: RedisServer) -> bool:
    """Return whether the node has ended, or listens."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", node.port), timeout=5):
        return True
    return has_ended(node)


def is_well(node: RedisServer) -> bool:
    """Return whether the node sees all three, and every slot served."""
    with node.client() as client:
        info = client.execute_command("CLUSTER INFO")
    return (info["cluster_state"], info["cluster_known_nodes"]) == ("ok", "3")


async def test_every_node_of_a_cluster_is_reached_by_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    for number, program in enumerate(programs()):
        with encrypted_cluster(tmp_path / str(number), authority, program) as url:
            if url is None:
                continue
            async with open_redis(url, deadline_s=30.0, max_connections=2) as redis:
                for key in range(20):  # on all of them
                    await redis.set(f"key-{key}", b"value", ex=60)
                    assert await redis.get(f"key-{key}") == b"value"
