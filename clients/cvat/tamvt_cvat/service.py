"""The service as CVAT's agent sees it: one client of the process, and errors that it passes on."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

import PIL.Image
from cvat_sdk.auto_annotation import BadFunctionError

from tamvt_client import Busy, Client, ClientError, NotFound, TimedOut, Unreachable

DEFAULT_URL = "http://127.0.0.1:8000"


def open_client(url: str | None) -> Client:
    """Return a client of the service at `url`, else at TAMVT_URL, else on this machine."""
    return Client(url or os.environ.get("TAMVT_URL") or DEFAULT_URL)


@contextmanager
def told_to_cvat(what: str) -> Iterator[None]:
    """Raise BadFunctionError for what the service or the way to it is at fault for.

    The agent hands the text of this error alone to the person at CVAT.
    """
    try:
        yield
    except NotFound as error:
        raise BadFunctionError(
            f"{what}: TAM-VT Serve has forgotten this track (its session has expired); draw the "
            "shape again on the frame where it ended"
        ) from error
    except (Busy, TimedOut, Unreachable) as error:
        raise BadFunctionError(
            f"{what}: TAM-VT Serve is away or busy ({error}); try again, or look after it where "
            "the agent runs"
        ) from error
    except ClientError as error:
        raise BadFunctionError(f"{what}: TAM-VT Serve: {error}") from error


def encode_picture(image: PIL.Image.Image) -> bytes:
    """Return CVAT's picture as a PNG: what the service sees is what the person saw."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "PNG", compress_level=1)
    return file.getvalue()
