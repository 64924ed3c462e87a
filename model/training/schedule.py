"""How training changes with its steps: learning rates, and how many pixels count."""


def schedule_rate(
    step: int, *, steps: int, warm_up: int, cool_down: float = 0.0, drops: tuple[float, ...] = ()
) -> float:
    """Return the learning rate of step `step` of `steps` as a share of the configured one.

    It rises linearly over `warm_up` steps, is a tenth after each of `drops` (shares of all steps),
    and falls linearly to zero over the last `cool_down` (a share of all steps; 0: it does not).
    """
    warm = min(1.0, (step + 1) / max(1, warm_up))
    dropped = 0.1 ** sum(step >= drop * steps for drop in drops)
    if not cool_down:
        return warm * dropped
    left = (steps - step) / max(1.0, steps * cool_down)
    return min(warm, max(0.0, min(1.0, left))) * dropped


def schedule_hard_share(step: int, *, until: int) -> float:
    """Return the share of pixels that cross-entropy counts: all, the hardest quarter from `until`.

    A training that goes on from trained weights begins with the quarter (`until` 0).
    """
    return max(0.25, 1.0 - 0.75 * step / until) if until else 0.25


def schedule_truth_share(step: int, *, until: int) -> float:
    """Return the share of samples that remember true masks: all at first, none from `until` on."""
    return max(0.0, 1.0 - step / until) if until else 0.0


def averaging(step: int, *, longest: float) -> float:
    """Return the share of averaged weights that stays at a step: little first, then `longest`."""
    return min(longest, (1 + step) / (10 + step))
