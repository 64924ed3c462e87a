"""How many sessions keep up: clips that come at their own pace, whether or not they are served."""

import time
from collections.abc import Callable
from dataclasses import dataclass

LATE_S = 2.0  # a trial is given up when a clip has waited for so long
RESOLUTION = 0.05  # of the number of live sessions


@dataclass(slots=True)
class PacedClips:
    """How long each clip waited for its masks, in how many calls, and whether all were served."""

    latencies_s: list[float]
    calls: int = 0
    kept_up: bool = True


def pace(
    serve: Callable[[list[int]], object],
    *,
    sessions: int,
    most: int,
    period_s: float,
    seconds: float,
) -> PacedClips:
    """Serve clips as they come; return how long each waited for its masks.

    A session's clip is there every `period_s`, those of different sessions evenly apart. What is
    there is served at once, at most `most` and one of each session. It is given up when a clip has
    waited for more than LATE_S.
    """
    gap_s, total = period_s / sessions, sessions * max(1, round(seconds / period_s))
    paced, begin = PacedClips([]), time.perf_counter()
    while len(paced.latencies_s) < total:
        first, now = len(paced.latencies_s), time.perf_counter() - begin
        there = min(total, int(now / gap_s) + 1)  # clip k is there at k * gap_s
        if there <= first:
            time.sleep(first * gap_s - now)
            continue
        taken = range(first, min(there, first + min(most, sessions)))
        serve([clip % sessions for clip in taken])
        done = time.perf_counter() - begin
        paced.calls += 1
        paced.latencies_s += [done - clip * gap_s for clip in taken]
        if paced.latencies_s[-1] > LATE_S:
            paced.kept_up = False
            break
    return paced


def find_most(holds: Callable[[int], bool], *, start: int, most: int) -> int:
    """Return the largest number that holds, up to `most` and RESOLUTION; 0 if not even one does.

    It looks around `start` first: what is far from the answer costs as much to try.
    """
    low, high = 0, most + 1  # low holds, high does not
    number = min(max(1, start), most)
    while low < number < high:
        if holds(number):
            low = number
            number = max(low + 1, int(low * 1.25)) if high > most else (low + high) // 2
            number = min(number, high - 1)
        else:
            high = number
            number = int(high / 1.25) if low == 0 else (low + high) // 2
        if low and high - low <= max(1.0, RESOLUTION * low):
            break
    return low
