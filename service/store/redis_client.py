"""The way to Redis: one server, or a cluster, by the address; the errors of both as ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.errors import CorruptSession, Misconfigured, StoreUnavailable
from service.store.lua import Script

Client: TypeAlias = Redis | RedisCluster
Word: TypeAlias = bytes | str | None

# decision 33
CLUSTER_SCHEMES: Final[Mapping[str, bool]] = {"redis+cluster": False, "rediss+cluster": True}
DEFAULT_PORT: Final = 6379


@asynccontextmanager
async def open_redis(url: str, *, deadline_s: float, max_connections: int) -> AsyncIterator[Client]:
    """A client for redis://, rediss:// or unix://, or redis+cluster:// with a few of its nodes.

    Misconfigured if the address is none of these. Nothing is asked of Redis yet. It retries
    nothing by itself: what may be sent again is decided in the store.
    """
    options: dict[str, Any] = {
        "socket_timeout": deadline_s,
        "socket_connect_timeout": deadline_s,
        "retry": Retry(NoBackoff(), 0),
    }
    try:
        if urlsplit(url).scheme in CLUSTER_SCHEMES:
            client: Client = _cluster(url, options, max_connections=max_connections)
        else:
            client = _single(url, options, deadline_s=deadline_s, max_connections=max_connections)
    except ValueError as error:
        raise Misconfigured(f"TAMVT_REDIS_URL: {error}") from error
    try:
        yield client
    finally:
        await client.aclose()


def _single(
    url: str, options: Mapping[str, Any], *, deadline_s: float, max_connections: int
) -> Redis:
    pool = BlockingConnectionPool.from_url(
        url, max_connections=max_connections, timeout=deadline_s, **options
    )
    return Redis.from_pool(pool)


def _cluster(url: str, options: Mapping[str, Any], *, max_connections: int) -> RedisCluster:
    """A client that finds the cluster through any of `redis+cluster://user:password@a:1,b:2`."""
    parts = urlsplit(url)
    secret, _, hosts = parts.netloc.rpartition("@")
    user, _, password = secret.partition(":")
    if parts.path.strip("/") or not all(hosts.split(",")):
        raise ValueError("a cluster's address is redis+cluster://HOST:PORT,HOST:PORT")
    return _BoundedCluster(
        startup_nodes=[_node(host) for host in hosts.split(",")],
        username=unquote(user) or None,
        password=unquote(password) or None,
        ssl=CLUSTER_SCHEMES[parts.scheme],
        max_connections=max_connections,
        **options,
    )


def _node(address: str) -> ClusterNode:
    """The node at HOST, HOST:PORT or [IPv6]:PORT; ValueError for a port that is none."""
    parts = urlsplit(f"//{address}")
    return ClusterNode(parts.hostname or "", parts.port or DEFAULT_PORT)


class _BoundedCluster(RedisCluster):
    """Commands wait for a connection, as they do for one server, instead of failing."""

    def __init__(self, *, max_connections: int, **options: Any) -> None:
        # A connection that is being closed still counts as one of its node.
        super().__init__(max_connections=2 * max_connections, **options)
        self._quota = asyncio.Semaphore(max_connections)

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        async with self._quota:
            return await super().execute_command(*args, **kwargs)


async def check_serving(client: Client) -> None:
    """Nothing, if a server answers, or a node of a cluster says that it works; else RedisError."""
    if not isinstance(client, RedisCluster):
        await client.ping()
        return
    await client.initialize()
    # A dead node is known to the living ones, which may go on without it: one word is enough.
    asked = [
        asyncio.ensure_future(client.cluster_info(target_nodes=node))
        for node in client.get_primaries()
    ]
    try:
        for answer in asyncio.as_completed(asked):
            with suppress(RedisError):
                if (await answer).get("cluster_state") == "ok":
                    return
        raise ClusterDownError("no node says that the cluster works")
    finally:
        for question in asked:
            question.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


def key(tag: str, part: str) -> str:
    """One of the keys that share this hash tag, and with it their node of a cluster."""
    return f"tamvt:{{{tag}}}:{part}"


async def read_words(client: Client, keys: Sequence[str]) -> list[Word | Exception]:
    """The word at each key, None where there is none, or what was wrong with it alone.

    One command for all of them where one server has them, several at once on a cluster.
    """
    words: list[Word | Exception] = [None] * len(keys)
    if not isinstance(client, RedisCluster):
        words = list(await client.mget(keys))
    # MGET tells nothing of a key of another type.
    missing = [place for place, word in enumerate(words) if word is None]
    if missing:
        async with client.pipeline(transaction=False) as asked:
            for place in missing:
                asked.get(keys[place])
            answers = await asked.execute(raise_on_error=False)
        for place, answer in zip(missing, answers, strict=True):
            words[place] = answer
    return words


async def run_script(
    client: Client, script: Script, keys: Sequence[str], arguments: Sequence[Any]
) -> Any:
    """What the script answers; it is sent whole only where Redis does not know it yet."""
    call = (len(keys), *keys, *arguments)
    try:
        return await client.evalsha(script.sha, *call)
    except NoScriptError:
        return await client.eval(script.text, *call)


@contextmanager
def translated(session_id: str = "") -> Iterator[None]:
    """Redis's errors as ours: the one place that knows them."""
    try:
        yield
    except AuthenticationError as error:
        raise StoreUnavailable("Redis refuses the credentials") from error
    except ResponseError as error:
        # Our scripts fail inside only where a key or counter is not what they wrote.
        if any(sign in str(error) for sign in ("WRONGTYPE", "attempt to", "bad argument")):
            raise CorruptSession(session_id, "a key has the wrong type") from error
        raise StoreUnavailable(f"Redis refused the command: {error}") from error
    except (TimeoutError, RedisTimeoutError) as error:
        raise StoreUnavailable("Redis gave no answer within the deadline") from error
    except (RedisError, RedisClusterException, OSError) as error:
        raise StoreUnavailable("Redis cannot be reached") from error
