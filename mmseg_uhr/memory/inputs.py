"""What a model gets when its memory is planned."""

from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ..tiling import View, Window
from ..tiling.views import LOCAL


def make_inputs(
    model: nn.Module,
    size: tuple[int, int],
    batch_size: int,
    channels: int,
    like: Tensor,
) -> tuple[Tensor | dict[str, Tensor], dict[str, Any]]:
    """Make what a model sees of windows.

    A model with several views gets all of them; one of the whole scene at
    the size that it names, or as if the window were the scene.

    Args:
        model (nn.Module): ``views``, if it has some, are made.
        size (tuple[int]): ``(h, w)`` of the window as the network sees it,
            pixels.
        batch_size (int): Windows.
        channels (int): Channels of each view.
        like (Tensor): Of the type and on the device wanted.

    Returns:
        tuple[Tensor | dict[str, Tensor], dict]: Views (N, C, h, w), and the
        metainfo of a window.
    """
    views = getattr(model, 'views', None) or {LOCAL: View()}
    window = Window(0, 0, *size)
    inputs, boxes = {}, {}
    for name, view in views.items():
        region = view.region_of(window, size)
        seen = size if name == LOCAL else view.size_of(region)
        inputs[name] = like.new_zeros(batch_size, channels, *seen)
        boxes[name] = window.box_in(region)
    meta = dict(
        img_shape=size, ori_shape=size, pad_shape=size, view_boxes=boxes
    )
    return inputs[LOCAL] if len(inputs) == 1 else inputs, meta


def make_samples(
    meta: dict[str, Any], batch_size: int, device: torch.device
) -> list[SegDataSample]:
    """Make labelled samples, as training gets them.

    Args:
        meta (dict): Metainfo of each.
        batch_size (int): Samples.
        device (torch.device): Of the labels (1, h, w), int64.

    Returns:
        list[SegDataSample]: All of class 0.
    """
    return [
        SegDataSample(
            metainfo=meta,
            gt_sem_seg=PixelData(
                data=torch.zeros(
                    1, *meta['img_shape'], dtype=torch.long, device=device
                )
            ),
        )
        for _ in range(batch_size)
    ]
