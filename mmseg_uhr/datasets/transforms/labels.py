"""Reading label ids by window, checked and mapped."""

import numpy as np

from ...rasters import RasterError


def read_labels(
    results: dict,
    window: tuple[int, int, int, int] | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Read labels with the data set's ``label_map`` applied, as stock does.

    Args:
        results (dict): With ``label_raster``, and of the data set: optionally
            ``label_map``, ``reduce_zero_label``, ``ignore_index`` and
            ``num_classes``.
        window (tuple[int], optional): ``(y, x, h, w)``. Defaults to all.
        size (tuple[int], optional): Nearest-neighbour size in pixels.

    Returns:
        np.ndarray: ``uint8`` class ids (h, w).

    Raises:
        RasterError: If an id is no class of the data set.
    """
    raster = results['label_raster']
    ignore_index = results.get('ignore_index', 255)
    labels = raster.read(window, size, 'nearest', fill=ignore_index)[..., 0]
    if labels.dtype != np.uint8:
        if labels.size and not 0 <= labels.min() <= labels.max() <= 255:
            raise RasterError(
                raster.name,
                f'label ids from {labels.min()} to {labels.max()}: ids must '
                f'lie in 0-255 (ignored pixels: {ignore_index})',
            )
        labels = labels.astype(np.uint8)
    mapping = _mapping(results)
    if mapping is not None:
        labels = mapping[labels]
    num_classes = results.get('num_classes')
    if num_classes is not None:
        _check_ids(raster.name, labels, num_classes, ignore_index)
    return np.ascontiguousarray(labels)


def _mapping(results: dict) -> np.ndarray | None:
    """Return the table (256,) from ids in the file to ids of the data set."""
    label_map = results.get('label_map')
    reduce_zero = results.get('reduce_zero_label')
    if not label_map and not reduce_zero:
        return None
    table = np.arange(256, dtype=np.uint8)
    if reduce_zero:
        table = np.where(table % 255 == 0, 255, table - 1).astype(np.uint8)
    if label_map:
        renamed = np.arange(256, dtype=np.uint8)
        for old, new in label_map.items():
            renamed[old] = new
        table = renamed[table]
    return table


def _check_ids(
    name: str, labels: np.ndarray, num_classes: int, ignore_index: int
) -> None:
    """Refuse ids that are no class: they would crash the loss, far away."""
    present = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=256))
    strange = [
        int(i) for i in present if i >= num_classes and i != ignore_index
    ]
    if strange:
        raise RasterError(
            name,
            f'label ids {strange} found, but the data set has {num_classes} '
            f'classes (0-{num_classes - 1}) and ignores {ignore_index}; '
            'convert the labels to class indices, or set ignore_index, '
            'reduce_zero_label or metainfo.classes of the data set',
        )
