"""The command `tamvt-label-studio`: serve Label Studio's ML backend protocol."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from tamvt_client import Client
from tamvt_label_studio.backend import Backend
from tamvt_label_studio.media import MediaStore
from tamvt_label_studio.server import serve
from tamvt_label_studio.tracking import VideoTracker


def main() -> None:
    """Serve until it is stopped; one line tells when it is ready."""
    parser = argparse.ArgumentParser(prog="tamvt-label-studio", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9090, help="0 picks a free one")
    parser.add_argument(
        "--url",
        default=os.environ.get("TAMVT_URL", "http://127.0.0.1:8000"),
        help="TAM-VT Serve (TAMVT_URL)",
    )
    parser.add_argument("--model", help="one of the service's models")
    parser.add_argument(
        "--state", type=Path, default=Path(".tamvt-label-studio"), help="folder of jobs and media"
    )
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of one answer; ask again to go on from there"
    )
    given = parser.parse_args()
    url, key = os.environ.get("LABEL_STUDIO_URL"), os.environ.get("LABEL_STUDIO_API_KEY")
    if key and not url:
        parser.error("LABEL_STUDIO_API_KEY is for one Label Studio: set LABEL_STUDIO_URL too")
    with Client(given.url) as client:
        media = MediaStore(given.state / "media", url=url or None, key=key)
        tracker = VideoTracker(client, given.state, model=given.model, seconds=given.seconds)
        serve(Backend(client, media, tracker), host=given.host, port=given.port)


if __name__ == "__main__":
    main()
