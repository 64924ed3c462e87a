"""The error tree of the service. `problems.py` alone maps each class to an HTTP status.

TamvtError
├── Refused                      the request is at fault and changed nothing
│   ├── BadRequest
│   │   ├── MalformedBody        broken multipart or JSON
│   │   ├── BadMessage           a message that a stream does not expect
│   │   ├── BadImage             not an image that the service reads
│   │   │   └── TruncatedImage   its end is missing
│   │   ├── BadMask              undecodable, or impossible
│   │   │   ├── WrongMaskSize    of another size than its frame
│   │   │   └── NoObjects        without a pixel of any object
│   │   ├── BadOption            an unknown or impossible field, option or parameter
│   │   ├── BadVideo             unsupported, or without a frame
│   │   │   ├── UnknownCodec     of a codec that is not read
│   │   │   └── DamagedVideo     cut off or damaged: the text names the picture
│   │   ├── WrongFrameSize       a frame of another size than the session's
│   │   ├── NoFrames             an append without any frame
│   │   ├── TooManyObjects       more objects than the service or the model takes
│   │   └── TooManyContours      masks that are too intricate for polygons
│   ├── PayloadTooLarge          more bytes than allowed: carries the limit
│   │   ├── HeadTooLarge         the head of a request, path and headers
│   │   ├── MasksTooLarge        masks of one frame that take too many bytes
│   │   ├── SessionTooLarge      a session that would take too many bytes
│   │   ├── PictureTooLarge      wider or higher than allowed; found before decoding
│   │   ├── TooManyFrames        more frames than one append takes
│   │   └── CostlyVideo          takes more memory or time to decode than one may
│   ├── UnsupportedMedia         a body of a kind that is not read here
│   ├── SlowUpload               the body did not arrive within its deadline
│   ├── Idle                     a stream without a message for too long
│   ├── BadTicket                missing, unknown, used or expired
│   ├── Unauthenticated          without a valid key or token; never says why
│   ├── MissingScope             a key or token that does not allow this
│   ├── ForeignHost              a name that this service does not have
│   ├── ForeignOrigin            a page that may not use this service
│   ├── TooMany                  more sessions, bytes, objects or streams of one tenant
│   │   └── RateLimited          more of one tenant in a second than allowed
│   ├── UnknownSession           unknown or expired: the answer does not say which
│   ├── UnknownFrame             not committed, or older than what is kept
│   ├── UnknownObject            an object that the session does not track
│   ├── LastObject               the only object of a session, which is deleted instead
│   ├── TooManyCorrections       every pinned entry must stay, so no correction can be added
│   ├── RollbackTooFar           older than what is kept: carries the oldest frame possible
│   ├── UnknownModel             a model that this service does not serve
│   └── Conflict                 the session is at another frame: carries the one it expects
│       ├── FrameAhead           the request leaves frames out
│       └── FrameChanged         a committed frame, sent again with other content
├── Unavailable                  try again later; carries `retry_after_s`
│   ├── StoreUnavailable         Redis is away or slow; a write may have happened
│   │   └── StoreFull            Redis has no memory left; nothing was written
│   ├── EngineUnavailable        the model gave no answer
│   ├── DecoderUnavailable       no process decodes the video
│   ├── IssuerUnavailable        the issuer of tokens has not told its keys
│   └── Overloaded               a bounded queue is full
├── CorruptSession               stored data fails its checks: carries the session's id
└── StartupError                 the service cannot start; the text is one line that says why
    ├── Misconfigured            settings that cannot work together, or a program not found
    ├── ModelMissing             no graphs or no weights in the folder
    └── ModelMismatch            graphs, weights and metadata do not belong together
"""

from __future__ import annotations

from collections.abc import Mapping

ECHOED = 100  # characters


def echo(given: object) -> str:
    """Return what a client sent as an error may name it: at most 100 characters of it."""
    text = str(given)
    if len(text) > ECHOED:
        text = f"{text[:ECHOED]}..."
    return text.encode("utf-8", "backslashreplace").decode()  # JSON may hold half a character


class TamvtError(Exception):
    """The root. The text of every error is one sentence that may be shown to the client."""


class Refused(TamvtError):
    """The request is at fault and changed nothing."""


class BadRequest(Refused):
    """The request cannot be understood."""


class MalformedBody(BadRequest):
    """A body that is broken multipart, or JSON that is broken or ambiguous."""


class BadMessage(BadRequest):
    """A message that a stream does not know, or does not expect at this moment."""


class BadImage(BadRequest):
    """Bytes that are not an image that the service reads."""


class TruncatedImage(BadImage):
    """An image whose end is missing."""


class BadMask(BadRequest):
    """A mask that is undecodable, or impossible."""


class WrongMaskSize(BadMask):
    """A mask of another size than its frame."""


class NoObjects(BadMask):
    """A mask without a pixel of any object."""


class BadOption(BadRequest):
    """An unknown or impossible field, option or parameter."""


class BadVideo(BadRequest):
    """A video that is unsupported, unreadable or empty."""


class UnknownCodec(BadVideo):
    """A video of a codec that is not read."""


class DamagedVideo(BadVideo):
    """A video of which only the beginning can be decoded; the text names the first picture."""


