"""Connections to Redis, one server or a cluster by its address, and its errors as ours."""

from __future__ import annotations

import asyncio
import logging
import secrets
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
    OutOfMemoryError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.errors import CorruptSession, Misconfigured, StoreFull, StoreUnavailable
from service.store.lua import NAMES, Script
from service.telemetry.call_times import CallTimes

log = logging.getLogger(__name__)
Client: TypeAlias = Redis | RedisCluster
Value: TypeAlias = bytes | str | None

# decision 33
CLUSTER_SCHEMES: Final[Mapping[str, bool]] = {"redis+cluster": False, "rediss+cluster": True}
DEFAULT_PORT: Final = 6379
FULL: Final = "Redis is full: nothing of this was stored, and nothing that was is lost"
KEYS_TRIED: Final = 16  # of a cluster


@asynccontextmanager
async def open_redis(url: str, *, deadline_s: float, max_connections: int) -> AsyncIterator[Client]:
    """Open a client for redis://, rediss:// or unix://, or redis+cluster:// (decision 33).

    Raise Misconfigured for any other address. The client connects with its first command. It
    retries nothing by itself: the store decides what may be sent again.
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
            pool = BlockingConnectionPool.from_url(
                url, max_connections=max_connections, timeout=deadline_s, **options
            )
            client = _MeasuredRedis.from_pool(pool)
    except ValueError as error:
        raise Misconfigured(f"TAMVT_REDIS_URL: {error}") from error
    try:
        yield client
    finally:
        await client.aclose()


def _cluster(url: str, options: Mapping[str, Any], *, max_connections: int) -> RedisCluster:
    """Return a client for `redis+cluster://user:password@a:1,b:2`, where any node may be down.

    Raise ValueError for an address of another form.
    """
    parts = urlsplit(url)
    secret, _, hosts = parts.netloc.rpartition("@")
    user, _, password = secret.partition(":")
    if parts.path.strip("/") or not all(hosts.split(",")):
        raise ValueError("a cluster's address is redis+cluster://HOST:PORT,HOST:PORT")
    nodes = [urlsplit(f"//{host}") for host in hosts.split(",")]  # HOST, HOST:PORT or [IPv6]:PORT
    return _BoundedCluster(
        startup_nodes=[ClusterNode(n.hostname or "", n.port or DEFAULT_PORT) for n in nodes],
        username=unquote(user) or None,
        password=unquote(password) or None,
        ssl=CLUSTER_SCHEMES[parts.scheme],
        max_connections=max_connections,
        **options,
    )


class _MeasuredRedis(Redis):
    """A client that knows how long its commands took, those in pipelines aside."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.calls = CallTimes("redis", aside=NoScriptError)
        super().__init__(*args, **options)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        with self.calls.measure(operation_of(args)):
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]


class _BoundedCluster(RedisCluster):
    """A cluster's client whose commands wait for a free connection instead of failing."""

    def __init__(self, *, max_connections: int, **options: Any) -> None:
        self.calls = CallTimes("redis", aside=NoScriptError)
        # A connection that is being closed still counts as one of its node.
        super().__init__(max_connections=2 * max_connections, **options)
        self._connections = asyncio.Semaphore(max_connections)

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        with self.calls.measure(operation_of(args)):
            async with self._connections:
                return await super().execute_command(*args, **kwargs)


def operation_of(command: Sequence[Any]) -> str:
    """Return the name of a command, or of the script that it runs."""
    name = str(command[0]).lower()
    return NAMES.get(command[1], name) if name in ("evalsha", "eval") else name


def calls_of(client: Client) -> CallTimes:
    """Return the times of the client's commands."""
    return (
        client.calls if isinstance(client, _MeasuredRedis | _BoundedCluster) else CallTimes("redis")
    )


async def check_serving(client: Client) -> None:
    """Raise RedisError unless a server answers, or a node of a cluster says that it works."""
    if not isinstance(client, RedisCluster):
        await client.ping()
        return
    await client.initialize()
    # The living nodes know which are dead, and may go on without them: one answer is enough.
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


async def check_taking_writes(client: Client) -> None:
    """Raise RedisError unless it serves, and it or a node takes a key that soon expires."""
    await check_serving(client)
    count = KEYS_TRIED if isinstance(client, RedisCluster) else 1
    # Each likely lies on another node: one that is away does not keep the others from working.
    names = [key(f"ready-{secrets.token_hex(4)}", "written") for _ in range(count)]
    writing = [asyncio.ensure_future(client.set(name, "", px=1000)) for name in names]
    try:
        for n, answer in enumerate(asyncio.as_completed(writing), start=1):
            try:
                await answer
                return
            except RedisError:
                if n == count:
                    raise
    finally:
        for one in writing:
            one.cancel()
        await asyncio.gather(*writing, return_exceptions=True)


def key(tag: str, part: str) -> str:
    """Return a key with this hash tag: keys that share it are on one node of a cluster."""
    return f"tamvt:{{{tag}}}:{part}"


async def read_values(client: Client, keys: Sequence[str]) -> list[Value | Exception]:
    """Return the value of each key, None where there is none, or the error of that key alone.

    It takes one command on one server, and a pipeline of commands on a cluster.
    """
    values: list[Value | Exception] = [None] * len(keys)
    if not isinstance(client, RedisCluster):
        values = list(await client.mget(keys))
    # MGET answers None for a key of another type as well: GET tells the two apart.
    missing = [row for row, value in enumerate(values) if value is None]
    if missing:
        async with client.pipeline(transaction=False) as asked:
            for row in missing:
                asked.get(keys[row])
            answers = await asked.execute(raise_on_error=False)
        for row, answer in zip(missing, answers, strict=True):
            values[row] = answer
    return values


async def run_script(
    client: Client, script: Script, keys: Sequence[str], arguments: Sequence[Any]
) -> Any:
    """Return what the script answers; its text is sent only if Redis does not know it yet."""
    call = (len(keys), *keys, *arguments)
    try:
        return await client.evalsha(script.sha, *call)
    except NoScriptError:
        return await client.eval(script.text, *call)


@contextmanager
def translate_errors(session_id: str = "") -> Iterator[None]:
    """Raise Redis's errors in the block as ours. This is the one place that knows them."""
    try:
        yield
    except AuthenticationError as error:
        raise StoreUnavailable("Redis refuses the credentials") from error
    except OutOfMemoryError as error:
        raise StoreFull(FULL) from error
    except ResponseError as error:
        if "OOM command not allowed" in str(error):  # as a script's error tells it
            raise StoreFull(FULL) from error
        # Our scripts fail inside only where a key or counter is not what they wrote.
        if any(sign in str(error) for sign in ("WRONGTYPE", "attempt to", "bad argument")):
            raise CorruptSession(session_id, "a key has the wrong type") from error
        log.error("Redis refused a command: %s", error)
        raise StoreUnavailable("Redis refused the command") from error
    except (TimeoutError, RedisTimeoutError) as error:
        raise StoreUnavailable("Redis gave no answer within the deadline") from error
    except (RedisError, RedisClusterException, OSError) as error:
        raise StoreUnavailable("Redis cannot be reached") from error
