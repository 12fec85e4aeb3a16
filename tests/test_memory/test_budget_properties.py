"""Whatever is given as a budget: bytes, or an error that names it."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmseg_uhr.memory import parse_budget
from mmseg_uhr.models.segmentors.budget import check_budget

GIB = 2**30
# Machines that test may be busy.
PATIENT = settings(deadline=None)
ANYTHING = st.one_of(
    st.text(max_size=20),
    st.from_regex(r'\s*[0-9]{0,400}\.?[0-9]{0,5}\s*[kmgtKMGT]?(i?[bB])?'),
    st.floats(),
    st.integers(),
    st.booleans(),
    st.none(),
    st.lists(st.integers(), max_size=2),
)


def attempt(function, *arguments):
    """Return a result, or what the error says."""
    try:
        return function(*arguments), ''
    except ValueError as error:
        return None, str(error)


@PATIENT
@given(budget=ANYTHING, total=st.integers(1, 2**50))
@example(budget='9' * 400 + 'GiB', total=GIB)
@example(budget='٣GiB', total=GIB)
@example(budget=float('nan'), total=GIB)
def test_a_budget_is_bytes_or_an_error(budget, total):
    size, problem = attempt(parse_budget, budget, total)
    if problem:
        assert problem.startswith(f'budget={budget!r}: ')
    else:
        assert type(size) is int
        assert 1 <= size <= total


@PATIENT
@given(number=st.integers(1, 2**20), unit=st.sampled_from('kmg'))
def test_units_are_powers_of_1024(number, unit):
    factor = 1024 ** ('kmg'.index(unit) + 1)
    for text in (f'{number}{unit}', f' {number} {unit.upper()}iB '):
        assert parse_budget(text, 2**60) == number * factor


@PATIENT
@given(share=st.floats(1e-3, 1))
def test_shares_are_of_the_memory(share):
    size = parse_budget(share, 16 * GIB)
    assert size == pytest.approx(share * 16 * GIB, abs=1)


@PATIENT
@given(budget=ANYTHING)
def test_configs_name_the_field(budget):
    _, problem = attempt(check_budget, budget)
    assert not problem or problem.startswith(f'test_cfg.budget={budget!r}: ')
