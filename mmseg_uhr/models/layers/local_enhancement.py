"""Refining enhanced features with the window's own part of each context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleDict, ModuleList
from torch import Tensor

from ...registry import MODELS
from .correlation import ContextualCorrelation

if TYPE_CHECKING:
    from .context_fusion import EncodedContext, ViewGeometry

MODES = ('contexts', 'two-way')


@MODELS.register_module()
class LocalEnhancement(BaseModule):
    """Alternate between contexts, each cut down to the window.

    Contexts also bring what has nothing to do with the window. So the part of
    each context's map that covers the window is sampled at the window's own
    positions, and the window's features read from these, one context after
    the other (alternating local enhancement of LCF-ALE, IJCV 2024). The paper
    was open to us in its abstract only: **this is our reading**. All
    ``gamma`` start at zero: nothing changes at first.

    Args:
        channels (int): Channels of all maps.
        contexts (Sequence[str]): Names of the contexts, in order.
        mode (str): ``'contexts'``: the window reads from each part.
            ``'two-way'``: before that, the part reads from the window.
        rounds (int): How often to go through all contexts.
        center (bool): See ``ContextualCorrelation``.
        init_cfg (dict, optional): Initialization config.

    Raises:
        ValueError: If the mode is unknown or there is no round.
    """

    def __init__(
        self,
        channels: int,
        contexts: Sequence[str],
        mode: str = 'contexts',
        rounds: int = 1,
        center: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        if mode not in MODES:
            raise ValueError(
                f'LocalEnhancement mode={mode!r}: expected one of {MODES}'
            )
        if rounds < 1:
            raise ValueError(
                f'LocalEnhancement rounds={rounds}: expected at least 1; for '
                'none, leave the enhancement out'
            )
        self.contexts = tuple(contexts)

        def steps() -> ModuleList:
            return ModuleList(
                ModuleDict(
                    {
                        name: ContextualCorrelation(channels, center)
                        for name in self.contexts
                    }
                )
                for _ in range(rounds)
            )

        self.to_local = steps()
        self.to_context = steps() if mode == 'two-way' else None

    def forward(
        self,
        local: Tensor,
        contexts: Sequence[EncodedContext],
        geometry: ViewGeometry,
    ) -> Tensor:
        """Refine windows.

        Args:
            local (Tensor): Enhanced features of windows (N, C, h, w).
            contexts (Sequence[EncodedContext]): In the order of their names.
            geometry (ViewGeometry): Where positions lie.

        Returns:
            Tensor: (N, C, h, w).
        """
        parts = {
            name: window_part(name, local, context, geometry)
            for name, context in zip(self.contexts, contexts, strict=True)
        }
        for index, to_local in enumerate(self.to_local):
            for name, correlation in to_local.items():
                part = parts[name]
                if self.to_context is not None:
                    answer = self.to_context[index][name](part, local)
                    part = parts[name] = part + answer
                local = local + correlation(local, part)
        return local


def window_part(
    name: str,
    local: Tensor,
    context: EncodedContext,
    geometry: ViewGeometry,
) -> Tensor:
    """Sample a context's map at the positions of the window.

    Args:
        name (str): Of the context.
        local (Tensor): Features of windows (N, C, h, w).
        context (EncodedContext): With features (N or 1, C, h', w').
        geometry (ViewGeometry): Where positions lie.

    Returns:
        Tensor: Bilinear samples (N, C, h, w), float32.
    """
    features = context.features.float()
    grid = geometry.sampling_grid(name, local, context)
    n = len(local)
    return F.grid_sample(
        features.expand(n, -1, -1, -1),
        grid.expand(n, -1, -1, -1),
        mode='bilinear',
        padding_mode='border',
        align_corners=False,
    )
