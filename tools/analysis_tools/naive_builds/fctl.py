"""FCtL as one would first write it, to measure the packaged one against.

Three encoders for every patch, attention maps of all pairs of positions, and
a canvas of float64 logits as large as the image. Loads weights by the names
of the authors' checkpoints.
"""

import math

import numpy as np
import torch
import torch.nn as nn
from PIL import Image
from torch import Tensor

# Class count, contexts (times the patch; None is the whole image), whether
# queries and keys are centred, and the order of the fused sources.
VARIANTS = {
    'inria': (2, (2, 3), False, ('medium', 'large', 'local')),
    'deepglobe': (7, (3, None), True, ('local', 'medium', 'large')),
}
WIDTHS = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)


def vgg(padding: int = 100) -> nn.Sequential:
    """All layers of VGG-16's features, in the order of torchvision."""
    layers: list[nn.Module] = []
    channels = 3
    for stage in WIDTHS:
        for width in stage:
            layers.append(
                nn.Conv2d(channels, width, 3, padding=1 if layers else padding)
            )
            layers.append(nn.ReLU(inplace=True))
            channels = width
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    return nn.Sequential(*layers)


class Attention(nn.Module):
    """Non-local attention with its map."""

    def __init__(self, centred: bool):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.conv_query = nn.Conv2d(512, 512, 1)
        self.conv_key = nn.Conv2d(512, 512, 1)
        self.conv_value = nn.Conv2d(512, 512, 1, bias=False)
        self.centred = centred

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """Read from ``u`` at the positions of ``x``."""
        n, c, h, w = x.shape
        query = self.conv_query(x).view(n, c, -1).permute(0, 2, 1)
        key = self.conv_key(u).view(n, c, -1)
        value = self.conv_value(u).view(n, c, -1)
        if self.centred:
            query = query - query.mean(dim=1, keepdim=True)
            key = key - key.mean(dim=2, keepdim=True)
        attention = torch.bmm(query, key).softmax(dim=-1)
        out = torch.bmm(value, attention.permute(0, 2, 1))
        return self.gamma * out.view(n, c, h, w)


