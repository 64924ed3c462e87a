"""The videos and images of tasks, fetched from Label Studio once and kept on disk."""

from __future__ import annotations

import base64
import json
import threading
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpx

from tamvt_label_studio.errors import NoPrediction

MAX_BYTES: Final = 4_000_000_000
DEADLINE_S: Final = 60.0


class MediaStore:
    """Fetches media by the address that a task tells; `url` and `key` are Label Studio's own.

    Without them they are what Label Studio told when it was connected. The key goes to Label
    Studio alone, never to another address that a task names.
    """

    def __init__(self, folder: Path, *, url: str | None, key: str | None) -> None:
        self._folder = folder
        self._given = url is not None
        self._url = url
        self._key = key
        self._lock = threading.Lock()

    def told(self, url: str | None, key: str | None) -> None:
        """Take what Label Studio tells of itself, unless it was given."""
        if not self._given and url:
            self._url, self._key = url, key  # a pair: a key is for the site that told it

    def path_of(self, address: str) -> Path:
        """Return the file of a task's media; raise NoPrediction where it cannot be fetched."""
        whole = urljoin(f"{self._url}/", address) if self._url else address
        if urlsplit(whole).scheme not in ("http", "https"):
            raise NoPrediction(
                f"{address!r} cannot be fetched: set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY"
            )
        suffix = Path(urlsplit(whole).path).suffix
        file = self._folder / f"{sha256(whole.encode()).hexdigest()[:32]}{suffix}"
        with self._lock:  # one download at a time; the second one finds it
            if not file.exists():
                self._fetch(whole, file)
        return file

    def _fetch(self, address: str, file: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part")
        try:
            with (
                httpx.Client(timeout=DEADLINE_S, follow_redirects=True) as http,
                http.stream("GET", address, headers=self._headers(http, address)) as answer,
                unfinished.open("wb") as written,
            ):
                answer.raise_for_status()
                size = 0
                for chunk in answer.iter_bytes():
                    size += len(chunk)
                    if size > MAX_BYTES:
                        raise NoPrediction(f"{address} has more than {MAX_BYTES} bytes")
                    written.write(chunk)
        except httpx.HTTPError as error:
            raise NoPrediction(
                f"{address} cannot be fetched: {error}", HTTPStatus.BAD_GATEWAY
            ) from error
        unfinished.replace(file)

    def _headers(self, http: httpx.Client, address: str) -> dict[str, str]:
        if not self._url or not self._key or not _same_site(address, self._url):
            return {}
        if not _is_refresh_token(self._key):
            return {"Authorization": f"Token {self._key}"}
        answer = http.post(
            urljoin(f"{self._url}/", "/api/token/refresh"), json={"refresh": self._key}
        )
        answer.raise_for_status()
        return {"Authorization": f"Bearer {answer.json()['access']}"}


def _same_site(one: str, other: str) -> bool:
    first, second = urlsplit(one), urlsplit(other)
    return (first.scheme, first.netloc) == (second.scheme, second.netloc)


def _is_refresh_token(key: str) -> bool:
    """Return whether a key is one of the newer personal access tokens, which are exchanged."""
    head, *rest = key.split(".")
    try:
        return len(rest) == 2 and "alg" in json.loads(base64.urlsafe_b64decode(head + "=="))
    except ValueError:
        return False
