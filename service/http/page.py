"""The page and tamvt.js: files of service/web and the client, served from memory (decision 56)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from fastapi import APIRouter, Depends, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.http.dependencies import check_host

FOLDER: Final = Path(__file__).parents[1] / "web"
# The JavaScript client is a package of its own; the wheel carries a copy beside the page's files.
IN_CHECKOUT: Final = FOLDER.parents[1] / "clients" / "javascript" / "tamvt.js"
CLIENT: Final = IN_CHECKOUT if IN_CHECKOUT.exists() else FOLDER / "tamvt.js"
MEDIA_TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
# Everything comes from here: no other host, no script or style inside the page.
POLICY: Final = "; ".join(
    (
        "default-src 'self'",  # decision 40
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final[Mapping[str, str]] = {
    # Kept by the browser, but asked for again each time: a new version shows at once.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "camera=(self), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class File(NamedTuple):
    """A file as it is sent."""

    body: bytes
    media_type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> File:
        """Read the file; its ETag tells its content."""
        body = path.read_bytes()
        digest = hashlib.sha256(body).hexdigest()[:32]
        return cls(body, MEDIA_TYPES[path.suffix], f'"{digest}"')


# They are few and small: read once, when the service starts.
FILES: Final[Mapping[str, File]] = {
    path.relative_to(FOLDER).as_posix(): File.read(path)
    for path in sorted(FOLDER.rglob("*"))
    if path.suffix in MEDIA_TYPES
} | {"tamvt.js": File.read(CLIENT)}

router = APIRouter(include_in_schema=False, dependencies=[Depends(check_host)])


@router.api_route("/", methods=["GET", "HEAD"])
async def show_page(request: Request) -> Response:
    """Show the page to try the service on."""
    return _file_response(request, "index.html")


@router.api_route("/docs", methods=["GET", "HEAD"])
async def show_reference(request: Request) -> Response:
    """The reference of the API, drawn from /openapi.json and /asyncapi.json."""
    return _file_response(request, "reference.html")


@router.api_route("/web/{name:path}", methods=["GET", "HEAD"])
async def show_file(name: str, request: Request) -> Response:
    """Send one of the page's files: the browser client is /web/tamvt.js."""
    return _file_response(request, name)


def _file_response(request: Request, name: str) -> Response:
    """Return the file, or the range of it that a <video> asks for in order to seek."""
    file = FILES.get(name)
    if file is None:
        raise HTTPException(404)
    headers = {**HEADERS, "ETag": file.etag, "Accept-Ranges": "bytes"}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    size = len(file.body)
    asked = re.fullmatch(r"bytes=(\d{1,18})-(\d{0,18})", request.headers.get("range", ""))
    first = int(asked[1]) if asked else 0
    last = min(int(asked[2]), size - 1) if asked and asked[2] else size - 1
    if last - first + 1 == size or first > last:  # all of it, or a range that is none
        return Response(file.body, media_type=file.media_type, headers=headers)
    return Response(
        file.body[first : last + 1],
        status_code=206,
        media_type=file.media_type,
        headers={**headers, "Content-Range": f"bytes {first}-{last}/{size}"},
    )
