"""A video tracked by one service after another, which share what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

from model.core.palette import read_label_map
from model.core.pixels import ImageLimits
from tests.support.running import PATIENCE_S, Api, running_service


def follow_in_turns(
    folder: Path, images: Sequence[bytes], *, model: str, turns: Sequence[int], objects: int = 1
) -> list[NDArray[np.uint8]]:
    """Return the label maps of all frames but the first, made by a service for each turn.

    `folder` holds the model's graphs in `graphs`; a turn ends before the frame it names, and the
    next service rebuilds the bank.
    """
    session, found = "", []
    for first, last in zip((1, *turns), (*turns, len(images)), strict=True):
        with (
            running_service(
                state=folder / "state",
                weights=folder / "graphs",
                settings={"TAMVT_MODEL": model},
            ) as service,
            httpx.Client(base_url=service.url, timeout=PATIENCE_S) as http,
        ):
            api = Api(http)
            session = session or api.start(objects=objects)
            answer = api.append(session, images[first:last], first=first)
            assert answer.status_code == 200, answer.text
            found += [
                read_label_map(
                    http.get(f"/v1/sessions/{session}/masks/{number}.png").content, ImageLimits()
                )
                for number in range(first, last)
            ]
    return found
