"""Both Python clients correct, remove and fork against the real service."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tamvt_client import (
    AsyncClient,
    Client,
    FrameConflict,
    NotFound,
    ObjectPrompt,
    PointPrompt,
    Rejected,
    Retry,
    Unreachable,
    encode_rle,
)
from tests.support import scene
from tests.support.faulty_relay import relay_to
from tests.support.running import Running

QUICK = Retry(attempts=4, first_s=0.01, most_s=0.02)
LABELS = scene.labels(2, objects=2)


@pytest.fixture
def client(running: Running) -> Iterator[Client]:
    with Client(running.url, retry=QUICK) as client:
        yield client


@pytest.fixture
def session_id(client: Client) -> str:
    """A session that tracks one of two objects and has seen two frames."""
    session = client.start(scene.png(0, objects=2), scene.mask())
    images = [scene.png(number, objects=2) for number in (1, 2)]
    client.append(session.session_id, images, first_frame=1)
    return session.session_id


def test_objects_are_added_with_a_mask(client: Client, session_id: str) -> None:
    masks = client.correct(session_id, LABELS, frame=2)
    assert (masks.frame, [item.state for item in masks.objects]) == (2, ["human", "human"])
    assert (masks.label_map(LABELS.shape) == LABELS).all()


def test_objects_are_added_as_shapes(client: Client, session_id: str) -> None:
    rle = encode_rle(LABELS == 2)
    client.correct(session_id, objects=[ObjectPrompt(object_id=7, label="boat", rle=rle)])
    assert [(o.object_id, o.label) for o in client.session(session_id).objects] == [
        (1, None),
        (7, "boat"),
    ]


def test_a_correction_names_something(client: Client, session_id: str) -> None:
    with pytest.raises(ValueError, match="either a mask or objects"):
        client.correct(session_id)


def test_an_object_is_removed(client: Client, session_id: str) -> None:
    client.correct(session_id, LABELS)
    client.remove_object(session_id, 1)
    assert [o.object_id for o in client.session(session_id).objects] == [2]
    with pytest.raises(NotFound):
        client.remove_object(session_id, 1)


def test_a_fork_goes_on(client: Client, session_id: str) -> None:
    client.correct(session_id, LABELS)
    undone, kept = client.fork(session_id, at=2), client.fork(session_id)
    assert (len(undone.objects), len(kept.objects), kept.next_frame) == (1, 2, 3)


def test_conflicts_of_frames_are_told_from_others(client: Client, session_id: str) -> None:
    with pytest.raises(FrameConflict) as caught:
        client.correct(session_id, LABELS, frame=1)
    assert caught.value.expected == 3
    with pytest.raises(Rejected):
        client.remove_object(session_id, 1)


def test_only_a_correction_that_names_its_frame_is_sent_twice(
    running: Running, session_id: str
) -> None:
    with relay_to(running.url, ["drop", "none", "drop"]) as relay:
        with Client(relay.url, retry=QUICK) as unlucky:
            assert unlucky.correct(session_id, LABELS, frame=2).frame == 2
            with pytest.raises(Unreachable):
                unlucky.correct(session_id, LABELS)
        assert len(relay.seen) == 3


@pytest.mark.anyio
async def test_the_async_client_does_the_same(running: Running, session_id: str) -> None:
    async with AsyncClient(running.url) as client:
        masks = await client.correct(session_id, np.asarray(LABELS), frame=2)
        assert len(masks.objects) == 2
        fork = await client.fork(session_id)
        await client.remove_object(fork.session_id, 2)
        assert len((await client.session(fork.session_id)).objects) == 1


def test_a_rewound_session_is_as_it_was_at_a_frame_in_the_middle(client: Client) -> None:
    session = client.start(scene.png(0), scene.mask())
    images = [scene.png(number) for number in range(1, 12)]
    before = list(client.track(session.session_id, images, frames_per_append=11))
    sent: list[int] = []

    def image(number: int) -> bytes:
        sent.append(number)
        return scene.png(number)

    rewound = client.rewind(session.session_id, 5, image)
    assert (rewound.next_frame, sent) == (6, [5])
    # It may be corrected there, goes on from there, and the other session is as it was.
    client.correct(rewound.session_id, scene.labels(5), frame=5)
    after = list(client.track(rewound.session_id, images[5:]))
    assert [masks.frame for masks in after] == list(range(6, 12))
    assert list(client.masks(session.session_id, first=1)) == before


def test_a_video_is_tracked_both_ways_from_a_frame_in_the_middle(client: Client) -> None:
    images = [scene.png(number) for number in range(9)]
    before = [session.session_id for session in client.sessions()]
    tracked = client.track_both_ways(images, scene.labels(5), reference_frame=5)
    found = {masks.frame: masks.label_map(scene.labels(0).shape) for masks in tracked}
    assert list(found) == [6, 7, 8, 4, 3, 2, 1, 0]
    assert all((found[number] == scene.labels(number)).mean() > 0.97 for number in found)
    assert [session.session_id for session in client.sessions()] == before
    # From the first frame or the last there is one way.
    for first, numbers in ((0, [1]), (1, [0])):
        ways = client.track_both_ways(images[:2], scene.labels(first), reference_frame=first)
        assert [masks.frame for masks in ways] == numbers


def test_a_rewind_that_fails_leaves_no_session_behind(client: Client, session_id: str) -> None:
    def image(number: int) -> bytes:
        return b"no image"

    client.correct(session_id, LABELS, frame=2)
    before = [session.session_id for session in client.sessions()]
    with pytest.raises(Rejected):
        client.rewind(session_id, 1, image)
    assert [session.session_id for session in client.sessions()] == before
    assert client.session(session_id).next_frame == 3


@pytest.mark.anyio
async def test_the_async_client_points_and_rewinds(running: Running, session_id: str) -> None:
    async with AsyncClient(running.url) as client:
        found = await client.refine(scene.png(0), points=[PointPrompt(x=18, y=18)])
        assert (found.mask() == (scene.labels(0) == 1)).all()
        rewound = await client.rewind(session_id, 1, lambda number: scene.png(number, objects=2))
        assert rewound.next_frame == 2
