"""How many sessions a tenant has: counted in a real Redis, and over real HTTP."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis, RedisCluster

from model.core.memory import Memory
from service.errors import Conflict, TooMany, UnknownSession
from service.settings import Settings
from service.store.listing import list_sessions
from service.store.lua import RESERVE
from service.store.records import EncodedEntry, FrameMasks, ObjectMask, Session, StoreLimits
from service.store.redis_client import open_redis
from service.store.session_store import SessionStore, new_session_id, open_store
from tests.support import scene
from tests.support.gates import Gate, served
from tests.support.proxy import losing_one_answer
from tests.support.redis_servers import running_cluster
from tests.support.running import PATIENCE_S, form, problem

pytestmark = pytest.mark.anyio


def most(sessions: int) -> StoreLimits:
    return StoreLimits(tenant_sessions=sessions)


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test knows."""
    return secrets.token_hex(4)


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[SessionStore]:
    async with open_store(redis_url, ttl_s=60, limits=most(2)) as opened:
        yield opened


async def started(store: SessionStore, tenant: str, *, session_id: str = "") -> str:
    """The id of a new session."""
    session = Session(
        session_id=session_id or new_session_id(),
        tenant=tenant,
        model="toy",
        weights_sha256="0" * 64,
        frame_size=(60, 90),
        model_size=(64, 96),
        object_ids=(1,),
        labels={},
        clip_length=2,
        memory_size=3,
        memory=Memory.start(0, [1], capacity=3),
        next_frame=1,
    )
    mask = ObjectMask(1, "counts", 1, (0, 0, 1, 1), 0.5, "visible")
    masks = FrameMasks(0, (0, 0), digest="0" * 64, objects=(mask,))
    entry = EncodedEntry(b"frame", b"masks", (1,))
    stored = await store.create(session, masks=[masks], entries={"0": entry})
    return stored.session_id


async def test_one_session_too_many_is_refused(store: SessionStore, tenant: str) -> None:
    for _ in range(2):
        await started(store, tenant)
    with pytest.raises(TooMany) as caught:
        await started(store, tenant)
    assert caught.value.limit == 2
    assert 1 <= caught.value.retry_after_s <= 60


async def test_a_list_leaves_a_session_counted_that_is_being_started(
    store: SessionStore, tenant: str
) -> None:
    async with store.quota.reserve(tenant, "starting", 1, objects=1):
        page = await list_sessions(store, tenant=tenant, after="", most=10)
        assert (page.sessions, page.following) == ((), None)
        assert await store.quota.session_ids(tenant) == ["starting"]


async def test_each_tenant_has_its_own_quota(store: SessionStore, tenant: str) -> None:
    for name in (tenant, tenant, f"{tenant} {{}}", f"{tenant} {{}}"):
        await started(store, name)


async def test_a_deleted_session_does_not_count(store: SessionStore, tenant: str) -> None:
    first, _ = [await started(store, tenant) for _ in range(2)]
    await store.delete(first, tenant=tenant)
    await started(store, tenant)


@pytest.mark.parametrize(
    "limits", [most(2), StoreLimits(tenant_objects=2)], ids=["sessions", "objects"]
)
async def test_of_many_starts_at_once_in_two_gateways_as_many_succeed_as_may(
    redis_url: str, tenant: str, limits: StoreLimits
) -> None:
    async with (
        open_store(redis_url, ttl_s=60, limits=limits) as here,
        open_store(redis_url, ttl_s=60, limits=limits) as there,
    ):
        starts = [started(store, tenant) for store in (here, there) * 4]
        answers = await asyncio.gather(*starts, return_exceptions=True)
    assert sum(isinstance(answer, str) for answer in answers) == 2
    assert sum(isinstance(answer, TooMany) for answer in answers) == 6


async def test_an_expired_session_does_not_count(redis_url: str, tenant: str) -> None:
    async with open_store(redis_url, ttl_s=0.3, deadline_s=0.5, limits=most(2)) as store:
        for _ in range(2):
            await started(store, tenant)
        await asyncio.sleep(1.2)  # sooner than the four deadlines that a start may take
        for _ in range(2):
            await started(store, tenant)


async def test_a_session_that_is_used_counts_for_longer(redis_url: str, tenant: str) -> None:
    async with open_store(redis_url, ttl_s=3, deadline_s=0.5, limits=most(1)) as store:
        session = await started(store, tenant)
        for _ in range(5):
            await asyncio.sleep(0.7)
            await store.load(session, tenant=tenant)
        with pytest.raises(TooMany):
            await started(store, tenant)


