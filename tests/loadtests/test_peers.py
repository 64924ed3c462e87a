"""Peers side by side: timed in turns, each in its own process; one that is missing is named."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.load_video import LoadVideo
from loadtests.peers.__main__ import (
    Peer,
    PeerTimes,
    list_peers,
    read_peer,
    read_quality,
    time_peers,
)
from loadtests.peers.side_services import (
    ANSWER_S,
    CLIP,
    CLIPS,
    SESSIONS,
    kill_and_count,
    ray_service,
)
from loadtests.plots import plot_quality
from service.errors import StartupError


@pytest.fixture(autouse=True)
def toy_settings(monkeypatch: pytest.MonkeyPatch, toy_folder: Path) -> None:
    """Let our engine run the toy model."""
    monkeypatch.setenv("TAMVT_WEIGHTS", str(toy_folder))
    monkeypatch.setenv("TAMVT_MODEL", "toy")


def count_frames(frames: Any, labels: Any, threads: int, word: str) -> Any:
    """Be a peer: what tracks is called with a frame, after the first one and its labels."""
    assert (frames.shape, labels.max(), threads, word) == ((60, 64, 96, 3), 2, 1, "word")
    return lambda frame: frame.shape == (64, 96, 3) or 1 / 0


def test_peers_are_timed_in_turns_and_the_missing_are_named(tmp_path: Path) -> None:
    here, ours = Path(sys.executable), "loadtests.peers.ours:track"
    peers = [
        Peer("ours", here, ours, ("toy", "onnxruntime", "2")),
        read_peer(f"mine={here},tests.loadtests.test_peers:count_frames,word"),
        Peer("away", tmp_path / "python", ours),
        Peer("broken", here, "json:nothing"),
    ]
    found = time_peers(peers, (64, 96), objects=2, threads=1, rounds=2, frames=4)
    rows = [each.row(found[0]) for each in found]
    assert [len(each.ms) for each in found] == [2, 2, 0, 0], [each.missing for each in found]
    assert rows[0]["times as long as the first"] == 1.0
    assert float(str(rows[0]["ms a frame"])) > float(str(rows[1]["ms a frame"])) >= 0
    assert "no environment at" in str(rows[2]["ms a frame"])
    assert "nothing" in str(rows[3]["ms a frame"])


def test_all_our_models_and_the_known_others_are_peers() -> None:
    names = [peer.name for peer in list_peers([])]
    assert "toy, openvino, clips of 1" in names
    assert "cutie-small" in names


def test_quality_is_told_with_its_source(tmp_path: Path) -> None:
    cutie = PeerTimes(Peer("cutie-small", Path(), ""), 1, [90.0], [90.0])
    toy = PeerTimes(Peer("toy", Path(), ""), 1, [1.0], [1.0])
    points, told = read_quality([cutie, toy])
    assert [(point.name, point.published) for point in points] == [("cutie-small", True)]
    assert "arXiv 2310.12982" in told[0]
    assert "no quality is known" in told[1]
    plot_quality(tmp_path / "quality.svg", points, about="here")
    assert (tmp_path / "quality.svg").stat().st_size > 1000


@dataclass
class ForgetfulService:
    """A service that forgets all but one session when it is killed, and is away for two calls."""

    name: str = "forgetful"
    known: set[str] = field(default_factory=set)
    away: int = 0

    def start(self, session: str, video: LoadVideo) -> None:
        self.known.add(session)

    def append(self, session: str, images: Sequence[bytes]) -> bool:
        if self.away:
            self.away -= 1
            raise httpx.ConnectError("nobody is there")
        return session in self.known

    def kill(self) -> None:
        self.known = {max(self.known)}
        self.away = 2


def test_a_kill_is_counted_in_sessions_and_frames(video: LoadVideo) -> None:
    lost, frames, first_s = kill_and_count(ForgetfulService(), video)
    assert (lost, frames) == (SESSIONS - 1, (SESSIONS - 1) * CLIPS * CLIP)
    assert 0.1 <= first_s < ANSWER_S


def test_a_service_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="no environment at"), ray_service(tmp_path / "no", 1):
        pass
