"""A tracking job whose video is recorded while it runs: `tamvt track ADDRESS --live SECONDS`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from service.errors import BadOption
from service.media.live_video import Recording, record

LONGEST_S = 86_400.0


@contextmanager
def record_into(
    out: Path, address: str, *, seconds: float, allow_private: bool
) -> Iterator[Recording]:
    """Record into OUT/frames. Ctrl-C ends the recording first, and what is done with it next.

    Raises:
        BadOption: an earlier run is there, or an address that may not be reached.
        BadVideo: there is no camera or stream.
    """
    if not 0 < seconds <= LONGEST_S:
        raise BadOption(f"--live takes up to {LONGEST_S:.0f} seconds, not {seconds:g}")
    folder = out / "frames"
    if (out / ".tamvt").exists() or any(folder.glob("*.jpg")):
        raise BadOption(
            f"{out} holds an earlier run; choose another folder, or give {folder} as the video to "
            "track what it recorded"
        )
    with record(address, folder, seconds=seconds, allow_private=allow_private) as recording:

        def stop(_number: int, _frame: FrameType | None) -> None:
            recording.stop()
            signal.signal(signal.SIGINT, before)

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield recording
        finally:
            signal.signal(signal.SIGINT, before)
