"""The same graphs behind Ray Serve, as one would write it: each session's tracker in a replica.

    python -m loadtests.peers.ray_graph PORT THREADS MODEL WEIGHTS

Prints `listening on http://127.0.0.1:PORT` when it is ready and serves until it is ended. `POST
/?session=NAME` with a form: `frame` and `mask` begin a session, `frames` go on with it (404 if the
replica does not know it); the answer is run lengths of each object in each frame. `GET /?pid=1`
answers the replica's process. Runs in an environment with ray[serve] and this checkout.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import Any

import ray
from ray import serve
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse

import tamvt
from tamvt_client.masks import encode_rle


class ReplicaTrackers:
    """Trackers by the name of their session, one call at a time."""

    def __init__(self, threads: int, model: str, weights: str) -> None:
        self._options: dict[str, Any] = {"threads": threads, "model": model, "weights": weights}
        self._trackers: dict[str, tamvt.Tracker] = {}
        self._lock = asyncio.Lock()

    async def __call__(self, request: Request) -> JSONResponse:
        if "pid" in request.query_params:
            return JSONResponse({"pid": os.getpid()})
        session, form = request.query_params["session"], await request.form()
        async with self._lock:
            if "mask" in form:
                frame, mask = [await _read(form[name]) for name in ("frame", "mask")]
                self._trackers[session] = await asyncio.to_thread(
                    tamvt.Tracker, frame, mask, **self._options
                )
                return JSONResponse({})
            if session not in self._trackers:
                return JSONResponse({"detail": "unknown session"}, 404)
            images = [await _read(each) for each in form.getlist("frames")]
            return JSONResponse(await asyncio.to_thread(self._track, session, images))

    def _track(self, session: str, images: list[bytes]) -> list[dict[str, Any]]:
        tracker = self._trackers[session]
        return [
            {str(each): encode_rle(frame.labels == each) for each in tracker.object_ids}
            for frame in tracker.track(images)
        ]


async def _read(part: UploadFile | str) -> bytes:
    return part.encode() if isinstance(part, str) else await part.read()


def main() -> None:
    """Serve until the process is ended."""
    port, threads, model, weights = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    deployment: Any = serve.deployment(num_replicas=1, max_ongoing_requests=16)(ReplicaTrackers)
    serve.run(deployment.bind(threads, model, weights))
    print(f"listening on http://127.0.0.1:{port}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
