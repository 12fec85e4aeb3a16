"""Cutting scenes into shares."""

from hypothesis import given
from hypothesis import strategies as st

from mmseg_uhr.streaming.shares import cut_shares

ROWS = 8


@st.composite
def missing_rows(draw):
    """Missing parts of a scene, as a store lists them."""
    height = draw(st.integers(1, 100))
    runs = []
    for start in range(0, height, ROWS):
        if draw(st.booleans()):
            stop = min(start + ROWS, height)
            if runs and runs[-1][1] == start:
                runs[-1] = (runs[-1][0], stop)
            else:
                runs.append((start, stop))
    return runs


def parts_of(runs):
    return [
        (start, min(start + ROWS, stop))
        for begin, stop in runs
        for start in range(begin, stop, ROWS)
    ]


@given(
    st.lists(
        st.tuples(missing_rows(), st.integers(1, 50)), min_size=1, max_size=6
    ),
    st.integers(1, 9),
)
def test_every_part_once_and_balanced(scenes, processes):
    missing, widths = zip(*scenes, strict=True)
    shares = cut_shares(missing, widths, processes, ROWS)
    assert len(shares) == processes
    # In order, every part exactly once.
    flat = [
        (share.scene, part)
        for own in shares
        for share in own
        for part in parts_of([share[1:]])
    ]
    assert flat == [
        (scene, part)
        for scene, runs in enumerate(missing)
        for part in parts_of(runs)
    ]
    # Runs of neighbours are one.
    for own in shares:
        for one, other in zip(own, own[1:]):
            assert (one.scene, one.stop) != (other.scene, other.start)
    pixels = [
        sum((s.stop - s.start) * widths[s.scene] for s in own)
        for own in shares
    ]
    largest = max(
        ((b - a) * widths[scene] for scene, (a, b) in flat), default=0
    )
    mean = sum(pixels) / processes
    assert all(mean - largest <= load <= mean + largest for load in pixels)


def test_nothing_missing():
    assert cut_shares([[], []], [5, 5], 2) == [[], []]
