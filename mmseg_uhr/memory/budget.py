"""Budgets: how much memory a run may use."""

import os
import re
from typing import Union

import torch

_UNITS = {'': 1, 'k': 2**10, 'm': 2**20, 'g': 2**30, 't': 2**40}
_PATTERN = re.compile(r'\s*([0-9]*\.?[0-9]+)\s*([kmgt]?)(i?b)?\s*', re.I)
_EXAMPLES = "such as '8GiB', '900 MiB' or 0.9, a share of the memory"


def total_memory(device: Union[str, torch.device]) -> int:
    """Return the memory of a device in bytes.

    Args:
        device (str | torch.device): A CUDA device, or any other, for which
            it is the machine's.

    Returns:
        int: Bytes, whoever uses them now.
    """
    device = torch.device(device)
    if device.type == 'cuda':
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def parse_budget(budget: Union[str, int, float], total: int) -> int:
    """Understand a budget.

    Units are powers of 1024, whether written G, GB or GiB, as cards are sold.

    Args:
        budget (str | int | float): ``'8GiB'``, a number of bytes, or a share
            of the memory, more than 0 and at most 1.
        total (int): The device's memory in bytes.

    Returns:
        int: Bytes.

    Raises:
        ValueError: If it cannot be understood, or exceeds the memory.
    """
    match = _PATTERN.fullmatch(str(budget))
    if match is None or isinstance(budget, bool):
        raise ValueError(f'budget={budget!r}: expected a size, {_EXAMPLES}')
    number, unit = float(match[1]), match[2].lower()
    share = not unit and match[3] is None and 0 < number <= 1
    # As a float: what has hundreds of digits is no integer.
    wanted = number * (total if share else _UNITS[unit])
    if wanted < 1:
        raise ValueError(f'budget={budget!r}: nothing fits in no memory')
    if wanted > total:
        raise ValueError(
            f'budget={budget!r}: the device has {total / 2**30:.1f} GiB; give '
            f'at most that, {_EXAMPLES}'
        )
    return int(wanted)
