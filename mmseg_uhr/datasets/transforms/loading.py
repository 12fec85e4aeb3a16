"""Opening scenes and labels without decoding them."""

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform

from ...rasters import (
    FileRaster,
    Raster,
    RasterError,
    ScaledRaster,
    ValueRange,
    as_raster,
    open_raster,
    parse_value_range,
)
from ...registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadRaster(BaseTransform):
    """Open an image as a lazy raster; reads the header only.

    Three bands are delivered in the order blue, green, red, as stock mmseg
    loads images, so that a stock preprocessor's ``bgr_to_rgb=True`` fits.

    Required keys: ``img_path`` (or ``img``, an array in memory).
    Added keys: ``raster``, ``ori_shape``, ``img_shape``.

    Args:
        bands (Sequence[int], optional): Bands of the file to use, counted
            from 1, e.g. ``(1, 2, 3)`` of RGB + NIR or ``(1, 1, 1)`` of a grey
            image. Defaults to the file's, which must then be ``channels``,
            with or without an alpha band.
        channels (int): Bands that the model expects. Defaults to 3.
        dtype (str): NumPy type that the model expects. Defaults to
            ``'uint8'``.
        value_range (tuple[float] | Sequence[tuple[float]], optional):
            ``(low, high)``, the values of a 16-bit or float image that become
            0 and 255, or one such pair per band, in the order of ``bands``.

    Raises:
        ValueError: If the bands are not ``channels``, or a range is empty or
            there is not one per band.
    """

    def __init__(
        self,
        bands: Sequence[int] | None = None,
        channels: int = 3,
        dtype: str = 'uint8',
        value_range: ValueRange | None = None,
    ) -> None:
        if bands is not None and len(bands) != channels:
            raise ValueError(
                f'LoadRaster: bands={tuple(bands)} names {len(bands)} bands '
                f'but channels={channels}'
            )
        self.bands = bands
        self.channels = channels
        self.dtype = np.dtype(dtype)
        self.ranges = None
        if value_range is not None:
            self.ranges = parse_value_range(value_range, channels)

    def transform(self, results: dict) -> dict:
        """Open ``img_path``.

        Raises:
            RasterError: If the file cannot be opened, or its bands or type
                are not what the model expects.
        """
        if 'img_path' in results:
            raster = self.open(results['img_path'])
        else:
            # Packing must find the lazy raster, not these pixels.
            raster = as_raster(results.pop('img'))
        results['raster'] = raster
        results['ori_shape'] = results['img_shape'] = raster.shape
        return results

    def open(self, path: str) -> Raster:
        """Open and check one file, see :meth:`transform`."""
        raster = open_raster(path, self.bands)
        if self.bands is None and raster.file_bands == self.channels:
            # Models of four bands want the fourth, whatever the file says.
            raster = open_raster(path, range(1, self.channels + 1))
        self._check_bands(raster)
        ranges = self.ranges
        if self.channels == 3:
            raster = open_raster(path, raster.band_numbers[::-1])
            ranges = ranges and ranges[::-1]
        if ranges is not None:
            raster = ScaledRaster(raster, ranges)
        if raster.dtype != self.dtype:
            raise RasterError(
                raster.name,
                f'holds {raster.dtype} values, but the model expects '
                f'{self.dtype}; give LoadRaster value_range=(low, high), the '
                'values that become 0 and 255, or dtype='
                f"'{raster.dtype}' if the model was trained on such values",
            )
        return raster

    def _check_bands(self, raster: FileRaster) -> None:
        """Refuse a file with another number of bands than the model's."""
        if raster.bands != self.channels:
            example = tuple(
                min(i + 1, raster.bands) for i in range(self.channels)
            )
            raise RasterError(
                raster.name,
                f'has {raster.bands} band(s), but the model expects '
                f'{self.channels}; choose with bands={example} of LoadRaster '
                '(--bands of tools/segment.py), counted from 1',
            )


@TRANSFORMS.register_module()
class LoadLabelRaster(BaseTransform):
    """Open the label map of a scene as a lazy raster.

    A scene without ``seg_map_path`` passes unchanged, so that one pipeline
    serves evaluation and inference.

    Required keys: ``raster``. Added keys: ``label_raster``, ``seg_fields``.
    """

    def transform(self, results: dict) -> dict:
        """Open ``seg_map_path``.

        Raises:
            RasterError: If the file cannot be opened, does not hold integers,
                or has another size than the image.
        """
        if results.get('seg_map_path') is None:
            return results
        labels = open_labels(results['seg_map_path'])
        image = results['raster']
        if labels.shape != image.shape:
            raise RasterError(
                labels.name,
                f'the label map has {labels.shape} pixels (height, width), '
                f'but its image {image.name} has {image.shape}; both must '
                'agree',
            )
        results['label_raster'] = labels
        results.setdefault('seg_fields', [])
        return results


def open_labels(path: str) -> FileRaster:
    """Open a label map; reads the header only.

    Args:
        path (str): The file.

    Returns:
        FileRaster: One band of integers.

    Raises:
        RasterError: If the file cannot be opened or does not hold integers.
    """
    labels = open_raster(path, (1,))
    if labels.file_bands != 1:
        raise RasterError(
            labels.name,
            f'has {labels.file_bands} bands; labels must be one band of '
            'class ids, so convert coloured masks first',
        )
    if labels.dtype.kind not in 'iu':
        raise RasterError(
            labels.name,
            f'holds {labels.dtype} values; labels must be integers',
        )
    return labels
