"""Times going back in a long video: `python -m scripts.rewind_time`.

The shipped model follows the built-in sample, there and back again, through 600 frames. Then the
session is rewound to some of them, as before a correction. It prints how many frames were sent
again, how long that took, and how long as many frames take when they are tracked.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from datetime import date
from pathlib import Path

from model.core.palette import write_label_map
from scripts.page.playback import SHIPPED
from service.local.private_service import private_service
from service.media.images import encode_jpeg
from service.media.sample import draw_sample
from tamvt_client import Client

AT_ONCE = 8  # frames of an append
PLACES = (0.062, 0.219, 0.409, 0.613, 0.815, 0.958)  # of the video, where no snapshot need be


def draw(count: int) -> tuple[list[bytes], bytes]:
    """Return so many frames as JPEGs, and the mask of the first one."""
    drawn = list(draw_sample())
    images = [encode_jpeg(picture) for picture, _ in drawn]
    there_and_back = [*images, *images[-2:0:-1]]
    frames = [there_and_back[number % len(there_and_back)] for number in range(count)]
    return frames, write_label_map(drawn[0][1])


def measure(client: Client, count: int) -> list[str]:
    """Return the rows of the table."""
    frames, mask = draw(count)
    session = client.start(frames[0], mask)
    began = time.perf_counter()
    for first in range(1, count, AT_ONCE):
        batch = frames[first : first + AT_ONCE]
        client.append(session.session_id, batch, first_frame=first)
    each_s = (time.perf_counter() - began) / (count - 1)
    rows = []
    for place in PLACES:
        sent: list[int] = []

        def image(number: int, sent: list[int] = sent) -> bytes:
            sent.append(number)
            return frames[number]

        target = round(place * count)
        began = time.perf_counter()
        rewound = client.rewind(session.session_id, target, image)
        took_s = time.perf_counter() - began
        client.delete(rewound.session_id)
        between_s = each_s * len(sent)
        rows.append(f"| {target} | {len(sent)} | {1000 * took_s:.0f} | {1000 * between_s:.0f} |")
    client.delete(session.session_id)
    return rows


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=600)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        private_service(Path(folder), settings=SHIPPED) as url,
        Client(url) as client,
    ):
        rows = measure(client, given.frames)
    load = os.getloadavg()[0]
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} processors, load {load:.1f}\n")
    print("| back to frame | frames sent again | ms | ms to track as many |\n|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
