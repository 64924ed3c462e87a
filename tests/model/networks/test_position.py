"""Where and when: codes worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from model.networks.position import (
    AdditiveTimeEncoding,
    RelativeTimeEncoding,
    TimeEncoding,
    frame_code,
    resample,
    sine_position,
)


def counted(rows: int) -> RelativeTimeEncoding:
    """An encoding whose table is 0, 1, 2, ...: e_1 = 0, e_2 = 1 2, e_3 = 3 4 5."""
    encoding = RelativeTimeEncoding(rows)
    encoding.table.data = torch.arange(len(encoding.table), dtype=torch.float32)
    return encoding


def test_a_new_encoding_leaves_attention_as_it_is() -> None:
    encoding = RelativeTimeEncoding(9)
    assert encoding.table.tolist() == [1.0] * 45


def test_the_number_of_entries_picks_the_row_and_the_age_the_place() -> None:
    age = torch.tensor([[2, 1, 0]], dtype=torch.int32)  # the reference first
    assert counted(4)(age).tolist() == [[5.0, 4.0, 3.0]]


def test_empty_slots_count_for_nothing() -> None:
    age = torch.tensor([[1, -1, 0, -1]], dtype=torch.int32)
    assert counted(4)(age).tolist() == [[2.0, 0.0, 1.0, 0.0]]


def test_each_session_has_its_own_number_of_entries() -> None:
    age = torch.tensor([[0, -1, -1], [2, 1, 0]], dtype=torch.int32)
    assert counted(4)(age).tolist() == [[0.0, 0.0, 0.0], [5.0, 4.0, 3.0]]


def test_a_row_is_stretched_evenly_and_keeps_its_ends() -> None:
    row = torch.tensor([1.0, 4.0, 2.0])
    torch.testing.assert_close(resample(row, 5), torch.tensor([1.0, 2.5, 4.0, 3.0, 2.0]))
    torch.testing.assert_close(resample(row, 4), torch.tensor([1.0, 3.0, 4.0 - 2 / 3, 2.0]))


def test_a_row_of_one_is_repeated() -> None:
    assert resample(torch.tensor([0.7]), 2).tolist() == pytest.approx([0.7, 0.7])


def test_rows_that_were_trained_survive_interpolation() -> None:
    encoding = counted(9)
    wider = encoding.interpolated(trained=3, rows=16)
    assert len(wider.table) == 16 * 17 // 2
    assert wider.table[:6].tolist() == encoding.table[:6].tolist()


def test_rows_above_the_trained_ones_are_made_from_them() -> None:
    wider = counted(9).interpolated(trained=2, rows=4)
    assert wider.row(3).tolist() == [1.0, 1.5, 2.0]
    torch.testing.assert_close(wider.row(4), torch.tensor([1.0, 4 / 3, 5 / 3, 2.0]))


def test_newest_and_reference_keep_their_factor_in_every_larger_bank() -> None:
    encoding = RelativeTimeEncoding(6)
    encoding.table.data.uniform_(0.5, 1.5)
    wider = encoding.interpolated(trained=6, rows=16)
    ends = [(wider.row(n)[0].item(), wider.row(n)[-1].item()) for n in range(6, 17)]
    assert set(ends) == {(encoding.row(6)[0].item(), encoding.row(6)[-1].item())}


def test_the_table_learns_where_it_was_used() -> None:
    encoding = RelativeTimeEncoding(3)
    encoding(torch.tensor([[1, 0]])).sum().backward()
    assert encoding.table.grad is not None
    assert encoding.table.grad.tolist() == [0.0, 1.0, 1.0, 0.0, 0.0, 0.0]


def test_the_additive_encoding_adds_what_the_other_multiplies_by() -> None:
    encoding = AdditiveTimeEncoding(4)
    assert encoding.table.tolist() == [0.0] * 10
    encoding.table.data = torch.arange(10, dtype=torch.float32)
    age = torch.tensor([[2, 1, 0, -1]], dtype=torch.int32)
    assert encoding.bias(age).tolist() == [[5.0, 4.0, 3.0, 0.0]]
    assert encoding(age).tolist() == [[1.0, 1.0, 1.0, 0.0]]


def test_the_additive_encoding_is_interpolated_alike() -> None:
    encoding = AdditiveTimeEncoding(9)
    encoding.table.data = counted(9).table.data
    wider = encoding.interpolated(trained=3, rows=16)
    assert isinstance(wider, AdditiveTimeEncoding)
    assert torch.equal(wider.table, counted(9).interpolated(trained=3, rows=16).table)


def test_without_an_encoding_all_entries_weigh_alike() -> None:
    encoding = TimeEncoding()
    age = torch.tensor([[1, -1, 0]])
    assert encoding(age).tolist() == [[1.0, 0.0, 1.0]]
    assert encoding.bias(age) is None
    assert encoding.interpolated(trained=1, rows=16) is encoding
    assert list(encoding.parameters()) == []


def placed(height: int, width: int, channels: int) -> Tensor:
    return sine_position(torch.zeros(1, 1, height, width), channels)


def test_a_place_is_coded_by_row_then_column() -> None:
    half, full = [0.0, -1.0], [0.0, 1.0]  # sine and cosine of pi and of 2 pi
    expected = torch.tensor([half + half, half + full, full + half, full + full])
    torch.testing.assert_close(placed(2, 2, 4), expected, atol=1e-5, rtol=0)


def test_later_channels_turn_more_slowly() -> None:
    code = placed(1, 1, 8)[0]  # rows: two pairs of frequencies 1 and 1 / 100
    slow = 2 * math.pi / 100
    expected = torch.tensor([0.0, 1.0, math.sin(slow), math.cos(slow)] * 2)
    torch.testing.assert_close(code, expected, atol=1e-5, rtol=0)


def test_the_first_frame_of_a_clip_has_code_zero() -> None:
    code = frame_code(2, 4, torch.zeros(1))
    expected = [[0.0, 1.0, 0.0, 1.0], [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)]]
    torch.testing.assert_close(code, torch.tensor(expected))
