"""SGHRQ as one would first write it, to measure the packaged one against.

Plain layers, every step on the grid on which it is defined. Loads weights by
the names of the authors' checkpoints.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .parts import (
    ASPP,
    ClassHead,
    ShallowNet,
    deep_network,
    laplacian,
    resize,
)


class Memory(nn.Module):
    """Read the class memory."""

    def __init__(self, num_classes):
        super().__init__()
        self.register_buffer('memory', torch.zeros(num_classes, 1, 512))
        self.S = nn.Sequential(
            nn.Conv1d(512, 512, 1), nn.BatchNorm1d(512), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 512, H, W) to (N, num_classes, H, W)."""
        n, _, h, w = x.shape
        query = self.S(x.flatten(2)).permute(0, 2, 1)
        scores = torch.matmul(query, self.memory[:, 0].t()) / 512**0.5
        gate = F.softmax(scores, dim=-1)
        return gate.permute(0, 2, 1).reshape(n, -1, h, w)


class PositionCode(nn.Module):
    """Sines and cosines of relative coordinates."""

    def __init__(self):
        super().__init__()
        frequencies = 2 ** (6 * torch.arange(6) / 5)
        emb = torch.zeros(12, 2)
        emb[:6, 0] = frequencies
        emb[6:, 1] = frequencies
        self.emb = nn.Parameter(emb)

    def forward(self, r: Tensor) -> Tensor:
        """(N, P, 2) to (N, P, 26)."""
        angle = torch.matmul(r, self.emb.t())
        return torch.cat([r, torch.sin(angle), torch.cos(angle)], dim=-1)


class QueryMLP(nn.Module):
    """MLP on values and position codes of all levels."""

    def __init__(self, num_classes):
        super().__init__()
        self.pos1 = PositionCode()
        self.pos2 = PositionCode()
        self.pos3 = PositionCode()
        self.imnet = nn.Sequential(
            nn.Conv1d(334 + 2 * num_classes, 512, 1),
            nn.BatchNorm1d(512),
            nn.ReLU(),
            nn.Conv1d(512, 256, 1),
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Conv1d(256, 256, 1),
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Conv1d(256, num_classes, 1),
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Three maps (N, C, h, w) to (N, num_classes, h_1, w_1)."""
        n, _, height, width = maps[0].shape
        inputs = []
        for x, code in zip(maps, (self.pos1, self.pos2, self.pos3)):
            h, w = x.shape[2:]
            i = torch.arange(height, device=x.device)
            j = torch.arange(width, device=x.device)
            # Cell centres lie at (2 i + 1) / N - 1.
            row, column = (
                (2 * i + 1) * h // (2 * height),
                (2 * j + 1) * w // (2 * width),
            )
            r_y = ((2 * i + 1) / height - (2 * row + 1) / h) * h
            r_x = ((2 * j + 1) / width - (2 * column + 1) / w) * w
            r = torch.stack(torch.meshgrid(r_y, r_x, indexing='ij'), dim=-1)
            r = r.reshape(1, -1, 2).expand(n, -1, -1)
            value = x[:, :, row][:, :, :, column].flatten(2).permute(0, 2, 1)
            inputs += [code(r), value]
        inputs = torch.cat(inputs, dim=-1).permute(0, 2, 1)
        return self.imnet(inputs).reshape(n, -1, height, width)


class Query(nn.Module):
    """Compress the deep features, then query."""

    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Sequential(
            nn.Conv2d(640, 256, 1), nn.BatchNorm2d(256), nn.ReLU()
        )
        self.sghrq_mlp = QueryMLP(num_classes)

    def forward(self, a8: Tensor, a16m: Tensor, pyramid: Tensor) -> Tensor:
        """Return logits on the grid of a8."""
        return self.sghrq_mlp([a8, a16m, self.head(pyramid)])


class RefineHead(nn.Module):
    """Shallow network, class heads, memory and query."""

    def __init__(self, num_classes):
        super().__init__()
        self.stdc_net = ShallowNet(9)
        self.conv_seg_aux_16 = ClassHead(512, num_classes)
        self.conv_seg_aux_8 = ClassHead(256, num_classes)
        self.memory = Memory(num_classes)
        self.sghrq = Query(num_classes)

    def forward(self, x: Tensor, pyramid: Tensor) -> Tensor:
        """Return logits at 1/8."""
        first, second = laplacian(x)
        shallow_in = torch.cat([x, first, resize(second, x.shape[2:])], dim=1)
        features = self.stdc_net(shallow_in)
        a16 = self.conv_seg_aux_16(features[3])
        a8 = self.conv_seg_aux_8(features[2])
        gate = self.memory(features[3])
        a16m = gate * a16 + a16
        return self.sghrq(a8, a16m, pyramid)


class NaiveSGHRQ(nn.Module):
    """The whole network, for prediction."""

    def __init__(self, num_classes):
        super().__init__()
        self.backbone = deep_network()
        self.decode_head = ASPP(num_classes)
        self.refine_head = RefineHead(num_classes)

    def load_reference(self, state: dict[str, Tensor]) -> None:
        """Load the authors' state dict; parts for training are left out."""
        own = self.state_dict()
        self.load_state_dict({k: v for k, v in state.items() if k in own})

    def encode_decode(self, x: Tensor, metas: list[dict]) -> Tensor:
        """Return logits (N, num_classes, H, W) of windows (N, 3, H, W)."""
        small = F.interpolate(x, size=[side // 4 for side in x.shape[2:]])
        features = self.backbone(small)
        pyramid, _, _ = self.decode_head(features[3])
        logits = self.refine_head(x, pyramid)
        return resize(logits, x.shape[2:])


def build_naive(num_classes: int) -> NaiveSGHRQ:
    """Build the naive network."""
    return NaiveSGHRQ(num_classes)
