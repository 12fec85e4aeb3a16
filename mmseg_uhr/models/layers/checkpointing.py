"""Activation checkpointing of named modules, exact with batch norm."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_modules(model: nn.Module, names: Sequence[str]) -> None:
    """Recompute the activations of modules in backward, not keep them.

    Of a module only inputs and outputs stay; its forward pass runs again when
    its gradient is due. The step is that of the plain model: losses,
    gradients, random numbers, and the buffers, which the second forward pass
    leaves alone. While predicting nothing changes.

    MMEngine's ``activation_checkpointing`` has the reentrant variant of
    PyTorch, which gives no gradients to a module that reads the image, and
    updates running statistics twice.

    Args:
        model (nn.Module): Holds the modules; changed in place. Its state dict
            stays as it is.
        names (Sequence[str]): Of modules, as ``model.named_modules()`` has
            them, such as ``'backbone.shallow.stages.0'``.

    Raises:
        ValueError: If a name is unknown, names something that is no layer,
            or lies within another one.
    """
    if isinstance(names, str):
        names = [names]
    modules = {}
    for name in names:
        option = f'train_cfg.checkpoint: {name!r}'
        try:
            module = model.get_submodule(name)
        except AttributeError as error:
            raise ValueError(
                f'{option} is no module of {type(model).__name__}: {error}'
            ) from None
        # Lists of modules, and the model itself.
        if not name or type(module).forward is nn.Module.forward:
            children = ', '.join(child for child, _ in module.named_children())
            raise ValueError(
                f'{option} is not called as one layer; name one or more of '
                f'what it holds: {children}'
            )
        modules[name] = module
    for name in modules:
        for other in modules:
            if name.startswith(f'{other}.'):
                raise ValueError(
                    f'train_cfg.checkpoint: {name!r} lies within {other!r} '
                    'and would be computed three times; leave one of them out'
                )
    for module in modules.values():
        if not isinstance(module.forward, _Forward):
            module.forward = _Forward(module)


class _Forward:
    """The forward pass of a checkpointed module, where gradients are due.

    Args:
        module (nn.Module): Takes this as its ``forward``.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.forward = module.forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.forward(*args, **kwargs)
        return checkpoint(
            self.forward,
            *args,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), self._unchanged_buffers()),
            **kwargs,
        )

    @contextmanager
    def _unchanged_buffers(self) -> Iterator[None]:
        """Keep what the module remembers as its first run left it."""
        # Copies take the updates: running statistics, counters, memories.
        saved = [(part, dict(part._buffers)) for part in self.module.modules()]
        for part, buffers in saved:
            for name, buffer in buffers.items():
                if buffer is not None:
                    part._buffers[name] = buffer.clone()
        try:
            yield
        finally:
            for part, buffers in saved:
                part._buffers.update(buffers)
