"""What is exported: a segmentor as a function of tensors."""

import copy

import torch
from torch import Tensor, nn

from ..models.backbones.local_context import BOXES
from ..models.segmentors import StreamingSegmentor
from ..models.segmentors.batch_norms import fold_batch_norms
from ..tiling.views import LOCAL
from .free_sizes import free_sizes


class WindowNetwork(nn.Module):
    """The network of windows: tensors in, logits out, nothing else.

    Holds a copy of the segmentor, on the CPU and in evaluation mode, whose
    batch norms are folded into the weights where that is known to be right.

    Args:
        model (StreamingSegmentor): With trained weights.
        normalise (bool): Whether raw pixels come in, in the order of bands
            that the data preprocessor expects. Without, what that makes of
            them. Defaults to True.
        half (bool): Whether the network computes in float16; inputs and
            logits keep their types. Defaults to False.

    Attributes:
        names (tuple[str]): Of the inputs: the views, ``'local'`` first, then,
            for networks with contexts, ``box_<view>``.
        channels (int): Of each view.
    """

    def __init__(
        self,
        model: StreamingSegmentor,
        normalise: bool = True,
        half: bool = False,
    ) -> None:
        super().__init__()
        # Hooks, views and budget come along; gradients need not.
        model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        fold_batch_norms(model)
        free_sizes(model)
        preprocessor = model.data_preprocessor
        mean = getattr(preprocessor, 'mean', None)
        self.normalises = normalise
        self._half = half
        self.views = tuple(model.views)
        boxes = self.views if len(self.views) > 1 else ()
        if not model.encodes_contexts:
            boxes = ()
        self._boxed = tuple(name for name in boxes if name != LOCAL)
        self.names = (*self.views, *(f'box_{name}' for name in self._boxed))
        self.channels = 3 if mean is None else len(mean)
        # Public in the original stack.
        self.turns_bands = self.channels == 3 and any(
            getattr(preprocessor, name, False)
            for name in ('channel_conversion', '_channel_conversion')
        )
        self._scales_values = mean is not None
        if self._scales_values:
            self.register_buffer('pixel_mean', mean.float()[None])
            self.register_buffer('pixel_std', preprocessor.std.float()[None])
        self.model = model.half() if half else model

    def normalise(self, pixels: Tensor) -> Tensor:
        """Do to raw pixels (N, C, h, w) what the preprocessor does.

        Args:
            pixels (Tensor): Of any type.

        Returns:
            Tensor: float32 (N, C, h, w).
        """
        if self.turns_bands:
            pixels = pixels.flip(1)
        pixels = pixels.float()
        if self._scales_values:
            pixels = (pixels - self.pixel_mean) / self.pixel_std
        return pixels

    def forward(self, *inputs: Tensor) -> Tensor:
        """Predict windows.

        Args:
            *inputs (Tensor): In the order of :attr:`names`: views
                (N, C, h, w), then boxes ``(y, x, h, w)`` of the windows in
                the contexts, in fractions of these, (N, 4).

        Returns:
            Tensor: Logits (N, classes, h, w) of the local view, float32.
        """
        count = len(self.views)
        views = dict(zip(self.views, inputs[:count]))
        if self.normalises:
            views = {name: self.normalise(x) for name, x in views.items()}
        if self._half:
            views = {name: x.half() for name, x in views.items()}
        local = views[LOCAL]
        meta = dict(img_shape=local.shape[2:], pad_shape=local.shape[2:])
        given = views if count > 1 else local
        if self._boxed:
            given = {**views, BOXES: dict(zip(self._boxed, inputs[count:]))}
        # Where gradients are possible, layers compute a map at once, not in
        # stripes of rows, whose number would be that of the traced height.
        with torch.enable_grad():
            logits = self.model.encode_decode(given, [meta])
        return logits.float()
