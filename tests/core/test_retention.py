"""Which frames stay in memory, by a model's retention: one in so many, and the newest."""

from model.core.memory import Memory, Retention


def read_frames(retention: Retention, *, capacity: int, frames: int) -> list[list[int]]:
    """The frames that are in memory when frame 1, 2, ... is segmented."""
    memory, read = Memory.start(0, [1], capacity=capacity), []
    for frame in range(1, frames):
        read.append([entry.frame for entry in memory.entries])
        memory = memory.remember(frame, [1], retention)
    return read


def test_stm_reads_every_fifth_frame_and_the_previous_one() -> None:
    read = read_frames(Retention(every=5, recent=1), capacity=16, frames=77)
    for frame, entries in enumerate(read, start=1):
        fifths = range(0, frame - 1, 5)
        assert entries == sorted({*fifths, frame - 1})


def test_a_full_memory_lets_the_oldest_kept_frame_go() -> None:
    read = read_frames(Retention(every=5, recent=1), capacity=4, frames=30)
    assert read[-1] == [0, 20, 25, 28]


def test_frames_between_are_not_remembered_without_recent_ones() -> None:
    read = read_frames(Retention(every=5), capacity=3, frames=20)
    assert [read[4], read[5], read[12], read[18]] == [[0], [0, 5], [0, 5, 10], [0, 10, 15]]


def test_a_correction_counts_as_the_newest_kept_frame() -> None:
    retention = Retention(every=5)
    memory = Memory.start(0, [1], capacity=4).correct(3, [1, 2], given=[2], revision=1)
    assert memory.remember(7, [1], retention) == memory
    assert memory.remember(8, [1], retention).newest.frame == 8


def test_a_passing_frame_that_is_corrected_stays() -> None:
    retention = Retention(every=5, recent=1)
    memory = Memory.start(0, [1], capacity=4).remember(1, [1], retention)
    corrected = memory.correct(1, [1, 2], given=[2], revision=1).remember(2, [1], retention)
    assert [entry.frame for entry in corrected.entries] == [0, 1, 2]
    assert Memory.from_json(corrected.to_json()) == corrected


def test_a_memory_that_keeps_all_is_written_as_before() -> None:
    memory = Memory.start(0, [1], capacity=4).remember(1, [1])
    assert memory.to_json() == ('{"capacity":4,"entries":[[0,0,[1],true,0],[1,1,[1],false,0]]}')


def test_two_recent_frames_pass_one_after_the_other() -> None:
    read = read_frames(Retention(every=5, recent=2), capacity=6, frames=9)
    assert [read[2], read[3], read[7]] == [[0, 1, 2], [0, 2, 3], [0, 5, 6, 7]]
