"""Encoder of two networks that see one window at two resolutions."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from ...registry import MODELS
from ..layers.memory_format import fast_format
from ..layers.striping import Collected, LocalNetwork, LocalStep, Made

SHRINKS = ('antialias', 'nearest', 'haar')


def _replace_output(
    graft: nn.Module,
    source: Tensor,
    label: str,
    channels: int,
    module: nn.Module,
    inputs: tuple,
    output: Tensor,
) -> Tensor:
    """Forward hook that hands on the grafted instead of the own output."""
    _check_map(output, channels, label)
    return graft(output, source)


def _check_map(output: Tensor, channels: int, label: str) -> None:
    """Raise if a map that is to be grafted is not (N, channels, H, W)."""
    if not isinstance(output, Tensor) or output.dim() != 4:
        found = (
            f'a tensor of shape {tuple(output.shape)}'
            if isinstance(output, Tensor)
            else f'a {type(output).__name__}'
        )
        raise TypeError(
            f'{label} returns {found}, but a graft needs (N, C, H, W); set '
            'graft_stages=None to graft the outputs of the deep network '
            'instead'
        )
    if output.shape[1] != channels:
        raise ValueError(
            f'{label} has {output.shape[1]} channels, but graft_channels '
            f'says {channels}; correct graft_channels'
        )


@MODELS.register_module()
class DualResolutionEncoder(BaseModule):
    """A shallow network on the window, a deep one on its shrunken copy.

    The shallow network reads the window at full resolution, the deep network
    reads it ``down`` times smaller. Optionally the last shallow map is
    *grafted* onto the deep network while that runs: the output of every named
    stage is replaced by ``graft(output, shallow)``, so the next stage already
    sees it.

    The grafts hang on forward hooks that exist during one forward only. The
    deep network therefore keeps its own state-dict keys, loads pretrained
    weights by its own ``init_cfg``, and the encoder can be copied at any
    time. One encoder runs one forward at a time.

    Args:
        shallow (dict): Config of the backbone for the full-resolution window,
            such as :class:`ShallowSTDC`.
        deep (dict): Config of the backbone for the shrunken window. Any
            registered backbone, also ``mmpretrain.X``.
        down (int): Ratio of the two resolutions.
        shrink (str): How the copy is made: ``'antialias'``, bilinear with
            anti-aliasing; ``'nearest'``, every ``down``-th pixel, as ISDNet
            and SGHRQ do; ``'haar'``, means of 2 x 2 pixels again and again
            (the low-low band of Haar wavelets, an odd last row is dropped),
            as HLRC does.
        graft (dict, optional): Config of the graft without its
            ``deep_channels``, e.g. ``dict(type='mmseg_uhr.GSAG',
            shallow_channels=512)``. One is built per stage. By default
            nothing is grafted.
        graft_stages (Sequence[str], optional): Names of the submodules of the
            deep network whose outputs (N, C, H, W) are grafted, in any order
            of depth. None grafts the last ``len(graft_channels)`` outputs of
            the deep network; the deep network then does not see the grafts.
        graft_channels (Sequence[int]): Channels of the grafted maps. The
            defaults of both arguments fit a ResNet-18 or -34.
        return_image (bool): Whether the window itself is the last output,
            for heads whose loss compares with it. It costs no memory, since
            the caller holds it.
        init_cfg (dict, optional): Initialization config.

    Raises:
        ValueError: If ``down`` is below 1 or does not suit ``shrink``, a
            stage does not exist, or stages and channels do not match.
    """

    def __init__(
        self,
        shallow: dict,
        deep: dict,
        down: int = 4,
        graft: dict | None = None,
        graft_stages: Sequence[str] | None = ('layer2', 'layer3', 'layer4'),
        graft_channels: Sequence[int] = (128, 256, 512),
        shrink: str = 'antialias',
        return_image: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        if down < 1:
            raise ValueError(
                f'down is {down}; the deep network reads the window down '
                'times smaller, give 1 or more'
            )
        if shrink not in SHRINKS:
            raise ValueError(f'shrink={shrink!r}: expected one of {SHRINKS}')
        if shrink == 'haar' and down & (down - 1):
            raise ValueError(
                f"down is {down}; shrink='haar' halves again and again, give "
                'a power of two'
            )
        self.down = down
        self.shrink = shrink
        self.return_image = return_image
        self.shallow = MODELS.build(shallow)
        self.deep = MODELS.build(deep)
        self.graft_stages = None
        self.grafts = None
        if graft is None:
            return
        self.graft_channels = tuple(graft_channels)
        if graft_stages is not None:
            self.graft_stages = tuple(graft_stages)
            self._check_stages()
        self.grafts = ModuleList(
            MODELS.build(dict(graft, deep_channels=channels))
            for channels in self.graft_channels
        )

    def _check_stages(self) -> None:
        """Raise if a stage is missing or has no number of channels."""
        if len(self.graft_stages) != len(self.graft_channels):
            raise ValueError(
                f'graft_stages={self.graft_stages} and '
                f'graft_channels={self.graft_channels} differ in length; '
                'give one number of channels for each stage'
            )
        names = dict(self.deep.named_modules())
        missing = [name for name in self.graft_stages if name not in names]
        if missing:
            candidates = []
            for name, child in self.deep.named_children():
                if isinstance(child, nn.ModuleList):
                    candidates += [f'{name}.{i}' for i in range(len(child))]
                else:
                    candidates.append(name)
            raise ValueError(
                f'{type(self.deep).__name__} has no stage '
                f'{", ".join(map(repr, missing))} named by graft_stages; '
                f'its modules are {", ".join(candidates)}. Choose among '
                'them, or set graft_stages=None to graft its outputs'
            )

    def _shrink(self, x: Tensor, axes: Sequence[int] = (2, 3)) -> Tensor:
        """Make the deep network's copy of windows (N, C, H, W).

        Args:
            x (Tensor): Windows.
            axes (Sequence[int]): Axes that are shrunk; all ways to shrink do
                the same to one after the other.

        Returns:
            Tensor: (N, C, h, w).
        """
        if self.shrink == 'haar':
            kernel = [2 if axis in axes else 1 for axis in (2, 3)]
            for _ in range(self.down.bit_length() - 1):
                x = F.avg_pool2d(x, kernel)
            return x
        size = [
            max(x.shape[axis] // self.down, 1)
            if axis in axes
            else x.shape[axis]
            for axis in (2, 3)
        ]
        if self.shrink == 'nearest':
            return F.interpolate(x, size=size, mode='nearest')
        # Torch has no anti-aliasing in half precision on CPUs.
        cpu = x.device.type == 'cpu'
        dtype = torch.promote_types(x.dtype, torch.float32) if cpu else x.dtype
        small = F.interpolate(
            x.to(dtype),
            size=size,
            mode='bilinear',
            align_corners=False,
            antialias=True,
        )
        return small.to(x.dtype)

    @contextmanager
    def _grafting(self, source: Tensor) -> Iterator[None]:
        """Hook the grafts to the stages for the time of the context."""
        if self.graft_stages is None:
            yield
            return
        with ExitStack() as stack:
            for name, channels, graft in zip(
                self.graft_stages, self.graft_channels, self.grafts
            ):
                label = f'stage {name!r} of {type(self.deep).__name__}'
                handle = self.deep.get_submodule(name).register_forward_hook(
                    partial(_replace_output, graft, source, label, channels)
                )
                stack.callback(handle.remove)
            yield

    def _graft_outputs(
        self, outputs: tuple[Tensor, ...], source: Tensor
    ) -> tuple[Tensor, ...]:
        """Graft the last outputs of the deep network."""
        first = len(outputs) - len(self.grafts)
        if first < 0:
            raise ValueError(
                f'{type(self.deep).__name__} returns {len(outputs)} maps, '
                f'graft_channels={self.graft_channels} names '
                f'{len(self.grafts)}; shorten it or raise out_indices'
            )
        grafted = list(outputs)
        for i, (channels, graft) in enumerate(
            zip(self.graft_channels, self.grafts), start=first
        ):
            label = f'output {i} of {type(self.deep).__name__}'
            _check_map(outputs[i], channels, label)
            grafted[i] = graft(outputs[i], source)
        return tuple(grafted)

    def _encode_small(
        self, small: Tensor, shallow: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Run the deep network.

        Args:
            small (Tensor): Its copy of the windows (N, C, h, w).
            shallow (Tensor, optional): What is grafted, if anything is.

        Returns:
            tuple[Tensor, ...]: Its maps.
        """
        small = small.contiguous(memory_format=fast_format(small))
        with self._grafting(shallow):
            deep = self.deep(small)
        deep = (deep,) if isinstance(deep, Tensor) else tuple(deep)
        if self.grafts is not None and self.graft_stages is None:
            deep = self._graft_outputs(deep, shallow)
        return deep

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Encode windows.

        Args:
            x (Tensor): Normalised windows (N, C, H, W).

        Returns:
            tuple[Tensor, ...]: The maps of the shallow network, then those of
            the deep network (of an image ``down`` times smaller), then, with
            ``return_image``, the windows.
        """
        shallow = tuple(self.shallow(x))
        # After the shallow network, whose largest maps make the peak.
        deep = self._encode_small(self._shrink(x), shallow[-1])
        return (*shallow, *deep, x) if self.return_image else shallow + deep

    def forward_rows(
        self,
        read: Callable[[int, int], Tensor],
        height: int,
        rows: int,
        steps: Sequence[LocalStep],
        taps: Sequence[Sequence[LocalStep]],
    ) -> tuple[Tensor | Made, ...]:
        """Encode windows whose pixels come in stripes of rows.

        Args:
            read (Callable): Returns normalised rows (N, C, h, W) of the
                windows; takes the number of the first and that behind the
                last one.
            height (int): Rows of the windows.
            rows (int): Rows per stripe.
            steps (Sequence[LocalStep]): The shallow network.
            taps (Sequence[Sequence[LocalStep]]): For each shallow map, the
                layers that will read it; none if the map itself is wanted.

        Returns:
            tuple[Tensor | Made, ...]: As :meth:`forward`; in place of shallow
            maps with taps, and of the windows, what was made of them.
        """
        needed = [not layers for layers in taps]
        needed[-1] |= self.grafts is not None
        network = LocalNetwork(steps, taps, needed, height)
        narrow = Collected(height)
        for top in range(0, height, rows):
            x = read(top, min(top + rows, height))
            narrow.push(self._shrink(x, (3,)))
            network.push(x)
        maps, made = network.finish()
        small = self._shrink(narrow.map, (2,))
        del x, narrow
        deep = self._encode_small(small, maps[-1])
        shallow = [own or whole for own, whole in zip(made, maps)]
        window = (Made([]),) if self.return_image else ()
        return (*shallow, *deep, *window)
