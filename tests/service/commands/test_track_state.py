"""The state of a tracking job on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.commands.track_job.state import JobIdentity, TrackState, digest_source
from service.media.images import encode_png
from service.media.sample import draw_sample
from service.media.video import VideoWriter, open_source
from tamvt_client import SessionOptions


@pytest.fixture
def state() -> TrackState:
    job = JobIdentity(
        source="s", mask="m", reference_frame=3, options=SessionOptions(clip_length=2)
    )
    return TrackState(job=job, url=None, session_id="abc", next_frame=1)


def test_what_is_saved_is_loaded(state: TrackState, tmp_path: Path) -> None:
    state.save(tmp_path / "deep" / "track.json")
    assert TrackState.load(tmp_path / "deep" / "track.json") == state


def test_an_advance_makes_a_new_state(state: TrackState) -> None:
    later = state.advanced(9).finished()
    assert (later.next_frame, later.done) == (9, True)
    assert (state.next_frame, state.done) == (1, False)


def test_nothing_is_left_beside_the_state(state: TrackState, tmp_path: Path) -> None:
    state.save(tmp_path / "track.json")
    state.advanced(5).save(tmp_path / "track.json")
    assert [file.name for file in tmp_path.iterdir()] == ["track.json"]


@pytest.mark.parametrize("content", ["", "{", '{"session_id": "abc"}', "[]"])
def test_a_damaged_state_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "track.json").write_text(content)
    assert TrackState.load(tmp_path / "track.json") is None


def test_no_state_is_none(tmp_path: Path) -> None:
    assert TrackState.load(tmp_path / "track.json") is None


def test_a_moved_folder_is_the_same_source(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(encode_png(next(draw_sample())[0]))
    before = digest_source(open_source(tmp_path / "a"))
    (tmp_path / "a").rename(tmp_path / "b")
    assert digest_source(open_source(tmp_path / "b")) == before


def test_another_file_is_another_source(tmp_path: Path) -> None:
    rgb = next(draw_sample())[0]
    for name, picture in {"a.mp4": rgb, "b.mp4": rgb[:, ::-1]}.items():
        with VideoWriter(tmp_path / name) as video:
            video.write(picture, time_s=0)
    digests = {digest_source(open_source(tmp_path / name)) for name in ("a.mp4", "b.mp4")}
    assert len(digests) == 2
