import pytest

from mmseg_uhr.memory import parse_budget, total_memory

GIB = 2**30


@pytest.mark.parametrize(
    'budget, expected',
    [
        ('8GiB', 8 * GIB),
        ('8G', 8 * GIB),
        ('8 GB', 8 * GIB),
        (' 900 mib ', 900 * 2**20),
        ('1.5g', 1.5 * GIB),
        (0.5, 8 * GIB),
        ('0.25', 4 * GIB),
        (1.0, 16 * GIB),
        (123456, 123456),
        ('512KiB', 2**19),
    ],
)
def test_what_is_understood(budget, expected):
    assert parse_budget(budget, 16 * GIB) == expected


@pytest.mark.parametrize(
    'budget, message',
    [
        (-1, "such as '8GiB'"),
        ('much', "such as '8GiB'"),
        ('8 potatoes', "such as '8GiB'"),
        (True, "such as '8GiB'"),
        ('', "such as '8GiB'"),
        (0, 'no memory'),
        ('0 GiB', 'no memory'),
        ('17GiB', 'has 16.0 GiB; give at most that'),
    ],
)
def test_what_is_not(budget, message):
    with pytest.raises(ValueError, match=message):
        parse_budget(budget, 16 * GIB)


def test_the_machine_has_memory():
    assert total_memory('cpu') > 2**28
