"""API keys: what proves one, what is kept of it, and where."""

from __future__ import annotations

import hashlib
import hmac
import json
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.access import key_stores
from service.access.key_stores import KeyFile, RedisKeys
from service.access.keys import ApiKey, KeyStore, check_key, make_key
from service.errors import Misconfigured, StoreUnavailable
from service.store.redis_client import open_redis

pytestmark = pytest.mark.anyio
SOON = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture(params=["file", "redis"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str
) -> AsyncIterator[KeyStore]:
    if request.param == "file":
        yield KeyFile(tmp_path / "keys.json")
    else:
        async with open_redis(redis_url, deadline_s=30.0, max_connections=2) as redis:
            yield RedisKeys(redis, deadline_s=30.0)


async def test_a_key_proves_whose_it_is(store: KeyStore) -> None:
    text, kept = make_key("ann", ["write", "read"], expires_at=SOON, comment="laptop")
    await store.put(kept)
    assert await check_key(text, store) == (kept, "")
    assert (kept.tenant, kept.scopes) == ("ann", ("read", "write"))
    assert kept in await store.keys()


async def test_nothing_that_is_kept_opens_anything(store: KeyStore) -> None:
    text, kept = make_key("ann", ["read"])
    await store.put(kept)
    secret = text.removeprefix(f"tamvt_{kept.key_id}_")
    stored = json.dumps([each.members() for each in await store.keys()])
    assert secret not in stored
    assert hashlib.sha256(text.encode()).hexdigest() in stored
    assert (await check_key(f"tamvt_{kept.key_id}_{kept.sha256}", store))[0] is None


async def test_an_expired_and_a_revoked_key_are_refused(store: KeyStore) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    expired, kept = make_key("ann", ["read"], expires_at=past)
    await store.put(kept)
    assert await check_key(expired, store) == (None, f"expired key {kept.key_id}")
    revoked, kept = make_key("ann", ["read"])
    await store.put(kept)
    assert (await check_key(revoked, store))[0] == kept
    await store.put(replace(kept, revoked_at=kept.created_at))
    assert await check_key(revoked, store) == (None, f"revoked key {kept.key_id}")


async def test_swapped_and_malformed_keys_are_refused(store: KeyStore) -> None:
    (mine, kept), (other, other_kept) = make_key("ann", ["read"]), make_key("ben", ["read"])
    await store.put(kept)
    await store.put(other_kept)
    swapped = f"tamvt_{kept.key_id}_{other.split('_', 2)[2]}"
    for wrong in (swapped, mine[:-1], f"{mine}A", f"{mine[:-1]}\u00e9", "tamvt_", "tamvt_a_b", ""):
        assert (await check_key(wrong, store))[0] is None, wrong
    assert (await check_key("tamvt_" + "x" * 5000 + "_y", store)) == (None, "malformed key")


async def test_digests_are_compared_in_constant_time_and_also_without_a_record(
    store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long a refusal takes tells neither how much is right nor whether there is such a key."""
    compared: list[tuple[str, str]] = []

    def compare(given: str, kept: str) -> bool:
        compared.append((given, kept))
        return given == kept

    monkeypatch.setattr(hmac, "compare_digest", compare)
    text, kept = make_key("ann", ["read"])
    await store.put(kept)
    shown = (text, f"{text}x", f"tamvt_{'0' * 12}_{text[-43:]}")
    for each in shown:
        await check_key(each, store)
    assert [given for given, _ in compared] == [
        hashlib.sha256(each.encode()).hexdigest() for each in shown
    ]
    assert {len(found) for _, found in compared} == {64}


async def test_a_key_revoked_by_another_process_is_refused_soon(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, kept = make_key("ann", ["read"])
    async with open_redis(redis_url, deadline_s=30.0, max_connections=2) as redis:
        here, there = (RedisKeys(redis, deadline_s=30.0) for _ in range(2))
        await there.put(kept)
        assert (await check_key(text, here))[0] == kept
        await there.put(replace(kept, revoked_at=kept.created_at))
        assert (await check_key(text, here))[0] == kept, "it is remembered for CACHED_S"
        monkeypatch.setattr(key_stores, "CACHED_S", 0.0)
        assert (await check_key(text, here))[0] is None


async def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    here, there = KeyFile(tmp_path / "keys.json"), KeyFile(tmp_path / "keys.json")
    text, kept = make_key("ann", ["read"])
    await there.put(kept)
    assert (await check_key(text, here))[0] == kept
    await there.put(replace(kept, revoked_at=kept.created_at))
    assert (await check_key(text, here))[0] is None


async def test_a_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.json"
    keys = KeyFile(path)
    await keys.put(make_key("ann", ["read"])[1])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keys.check()
    path.chmod(0o644)
    with pytest.raises(Misconfigured, match="chmod 600"):
        keys.check()


@pytest.mark.parametrize("moment", ["created_at", "expires_at", "revoked_at"])
async def test_a_time_without_a_zone_is_refused_when_it_is_read(
    tmp_path: Path, moment: str
) -> None:
    path = tmp_path / "keys.json"
    keys = KeyFile(path)
    members = make_key("ann", ["read"])[1].members()
    await keys.put(ApiKey(**{**members, moment: "2030-01-01T00:00:00"}))
    with pytest.raises(Misconfigured, match="TAMVT_KEYS"):
        keys.check()


@pytest.mark.parametrize("text", ["", "{}", '{"keys": [{"key_id": "x"}]}', '{"keys": 3}', "[]"])
async def test_a_damaged_file_lets_nobody_in(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    keys = KeyFile(path)
    given, kept = make_key("ann", ["read"])
    await keys.put(kept)
    path.write_text(text)
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        await check_key(given, keys)
    with pytest.raises(Misconfigured, match="TAMVT_KEYS"):
        keys.check()


@pytest.mark.parametrize("tenant", ["", "a b", "a}b", "{a}", "-a", "a\n", "x" * 101, "\u00e9"])
def test_a_tenants_name_fits_into_a_key_of_redis(tenant: str) -> None:
    with pytest.raises(Misconfigured, match="tenant"):
        make_key(tenant, ["read"])


def test_a_key_allows_something() -> None:
    with pytest.raises(Misconfigured, match="scopes"):
        make_key("ann", [])
    with pytest.raises(Misconfigured, match="scopes"):
        ApiKey.read({**make_key("ann", ["read"])[1].members(), "scopes": ["everything"]})
