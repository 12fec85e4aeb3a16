"""STDC network without its last stage."""

from collections.abc import Sequence

from mmseg.models.backbones.stdc import STDCNet
from torch import Tensor

from ...registry import MODELS
from ..layers.conventions import BATCH_NORM, RELU


@MODELS.register_module()
class ShallowSTDC(STDCNet):
    """The first four stages of an STDC network, for full-resolution input.

    Returns the maps at 1/8 and 1/16 unless told otherwise and keeps no
    other: the maps at 1/2 and 1/4 are the largest of a dual-resolution model
    and are freed at once. The state-dict keys are those of stock ``STDCNet``,
    so ImageNet weights of STDC813/STDC1446 load unchanged (the keys of the
    last stage are left over).

    Args:
        stdc_type (str): ``'STDCNet1'`` or ``'STDCNet2'``.
        in_channels (int): Input channels.
        channels (Sequence[int]): Channels of the maps at 1/2, 1/4, 1/8 and
            1/16.
        bottleneck_type (str): ``'cat'`` or ``'add'``.
        norm_cfg (dict): Norm config.
        act_cfg (dict): Activation config.
        num_convs (int): Convolutions of an STDC block.
        out_indices (Sequence[int]): Which of the four maps are returned.
            ``(1, 2, 3)`` adds the one at 1/4, for objects of a few pixels.
        init_cfg (dict, optional): Initialization config.

    Raises:
        ValueError: If ``channels`` has not four entries.
    """

    # Stock builds one stage per entry; the last one is what is left out.
    arch_settings = {
        name: stages[:-1] for name, stages in STDCNet.arch_settings.items()
    }

    def __init__(
        self,
        stdc_type: str = 'STDCNet1',
        in_channels: int = 3,
        channels: Sequence[int] = (32, 64, 256, 512),
        bottleneck_type: str = 'cat',
        norm_cfg: dict = BATCH_NORM,
        act_cfg: dict = RELU,
        num_convs: int = 4,
        out_indices: Sequence[int] = (2, 3),
        init_cfg: dict | list[dict] | None = None,
    ):
        if len(channels) != 4:
            raise ValueError(
                f'ShallowSTDC channels={tuple(channels)} has {len(channels)} '
                'entries; give four, for the maps at 1/2, 1/4, 1/8 and 1/16'
            )
        super().__init__(
            stdc_type=stdc_type,
            in_channels=in_channels,
            # Stock wants five; the fifth belongs to the missing stage.
            channels=(*channels, channels[-1]),
            bottleneck_type=bottleneck_type,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            num_convs=num_convs,
            init_cfg=init_cfg,
        )
        self.out_indices = tuple(out_indices)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Extract features.

        Args:
            x (Tensor): (N, in_channels, H, W).

        Returns:
            tuple[Tensor, ...]: The maps of ``out_indices``, fine to coarse.
        """
        maps = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                maps.append(x)
        return tuple(maps)
