"""The Python client to be awaited; `client.py` has both, and explains them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Self, TypeVar, Unpack

import httpx

from tamvt_client import calls as calls
from tamvt_client.calls import FRAMES_PER_APPEND, Call, Format, Retry, http_timeout
from tamvt_client.errors import ClientError
from tamvt_client.streaming import (
    OnProgress,
    StreamImage,
    Streaming,
    StreamOptions,
    StreamOptionsDict,
    stream_masks,
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

T = TypeVar("T")


class AsyncClient:
    """The calls of `Client`, to be awaited; images are encoded off the event loop."""

    def __init__(self, url: str, *, deadline_s: float = 120.0, retry: Retry | None = None) -> None:
        self._retry = retry or Retry()
        self._deadline_s = deadline_s
        self._http = httpx.AsyncClient(base_url=url, timeout=http_timeout(deadline_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def start(
        self,
        frame: Image,
        mask: Mask | None = None,
        *,
        objects: Sequence[ObjectPrompt] = (),
        options: Options | None = None,
    ) -> Session:
        """A new session; `frame` is frame 0, and either `mask` or `objects` says what to track."""
        return await self._answer(
            await asyncio.to_thread(calls.start_session, frame, mask, objects, options or Options())
        )

    async def append(
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
        return await self._answer(
            await asyncio.to_thread(
                calls.append_frames, session_id, frames, first_frame=first_frame, format=format
            )
        )

    async def append_video(
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
        return await self._answer(
            await asyncio.to_thread(
                calls.append_video,
                session_id,
                video,
                first_frame=first_frame,
                skip=skip,
                count=count,
                format=format,
            )
        )

    async def track(
        self,
        session_id: str,
        frames: AsyncIterable[Image],
        *,
        first_frame: int = 1,
        frames_per_append: int = FRAMES_PER_APPEND,
    ) -> AsyncIterator[FrameMasks]:
        """The masks of each frame, in order, as far as the frames go."""
        async for sent in _chunks(frames, frames_per_append):
            answer = await self.append(session_id, sent, first_frame=first_frame)
            for masks in answer.frames:
                yield masks
            first_frame += len(sent)

    def stream(
        self,
        session_id: str,
        frames: AsyncIterable[StreamImage],
        *,
        with_tickets: bool = False,
        on_progress: OnProgress | None = None,
        **choice: Unpack[StreamOptionsDict],
    ) -> AsyncGenerator[StreamedMasks, None]:
        """See `Client.stream`; `on_progress` is called on the event loop."""
        streaming = Streaming(
            str(self._http.base_url),
            StreamOptions(session_id, **choice),
            retry=self._retry,
            deadline_s=self._deadline_s,
            on_progress=on_progress,
            get_ticket=partial(self.ticket, session_id) if with_tickets else None,
        )
        return stream_masks(streaming, frames)

    async def ticket(self, session_id: str) -> str:
        """A ticket that opens one stream of the session, once, within seconds."""
        return await self._answer(calls.issue_ticket(session_id))

    async def correct(
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
        return await self._answer(
            await asyncio.to_thread(
                calls.correct_objects, session_id, mask, objects, frame=frame, format=format
            )
        )

    async def remove_object(self, session_id: str, object_id: int) -> None:
        """The object is tracked no longer; its masks so far stay."""
        await self._answer(calls.remove_object(session_id, object_id))

    async def fork(self, session_id: str, *, at: int | None = None) -> Session:
        """A new session from this one, as it is or as it was when the clip ended with `at`."""
        return await self._answer(calls.fork_session(session_id, at=at))

    async def session(self, session_id: str) -> Session:
        """The session as it is now."""
        return await self._answer(calls.read_session(session_id))

    async def masks(
        self,
        session_id: str,
        *,
        first: int | None = None,
        last: int | None = None,
        format: Format = "rle",
    ) -> AsyncIterator[FrameMasks]:
        """The stored masks of the frames `first` to `last`, both included, page after page."""
        call = calls.read_masks(session_id, first=first, last=last, format=format)
        while True:
            page = await self._answer(call)
            for masks in page.frames:
                yield masks
            if page.next is None:
                return
            call = calls.read_next_page(page.next)

    async def mask_png(self, session_id: str, frame: int) -> bytes:
        """The stored masks of one frame as a palette PNG."""
        return await self._answer(calls.read_mask_png(session_id, frame))

    async def delete(self, session_id: str) -> None:
        """Ends the session; nothing of it is kept."""
        await self._answer(calls.delete_session(session_id))

    async def models(self) -> tuple[Model, ...]:
        """The models that the service serves."""
        return await self._answer(calls.list_models())

    async def _answer(self, call: Call[T]) -> T:
        attempt = 1
        while True:
            try:
                return await self._once(call)
            except ClientError as error:
                await asyncio.sleep(
                    calls.wait_before_retry_s(call, error, attempt=attempt, retry=self._retry)
                )
            attempt += 1

    async def _once(self, call: Call[T]) -> T:
        try:
            response = await self._http.request(
                call.method, call.path, params=call.query or None, files=call.parts or None
            )
        except httpx.TransportError as error:
            raise calls.transport_error(call, error) from error
        return calls.read_or_raise(call, response)


async def _chunks(frames: AsyncIterable[Image], size: int) -> AsyncIterator[list[Image]]:
    chunk: list[Image] = []
    async for frame in frames:
        chunk.append(frame)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