class WrongFrameSize(BadRequest):
    """A frame of another size than the session's."""


class NoFrames(BadRequest):
    """An append without any frame."""


class TooManyObjects(BadRequest):
    """More objects than the service or the model takes."""


class TooManyContours(BadRequest):
    """Masks in too many parts, or with too long outlines, to be written as polygons."""


class PayloadTooLarge(Refused):
    """More than allowed. `limit` is what is allowed, in the unit that the text names."""

    def __init__(self, message: str, *, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class HeadTooLarge(PayloadTooLarge):
    """The head of a request, with its path and headers, is too large."""


class MasksTooLarge(PayloadTooLarge):
    """The masks of one frame, given or predicted, that take more bytes than allowed."""


class SessionTooLarge(PayloadTooLarge):
    """A session that would take more bytes than allowed."""


class PictureTooLarge(PayloadTooLarge):
    """A picture wider or higher than allowed, found before it is decoded."""

    def __init__(self, message: str, *, limit: int) -> None:
        way_out = "send it smaller, or raise TAMVT_MAX_FRAME_WIDTH and TAMVT_MAX_FRAME_HEIGHT"
        super().__init__(f"{message}: {way_out}", limit=limit)


class TooManyFrames(PayloadTooLarge):
    """More frames than one append takes."""


class CostlyVideo(PayloadTooLarge):
    """A video that takes more memory or processor time to decode than one may."""


class UnsupportedMedia(Refused):
    """A body of a media type that the route does not read."""


class SlowUpload(Refused):
    """A body that did not arrive within its deadline."""


class Idle(Refused):
    """A stream on which no message has come for too long."""


class BadTicket(Refused):
    """A ticket that is missing, unknown, used, expired, or another session's."""


class Unauthenticated(Refused):
    """A call without a valid key or token. The text never says what is wrong with a given one."""


class MissingScope(Refused):
    """A key or token that is valid and does not allow this."""


class ForeignHost(Refused):
    """A request to a name that this service does not have."""


class ForeignOrigin(Refused):
    """A page of an origin that may not use this service."""


class TooMany(Refused):
    """One tenant's quota of sessions, bytes, objects or streams, `limit`, is used up for now."""

    def __init__(self, message: str, *, limit: int, retry_after_s: float = 10.0) -> None:
        super().__init__(message)
        self.limit = limit
        self.retry_after_s = retry_after_s


class RateLimited(TooMany):
    """One tenant uses more in a second than it may. `headers` tell what is left, and until when."""

    def __init__(
        self, message: str, *, limit: int, retry_after_s: float, headers: Mapping[str, str]
    ) -> None:
        super().__init__(message, limit=limit, retry_after_s=retry_after_s)
        self.headers = headers


class UnknownSession(Refused):
    """A session that never existed, was deleted, or has expired."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {echo(session_id)!r} is unknown or expired")
        self.session_id = echo(session_id)


class UnknownFrame(Refused):
    """A frame that is not committed, or older than what is kept."""


class UnknownObject(Refused):
    """An object that the session does not track."""


class LastObject(Refused):
    """The only object of a session: a session tracks at least one."""


class TooManyCorrections(Refused):
    """A correction that cannot be pinned, because every pinned entry must stay."""


class RollbackTooFar(Refused):
    """A frame that is too old to go back to; `oldest` is the oldest possible."""

    def __init__(self, message: str, *, oldest: int) -> None:
        super().__init__(f"{message}; the oldest frame possible is {oldest}")
        self.oldest = oldest


class UnknownModel(Refused):
    """A model that this service does not serve."""


class Conflict(Refused):
    """The session is at another frame than the request says; it takes `expected` next."""

    def __init__(self, message: str, *, expected: int) -> None:
        super().__init__(message)
        self.expected = expected


class FrameAhead(Conflict):
    """The frames between the session's and the request's are missing."""


class FrameChanged(Conflict):
    """A frame that is committed already, sent again with other content."""


class Unavailable(TamvtError):
    """A part is away or busy. The same request may succeed after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreUnavailable(Unavailable):
    """Redis is away or slow. A write whose answer was lost may still have happened."""


class StoreFull(StoreUnavailable):
    """Redis has no memory left for what is new. Nothing was written; all that was stays."""


class EngineUnavailable(Unavailable):
    """The model gave no answer within its deadline, or cannot be reached."""


class DecoderUnavailable(Unavailable):
    """The process that decodes videos has not started, or has ended."""


class IssuerUnavailable(Unavailable):
    """The issuer of tokens has not told its keys, so that no token can be checked."""


class Overloaded(Unavailable):
    """A bounded queue is full."""


class CorruptSession(TamvtError):
    """Stored data of one session fails its checks; other sessions are not affected."""

    def __init__(self, session_id: str, reason: str) -> None:
        super().__init__(f"stored data of session {session_id!r} is corrupt: {reason}")
        self.session_id = session_id


class StartupError(TamvtError):
    """The service cannot start; the text is the one line that is printed."""


class Misconfigured(StartupError):
    """Settings that cannot work, or a program that is not found."""


class ModelMissing(StartupError):
    """A model without its graphs or weights."""


class ModelMismatch(StartupError):
    """Graphs, weights and metadata that do not belong together."""
