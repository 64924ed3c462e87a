"""Track a folder of videos, several at a time: `python examples/many_videos.py videos/ -o masks/`.

Beside each `NAME.mp4` (or WebM, MOV) lies `NAME.png`, the mask of its first frame. The masks go to
`OUT/NAME/00000.png` and so on.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import av
from PIL import Image

from tamvt_client import AsyncClient, ClientError, write_label_map

VIDEOS = frozenset({".mp4", ".webm", ".mov"})


async def track(client: AsyncClient, video: Path, out: Path) -> int:
    """Track one video and return how many frames it has."""
    mask = video.with_suffix(".png")
    done = 1
    with av.open(str(video)) as container:
        frames = container.decode(video=0)
        session = await client.start(draw_upright(next(frames)), mask)
        (out / "00000.png").write_bytes(mask.read_bytes())
        async for masks in client.track(session.session_id, draw_all(frames)):
            labels = masks.label_map(session.frame_size)
            (out / f"{masks.frame:05d}.png").write_bytes(write_label_map(labels))
            done += 1
    await client.delete(session.session_id)
    return done


async def draw_all(frames: Iterator[av.VideoFrame]) -> AsyncIterator[Image.Image]:
    """Give the pictures of a video as they are asked for; the other videos go on meanwhile."""
    while (frame := await asyncio.to_thread(next, frames, None)) is not None:
        yield draw_upright(frame)


def draw_upright(frame: av.VideoFrame) -> Image.Image:
    """Return a frame as a picture; those of a phone may lie on their side."""
    return frame.to_image().rotate(frame.rotation, expand=True)


async def track_all(url: str, videos: list[Path], out: Path, *, at_once: int) -> int:
    """Track every video; return how many failed."""
    places = asyncio.Semaphore(at_once)
    async with AsyncClient(url) as client:

        async def one(video: Path) -> bool:
            async with places:
                try:
                    frames = await track(client, video, out / video.stem)
                except (ClientError, OSError, av.FFmpegError) as error:
                    print(f"{video.name}: {error}")
                    return False
                print(f"{video.name}: {frames} frames")
                return True

        done = await asyncio.gather(*(one(video) for video in videos))
    return done.count(False)


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--at-once", type=int, default=4)
    given = parser.parse_args()
    videos = sorted(path for path in given.folder.iterdir() if path.suffix in VIDEOS)
    for video in videos:
        (given.out / video.stem).mkdir(parents=True, exist_ok=True)
    failed = asyncio.run(track_all(given.url, videos, given.out, at_once=given.at_once))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
