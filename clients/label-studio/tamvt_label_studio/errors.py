"""What is told to Label Studio when no prediction can be made."""

from __future__ import annotations

from http import HTTPStatus


class NoPrediction(Exception):
    """The text says why, in one sentence for the person; `status` is HTTP's."""

    def __init__(self, text: str, status: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY) -> None:
        super().__init__(text)
        self.status = status
