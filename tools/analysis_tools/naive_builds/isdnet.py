"""ISDNet as one would first write it, to measure the packaged one against.

Plain modules, every map kept as long as a straightforward forward keeps it,
all heads evaluated. Loads weights by the names of the authors' checkpoints.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .parts import (
    ASPP,
    FCN,
    ClassHead,
    ShallowNet,
    SRDecoder,
    Unit,
    deep_network,
    laplacian,
    resize,
)


class Attention(nn.Module):
    """Convolution and channel means of one map of a fusion."""

    def __init__(self, i: int):
        super().__init__()
        self.conv_bn_relu = Unit(i, 128)
        self.conv_1x1 = Unit(128, 128, 1, act=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the map and the means."""
        x = self.conv_bn_relu(x)
        return x, self.conv_1x1(F.adaptive_avg_pool2d(x, 1))


class Fusion(nn.Module):
    """Relation-aware fusion."""

    def __init__(self, i: int):
        super().__init__()
        self.g1 = nn.Parameter(torch.zeros(1))
        self.g2 = nn.Parameter(torch.zeros(1))
        for name in ('spatial_mlp', 'context_mlp'):
            layers = nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 128)
            setattr(self, name, nn.Sequential(*layers, nn.ReLU()))
        self.spatial_att = Attention(i)
        self.context_att = Attention(128)
        self.context_head = Unit(128, 128)
        self.smooth = Unit(128, 128, act=False)

    def forward(
        self, spatial: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return both weighted maps and their fusion."""
        n = len(spatial)
        spatial, s = self.spatial_att(spatial)
        context, c = self.context_att(context)
        relation = torch.bmm(
            s.reshape(n, 16, 8), c.reshape(n, 16, 8).permute(0, 2, 1)
        ).reshape(n, 256)
        s = s + self.g1 * self.spatial_mlp(relation)[:, :, None, None]
        c = c + self.g2 * self.context_mlp(relation)[:, :, None, None]
        spatial = spatial * s.sigmoid()
        context = resize(context * c.sigmoid(), spatial.shape[2:])
        context = self.context_head(context)
        return spatial, context, self.smooth(spatial + context)


class RefineHead(nn.Module):
    """Shallow network, fusions and heads."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.stdc_net = ShallowNet(6)
        self.fuse8 = Fusion(256)
        self.fuse16 = Fusion(512)
        self.sr_decoder = SRDecoder()
        self.conv_seg = ClassHead(128, num_classes)
        self.conv_seg_aux_16 = ClassHead(128, num_classes)
        self.conv_seg_aux_8 = ClassHead(128, num_classes)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Return the logits at 1/8."""
        fine, coarse = laplacian(x)
        stacked = torch.cat((fine, resize(coarse, x.shape[2:])), dim=1)
        maps = self.stdc_net(stacked)
        _, _, fused = self.fuse16(maps[3], context)
        _, _, fused = self.fuse8(maps[2], fused)
        return self.conv_seg(fused)


class NaiveISDNet(nn.Module):
    """All of ISDNet."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.backbone = deep_network()
        self.decode_head = ASPP(num_classes)
        self.refine_head = RefineHead(num_classes)
        self.auxiliary_head = FCN(num_classes)

    def load_reference(self, state: dict[str, Tensor]) -> None:
        """Load weights by the authors' names, strictly."""
        state = dict(state)
        slices = ('x2.0', 'x4.0', 'x8.0', 'x16.0')
        for name in list(state):
            for part in slices:
                prefix = f'refine_head.stdc_net.{part}.'
                if name.startswith(prefix):
                    target = 'refine_head.stdc_net.features.'
                    state[target + name[len(prefix) :]] = state.pop(name)
        self.load_state_dict(state)

    def encode_decode(self, x: Tensor, metas: list[dict]) -> Tensor:
        """Return the logits of windows (N, 3, H, W) at full size."""
        small = F.interpolate(x, size=[side // 4 for side in x.shape[2:]])
        maps = self.backbone(small)
        _, context, _ = self.decode_head(maps[3])
        logits = self.refine_head(x, context)
        return resize(logits, x.shape[2:])


def build_naive(num_classes: int = 7) -> nn.Module:
    """Build ISDNet plainly."""
    return NaiveISDNet(num_classes).eval()
