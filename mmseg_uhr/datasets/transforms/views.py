"""Reading what the network sees of a window."""

import numpy as np
from mmcv.transforms import BaseTransform

from ...registry import TRANSFORMS
from ...tiling import Window, parse_views
from ...tiling.views import LOCAL
from .labels import read_labels


@TRANSFORMS.register_module()
class ReadViews(BaseTransform):
    """Read the local view of a window, its labels, and wider views of it.

    Afterwards the results look as after stock loading, so stock transforms
    may follow.

    Required keys: ``raster``; optionally ``window`` (else the whole scene)
    and ``label_raster``.
    Added keys: ``img`` (h, w, bands), ``gt_seg_map`` (h, w) ``uint8``,
    ``seg_fields``, ``img_shape``, ``window``, ``views`` (wider views by
    name) and ``view_boxes`` (the window's ``(y, x, h, w)`` in each view, as
    fractions of the view).

    Args:
        views (dict[str, dict], optional): Arguments of
            :class:`~mmseg_uhr.tiling.View` by name. Give the segmentor the
            same, and it reads them in testing.
    """

    def __init__(self, views: dict[str, dict] | None = None) -> None:
        self.views = parse_views(views)

    def transform(self, results: dict) -> dict:
        """Read the views; raises ``RasterError`` if pixels cannot be read."""
        raster = results['raster']
        window = Window(*results.get('window', (0, 0, *raster.shape)))
        pixels, boxes = {}, {}
        for name, view in self.views.items():
            region = view.region_of(window, raster.shape)
            size = view.size_of(region)
            # OpenCV, behind most stock transforms, wants contiguous pixels.
            pixels[name] = np.ascontiguousarray(
                raster.read(region, size, view.resampling, view.fill)
            )
            boxes[name] = window.box_in(region)
        results['window'] = window
        results['img'] = pixels.pop(LOCAL)
        results['img_shape'] = results['img'].shape[:2]
        results['views'], results['view_boxes'] = pixels, boxes
        if 'label_raster' in results:
            results['gt_seg_map'] = read_labels(
                results, window, results['img_shape']
            )
            results['seg_fields'] = ['gt_seg_map']
        return results