async def test_a_session_that_was_not_committed_is_not_counted(
    store: SessionStore, tenant: str
) -> None:
    other = await started(store, f"{tenant} elsewhere")
    with pytest.raises(Conflict):
        await started(store, tenant, session_id=other)
    await store.delete(other, tenant=f"{tenant} elsewhere")
    for _ in range(2):
        await started(store, tenant)


async def test_a_session_counted_by_a_gateway_that_died_is_released(
    redis_url: str, tenant: str
) -> None:
    async with (
        Redis.from_url(redis_url) as redis,
        open_store(redis_url, ttl_s=60, limits=most(1)) as store,
    ):
        key = f"tamvt:{{tenant:{tenant}}}:sessions"
        await redis.zadd(key, {new_session_id(): 1.0})
        session = await started(store, tenant)
        assert await redis.zrange(key, 0, -1) == [session.encode()]
        assert await redis.pttl(key) > 0


async def test_a_session_that_is_counted_twice_is_counted_once(
    redis_url: str, store: SessionStore, tenant: str
) -> None:
    await started(store, tenant)  # so that Redis knows the script by its digest
    async with (
        losing_one_answer(redis_url, to=RESERVE.sha) as url,
        open_store(url, ttl_s=60, limits=most(2)) as cut,
    ):
        await started(cut, tenant)
        async with Redis.from_url(redis_url) as redis:
            assert await redis.zcard(f"tamvt:{{tenant:{tenant}}}:sessions") == 2


async def test_sessions_are_counted_in_a_cluster(tmp_path: Path, tenant: str) -> None:
    with running_cluster(tmp_path) as cluster:
        async with open_redis(cluster.url, deadline_s=PATIENCE_S, max_connections=32) as redis:
            assert isinstance(redis, RedisCluster)
            # The store's deadline is for its scripts, not for finding a cluster that just began.
            await redis.initialize()
            await asyncio.gather(*(redis.ping(target_nodes=n) for n in redis.get_primaries()))
            store = SessionStore(redis, ttl_s=60, deadline_s=0.5, limits=most(6))
            sessions = [await started(store, tenant) for _ in range(6)]
            await asyncio.sleep(2.1)  # now they are looked at, on every node
            with pytest.raises(TooMany):
                await started(store, tenant)
            with pytest.raises(UnknownSession):
                await store.delete(sessions[0], tenant="another")
            with pytest.raises(TooMany):
                await started(store, tenant)
            await store.delete(sessions[1], tenant=tenant)
            await started(store, tenant)


@asynccontextmanager
async def service(redis_url: str, weights: Path, limit: int) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(
        redis_url=redis_url,
        weights=weights,
        model="toy",
        engine_threads=1,
        tenant_header="X-Tenant",
        tenant_sessions=limit,
        tenant_bytes=0,
    )
    async with (
        served(Gate(), settings) as serving,
        httpx.AsyncClient(base_url=serving.url, timeout=PATIENCE_S) as http,
    ):
        yield http


async def start(http: httpx.AsyncClient, tenant: str) -> httpx.Response:
    parts = form([("frame", scene.png(0)), ("mask", scene.mask())])
    return await http.post("/v1/sessions", files=parts, headers={"X-Tenant": tenant})


async def test_starts_and_forks_count_and_deletions_make_room(
    redis_url: str, toy_folder: Path, tenant: str
) -> None:
    async with service(redis_url, toy_folder, limit=2) as http:
        headers = {"X-Tenant": tenant}
        path = (await start(http, tenant)).headers["location"]
        fork = await http.post(f"{path}/fork", headers=headers)
        assert fork.status_code == 201
        for refused in (
            await start(http, tenant),
            await http.post(f"{path}/fork", headers=headers),
        ):
            assert problem(refused) == (429, "too-many")
            assert refused.json()["limit"] == 2
            assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert (await start(http, f"{tenant}-other")).status_code == 201
        await http.delete(fork.headers["location"], headers=headers)
        assert (await start(http, tenant)).status_code == 201


async def test_without_a_limit_sessions_are_counted_to_be_listed_alone(
    redis_url: str, toy_folder: Path, tenant: str
) -> None:
    async with service(redis_url, toy_folder, limit=0) as http:
        for _ in range(3):
            assert (await start(http, tenant)).status_code == 201
    async with Redis.from_url(redis_url) as redis:
        assert await redis.zcard(f"tamvt:{{tenant:{tenant}}}:sessions") == 3
