"""How many frames go into one append."""

from __future__ import annotations

import pytest

from service.commands.sending import whole_clips


@pytest.mark.parametrize(
    ("clip_length", "expected"), [(1, 8), (2, 8), (3, 6), (4, 8), (5, 5), (16, 16)]
)
def test_an_append_holds_whole_clips(clip_length: int, expected: int) -> None:
    assert whole_clips(8, clip_length=clip_length) == expected
