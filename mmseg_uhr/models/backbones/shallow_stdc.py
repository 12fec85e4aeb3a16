"""STDC network without its last stage."""

from collections.abc import Sequence

from mmseg.models.backbones.stdc import STDCNet
from torch import Tensor, nn

from ...registry import MODELS
from ..layers.conventions import BATCH_NORM, RELU
from ..layers.memory_format import fast_format
from ..layers.stem import repeat_pretrained_stem
from ..layers.stripes import halo_of, in_stripes, stripes_wanted

# Rows of the map at 1/4 that are made at a time while predicting.
_STRIPE = 128
# Rows that one of them depends on, above and below, at full resolution.
_STEM_REACH = 3


@MODELS.register_module()
class ShallowSTDC(STDCNet):
    """The first four stages of an STDC network, for full-resolution input.

    Returns the maps at 1/8 and 1/16 unless told otherwise and keeps no
    other: the maps at 1/2 and 1/4 are the largest of a dual-resolution model
    and are freed at once; while predicting they are made in stripes of rows.
    The state-dict keys are those of stock ``STDCNet``, so ImageNet weights of
    STDC813/STDC1446 load unchanged (the keys of the last stage are left
    over); with an input of 6 or 9 channels, the first kernel is repeated.

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
        input_layer (dict, optional): Config of a layer that makes the input
            from the window, such as ``dict(type='mmseg_uhr.LaplacianInput')``
            with ``in_channels=6``. Prediction runs in stripes if it tells its
            ``reach`` and ``multiple``, as that layer does. By default the
            network reads the window itself.
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
        input_layer: dict | None = None,
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
        self.input_layer = (
            None if input_layer is None else MODELS.build(input_layer)
        )
        repeat_pretrained_stem(self, 'stages.0.conv.weight')
        self._halo, self._multiple = halo_of(self.input_layer, _STEM_REACH)
        # Each convolution of a block reaches one row further at 1/8.
        self._block_halo = 2 * num_convs

    def _stem(self, x: Tensor) -> Tensor:
        """Make the map at 1/2 of a window (N, C, H, W)."""
        if self.input_layer is not None:
            x = self.input_layer(x)
        return self.stages[0](x.contiguous(memory_format=fast_format(x)))

    def _quarter(self, x: Tensor) -> Tensor:
        """Make the map at 1/4 of a window."""
        return self.stages[1](self._stem(x))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Extract features.

        Args:
            x (Tensor): Windows (N, C, H, W); C is ``in_channels`` without an
                input layer.

        Returns:
            tuple[Tensor, ...]: The maps of ``out_indices``, fine to coarse.
        """
        maps = []
        predicting = stripes_wanted(self)
        if (
            predicting
            and self._halo is not None
            and x.shape[2] % self._multiple == 0
            and 0 not in self.out_indices
        ):
            x = in_stripes(self._quarter, x, 4, self._halo, _STRIPE)
        else:
            x = self._stem(x)
            if 0 in self.out_indices:
                maps.append(x)
            x = self.stages[1](x)
        if 1 in self.out_indices:
            maps.append(x)
        first, *others = self.stages[2]
        if predicting:
            x = in_stripes(first, x, 2, self._block_halo, _STRIPE // 2)
        else:
            x = first(x)
        for block in others:
            x = block(x)
        if 2 in self.out_indices:
            maps.append(x)
        if 3 in self.out_indices:
            maps.append(self.stages[3](x))
        return tuple(maps)

    def local_steps(self) -> list[tuple[nn.Module, bool]]:
        """Return the layers one after the other, for running in stripes.

        Returns:
            list[tuple[nn.Module, bool]]: Layers, and whether their maps are
            among those of ``out_indices``.
        """
        steps = []
        if self.input_layer is not None:
            steps.append((self.input_layer, False))
        for index in range(max(self.out_indices) + 1):
            stage = self.stages[index]
            blocks = [*stage] if isinstance(stage, nn.Sequential) else [stage]
            steps += [(block, False) for block in blocks[:-1]]
            steps.append((blocks[-1], index in self.out_indices))
        return steps
