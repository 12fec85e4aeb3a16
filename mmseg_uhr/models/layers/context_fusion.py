"""Enhancing a window's features by those of its contexts."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn as nn
from mmengine.model import BaseModule, ModuleDict
from torch import Tensor

from ...registry import MODELS
from ...tiling.views import LOCAL
from .correlation import ContextualCorrelation, TokenGrid


class EncodedContext(NamedTuple):
    """A context that has been encoded.

    Args:
        features (Tensor): Its deepest map (N, C, h, w); of batch 1 if the
            windows share it.
        box (Tensor, optional): Where the windows lie in the context's view,
            ``(y, x, h, w)`` in fractions of it, (N, 4). None: in its middle.
    """

    features: Tensor
    box: Tensor | None = None


class ViewGeometry:
    """Where the positions of windows and contexts lie relative to each other.

    Args:
        scales (dict[str, float]): How many times the window each context is,
            by name; used where the box of the windows is not known, which
            then lie in the middle.
        grid (dict, optional): Arguments of :class:`TokenGrid`, which holds
            for all views.
    """

    def __init__(self, scales: dict[str, float], grid: dict | None = None):
        self.scales = {LOCAL: 1.0, **scales}
        self.grid = TokenGrid(**(grid or {}))

    def box(self, name: str, context: EncodedContext) -> Tensor:
        """Return the windows' boxes in a view, (N or 1, 4)."""
        if context.box is not None:
            return context.box.to(context.features)
        side = 1 / self.scales[name]
        start = (1 - side) / 2
        return context.features.new_tensor([[start, start, side, side]])

    def offsets(
        self, name: str, local: Tensor, context: EncodedContext
    ) -> tuple[Tensor, Tensor]:
        """Return offsets from window to context positions, in window sides.

        Args:
            name (str): Of the context.
            local (Tensor): Features of windows (N, C, h, w).
            context (EncodedContext): With features (N or 1, C, h', w').

        Returns:
            tuple[Tensor, Tensor]: Rows (N or 1, h, h'), columns (N or 1, w,
            w').
        """
        box = self.box(name, context).float()
        found = []
        for axis in (0, 1):
            here = self.grid.fractions(local.shape[2 + axis], axis, box)
            there = self.grid.fractions(
                context.features.shape[2 + axis], axis, box
            )
            start, side = box[:, axis, None], box[:, axis + 2, None]
            there = (there - start) / side
            found.append(there[:, None, :] - here[None, :, None])
        return found[0], found[1]

    def sampling_grid(
        self, name: str, local: Tensor, context: EncodedContext
    ) -> Tensor:
        """Tell where the window's positions lie in a context's map.

        Args:
            name (str): Of the context.
            local (Tensor): Features of windows (N, C, h, w).
            context (EncodedContext): With features (N or 1, C, h', w').

        Returns:
            Tensor: ``(x, y)`` for ``grid_sample(align_corners=False)``, (N or
            1, h, w, 2).
        """
        box = self.box(name, context).float()
        axes = []
        for axis in (0, 1):
            here = self.grid.fractions(local.shape[2 + axis], axis, box)
            length = context.features.shape[2 + axis]
            start, side = box[:, axis, None], box[:, axis + 2, None]
            index = self.grid.indices(start + side * here, length, axis)
            axes.append((2 * index + 1) / length - 1)
        y, x = axes
        h, w = y.shape[1], x.shape[1]
        return torch.stack(
            (
                x[:, None, :].expand(-1, h, w),
                y[:, :, None].expand(-1, h, w),
            ),
            dim=-1,
        )


class ContextGate(nn.Module):
    """Weigh what was read from several sources against each other.

    Per channel and position: the maps are squeezed, mixed across all sources
    and split again; a soft-max over the sources of their sigmoids gives
    weights (multi-context fusion, FCtL). Weights of three sources thus lie
    between 0.155 and 0.576.

    Args:
        channels (int): Channels of each source.
        sources (Sequence[str]): Their names, in order.
    """

    def __init__(self, channels: int, sources: Sequence[str]):
        super().__init__()
        self.squeeze = nn.ModuleDict(
            {name: nn.Conv2d(channels, channels, 1) for name in sources}
        )
        total = channels * len(sources)
        self.mix = nn.Conv2d(total, total, 1)
        self.split = nn.ModuleDict(
            {name: nn.Conv2d(channels, channels, 1) for name in sources}
        )

    def forward(self, read: Sequence[Tensor]) -> Tensor:
        """Weigh sources.

        Args:
            read (Sequence[Tensor]): Maps (N, C, h, w), one per source.

        Returns:
            Tensor: Weights (sources, N, C, h, w), which sum to one.
        """
        squeezed = [conv(x) for conv, x in zip(self.squeeze.values(), read)]
        mixed = self.mix(torch.cat(squeezed, dim=1)).chunk(len(read), dim=1)
        scores = [
            conv(x).sigmoid() for conv, x in zip(self.split.values(), mixed)
        ]
        return torch.stack(scores).softmax(dim=0)


