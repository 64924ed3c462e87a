"""How frames are cut into appends."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from service.commands.sending import round_to_clips, send_frames
from service.media.video import open_source
from tamvt_client import Client
from tests.support import scene
from tests.support.running import running_service


@pytest.mark.parametrize(
    ("clip_length", "expected"), [(1, 8), (2, 8), (3, 6), (4, 8), (5, 5), (16, 16)]
)
def test_an_append_holds_whole_clips(clip_length: int, expected: int) -> None:
    assert round_to_clips(8, clip_length=clip_length) == expected


def test_frames_that_are_too_much_at_once_are_sent_by_the_clip(
    toy_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "frames").mkdir()
    for number in range(21):
        (tmp_path / "frames" / f"{number}.jpg").write_bytes(scene.jpeg(number))
    source = open_source(tmp_path / "frames")
    settings = {"TAMVT_MAX_APPEND_FRAMES": "3"}
    with (
        running_service(state=tmp_path / "state", weights=toy_folder, settings=settings) as running,
        Client(running.url) as client,
    ):
        session = client.start(scene.jpeg(0), scene.mask())
        appends = send_frames(
            client, session, source, reference_frame=0, first_frame=1, frames_per_append=8
        )
        assert [len(sent.frames) for sent in appends] == [2] * 10
        metrics = httpx.get(f"{running.url}/metrics").text
    refused = [line for line in metrics.splitlines() if 'status="413"' in line]
    assert [line.split()[-1] for line in refused if "requests_total" in line] == ["1.0"]
