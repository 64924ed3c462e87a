"""The session store on a real Redis Cluster of three masters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from service.errors import Conflict, Misconfigured, StoreUnavailable, UnknownSession
from service.store.session_store import Session, SessionStore, open_store
from tests.service.store.test_session_store import append, keys_of, masks_of, started
from tests.support.redis_servers import (
    Cluster,
    programs,
    running_cluster,
    sees_all,
    version_of,
    wait_until,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=programs(), ids=version_of)
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), program=request.param) as running:
        yield running


@pytest.fixture
async def store(cluster: Cluster) -> AsyncIterator[SessionStore]:
    async with open_store(cluster.url, ttl_s=60, kept_frames=6) as opened:
        yield opened


def knows_of_a_loss(cluster: Cluster) -> bool:
    """Whether the nodes that live have noticed that one does not."""
    return not any(node.answers() and sees_all(node) for node in cluster.nodes)


async def session_on_each_node(cluster: Cluster, store: SessionStore) -> list[Session]:
    """One session for each master."""
    found: dict[int, Session] = {}
    while len(found) < 3:
        session = await started(store)
        found.setdefault(cluster.owner(keys_of(session)[0]).port, session)
    return list(found.values())


async def test_all_keys_of_a_session_are_on_one_node(cluster: Cluster, store: SessionStore) -> None:
    session = await append(store, await started(store), frames=2)
    await store.set_side_key(session.session_id, "name", "value", ttl_s=60)
    keys = [*keys_of(session), f"tamvt:{{{session.session_id}}}:name"]
    with cluster.owner(keys[0]).client() as client:
        assert client.exists(*keys) == 4


async def test_sessions_on_every_node_are_served(cluster: Cluster, store: SessionStore) -> None:
    for session in await session_on_each_node(cluster, store):
        later = await append(store, session, frames=3)
        assert await store.load(session.session_id) == later
        assert len(await store.entries(later)) == 3
        assert await store.masks(session.session_id, 1, 2) == (masks_of(1), masks_of(2))
        await store.delete(session.session_id)
        with pytest.raises(UnknownSession):
            await store.load(session.session_id)


async def test_the_cluster_is_found_through_any_of_its_nodes(cluster: Cluster) -> None:
    for node in cluster.nodes:
        url = f"redis+cluster://127.0.0.1:{node.port}"
        async with open_store(url, ttl_s=60) as store:
            await store.ping()
            await asyncio.gather(*(started(store) for _ in range(6)))


async def test_of_two_appends_at_once_one_wins(store: SessionStore) -> None:
    session = await started(store)
    answers = await asyncio.gather(
        append(store, session), append(store, session, frames=2), return_exceptions=True
    )
    (winner,) = (answer for answer in answers if isinstance(answer, Session))
    (loser,) = (answer for answer in answers if isinstance(answer, Conflict))
    assert loser.expected == winner.next_frame
    assert await store.load(session.session_id) == winner


async def test_an_owner_of_an_old_version_cannot_write(store: SessionStore) -> None:
    session = await started(store)
    rewritten = session.advanced(memory=session.memory, next_frame=session.next_frame)
    await store.append(session, rewritten, masks=[masks_of(0)], entries={})
    with pytest.raises(Conflict):
        await append(store, session)


async def test_scripts_come_back_after_a_node_forgot_them(
    cluster: Cluster, store: SessionStore
) -> None:
    sessions = await session_on_each_node(cluster, store)
    for node in cluster.nodes:
        with node.client() as client:
            client.script_flush()
    assert [await store.load(session.session_id) for session in sessions] == sessions


async def test_more_requests_than_connections_wait_for_their_turn(cluster: Cluster) -> None:
    async with open_store(cluster.url, ttl_s=60, max_connections=2) as store:
        session = await started(store)
        loaded = await asyncio.gather(*(store.load(session.session_id) for _ in range(50)))
    assert loaded == [session] * 50


async def test_an_answer_of_a_cancelled_command_is_not_taken_for_another_s(
    cluster: Cluster,
) -> None:
    async with open_store(cluster.url, ttl_s=60, max_connections=1) as store:
        first = await started(store)
        second = await started(store)
        owner = cluster.owner(keys_of(first)[0])
        while cluster.owner(keys_of(second)[0]) != owner:
            second = await started(store)
        with owner.client() as client:
            client.client_pause(100_000, all=False)
            task = asyncio.create_task(store.load(first.session_id))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            client.client_unpause()
        assert await store.load(second.session_id) == second


async def test_a_session_that_moves_to_another_node_is_followed(
    cluster: Cluster, store: SessionStore
) -> None:
    session = await append(store, await started(store))
    key = keys_of(session)[0]
    source = cluster.owner(key)
    target = next(node for node in cluster.nodes if node != source)
    with source.client() as old, target.client() as new:
        slot = old.execute_command("CLUSTER KEYSLOT", key)
        ids = [client.execute_command("CLUSTER MYID").decode() for client in (old, new)]
        new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
        old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
        assert await store.load(session.session_id) == session
        old.execute_command(
            "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys_of(session)
        )
        # The slot is still the old node's, its keys are with the new one: every answer is ASK.
        session = await append(store, session)
        for client in (new, old):
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[1])
    session = await append(store, session)
    assert await store.load(session.session_id) == session
    assert cluster.owner(key) == target


async def test_a_killed_master_loses_nothing_and_its_sessions_go_on(cluster: Cluster) -> None:
    async with open_store(cluster.url, ttl_s=60, deadline_s=5.0) as store:
        sessions = [await append(store, s) for s in await session_on_each_node(cluster, store)]
        dead = cluster.owner(keys_of(sessions[0])[0])
        dead.kill()
        with pytest.raises(StoreUnavailable):
            await append(store, sessions[0])
        await store.ping()  # nobody has missed it yet
        await asyncio.to_thread(
            wait_until, lambda: knows_of_a_loss(cluster), what="a broken cluster"
        )
        with pytest.raises(StoreUnavailable):
            await store.ping()
        dead.start()
        await asyncio.to_thread(wait_until, cluster.is_ready, what="a healed cluster")
        for session in sessions:
            assert await store.load(session.session_id) == session
            assert (await append(store, session)).next_frame == 3


async def test_a_cluster_that_is_not_there_is_unavailable() -> None:
    async with open_store("redis+cluster://127.0.0.1:1", ttl_s=60) as store:
        with pytest.raises(StoreUnavailable):
            await store.ping()


@pytest.mark.parametrize("hosts", ["", "a:1,", "a:port", "a:1/2"])
async def test_a_cluster_s_address_is_checked(hosts: str) -> None:
    with pytest.raises(Misconfigured, match="TAMVT_REDIS_URL"):
        async with open_store(f"redis+cluster://{hosts}", ttl_s=60):
            pass


async def test_a_cluster_s_address_may_hold_credentials(cluster: Cluster) -> None:
    for node in cluster.nodes:
        with node.client() as admin:
            admin.execute_command("ACL SETUSER", "user", "on", ">p@ss:word", "~*", "+@all")
    hosts = cluster.url.removeprefix("redis+cluster://")
    async with open_store(f"redis+cluster://user:p%40ss%3Aword@{hosts}", ttl_s=60) as store:
        await started(store)
    async with open_store(f"redis+cluster://user:wrong@{hosts}", ttl_s=60) as store:
        with pytest.raises(StoreUnavailable):
            await store.ping()
