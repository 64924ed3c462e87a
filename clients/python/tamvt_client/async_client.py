"""The Python client to be awaited; `Client` is the same without `await`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Self, TypeVar

import httpx

from tamvt_client import calls
from tamvt_client.addresses import http_client
from tamvt_client.calls import FRAMES_PER_APPEND, Call
from tamvt_client.errors import ClientError
from tamvt_client.images import FileInput, ImageInput, MaskInput
from tamvt_client.masks import Rle
from tamvt_client.messages import (
    AppendedOut,
    CorrectedOut,
    FrameMasksOut,
    MaskFormat,
    ModelOut,
    ObjectPrompt,
    PointPrompt,
    RefinedOut,
    SessionOptions,
    SessionOut,
    StreamedMasks,
    StrokePrompt,
)
from tamvt_client.retry import Retry
from tamvt_client.stream import (
    OnProgress,
    OnStats,
    ResumingStream,
    StreamImage,
    StreamMaskFormat,
    StreamMode,
    StreamOptions,
    stream_masks,
)

T = TypeVar("T")


class AsyncClient:
    """Calls the service; images are read and encoded off the event loop.

    `key` is an API key, or a token of the issuer that the service trusts. `tls` names authorities
    of your own, and a certificate of the client where the service asks for one. `deadline_s` bounds
    each wait for the service: to send, and to hear. Leave the block, or await `close()`, to close
    the connections. A proxy of the environment is used unless the service is on this machine.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str = "",
        deadline_s: float = 120.0,
        retry: Retry | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._retry = retry or Retry()
        self._deadline_s = deadline_s
        self._key = key
        self._tls = tls
        self._http = http_client(url, deadline_s=deadline_s, key=key, tls=tls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def start(
        self,
        frame: ImageInput,
        mask: MaskInput | None = None,
        *,
        objects: Sequence[ObjectPrompt] = (),
        options: SessionOptions | None = None,
    ) -> SessionOut:
        """Start a session: `frame` is frame 0; either `mask` or `objects` says what to track."""
        return await self._send(
            await asyncio.to_thread(
                calls.start_session, frame, mask, objects, options or SessionOptions()
            )
        )

    async def append(
        self,
        session_id: str,
        frames: Sequence[ImageInput],
        *,
        first_frame: int,
        format: MaskFormat = "rle",
    ) -> AppendedOut:
        """Return the masks of the frames from number `first_frame` on.

        Frames that are already committed with the same bytes get the same masks again.
        """
        return await self._send(
            await asyncio.to_thread(
                calls.append_frames, session_id, frames, first_frame=first_frame, format=format
            )
        )

    async def append_video(
        self,
        session_id: str,
        video: FileInput,
        *,
        first_frame: int,
        skip: int = 0,
        count: int | None = None,
        format: MaskFormat = "rle",
    ) -> AppendedOut:
        """Return the masks of `count` frames (None: all) of an MP4, WebM or MOV after `skip`."""
        return await self._send(
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
        frames: AsyncIterable[ImageInput],
        *,
        first_frame: int | None = None,
        frames_per_append: int = FRAMES_PER_APPEND,
    ) -> AsyncGenerator[FrameMasksOut, None]:
        """Give the masks of each frame, in order, as far as the frames go.

        `first_frame` is the number of the first one; None goes on where the session is. Frames
        that are committed already are not tracked again: name their number to get their masks.
        """
        if first_frame is None:
            first_frame = (await self.session(session_id)).next_frame
        async for chunk in _chunks(frames, frames_per_append):
            appended = await self.append(session_id, chunk, first_frame=first_frame)
            for masks in appended.frames:
                yield masks
            first_frame += len(chunk)

    async def track_both_ways(
        self,
        frames: Sequence[ImageInput],
        mask: MaskInput | None = None,
        *,
        reference_frame: int,
        objects: Sequence[ObjectPrompt] = (),
        options: SessionOptions | None = None,
        frames_per_append: int = FRAMES_PER_APPEND,
    ) -> AsyncGenerator[FrameMasksOut, None]:
        """Give the masks of the frames after `reference_frame`, then of those before it, backward.

        `frame` of each counts as `frames` does. Each way is a session, deleted where it ends.
        """
        first = reference_frame
        for numbers in filter(None, (range(first + 1, len(frames)), range(first - 1, -1, -1))):
            session = await self.start(frames[first], mask, objects=objects, options=options)
            given = _give(frames[number] for number in numbers)
            tracked = self.track(session.session_id, given, frames_per_append=frames_per_append)
            try:
                async for masks in tracked:
                    yield masks.model_copy(update={"frame": numbers[masks.frame - 1]})
            finally:
                await self.delete(session.session_id)

    async def stream(
        self,
        session_id: str,
        frames: AsyncIterable[StreamImage],
        *,
        first_frame: int | None = None,
        mode: StreamMode = "lossless",
        masks: StreamMaskFormat = "rle",
        max_wait_ms: float = 50.0,
        durable_s: float | None = None,
        with_tickets: bool = False,
        on_progress: OnProgress | None = None,
        on_stats: OnStats | None = None,
    ) -> AsyncGenerator[StreamedMasks, None]:
        """Give the masks of frames that are sent as they come, over a WebSocket that resumes.

        `frames` may be endless; `first_frame` is as in `track`. `mode="latest"` passes over what
        comes too fast. With `durable_s` (0.5 to 5) the service commits at most so often, in
        seconds; frames are kept until then, up to 64 MB, and sent again after a failure.
        `on_progress` is called on the event loop, and so is `on_stats`, once a second, with how
        the service does. Raises as `ResumingStream.run`.
        """
        if first_frame is None:
            first_frame = (await self.session(session_id)).next_frame
        stream = ResumingStream(
            str(self._http.base_url),
            StreamOptions(
                session_id,
                first_frame,
                mode,
                masks,
                max_wait_ms,
                stats=on_stats is not None,
                durable_s=durable_s,
            ),
            retry=self._retry,
            deadline_s=self._deadline_s,
            on_progress=on_progress,
            on_stats=on_stats,
            get_ticket=partial(self.ticket, session_id) if with_tickets else None,
            key=self._key,
            tls=self._tls,
        )
        async with aclosing(stream_masks(stream, frames)) as streamed:
            async for item in streamed:
                yield item

    async def ticket(self, session_id: str) -> str:
        """Return a ticket that opens one stream of the session, once, within seconds."""
        return await self._send(calls.issue_ticket(session_id))

    async def correct(
        self,
        session_id: str,
        mask: MaskInput | None = None,
        *,
        objects: Sequence[ObjectPrompt] = (),
        frame: int | None = None,
        format: MaskFormat = "rle",
    ) -> CorrectedOut:
        """Return the newest frame with the given masks: of objects known already, or new ones.

        `frame` is its number: FrameConflict is raised if it is not the newest any more.
        """
        return await self._send(
            await asyncio.to_thread(
                calls.correct_objects, session_id, mask, objects, frame=frame, format=format
            )
        )

    async def remove_object(self, session_id: str, object_id: int) -> None:
        """Stop to track an object; its masks so far stay."""
        await self._send(calls.remove_object(session_id, object_id))

    async def fork(self, session_id: str, *, at: int | None = None) -> SessionOut:
        """Return a new session from this one, as it is or as it was at frame `at`."""
        return await self._send(calls.fork_session(session_id, at=at))

    async def rewind(
        self, session_id: str, frame: int, images: Callable[[int], ImageInput]
    ) -> SessionOut:
        """Return a new session as this one was at `frame`, to correct it and go on.

        `images` gives the images of the frames that are sent again, by their numbers: those after
        the newest snapshot at or before `frame`. The session itself stays as it is.
        """
        new = await self.fork(session_id, at=frame)
        next_frame, step = new.next_frame, new.clip_length
        try:
            while next_frame <= frame:
                numbers = range(next_frame, min(next_frame + step, frame + 1))
                clip = [await asyncio.to_thread(images, number) for number in numbers]
                appended = await self.append(new.session_id, clip, first_frame=next_frame)
                next_frame = appended.next_frame
        except BaseException:
            with suppress(ClientError):
                await self.delete(new.session_id)
            raise
        return new.model_copy(update={"next_frame": next_frame})

    async def session(self, session_id: str) -> SessionOut:
        """Return the session as it is now."""
        return await self._send(calls.read_session(session_id))

    async def sessions(self) -> AsyncGenerator[SessionOut, None]:
        """Give the caller's sessions in the order of their ids, page by page."""
        call = calls.list_sessions()
        while True:
            page = await self._send(call)
            for session in page.sessions:
                yield session
            if page.next is None:
                return
            call = calls.list_sessions(page.next)

    async def masks(
        self,
        session_id: str,
        *,
        first: int | None = None,
        last: int | None = None,
        format: MaskFormat = "rle",
    ) -> AsyncGenerator[FrameMasksOut, None]:
        """Give the stored masks of the frames `first` to `last`, both included, page by page."""
        call = calls.read_masks(session_id, first=first, last=last, format=format)
        while True:
            page = await self._send(call)
            for masks in page.frames:
                yield masks
            if page.next is None:
                return
            call = calls.read_next_page(page.next)

    async def mask_png(self, session_id: str, frame: int) -> bytes:
        """Return the stored masks of one frame as a palette PNG."""
        return await self._send(calls.read_mask_png(session_id, frame))

    async def delete(self, session_id: str) -> None:
        """End the session and forget everything of it."""
        await self._send(calls.delete_session(session_id))

    async def refine(
        self,
        image: ImageInput,
        box: Sequence[float] | None = None,
        *,
        points: Sequence[PointPrompt] = (),
        strokes: Sequence[StrokePrompt] = (),
        polygon: Sequence[float] | None = None,
        previous: Rle | None = None,
    ) -> RefinedOut:
        """Return the mask of what is pointed at in an image; nothing is stored.

        `box` is [x, y, width, height], `polygon` [x0, y0, x1, y1, ...], each roughly around the
        object. Points and strokes are taken in their order, and change the mask `previous`.
        """
        return await self._send(
            await asyncio.to_thread(
                calls.refine_mask,
                image,
                box,
                points=points,
                strokes=strokes,
                polygon=polygon,
                previous=previous,
            )
        )

    async def models(self) -> tuple[ModelOut, ...]:
        """Return the models that the service serves; the first one is the default."""
        return await self._send(calls.list_models())

    async def _send(self, call: Call[T]) -> T:
        retrying = self._retry.retrying(partial(calls.allow_retry, call))
        return await retrying(self._send_once, call)

    async def _send_once(self, call: Call[T]) -> T:
        try:
            response = await self._http.request(
                call.method, call.path, params=call.query or None, files=call.parts or None
            )
        except httpx.TransportError as error:
            raise calls.transport_error(call, error) from error
        return calls.read_or_raise(call, response)


async def _give(frames: Iterable[ImageInput]) -> AsyncGenerator[ImageInput, None]:
    for frame in frames:
        yield frame


async def _chunks(
    frames: AsyncIterable[ImageInput], size: int
) -> AsyncGenerator[list[ImageInput], None]:
    chunk: list[ImageInput] = []
    async for frame in frames:
        chunk.append(frame)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
