"""Records of a session: bytes and back, and whatever was changed on the way is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.core.memory import Memory
from service.errors import CorruptSession
from service.store.codec import (
    pack_entry,
    pack_masks,
    pack_session,
    seal,
    unpack_entry,
    unpack_masks,
    unpack_session,
    unseal,
)
from service.store.records import (
    ANY_TENANT,
    EncodedEntry,
    FrameMasks,
    ObjectMask,
    Session,
    Snapshot,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MASKS = FrameMasks(
    frame=7,
    clip=(6, 7),
    digest="ab" * 32,
    objects=(
        ObjectMask(3, "counts`\\o", 12, (1, 2, 3, 4), 0.75, "visible"),
        ObjectMask(9, "", 0, (0, 0, 0, 0), 0.0, "lost"),
    ),
)
SESSION = Session(
    session_id="an id",
    model="toy",
    weights_sha256="0" * 64,
    frame_size=(60, 90),
    model_size=(64, 96),
    object_ids=(3, 9),
    labels={3: "boat", 9: "Möwe"},
    clip_length=2,
    memory_size=4,
    memory=Memory.start(0, [3, 9], capacity=4).remember(2, [3, 9]),
    next_frame=3,
    tenant="ann",
    version=2,
    memory_gate=True,
    snapshots=(Snapshot(0, corrected=True, superseded=True), Snapshot(0, 2), Snapshot(2)),
    state="2.state",
)


def test_a_session_comes_back_as_it_was() -> None:
    back = unpack_session("an id", pack_session(SESSION), expires_at=NOW)
    assert back == SESSION
    assert back.expires_at == NOW


def test_a_session_of_before_the_memory_gate_has_none() -> None:
    payload = json.loads(unseal("an id", "session", pack_session(SESSION)))
    del payload["memory_gate"]
    sealed = seal("an id", "session", json.dumps(payload).encode())
    assert unpack_session("an id", sealed, expires_at=NOW) == replace(SESSION, memory_gate=False)


def test_a_session_of_before_tenants_is_any_tenants() -> None:
    payload = json.loads(unseal("an id", "session", pack_session(SESSION)))
    del payload["tenant"]
    sealed = seal("an id", "session", json.dumps({**payload, "format": 2}).encode())
    assert unpack_session("an id", sealed, expires_at=NOW) == replace(SESSION, tenant=ANY_TENANT)


def test_members_that_a_later_version_may_add_are_ignored() -> None:
    payload = json.loads(unseal("an id", "session", pack_session(SESSION)))
    sealed = seal("an id", "session", json.dumps({**payload, "later": [1, {}]}).encode())
    assert unpack_session("an id", sealed, expires_at=NOW) == SESSION


def test_masks_come_back_as_they_were() -> None:
    assert unpack_masks("an id", 7, pack_masks("an id", MASKS)) == MASKS


@given(st.binary(), st.binary())
def test_an_entry_comes_back_as_it_was(frame: bytes, masks: bytes) -> None:
    entry = EncodedEntry(frame, masks, (3, 9))
    assert unpack_entry("an id", "4", pack_entry("an id", "4", entry)) == entry


@given(st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    sealed = bytearray(pack_entry("an id", "4", EncodedEntry(b"a frame", b"its masks", (3, 9))))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptSession):
        unpack_entry("an id", "4", bytes(sealed))


@given(st.integers(0, 30))
def test_a_shortened_entry_is_noticed(length: int) -> None:
    sealed = pack_entry("an id", "4", EncodedEntry(b"a frame", b"its masks", (3, 9)))
    with pytest.raises(CorruptSession):
        unpack_entry("an id", "4", sealed[:length])


@pytest.mark.parametrize(
    "read",
    [
        lambda: unpack_entry(
            "an id", "4", pack_entry("another", "4", EncodedEntry(b"a", b"b", (1,)))
        ),
        lambda: unpack_entry(
            "an id", "4", pack_entry("an id", "5", EncodedEntry(b"a", b"b", (1,)))
        ),
        lambda: unpack_masks("an id", 7, pack_masks("another", MASKS)),
        lambda: unpack_masks("an id", 8, pack_masks("an id", MASKS)),
        lambda: unpack_session(
            "an id", pack_session(replace(SESSION, session_id="b")), expires_at=NOW
        ),
    ],
    ids=["entry's session", "entry's frame", "masks' session", "masks' frame", "session"],
)
def test_a_record_under_the_wrong_name_is_noticed(read: Callable[[], object]) -> None:
    with pytest.raises(CorruptSession) as caught:
        read()
    assert caught.value.session_id == "an id"


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"{}", b'{"format":2}', b"\xff"],
    ids=["nothing", "a list", "no fields", "a later format", "no text"],
)
def test_a_session_that_is_sealed_but_senseless_is_corrupt(payload: bytes) -> None:
    with pytest.raises(CorruptSession):
        unpack_session("an id", seal("an id", "session", payload), expires_at=NOW)


@pytest.mark.parametrize("payload", [b"", b"[]", b'[1,2,"d"]', b'[1,2,"d",[[1]]]'])
def test_masks_that_are_sealed_but_senseless_are_corrupt(payload: bytes) -> None:
    with pytest.raises(CorruptSession):
        unpack_masks("an id", 7, seal("an id", "masks of frame 7", payload))


@pytest.mark.parametrize(
    "wrong", [b"[2,9,[3,9],false,0]", b"[2,0,[3,9],false,0]", b"[2,1,[3,3],false,0]"]
)
def test_an_impossible_memory_is_corrupt(wrong: bytes) -> None:
    payload = pack_session(SESSION)[16:].replace(b"[2,1,[3,9],false,0]", wrong)
    assert wrong in payload
    with pytest.raises(CorruptSession):
        unpack_session("an id", seal("an id", "session", payload), expires_at=NOW)


@pytest.mark.parametrize("payload", [b"5", b"[" * 100_000, b"[[]]", b'{"snapshots": [3]}', b""])
def test_a_sealed_record_of_another_shape_is_corrupt(payload: bytes) -> None:
    with pytest.raises(CorruptSession):
        unpack_session("an id", seal("an id", "session", payload), expires_at=NOW)
    with pytest.raises(CorruptSession):
        unpack_masks("an id", 7, seal("an id", "masks of frame 7", payload))
