"""Opening scenes and labels without decoding them."""

from mmcv.transforms import BaseTransform

from ...rasters import (
    FileRaster,
    RasterError,
    SceneLoader,
    as_raster,
    open_raster,
)
from ...registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadRaster(SceneLoader, BaseTransform):
    """Open an image as a lazy raster; reads the header only.

    It opens as :class:`~mmseg_uhr.rasters.SceneLoader` does.

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