class NaiveFCtL(nn.Module):
    """All of FCtL.

    Args:
        variant (str): ``'inria'`` or ``'deepglobe'``.
    """

    def __init__(self, variant: str):
        super().__init__()
        classes, self.factors, centred, self.order = VARIANTS[variant]
        self.variant = variant
        self.num_classes = classes
        self.encoders = nn.ModuleDict(
            {name: vgg() for name in ('local', 'medium', 'large')}
        )
        self.attention = nn.ModuleDict(
            {name: Attention(centred) for name in self.order}
        )
        self.ins = nn.ModuleList(nn.Conv2d(512, 512, 1) for _ in range(3))
        self.trans = nn.Conv2d(1536, 1536, 1)
        self.outs = nn.ModuleList(nn.Conv2d(512, 512, 1) for _ in range(3))
        self.output = nn.Sequential(
            nn.Conv2d(512, 4096, 7),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Conv2d(4096, 4096, 1),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Conv2d(4096, classes, 1),
        )
        self.adj_pool4 = nn.Conv2d(512, classes, 1)
        self.adj_pool3 = nn.Conv2d(256, classes, 1)
        for name, size, stride in (
            ('up_output', 4, 2),
            ('up_pool4_out', 4, 2),
            ('up_final', 16, 8),
        ):
            layer = nn.ConvTranspose2d(
                classes, classes, size, stride, bias=False
            )
            self.add_module(name, layer)

    def load_reference(
        self,
        local: dict[str, Tensor],
        medium: dict[str, Tensor],
        large: dict[str, Tensor],
    ) -> None:
        """Load the authors' three networks."""
        state = {}
        for name, part in dict(
            local=local, medium=medium, large=large
        ).items():
            for key, value in part.items():
                if key.startswith('vgg.features.'):
                    key = key.replace('vgg.features', f'encoders.{name}')
                    state[key] = value
        prefix = 'big_attention.' if self.variant == 'inria' else ''
        suffixes = ('', '_1', '_2') if prefix else ('', '', '')
        for name, suffix in zip(self.order, suffixes):
            block = prefix or f'{name}.'
            for ours in self.attention[name].state_dict():
                layer, _, leaf = ours.partition('.')
                key = f'{block}{layer}{suffix}' + (f'.{leaf}' if leaf else '')
                state[f'attention.{name}.{ours}'] = local[key]
        for leaf in ('weight', 'bias'):
            state[f'trans.{leaf}'] = local[f'{prefix}trans.{leaf}']
            for i in range(3):
                for ours in ('in', 'out'):
                    key = f'{prefix}{ours}_{i + 1}.{leaf}'
                    state[f'{ours}s.{i}.{leaf}'] = local[key]
        decoder = ('output', 'adj_', 'up_')
        state.update({k: v for k, v in local.items() if k.startswith(decoder)})
        self.load_state_dict(state)

    def forward(self, local: Tensor, medium: Tensor, large: Tensor) -> Tensor:
        """Return the logits of patches (N, 3, H, W)."""
        layers = self.encoders['local']
        pool3 = layers[:17](local)
        pool4 = layers[17:24](pool3)
        pool5 = layers[24:](pool4)
        features = dict(
            local=pool5,
            medium=self.encoders['medium'](medium),
            large=self.encoders['large'](large),
        )
        features['large'] = features['large'].expand(len(local), -1, -1, -1)
        read = [
            self.attention[name](pool5, features[name]) for name in self.order
        ]
        mixed = torch.cat([conv(x) for conv, x in zip(self.ins, read)], dim=1)
        parts = self.trans(mixed).chunk(3, dim=1)
        scores = torch.stack(
            [conv(x).sigmoid() for conv, x in zip(self.outs, parts)]
        )
        weights = scores.softmax(dim=0)
        x = pool5 + sum(w * x for w, x in zip(weights, read))
        x = self.up_output(self.output(x))
        skip = self.adj_pool4(0.01 * pool4)
        x = x + skip[:, :, 5 : 5 + x.shape[2], 5 : 5 + x.shape[3]]
        x = self.up_pool4_out(x)
        skip = self.adj_pool3(0.0001 * pool3)
        x = x + skip[:, :, 9 : 9 + x.shape[2], 9 : 9 + x.shape[3]]
        x = self.up_final(x)
        h, w = local.shape[2:]
        return x[:, :, 31 : 31 + h, 31 : 31 + w]

    @torch.no_grad()
    def predict_logits(
        self, image: np.ndarray, patch: int = 508, batch_size: int = 8
    ) -> np.ndarray:
        """Sum the logits of all patches.

        Args:
            image (np.ndarray): RGB, ``uint8`` (H, W, 3).
            patch (int): Side of patches and contexts, pixels.
            batch_size (int): Patches at a time.

        Returns:
            np.ndarray: float64 (classes, H, W).
        """
        height, width = image.shape[:2]
        canvas = np.zeros((self.num_classes, height, width))
        corners = [
            (y, x) for y in starts(height, patch) for x in starts(width, patch)
        ]
        for first in range(0, len(corners), batch_size):
            batch = corners[first : first + batch_size]
            local = tensors(
                image[y : y + patch, x : x + patch] for y, x in batch
            )
            contexts = [
                tensors(
                    context(image, y, x, patch, factor)
                    for y, x in (batch if factor else batch[:1])
                )
                for factor in self.factors
            ]
            # As the authors: an image that is one context is repeated.
            contexts = [
                view.expand(len(local), -1, -1, -1).contiguous()
                for view in contexts
            ]
            logits = self(local, *contexts).numpy()
            for (y, x), one in zip(batch, logits):
                canvas[:, y : y + patch, x : x + patch] += one
        return canvas

    def predict_image(self, image: np.ndarray, **options: int) -> np.ndarray:
        """Return the label map of an image, see :meth:`predict_logits`."""
        return self.predict_logits(image, **options).argmax(axis=0)


def starts(length: int, patch: int) -> list[int]:
    """First pixels of patches along an axis: evenly spread."""
    count = math.ceil(length / patch)
    while patch - (length - patch) / (count - 1) < 50:
        count += 1
    step = (length - patch) / (count - 1)
    return [*(round(i * step) for i in range(count - 1)), length - patch]


def context(
    image: np.ndarray, y: int, x: int, patch: int, factor: int | None
) -> np.ndarray:
    """Cut a context and shrink it to the size of a patch."""
    if factor is not None:
        side, pad = factor * patch, (factor - 1) * patch // 2
        image = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
        image = image[y : y + side, x : x + side]
    shrunk = Image.fromarray(image).resize((patch, patch), Image.BILINEAR)
    return np.asarray(shrunk)


def tensors(patches) -> Tensor:
    """Stack patches to (N, 3, h, w), values of 0 to 1."""
    stacked = np.stack(list(patches)).astype(np.float32) / 255
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()


def build_naive(variant: str = 'deepglobe') -> NaiveFCtL:
    """Build FCtL plainly."""
    return NaiveFCtL(variant).eval()
