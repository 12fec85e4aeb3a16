"""In which module a program is, forward and backward."""

from bisect import bisect_right
from typing import Any

import torch
from torch import nn


class Places:
    """Names the module that runs, and the pass.

    Nodes of autograd's graph carry the number at which they were made; the
    module that ran then is the one whose backward pass they are. No tensor
    gets a hook, because hooks would keep parts of the graph alive.

    Args:
        model (nn.Module): Gets hooks for good; take a copy.
    """

    def __init__(self, model: nn.Module) -> None:
        self._stack: list[str] = []
        self._last = ''
        # Numbers at which the innermost module changed, and what it was then.
        self._numbers: list[int] = []
        self._names: list[str] = []
        self.stage = 'forward'
        for name, module in model.named_modules():
            if name:
                self._follow(name, module)

    def __call__(self) -> str:
        """str: Such as ``'backward of backbone.layer1.0.conv1'``."""
        if torch._C._current_graph_task_id() == -1:
            if self.stage != 'forward':
                return self.stage
            return f'forward {self._here()}'
        if self._stack:
            return f'recomputation {self._here()}'
        node = torch._C._current_autograd_node()
        index = -1
        if node is not None:
            index = bisect_right(self._numbers, node._sequence_nr()) - 1
        return f'backward {self._names[index] if index >= 0 else ""}'.strip()

    def _here(self) -> str:
        """Name the innermost module, or the one before."""
        if self._stack:
            return f'of {self._stack[-1]}'
        return f'after {self._last}' if self._last else 'at the start'

    def _follow(self, name: str, module: nn.Module) -> None:
        """Note when a module starts and ends."""

        def start(*_: Any) -> None:
            self._stack.append(name)
            self._note()

        def end(*_: Any) -> None:
            self._stack.pop()
            if not self._stack:
                self._last = name
            self._note()

        module.register_forward_pre_hook(start)
        module.register_forward_hook(end, always_call=True)

    def _note(self) -> None:
        """Remember from which number on this is the place."""
        if torch._C._current_graph_task_id() == -1:
            self._numbers.append(torch.autograd._get_sequence_nr())
            self._names.append(self._here())
