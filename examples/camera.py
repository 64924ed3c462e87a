"""Follow what you click on, live: `python examples/camera.py`.

    python examples/camera.py --source 0         # a camera; or a file, or an RTSP address
    python examples/camera.py --source video.mp4 --click 250 140 --out followed.mp4

Only the newest picture is sent (`mode="latest"`), so what you see is never older than the service
needs for one picture. A robot does the same, and reads `box` instead of looking at the window.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from tamvt_client import Client, ObjectPrompt, PointPrompt, SessionOptions, TimedImage

WINDOW = "click on what is to be followed; q ends"
Picture = NDArray[np.uint8]


def main() -> None:
    """Open the camera, ask for a click, and follow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--source", default="0", help="number of a camera, a file or an address")
    parser.add_argument("--click", type=float, nargs=2, metavar=("X", "Y"), help="no window")
    parser.add_argument("--out", help="a video to write instead of showing one")
    given = parser.parse_args()
    camera = cv2.VideoCapture(int(given.source) if given.source.isdigit() else given.source)
    found, first = camera.read()
    if not found:
        raise SystemExit(f"{given.source} gives no picture")
    click = given.click or ask_for_click(first)
    with Client(given.url) as client:
        rgb = cv2.cvtColor(first, cv2.COLOR_BGR2RGB)
        meant = client.refine(rgb, points=[PointPrompt(x=click[0], y=click[1])])
        for warning in meant.warnings:
            print(warning)
        thing = ObjectPrompt(object_id=1, rle=meant.rle)
        # Clips of one frame have the lowest latency.
        session = client.start(rgb, objects=[thing], options=SessionOptions(clip_length=1))
        follow(client, session.session_id, camera, given.out, is_live=is_live(given.source))
        client.delete(session.session_id)


def is_live(source: str) -> bool:
    """Return whether pictures come at a pace of their own, so that some are to be passed over."""
    return source.isdigit() or "://" in source


def ask_for_click(picture: Picture) -> tuple[float, float]:
    """Return where a person clicks on the picture."""
    clicks: list[tuple[float, float]] = []

    def heard(event: int, x: int, y: int, *_: object) -> None:
        if event == cv2.EVENT_LBUTTONDOWN:
            clicks.append((x, y))

    cv2.namedWindow(WINDOW)
    cv2.setMouseCallback(WINDOW, heard)
    while not clicks:
        cv2.imshow(WINDOW, picture)
        if cv2.waitKey(20) == ord("q"):
            raise SystemExit(0)
    return clicks[0]


def follow(
    client: Client, session_id: str, camera: cv2.VideoCapture, out: str | None, *, is_live: bool
) -> None:
    """Show, or write, each picture with the mask that was found in it."""
    # Masks come with the time stamp of their picture: that one is drawn on, not the newest.
    sent: dict[int, Picture] = {}

    def pictures() -> Iterator[TimedImage]:
        while True:
            found, bgr = camera.read()
            if not found:
                return
            stamp = time.time_ns() // 1000
            sent[stamp] = bgr
            _, jpeg = cv2.imencode(".jpg", bgr)
            yield TimedImage(jpeg.tobytes(), stamp)

    written: cv2.VideoWriter | None = None
    mode = "latest" if is_live else "lossless"
    for masks in client.stream(session_id, pictures(), mode=mode, max_wait_ms=0):
        if masks.timestamp is None:
            continue
        bgr = sent[masks.timestamp]
        for stamp in [stamp for stamp in list(sent) if stamp <= masks.timestamp]:
            del sent[stamp]
        (thing,) = masks.objects
        x, y, width, height = box = thing.bbox
        mask = thing.mask((bgr.shape[0], bgr.shape[1]))
        bgr[mask] = bgr[mask] // 2 + np.array([0, 128, 0], np.uint8)
        if thing.state != "lost":
            cv2.rectangle(bgr, (x, y), (x + width, y + height), (0, 255, 0), 2)
        print(f"frame {masks.frame}: {thing.state} at {box}, {thing.confidence:.2f}")
        if out is None:
            cv2.imshow(WINDOW, bgr)
            if cv2.waitKey(1) == ord("q"):
                return
            continue
        if written is None:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            written = cv2.VideoWriter(out, code, 24, (bgr.shape[1], bgr.shape[0]))
        written.write(bgr)
    if written is not None:
        written.release()


if __name__ == "__main__":
    main()
