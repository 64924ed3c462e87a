"""`Client`: the calls of `AsyncClient`, which runs on an event loop in a thread of its own.

    with Client("http://127.0.0.1:8000") as client:
        session = client.start(first_frame, mask)
        for masks in client.track(session.session_id, frames):
            labels = masks.label_map(session.frame_size)

`images.py` says what an image and a mask may be. Every call raises a `ClientError` (`errors.py`),
and sends again, with full jitter, what may be sent twice: after a 503, a refused or a broken
connection.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, ParamSpec, Self, TypeVar

from anyio import to_thread
from anyio.from_thread import start_blocking_portal

from tamvt_client.async_client import AsyncClient
from tamvt_client.calls import FRAMES_PER_APPEND
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
from tamvt_client.stream import OnProgress, OnStats, StreamImage, StreamMaskFormat, StreamMode

T = TypeVar("T")
P = ParamSpec("P")


class Client:
    """Calls the service and waits for its answers; see `AsyncClient`, whose calls these are.

    Leave the block, or call `close()`, to close the connections and end the thread.
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
        self._client = AsyncClient(url, key=key, deadline_s=deadline_s, retry=retry, tls=tls)
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal(name="tamvt-client"))
            # What is left under way, such as a stream that nobody reads any more, is cancelled.
            stack.callback(self._portal.call, self._portal.stop, True)
            stack.callback(self._portal.call, self._client.close)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._stack.close()

    def start(
        self,
        frame: ImageInput,
        mask: MaskInput | None = None,
        *,
        objects: Sequence[ObjectPrompt] = (),
        options: SessionOptions | None = None,
    ) -> SessionOut:
        """Start a session: `frame` is frame 0; either `mask` or `objects` says what to track."""
        return self._wait(self._client.start, frame, mask, objects=objects, options=options)

    def append(
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
        return self._wait(
            self._client.append, session_id, frames, first_frame=first_frame, format=format
        )

    def append_video(
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
        return self._wait(
            self._client.append_video,
            session_id,
            video,
            first_frame=first_frame,
            skip=skip,
            count=count,
            format=format,
        )

    def track(
        self,
        session_id: str,
        frames: Iterable[ImageInput],
        *,
        first_frame: int | None = None,
        frames_per_append: int = FRAMES_PER_APPEND,
    ) -> Iterator[FrameMasksOut]:
        """Give the masks of each frame, in order; `frames` is read in another thread.

        `first_frame` is the number of the first one; None goes on where the session is. Frames
        that are committed already are not tracked again: name their number to get their masks.
        """
        return self._iterate(
            self._client.track(
                session_id,
                _read_in_thread(frames),
                first_frame=first_frame,
                frames_per_append=frames_per_append,
            )
        )

    def track_both_ways(
        self,
        frames: Sequence[ImageInput],
        mask: MaskInput | None = None,
        *,
        reference_frame: int,
        objects: Sequence[ObjectPrompt] = (),
        options: SessionOptions | None = None,
        frames_per_append: int = FRAMES_PER_APPEND,
    ) -> Iterator[FrameMasksOut]:
        """Give the masks of the frames after `reference_frame`, then of those before it, backward.

        `frame` of each counts as `frames` does. Each way is a session, deleted where it ends.
        """
        return self._iterate(
            self._client.track_both_ways(
                frames,
                mask,
                reference_frame=reference_frame,
                objects=objects,
                options=options,
                frames_per_append=frames_per_append,
            )
        )

    def stream(
        self,
        session_id: str,
        frames: Iterable[StreamImage],
        *,
        first_frame: int | None = None,
        mode: StreamMode = "lossless",
        masks: StreamMaskFormat = "rle",
        max_wait_ms: float = 50.0,
        durable_s: float | None = None,
        with_tickets: bool = False,
        on_progress: OnProgress | None = None,
        on_stats: OnStats | None = None,
    ) -> Iterator[StreamedMasks]:
        """Give the masks of frames that are sent as they come, over a WebSocket that resumes.

        `frames` may be endless and is read in another thread; leaving the loop ends the stream,
        once the source has given the frame it is at. `first_frame` is as in `track`.
        `mode="latest"` passes over what comes too fast. `durable_s` is as in `AsyncClient.stream`.
        `on_progress`, and `on_stats` once a second, are called in the client's thread, and must
        not call the client. Raises as `ResumingStream.run`.
        """
        return self._iterate(
            self._client.stream(
                session_id,
                _read_in_thread(frames),
                first_frame=first_frame,
                mode=mode,
                masks=masks,
                max_wait_ms=max_wait_ms,
                durable_s=durable_s,
                with_tickets=with_tickets,
                on_progress=on_progress,
                on_stats=on_stats,
            )
        )

    def ticket(self, session_id: str) -> str:
        """Return a ticket that opens one stream of the session, once, within seconds."""
        return self._wait(self._client.ticket, session_id)

    def correct(
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
        return self._wait(
            self._client.correct, session_id, mask, objects=objects, frame=frame, format=format
        )

    def remove_object(self, session_id: str, object_id: int) -> None:
        """Stop to track an object; its masks so far stay."""
        self._wait(self._client.remove_object, session_id, object_id)

    def fork(self, session_id: str, *, at: int | None = None) -> SessionOut:
        """Return a new session from this one, as it is or as it was at frame `at`."""
        return self._wait(self._client.fork, session_id, at=at)

    def rewind(
        self, session_id: str, frame: int, images: Callable[[int], ImageInput]
    ) -> SessionOut:
        """Return a new session as this one was at `frame`, to correct it and go on.

        `images` gives the images of the frames that are sent again, by their numbers: those after
        the newest snapshot at or before `frame`. The session itself stays as it is.
        """
        return self._wait(self._client.rewind, session_id, frame, images)

    def session(self, session_id: str) -> SessionOut:
        """Return the session as it is now."""
        return self._wait(self._client.session, session_id)

    def sessions(self) -> Iterator[SessionOut]:
        """Give the caller's sessions in the order of their ids, page by page."""
        return self._iterate(self._client.sessions())

    def masks(
        self,
        session_id: str,
        *,
        first: int | None = None,
        last: int | None = None,
        format: MaskFormat = "rle",
    ) -> Iterator[FrameMasksOut]:
        """Give the stored masks of the frames `first` to `last`, both included, page by page."""
        return self._iterate(self._client.masks(session_id, first=first, last=last, format=format))

    def mask_png(self, session_id: str, frame: int) -> bytes:
        """Return the stored masks of one frame as a palette PNG."""
        return self._wait(self._client.mask_png, session_id, frame)

    def delete(self, session_id: str) -> None:
        """End the session and forget everything of it."""
        self._wait(self._client.delete, session_id)

    def refine(
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
        return self._wait(
            self._client.refine,
            image,
            box,
            points=points,
            strokes=strokes,
            polygon=polygon,
            previous=previous,
        )

    def models(self) -> tuple[ModelOut, ...]:
        """Return the models that the service serves; the first one is the default."""
        return self._wait(self._client.models)

    def _wait(
        self, call: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        result: T = self._portal.call(partial(call, *args, **kwargs))
        return result

    def _iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        async def advance() -> T | None:
            return await anext(items, None)

        try:
            while (item := self._portal.call(advance)) is not None:
                yield item
        finally:
            # The client may be closed, or an interrupted step still under way: closing ends both.
            with suppress(RuntimeError):
                self._portal.call(items.aclose)


async def _read_in_thread(frames: Iterable[T]) -> AsyncGenerator[T, None]:
    """Give the frames of a source that blocks; a thread waits for each, the event loop does not."""
    source = iter(frames)
    while (frame := await to_thread.run_sync(next, source, None)) is not None:
        yield frame
