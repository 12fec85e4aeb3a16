"""Parts that several plain builds share."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmseg.models.backbones import ResNetV1c
from torch import Tensor

BINOMIAL = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0])


def deep_network() -> ResNetV1c:
    """ResNet-18 at output stride 8."""
    return ResNetV1c(
        depth=18,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        contract_dilation=True,
        norm_eval=False,
    )


def resize(x: Tensor, size: torch.Size) -> Tensor:
    """Resize bilinearly."""
    return F.interpolate(x, size=size, mode='bilinear', align_corners=False)


def laplacian(x: Tensor, levels: int = 2) -> list[Tensor]:
    """Laplacian residuals by the definition: insert zeros, convolve."""
    channels = x.shape[1]
    kernel = (torch.outer(BINOMIAL, BINOMIAL) / 256).to(x)
    kernel = kernel[None, None].repeat(channels, 1, 1, 1)

    def blur(x: Tensor, gain: int) -> Tensor:
        x = F.pad(x, (2, 2, 2, 2), mode='reflect')
        return F.conv2d(x, kernel * gain, groups=channels)

    residuals = []
    for _ in range(levels):
        low = blur(x, 1)[:, :, ::2, ::2]
        sparse = low.new_zeros(
            *low.shape[:2], low.shape[2] * 2, low.shape[3] * 2
        )
        sparse[:, :, ::2, ::2] = low
        up = blur(sparse, 4)
        if up.shape != x.shape:
            up = F.interpolate(up, size=x.shape[2:])
        residuals.append(x - up)
        x = low
    return residuals


class Unit(nn.Module):
    """Convolution, batch norm and, unless told otherwise, ReLU."""

    def __init__(
        self, i: int, o: int, k: int = 3, s: int = 1, d: int = 1, act=True
    ):
        super().__init__()
        padding = d * (k // 2)
        self.conv = nn.Conv2d(i, o, k, s, padding, d, bias=False)
        self.bn = nn.BatchNorm2d(o)
        self.act = nn.ReLU(inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Apply all three."""
        return self.act(self.bn(self.conv(x)))


class CatBlock(nn.Module):
    """STDC block."""

    def __init__(self, i: int, o: int, stride: int):
        super().__init__()
        self.conv_list = nn.ModuleList(
            [
                Unit(i, o // 2, 1),
                Unit(o // 2, o // 4),
                Unit(o // 4, o // 8),
                Unit(o // 8, o // 8),
            ]
        )
        self.stride = stride
        if stride == 2:
            half = o // 2
            self.avd_layer = nn.Sequential(
                nn.Conv2d(half, half, 3, 2, 1, groups=half, bias=False),
                nn.BatchNorm2d(half),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Stack the outputs of all convolutions."""
        first = self.conv_list[0](x)
        x = first
        if self.stride == 2:
            x = self.avd_layer(first)
            first = F.avg_pool2d(first, 3, 2, 1)
        outs = [first]
        for conv in self.conv_list[1:]:
            x = conv(x)
            outs.append(x)
        return torch.cat(outs, dim=1)


class ShallowNet(nn.Module):
    """First four stages of STDC1; returns all maps."""

    def __init__(self, channels: int):
        super().__init__()
        self.features = nn.Sequential(
            Unit(channels, 32, s=2),
            Unit(32, 64, s=2),
            CatBlock(64, 256, 2),
            CatBlock(256, 256, 1),
            CatBlock(256, 512, 2),
            CatBlock(512, 512, 1),
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps at 1/2, 1/4, 1/8 and 1/16."""
        half = self.features[0](x)
        quarter = self.features[1](half)
        eighth = self.features[3](self.features[2](quarter))
        sixteenth = self.features[5](self.features[4](eighth))
        return [half, quarter, eighth, sixteenth]


class ASPP(nn.Module):
    """DeepLabV3 head; returns stacked branches, context and logits."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.image_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), Unit(512, 128, 1)
        )
        self.aspp_modules = nn.ModuleList(
            Unit(512, 128, 1 if d == 1 else 3, d=d) for d in (1, 12, 24, 36)
        )
        self.bottleneck = Unit(640, 128)
        self.conv_seg = nn.Conv2d(128, num_classes, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the stacked branches, the context and the logits."""
        pooled = resize(self.image_pool(x), x.shape[2:])
        branches = [pooled] + [branch(x) for branch in self.aspp_modules]
        stacked = torch.cat(branches, dim=1)
        context = self.bottleneck(stacked)
        return stacked, context, self.conv_seg(context)


class ClassHead(nn.Module):
    """3x3 and 1x1 convolution."""

    def __init__(self, i: int, o: int, middle: int = 64):
        super().__init__()
        self.conv_bn_relu = Unit(i, middle)
        self.conv_out = nn.Conv2d(middle, o, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        return self.conv_out(self.conv_bn_relu(x))


class FCN(nn.Module):
    """Auxiliary FCN head."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.convs = nn.Sequential(Unit(256, 64))
        self.conv_seg = nn.Conv2d(64, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        return self.conv_seg(self.convs(x))


class SRDecoder(nn.Module):
    """Super-resolution decoder."""

    def __init__(self):
        super().__init__()
        self.conv1 = Unit(128, 64)
        self.conv2 = Unit(64, 64)
        self.conv3 = Unit(64, 128)
        self.conv_sr = ClassHead(128, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features at 1/2 and the image at 1/2."""
        x = self.conv1(F.interpolate(x, scale_factor=4))
        x = self.conv2(F.interpolate(x, scale_factor=2))
        x = self.conv3(F.interpolate(x, scale_factor=2))
        return x, self.conv_sr(x)