@MODELS.register_module()
class ContextFusion(BaseModule):
    """Add to a window's features what its contexts know about them.

    For the window itself and each context a
    :class:`~mmseg_uhr.models.layers.ContextualCorrelation`; a gate weighs
    what they read, and the weighted sum is added (FCtL, ICCV 2021). As every
    ``gamma`` starts at zero, nothing is added at first.

    With ``geometry`` and ``position`` the correlation knows where positions
    lie, and with ``enhancement`` the sum is refined: LCF-ALE (IJCV 2024) in
    our reading.

    Args:
        channels (int): Channels of all maps.
        contexts (Sequence[str]): Names of the contexts, in the order in which
            the encoder hands them on.
        local (bool): Whether the window is a source too. A single source is
            added without a gate: the network that trains a context encoder.
        center (bool): See ``ContextualCorrelation``.
        geometry (dict, optional): Arguments of :class:`ViewGeometry`; needed
            by ``position`` and ``enhancement``.
        position (dict, optional): Arguments of
            :class:`~mmseg_uhr.models.layers.correlation.RelativePosition`.
        enhancement (dict, optional): Config of a
            :class:`~mmseg_uhr.models.layers.LocalEnhancement`.
        init_cfg (dict, optional): Initialization config.

    Raises:
        ValueError: If there is no context, or the geometry is missing.
    """

    def __init__(
        self,
        channels: int = 512,
        contexts: Sequence[str] = ('medium', 'large'),
        local: bool = True,
        center: bool = False,
        geometry: dict | None = None,
        position: dict | None = None,
        enhancement: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        if not contexts or LOCAL in contexts:
            raise ValueError(
                f'ContextFusion contexts={tuple(contexts)}: expected the '
                f'names of one context or more, other than {LOCAL!r}, which '
                'the option `local` adds'
            )
        if geometry is None and not (position is None and enhancement is None):
            raise ValueError(
                'ContextFusion has position or enhancement but no geometry; '
                'give geometry=dict(scales=dict(<context>=<times the '
                'window>), grid=dict(...))'
            )
        self.contexts = tuple(contexts)
        self.geometry = None if geometry is None else ViewGeometry(**geometry)
        sources = (LOCAL, *self.contexts) if local else self.contexts
        # MMEngine's: its init_weights reaches the correlations.
        self.correlations = ModuleDict(
            {
                name: ContextualCorrelation(channels, center, position)
                for name in sources
            }
        )
        self.gate = ContextGate(channels, sources) if sources[1:] else None
        self.enhancement = (
            None
            if enhancement is None
            else MODELS.build(
                dict(
                    enhancement,
                    channels=channels,
                    contexts=self.contexts,
                    center=center,
                )
            )
        )

    def forward(
        self, local: Tensor, contexts: Sequence[EncodedContext | Tensor]
    ) -> Tensor:
        """Enhance windows.

        Args:
            local (Tensor): Features of windows (N, C, h, w).
            contexts (Sequence[EncodedContext | Tensor]): Encoded contexts, in
                the order of their names; of any size, of batch N or 1.

        Returns:
            Tensor: (N, C, h, w).

        Raises:
            ValueError: If there are more or fewer contexts than names.
        """
        if len(contexts) != len(self.contexts):
            raise ValueError(
                f'ContextFusion has got {len(contexts)} contexts for its '
                f'contexts={self.contexts}; give the same names, in the same '
                'order, to the backbone and to the fusion'
            )
        known = {
            name: x if isinstance(x, EncodedContext) else EncodedContext(x)
            for name, x in zip((LOCAL, *self.contexts), (local, *contexts))
        }
        read = []
        for name, correlation in self.correlations.items():
            offsets = None
            if correlation.position is not None:
                offsets = self.geometry.offsets(name, local, known[name])
            read.append(correlation(local, known[name].features, offsets))
        if self.gate is None:
            (added,) = read
        else:
            weights = self.gate(read)
            added = weights[0] * read[0]
            for weight, x in zip(weights[1:], read[1:]):
                added = added + weight * x
        enhanced = local + added
        if self.enhancement is not None:
            contexts = [known[name] for name in self.contexts]
            enhanced = self.enhancement(enhanced, contexts, self.geometry)
        return enhanced
