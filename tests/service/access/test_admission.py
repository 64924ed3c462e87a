"""What is in flight is counted, and given back whatever happens."""

from __future__ import annotations

import pytest

from service.access.admission import Admission
from service.errors import Overloaded, PayloadTooLarge


def test_one_request_too_many_is_refused() -> None:
    admission = Admission(max_requests=2, max_bytes=10)
    with (
        admission.admit("a"),
        admission.admit("b"),
        pytest.raises(Overloaded, match="2 requests"),
        admission.admit("c"),
    ):
        pass
    assert admission.requests == 0


def test_one_holder_has_at_most_half_of_the_places() -> None:
    admission = Admission(max_requests=4, max_bytes=10)
    with admission.admit("a"), admission.admit("a"):
        with pytest.raises(Overloaded, match="2 requests of yours"), admission.admit("a"):
            pass
        with admission.admit("b"):
            assert admission.requests == 3
    with admission.admit("a"):
        assert admission.requests == 1


def test_a_place_is_given_back_after_an_error() -> None:
    admission = Admission(max_requests=1, max_bytes=10)
    with (
        pytest.raises(PayloadTooLarge),
        admission.reservation() as reservation,
        admission.admit("a"),
    ):
        reservation.take(11)
    assert (admission.requests, admission.held_bytes) == (0, 0)


def test_bytes_of_all_requests_are_counted_together() -> None:
    admission = Admission(max_requests=2, max_bytes=10)
    with admission.reservation() as first, admission.reservation() as second:
        first.take(6)
        with pytest.raises(Overloaded):
            second.take(5)
        second.take(4)
        assert admission.held_bytes == 10
    assert admission.held_bytes == 0


def test_bytes_can_be_held_for_a_while() -> None:
    admission = Admission(max_requests=2, max_bytes=10)
    with admission.reservation() as reservation:
        reservation.take(2)
        with reservation.count(8):
            assert admission.held_bytes == 10
        assert admission.held_bytes == 2


def test_a_request_that_could_never_fit_is_told_so() -> None:
    admission = Admission(max_requests=2, max_bytes=10)
    with admission.reservation() as reservation, pytest.raises(PayloadTooLarge) as caught:
        reservation.take(11)
    assert caught.value.limit == 10
