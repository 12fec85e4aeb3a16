"""HLRC as one would first write it, to measure the packaged one against.

Plain convolutions, norms and activations in the order of the description:
the assigned map of 512 channels is made by unfolding the tokens, all maps are
concatenated before they are convolved, each expert is visited in turn, and
the classifier of the tokens runs at test time as well. Loads weights by the
names of the authors' checkpoints.
"""

import torch
import torch.nn.functional as F
from mmseg.models.backbones import SwinTransformer
from mmseg.models.decode_heads import FCNHead, UPerHead
from torch import nn

from .parts import ClassHead, laplacian, resize

NORM = dict(type='BN', requires_grad=True)


def conv(cin, cout, k=1, stride=1, groups=1, bias=False):
    """Convolution that keeps the size at stride 1."""
    return nn.Conv2d(cin, cout, k, stride, k // 2, groups=groups, bias=bias)


class Layer(nn.Module):
    """Convolution, norm, activation; the last two are optional."""

    def __init__(
        self, cin, cout, k=1, stride=1, groups=1, norm='norm', act=None
    ):
        super().__init__()
        self.conv = conv(cin, cout, k, stride, groups, bias=norm is None)
        self.norm_name = norm
        if norm is not None:
            self.add_module(norm, nn.BatchNorm2d(cout))
        self.act = act

    def forward(self, x):
        """(N, C, H, W) to (N, D, h, w)."""
        x = self.conv(x)
        if self.norm_name is not None:
            x = getattr(self, self.norm_name)(x)
        return x if self.act is None else self.act(x)


def hard_swish(x):
    """Hard-swish, in place."""
    return F.hardswish(x, inplace=True)


def relu(x):
    """ReLU, in place."""
    return F.relu(x, inplace=True)


class MBConv(nn.Module):
    """Inverted bottleneck."""

    def __init__(self, cin, cout, stride=1, norm='norm'):
        super().__init__()
        mid = 4 * cin
        self.inverted_conv = Layer(cin, mid, 1, norm=norm, act=hard_swish)
        self.depth_conv = Layer(
            mid, mid, 3, stride, mid, norm=norm, act=hard_swish
        )
        self.point_conv = Layer(mid, cout)

    def forward(self, x):
        """(N, C, H, W) to (N, D, h, w)."""
        return self.point_conv(self.depth_conv(self.inverted_conv(x)))


class DSConv(nn.Module):
    """Separable convolution."""

    def __init__(self, width):
        super().__init__()
        self.depth_conv = Layer(width, width, 3, 1, width, act=hard_swish)
        self.point_conv = Layer(width, width)

    def forward(self, x):
        """(N, C, H, W) to (N, D, h, w)."""
        return self.point_conv(self.depth_conv(x))


class LinearAttention(nn.Module):
    """Multi-scale ReLU linear attention, heads of 32 channels."""

    def __init__(self, width, dim=32):
        super().__init__()
        self.dim = dim
        wide = 3 * width
        self.qkv = nn.Module()
        self.qkv.conv = conv(width, wide)
        self.aggreg = nn.ModuleList(
            [
                nn.Sequential(
                    conv(wide, wide, 5, groups=wide),
                    conv(wide, wide, groups=wide // dim),
                )
            ]
        )
        self.proj = Layer(2 * width, width)

    def forward(self, x):
        """(N, C, H, W) to (N, D, h, w)."""
        n, _, h, w = x.shape
        q = self.qkv.conv(x)
        z = torch.cat((q, self.aggreg[0](q)), 1)
        z = z.reshape(n, -1, 3 * self.dim, h * w).transpose(2, 3).float()
        q, k, v = z.chunk(3, dim=-1)
        q, k = q.relu(), k.relu()
        v = F.pad(v, (0, 1), value=1.0)
        out = q @ (k.transpose(2, 3) @ v)
        out = out[..., :-1] / (out[..., -1:] + 1e-15)
        return self.proj(out.transpose(2, 3).reshape(n, -1, h, w))


class Block(nn.Module):
    """A part named ``main`` with or without a skip connection."""

    def __init__(self, main, skip=True):
        super().__init__()
        self.main = main
        self.skip = skip

    def forward(self, x):
        """(N, C, H, W) to (N, D, h, w)."""
        return x + self.main(x) if self.skip else self.main(x)


class AttentionBlock(nn.Module):
    """Attention, then an inverted bottleneck."""

    def __init__(self, width):
        super().__init__()
        self.context_module = Block(LinearAttention(width))
        self.local_module = Block(MBConv(width, width, norm=None))

    def forward(self, x):
        """(N, C, H, W) to (N, D, h, w)."""
        return self.local_module(self.context_module(x))


class OpList(nn.Module):
    """Parts in a row."""

    def __init__(self, *ops):
        super().__init__()
        self.op_list = nn.Sequential(*ops)

    def forward(self, x):
        """(N, C, H, W) to (N, D, h, w)."""
        return self.op_list(x)


class Trunk(nn.Module):
    """EfficientViT-B2 without its last stage."""

    def __init__(self, cin):
        super().__init__()
        self.input_stem = OpList(
            Layer(cin, 24, 3, 2, act=hard_swish), Block(DSConv(24))
        )
        self.stages = nn.ModuleList()
        for narrow, wide, depth in ((24, 48, 3), (48, 96, 4)):
            self.stages.append(
                OpList(
                    Block(MBConv(narrow, wide, 2), skip=False),
                    *(Block(MBConv(wide, wide)) for _ in range(depth - 1)),
                )
            )
        self.stages.append(
            OpList(
                Block(MBConv(96, 192, 2, norm=None), skip=False),
                *(AttentionBlock(192) for _ in range(4)),
            )
        )

    def forward(self, x):
        """(N, cin, H, W) to the maps at 1/2, 1/4, 1/8 and 1/16."""
        maps = [self.input_stem(x)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps


class Experts(nn.Module):
    """Router and experts, visited one after the other."""

    def __init__(self, width, cout, number, top_k=2):
        super().__init__()
        self.top_k = top_k
        self.gate = nn.Linear(width, number, bias=False)
        self.experts = nn.ModuleList()
        for _ in range(number):
            expert = nn.Module()
            expert.w = nn.Sequential(
                nn.Linear(width, width, bias=False),
                nn.ReLU(inplace=True),
                nn.Linear(width, width, bias=False),
                nn.ReLU(inplace=True),
                nn.Linear(width, cout, bias=False),
            )
            self.experts.append(expert)

    def forward(self, x):
        """(T, width) to (T, cout)."""
        p = self.gate(x).softmax(1, dtype=torch.float32)
        weights, chosen = p.topk(self.top_k, dim=1)
        weights = (weights / weights.sum(1, keepdim=True)).to(x.dtype)
        out = x.new_zeros(len(x), self.experts[0].w[-1].out_features)
        for i, expert in enumerate(self.experts):
            share = (weights * (chosen == i)).sum(1, keepdim=True)
            if type(x).__name__ == 'FakeTensor':
                # Costs are counted without data: an even share.
                number = len(x) * self.top_k // len(self.experts)
                rows = torch.arange(number, device=x.device)
            else:
                rows = share[:, 0].nonzero()[:, 0]
            out = out.index_add(0, rows, share[rows] * expert.w(x[rows]))
        return out


class Felc(nn.Module):
    """Field-enriched local context."""

    def __init__(self, width):
        super().__init__()
        third = width // 3
        self.fc1 = conv(width, width, bias=True)
        self.dwconv = nn.Module()
        for i, k in enumerate((3, 5, 7), start=1):
            self.dwconv.add_module(
                f'dwconv{i}', conv(third, third, k, groups=third, bias=True)
            )
        self.dwconv.bn = nn.BatchNorm2d(width)
        self.fc2 = conv(width, width, bias=True)

    def forward(self, x):
        """(N, C, H, W) to (N, D, h, w)."""
        a, b, c = self.fc1(x).chunk(3, 1)
        d = self.dwconv
        x = torch.cat((d.dwconv1(a), d.dwconv2(b), d.dwconv3(c)), 1)
        return self.fc2(F.gelu(F.gelu(d.bn(x))))


class Region(nn.Module):
    """Which tokens the 4 x 4 cells of each region are made of."""

    def __init__(self, width, number, num_classes):
        super().__init__()
        self.conv_seg = conv(width, num_classes, bias=True)
        separable = nn.Module()
        separable.depthwise_conv = Layer(
            width, width, 3, 1, width, norm='bn', act=relu
        )
        separable.pointwise_conv = Layer(width, width, norm='bn', act=relu)
        self.affinity_head = nn.ModuleList(
            [separable, Layer(width, width, norm=None)]
        )
        self.rpae = Experts(width, 144, number)

    def forward(self, x):
        """(N, width, h, w) to (N, 9, 4, 4, h, w)."""
        separable, last = self.affinity_head
        x = separable.pointwise_conv(separable.depthwise_conv(x))
        x = last(x)
        n, c, h, w = x.shape
        a = self.rpae(x.permute(0, 2, 3, 1).reshape(-1, c))
        a = a.view(n, h, w, 9, 4, 4).permute(0, 3, 4, 5, 1, 2).contiguous()
        a[:, :3, :, :, 0] = 0
        a[:, 6:, :, :, -1] = 0
        a[:, ::3, ..., 0] = 0
        a[:, 2::3, ..., -1] = 0
        return a.relu()


class RefineHead(nn.Module):
    """Everything at full resolution, and the decoder."""

    def __init__(self, num_classes, number):
        super().__init__()
        self.efficientvit = Trunk(9)
        self.spa_branch = Trunk(3)
        self.region = Region(192, number, num_classes)
        self.felc_8 = Felc(96)
        self.felc_16 = Felc(192)
        self.compression = conv(288, 96, bias=True)
        self.conv_seg = ClassHead(608, num_classes, 32)

    def forward(self, image, tokens):
        """Window (N, 3, H, W), tokens (N, 512, h, w) to logits at 1/4."""
        first, second = laplacian(image)
        x = torch.cat((image, first, resize(second, image.shape[2:])), 1)
        association = self.region(self.efficientvit(x)[-1])
        n, _, _, _, h, w = association.shape
        near = F.unfold(tokens, 3, padding=1).view(n, -1, 9, h * w)
        near = near.permute(0, 3, 1, 2)
        mix = association.reshape(n, 9, 16, h * w).permute(0, 3, 1, 2)
        s = (near @ mix).view(n, h, w, -1, 4, 4)
        s = s.permute(0, 3, 1, 4, 2, 5).reshape(n, -1, 4 * h, 4 * w)
        maps = self.spa_branch(image)
        fine, coarse = self.felc_8(maps[2]), self.felc_16(maps[3])
        coarse = resize(coarse, fine.shape[2:])
        local = self.compression(torch.cat((fine, coarse), 1))
        local = resize(local, s.shape[2:])
        return self.conv_seg(torch.cat((s, local), 1))


class NaiveHLRC(nn.Module):
    """The whole network."""

    def __init__(self, num_classes=7, number=16):
        super().__init__()
        self.backbone = SwinTransformer(
            embed_dims=96,
            depths=(2, 2, 6, 2),
            num_heads=(3, 6, 12, 24),
            window_size=7,
            drop_path_rate=0.3,
        )
        head = dict(
            num_classes=num_classes, norm_cfg=NORM, align_corners=False
        )
        self.decode_head = UPerHead(
            in_channels=[96, 192, 384, 768],
            in_index=[0, 1, 2, 3],
            channels=512,
            **head,
        )
        self.auxiliary_head = FCNHead(
            in_channels=384,
            in_index=2,
            channels=256,
            num_convs=1,
            concat_input=False,
            **head,
        )
        self.refine_head = RefineHead(num_classes, number)

    def encode_decode(self, image, metas):
        """Logits (N, classes, H, W) of normalised images (N, 3, H, W)."""
        small = F.avg_pool2d(F.avg_pool2d(image, 2), 2)
        tokens = self.decode_head._forward_feature(self.backbone(small))
        self.decode_head.cls_seg(tokens)
        logits = self.refine_head(image, tokens)
        return resize(logits, metas[0]['img_shape'])

    def load_reference(self, state):
        """Load weights by the authors' names; training-only ones are left."""
        left = ('haar.', 'refine_head.reduce.', 'refine_head.sr_decoder.')
        state = {k: v for k, v in state.items() if not k.startswith(left)}
        self.load_state_dict(state)


def build_naive(num_classes=7, num_experts=16):
    """Build the model.

    Args:
        num_classes (int): Number of classes.
        num_experts (int): Association experts.

    Returns:
        nn.Module: With ``encode_decode(image, metas)`` and
        ``load_reference(state)``.
    """
    return NaiveHLRC(num_classes, num_experts)
