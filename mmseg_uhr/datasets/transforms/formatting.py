"""From results to what the model takes."""

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.datasets import PackSegInputs

from ...registry import TRANSFORMS
from ...tiling.views import LOCAL
from .labels import read_labels

_META_KEYS = (
    'img_path',
    'seg_map_path',
    'sample_idx',
    'ori_shape',
    'img_shape',
    'pad_shape',
    'scale_factor',
    'flip',
    'flip_direction',
    'reduce_zero_label',
    'window',
    'view_boxes',
)


@TRANSFORMS.register_module()
class PackUHRInputs(PackSegInputs):
    """Pack as stock does, but keep labels ``uint8`` and scenes lazy.

    ``inputs`` is a tensor (C, h, w), a dict of tensors by view name if wider
    views were read, or the raster itself if nothing was read, as in testing.
    Labels are packed as ``uint8`` (1, h, w), an eighth of stock's.

    Args:
        meta_keys (Sequence[str]): Keys that become metainfo. Defaults to
            stock's and the geometry of the views.
    """

    def __init__(self, meta_keys: tuple[str, ...] = _META_KEYS) -> None:
        super().__init__(meta_keys)

    def transform(self, results: dict) -> dict:
        """Return ``inputs`` and ``data_samples``."""
        rest = {k: v for k, v in results.items() if k != 'gt_seg_map'}
        packed = super().transform(rest)
        if 'inputs' not in packed:
            packed['inputs'] = results['raster']
        elif results.get('views'):
            packed['inputs'] = {LOCAL: packed['inputs']}
            for name, view in results['views'].items():
                packed['inputs'][name] = torch.from_numpy(
                    np.ascontiguousarray(view.transpose(2, 0, 1))
                )
        labels = results.get('gt_seg_map')
        if labels is None and 'label_raster' in results:
            labels = read_labels(results)
        if labels is not None:
            # Augmented labels may be views with negative strides.
            labels = torch.from_numpy(np.ascontiguousarray(labels))
            packed['data_samples'].gt_sem_seg = PixelData(data=labels[None])
        return packed
