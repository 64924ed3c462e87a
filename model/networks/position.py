"""Where and when: fixed sine codes of place and frame, and the learned relative time encoding.

B sessions, N entries, T tokens, C channels.
"""

import math

import torch
from torch import Tensor, nn

TEMPERATURE = 10_000.0


def sine_position(like: Tensor, channels: int) -> Tensor:
    """Return the code of every token's place in a map (B, C, h, w), (h * w, channels), y before x.

    DETR's sine code (Carion et al. 2020): coordinates 1..h over h, times 2 pi; sine and cosine
    interleaved.
    """
    height, width = like.shape[-2:]
    rows = axis_code(height, channels // 2, like)
    columns = axis_code(width, channels // 2, like)
    grid = (
        rows[:, None, :].expand(height, width, channels // 2),
        columns[None, :, :].expand(height, width, channels // 2),
    )
    return torch.cat(grid, dim=-1).reshape(height * width, channels)


def axis_code(length: int, channels: int, like: Tensor) -> Tensor:
    """Return the code (length, channels) of coordinates 1..length."""
    coordinate = torch.arange(1, length + 1, device=like.device, dtype=torch.float32)
    angle = coordinate[:, None] / (length + 1e-6) * (2 * math.pi) / frequencies(channels, like)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)


def frequencies(channels: int, like: Tensor) -> Tensor:
    """Return the divisors (channels / 2,) of the sine code."""
    exponent = torch.arange(0, channels, 2, device=like.device, dtype=torch.float32) / channels
    return TEMPERATURE**exponent


def frame_code(length: int, channels: int, like: Tensor) -> Tensor:
    """Return the fixed sine code (length, channels) of a frame's place in its clip, from 0."""
    place = torch.arange(0, length, device=like.device, dtype=torch.float32)
    angle = place[:, None] / frequencies(channels, like)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)


class TimeEncoding(nn.Module):
    """How matching weighs an entry by its age; this one weighs all alike (no encoding)."""

    def forward(self, age: Tensor) -> Tensor:
        """Return what multiplies each entry's logits, (B, N), by age (B, N); 0 in empty slots."""
        return torch.where(age >= 0, 1.0, 0.0)

    def bias(self, age: Tensor) -> Tensor | None:
        """Return what is added to every entry's logits, (B, N), or None."""
        return None

    def interpolated(self, *, trained: int, rows: int) -> "TimeEncoding":
        """Return an encoding for up to `rows` entries; rows above `trained` are made anew."""
        return self


class RelativeTimeEncoding(TimeEncoding):
    """Multiplicative relative time encoding: one scalar for each entry, by its age (eq. 2).

    Row e_n serves a memory of n entries; e_n[0] is the newest entry's factor and e_n[n - 1] the
    reference's. All rows lie one after the other in `table`, e_n from n (n - 1) / 2 on.
    """

    NEUTRAL = 1.0  # where the table starts: attention as it is

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.table = nn.Parameter(torch.full((rows * (rows + 1) // 2,), self.NEUTRAL))

    def forward(self, age: Tensor) -> Tensor:
        return self.look_up(age)

    def look_up(self, age: Tensor) -> Tensor:
        """Return the scalar (B, N) of every entry, from its age (B, N); empty slots (-1) get 0."""
        present = age >= 0
        count = present.sum(dim=1, keepdim=True)  # (B, 1)
        index = count * (count - 1) // 2 + age.clamp(min=0)
        return torch.where(present, self.table[index], 0.0)

    def interpolated(self, *, trained: int, rows: int) -> "RelativeTimeEncoding":
        """Return an encoding for banks of up to `rows` entries; rows above `trained` are made anew.

        Each made row is its predecessor resampled linearly with both ends kept, so the factors of
        the newest entry and of the reference survive exactly (TAM-VT, supplement).
        """
        parts = [self.row(n) for n in range(1, trained + 1)]
        for length in range(trained + 1, rows + 1):
            parts.append(resample(parts[-1], length))
        wider = type(self)(rows)
        wider.table.data.copy_(torch.cat(parts))
        return wider

    def row(self, n: int) -> Tensor:
        """Return e_n, (n,)."""
        start = n * (n - 1) // 2
        return self.table.detach()[start : start + n]


class AdditiveTimeEncoding(RelativeTimeEncoding):
    """The ablation of the multiplicative one: the scalar is added to the scaled logits.

    Rows and ages as there; it starts at 0, so as plain attention too.
    """

    NEUTRAL = 0.0

    def forward(self, age: Tensor) -> Tensor:
        return torch.where(age >= 0, 1.0, 0.0)

    def bias(self, age: Tensor) -> Tensor:
        return self.look_up(age)


def resample(row: Tensor, length: int) -> Tensor:
    """Return a row stretched linearly to `length` points; its two ends stay as they are."""
    place = torch.linspace(0, len(row) - 1, length, dtype=torch.float64)
    left = place.floor().long().clamp(max=max(len(row) - 2, 0))
    right = (left + 1).clamp(max=len(row) - 1)
    share = (place - left).to(row.dtype)
    return row[left] * (1 - share) + row[right] * share
