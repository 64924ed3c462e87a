"""Makes the page's sample: `python -m scripts.page.sample` (needs scikit-image).

Writes service/web/sample.webm, the built-in sample as a small video, and sample.json: its frame
rate, where its pictures come from, and the outline of the cup in its first frame.
"""

from __future__ import annotations

import json
from pathlib import Path

import av

from model.core.encoding import encode_rle
from service.media.sample import CUP_ID, draw_sample

FOLDER = Path(__file__).parents[2] / "service" / "web"
RATE = 24
BITS_PER_SECOND = 1_000_000
# A key frame twice a second: the page seeks.
CODEC = {"g": "12", "cpu-used": "2", "deadline": "good", "row-mt": "0"}
CREDITS = "Coffee by Rachel Michetti (CC0) before the Hubble deep field by NASA (public domain)."


def main() -> None:
    """Writes both files."""
    drawn = list(draw_sample())
    with av.open(str(FOLDER / "sample.webm"), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libvpx-vp9", rate=RATE, options=CODEC)
        stream.height, stream.width = drawn[0][0].shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", BITS_PER_SECOND
        for picture, _ in drawn:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    outline = encode_rle(drawn[0][1] == CUP_ID)
    facts = {
        "rate": RATE,
        "frames": len(drawn),
        "credits": CREDITS,
        "object": {"id": CUP_ID, "label": "Cup", "rle": outline},
    }
    (FOLDER / "sample.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
