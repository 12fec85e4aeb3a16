"""Several networks on one window."""

from collections.abc import Sequence

from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from ...registry import MODELS


@MODELS.register_module()
class ParallelEncoders(BaseModule):
    """Networks that read the same window.

    Made for the ``shallow`` of
    :class:`~mmseg_uhr.models.backbones.DualResolutionEncoder`. HLRC (RA-L
    2025) has two: one draws regions from the window and its Laplacian levels,
    the other one describes local detail.

    Args:
        encoders (Sequence[dict]): Configs of the backbones.
        init_cfg (dict, optional): Initialization config.
    """

    def __init__(
        self,
        encoders: Sequence[dict],
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        self.encoders = ModuleList(map(MODELS.build, encoders))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Encode windows.

        Args:
            x (Tensor): Normalised windows (N, C, H, W).

        Returns:
            tuple[Tensor, ...]: The maps of the first network, then those of
            the next.
        """
        maps = []
        for encoder in self.encoders:
            out = encoder(x)
            maps += [out] if isinstance(out, Tensor) else list(out)
        return tuple(maps)
