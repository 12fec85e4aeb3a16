"""The largest number that fits."""

from collections.abc import Callable


def largest_fitting(
    need: Callable[[int], int], budget: int, limit: int
) -> int:
    """Find the largest batch, or any number that memory grows with.

    Growth is taken to be about linear, so that few plans are made.

    Args:
        need (Callable): Bytes for a number, growing.
        budget (int): Bytes.
        limit (int): The largest number of interest, at least 1.

    Returns:
        int: At most ``limit``; 0 if not even 1 fits.
    """
    low, high = 0, limit + 1
    guess = 1
    while high - low > 1:
        guess = min(max(guess, low + 1), high - 1)
        size = need(guess)
        if size <= budget:
            low = guess
        else:
            high = guess
        guess = _guess(need, budget, low) if low > 1 else low + 1
    return low


def _guess(need: Callable[[int], int], budget: int, known: int) -> int:
    """Continue the line through 1 and a number that fits."""
    slope = max((need(known) - need(1)) / (known - 1), 1)
    return known + int((budget - need(known)) / slope)
