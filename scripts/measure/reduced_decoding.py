"""What decoding JPEGs at a part of their size would save, and how other the pixels would be.

    python -m scripts.measure.reduced_decoding [--pictures 12] [--rounds 5]

libjpeg can leave out the finest waves of a picture, so that it decodes to a half or a quarter of
its sides; OpenCV's reduced reads ask for that. Here both ways end at the model's size, in turns,
on one thread. Decision 88 has what was found.
"""

from __future__ import annotations

import argparse
import statistics
import time

import cv2
import numpy as np
from numpy.typing import NDArray

from loadtests.figures import Row, write_table
from loadtests.videos import data_folder
from model.core.pixels import model_size, resize_frame
from service.commands.steady_session import processor

SIZES = ((480, 854), (720, 1280), (1080, 1920))  # height, width
REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
SHORT_SIDE, QUALITY = 256, 90
Picture = NDArray[np.uint8]


def choose_part(size: tuple[int, int], wanted: tuple[int, int]) -> int:
    """Return by how much the sides may be divided, so that none is below what is wanted."""
    fits = [n for n in REDUCED if size[0] // n >= wanted[0] and size[1] // n >= wanted[1]]
    return max(fits, default=1)


def decode(data: Picture, flags: int, wanted: tuple[int, int]) -> tuple[Picture, float]:
    """Return a JPEG at the model's size, and the milliseconds of the processor."""
    begin = time.process_time()
    decoded = np.asarray(cv2.imdecode(data, flags), np.uint8)
    resized = resize_frame(decoded, wanted)
    return resized, 1000 * (time.process_time() - begin)


def measure(pictures: list[Picture], size: tuple[int, int], *, rounds: int) -> Row:
    """Return a row for frames of this size: both ways in turns, and the differences of pixels."""
    wanted = model_size(*size, short_side=SHORT_SIDE)
    part = choose_part(size, wanted)
    whole_ms, reduced_ms, differences = [], [], list[Picture]()
    for picture in pictures:
        scaled = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_CUBIC)
        _, encoded = cv2.imencode(".jpg", scaled, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        data = np.asarray(encoded, np.uint8)
        for _ in range(rounds):
            whole, took = decode(data, cv2.IMREAD_COLOR, wanted)
            whole_ms.append(took)
            reduced, took = decode(data, REDUCED.get(part, cv2.IMREAD_COLOR), wanted)
            reduced_ms.append(took)
        differences.append(cv2.absdiff(whole, reduced).astype(np.uint8))
    return {
        "frame": f"{size[1]}x{size[0]}",
        "model": f"{wanted[1]}x{wanted[0]}",
        "whole, ms": statistics.median(whole_ms),
        "reduced to": f"1/{part}",
        "reduced, ms": statistics.median(reduced_ms),
        "mean difference": float(np.mean(differences)),
        "largest": int(np.max(differences)),
    }


def read_pictures(count: int) -> list[Picture]:
    """Return frames of the videos in the folder of data, evenly chosen."""
    paths = sorted((data_folder() / "video").glob("*/frames/*.jpg"))
    if not paths:
        raise SystemExit(f"there are no videos in {data_folder()} (TAMVT_DATA)")
    step = max(1, len(paths) // count)
    return [np.asarray(cv2.imread(str(path)), np.uint8) for path in paths[::step][:count]]


def main() -> None:
    """Print a row for each size of a frame."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    pictures = read_pictures(args.pictures)
    rows = [measure(pictures, size, rounds=args.rounds) for size in SIZES]
    print(f"{processor()}, OpenCV {cv2.__version__}, one thread\n\n{write_table(rows)}")


if __name__ == "__main__":
    main()
