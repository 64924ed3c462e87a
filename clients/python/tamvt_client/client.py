"""The Python client: `Client`, and `AsyncClient` with the same calls to await.

    with Client("http://127.0.0.1:8000") as client:
        session = client.start(first_frame, mask)
        for masks in client.track(session.session_id, frames):
            labels = masks.label_map(session.frame_size)

An image is encoded bytes, the path of a file, or an array uint8 RGB (H, W, 3). Every call raises
a `ClientError` (`errors.py`), and sends again, with full jitter, what may be sent
twice: after a 503, a refused or a broken connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Self, TypeVar, Unpack

import httpx

from tamvt_client import calls as calls
from tamvt_client.async_client import AsyncClient
from tamvt_client.calls import FRAMES_PER_APPEND, Call, Format, Retry, http_timeout
from tamvt_client.errors import ClientError
from tamvt_client.stream_thread import StreamThread
from tamvt_client.streaming import (
    OnProgress,
    StreamImage,
    Streaming,
    StreamOptions,
    StreamOptionsDict,
)
from tamvt_client.values import (
    Appended,
    FrameMasks,
    Image,
    Mask,
    Model,
    ObjectPrompt,
    Options,
    Session,
    StreamedMasks,
)

__all__ = ["AsyncClient", "Client"]

T = TypeVar("T")


class Client:
    """Calls the service and waits for its answers.

    `deadline_s` bounds each wait for the service: to send, and to hear. Leave the block, or call
    `close()`, to close the connections.
    """

    def __init__(self, url: str, *, deadline_s: float = 120.0, retry: Retry | None = None) -> None:
        self._retry = retry or Retry()
        self._deadline_s = deadline_s
        self._http = httpx.Client(base_url=url, timeout=http_timeout(deadline_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def start(
        self,
        frame: Image,
        mask: Mask | None = None,
        *,
        objects: Sequence[ObjectPrompt] = (),
        options: Options | None = None,
    ) -> Session:
        """A new session; `frame` is frame 0, and either `mask` or `objects` says what to track."""
        return self._answer(calls.start_session(frame, mask, objects, options or Options()))

    def append(
        self,
        session_id: str,
        frames: Sequence[Image],
        *,
        first_frame: int,
        format: Format = "rle",
    ) -> Appended:
        """The masks of the frames from number `first_frame` on.

        Frames that are already committed with the same bytes get the same masks again.
        """
        return self._answer(
            calls.append_frames(session_id, frames, first_frame=first_frame, format=format)
        )

    def append_video(
        self,
        session_id: str,
        video: bytes | Path,
        *,
        first_frame: int,
        skip: int = 0,
        count: int | None = None,
        format: Format = "rle",
    ) -> Appended:
        """The masks of `count` frames (all, if None) of an MP4, WebM or MOV file after `skip`."""
        return self._answer(
            calls.append_video(
                session_id, video, first_frame=first_frame, skip=skip, count=count, format=format
            )
        )

    def track(
        self,
        session_id: str,
        frames: Iterable[Image],
        *,
        first_frame: int = 1,
        frames_per_append: int = FRAMES_PER_APPEND,
    ) -> Iterator[FrameMasks]:
        """The masks of each frame, in order, as far as the frames go."""
        source = iter(frames)
        while sent := list(islice(source, frames_per_append)):
            yield from self.append(session_id, sent, first_frame=first_frame).frames
            first_frame += len(sent)

    def stream(
        self,
        session_id: str,
        frames: Iterable[StreamImage],
        *,
        with_tickets: bool = False,
        on_progress: OnProgress | None = None,
        **choice: Unpack[StreamOptionsDict],
    ) -> Iterator[StreamedMasks]:
        """The masks of frames that are sent as they come, over a WebSocket that resumes by itself.

        `frames` may be endless and is read in another thread; its first one is number
        `first_frame` (1). Those that are committed already are not sent again: their stored masks
        are given. `mode="latest"` passes over what comes too fast. `on_progress` is called in the
        stream's thread. Raises as `client_stream.Streaming.run`.
        """

        async def ticket() -> str:
            return await asyncio.to_thread(self.ticket, session_id)

        streaming = Streaming(
            str(self._http.base_url),
            StreamOptions(session_id, **choice),
            retry=self._retry,
            deadline_s=self._deadline_s,
            on_progress=on_progress,
            get_ticket=ticket if with_tickets else None,
        )
        return iter(StreamThread(streaming, frames))

    def ticket(self, session_id: str) -> str:
        """A ticket that opens one stream of the session, once, within seconds."""
        return self._answer(calls.issue_ticket(session_id))

    def correct(
        self,
        session_id: str,
        mask: Mask | None = None,
        *,
        objects: Sequence[ObjectPrompt] = (),
        frame: int | None = None,
        format: Format = "rle",
    ) -> FrameMasks:
        """The newest frame with the given masks: of objects known already, or new ones.

        `frame` is its number: a Conflict is raised if it is not the newest any more.
        """
        return self._answer(
            calls.correct_objects(session_id, mask, objects, frame=frame, format=format)
        )

    def remove_object(self, session_id: str, object_id: int) -> None:
        """The object is tracked no longer; its masks so far stay."""
        self._answer(calls.remove_object(session_id, object_id))

    def fork(self, session_id: str, *, at: int | None = None) -> Session:
        """A new session from this one, as it is or as it was when the clip ended with `at`."""
        return self._answer(calls.fork_session(session_id, at=at))

    def session(self, session_id: str) -> Session:
        """The session as it is now."""
        return self._answer(calls.read_session(session_id))

    def masks(
        self,
        session_id: str,
        *,
        first: int | None = None,
        last: int | None = None,
        format: Format = "rle",
    ) -> Iterator[FrameMasks]:
        """The stored masks of the frames `first` to `last`, both included, page after page."""
        call = calls.read_masks(session_id, first=first, last=last, format=format)
        while True:
            page = self._answer(call)
            yield from page.frames
            if page.next is None:
                return
            call = calls.read_next_page(page.next)

    def mask_png(self, session_id: str, frame: int) -> bytes:
        """The stored masks of one frame as a palette PNG."""
        return self._answer(calls.read_mask_png(session_id, frame))

    def delete(self, session_id: str) -> None:
        """Ends the session; nothing of it is kept."""
        self._answer(calls.delete_session(session_id))

    def models(self) -> tuple[Model, ...]:
        """The models that the service serves."""
        return self._answer(calls.list_models())

    def _answer(self, call: Call[T]) -> T:
        attempt = 1
        while True:
            try:
                return self._once(call)
            except ClientError as error:
                time.sleep(
                    calls.wait_before_retry_s(call, error, attempt=attempt, retry=self._retry)
                )
            attempt += 1

    def _once(self, call: Call[T]) -> T:
        try:
            response = self._http.request(
                call.method, call.path, params=call.query or None, files=call.parts or None
            )
        except httpx.TransportError as error:
            raise calls.transport_error(call, error) from error
        return calls.read_or_raise(call, response)
