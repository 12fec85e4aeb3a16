"""Maps that stay in memory."""

from collections.abc import Sequence
from contextlib import closing
from time import perf_counter

import numpy as np

from .prediction import Prediction
from .progress import Progress, ProgressLike
from .results import SceneResult
from .scenes import Scene


def segment_into_memory(
    scenes: Sequence[Scene],
    prediction: Prediction,
    progress: ProgressLike,
    title: str,
) -> list[SceneResult]:
    """Segment scenes into arrays.

    Args:
        scenes (Sequence[Scene]): One after the other.
        prediction (Prediction): How to predict.
        progress (bool | Callable): See :class:`Progress`.
        title (str): Of the progress bar.

    Returns:
        list[SceneResult]: With arrays.
    """
    rasters = [prediction.open(scene) for scene in scenes]
    results = []
    sizes = [raster.shape[0] * raster.shape[1] for raster in rasters]
    with Progress(progress, sum(sizes), title) as bar:
        for scene, raster in zip(scenes, rasters, strict=True):
            begin = perf_counter()
            height, width = raster.shape
            arrays = {
                name: np.empty(layer.shape(height, width), layer.dtype)
                for name, layer in prediction.layers.items()
            }
            with closing(prediction.rows(raster, 0, height)) as rows:
                for found in rows:
                    stop = found.y + len(found.labels)
                    for name, array in arrays.items():
                        array[..., found.y : stop, :] = getattr(found, name)
                    bar.add(found.pixels)
            results.append(
                SceneResult(
                    scene.name,
                    **arrays,
                    megapixels=height * width / 1e6,
                    predicted=height * width / 1e6,
                    seconds=perf_counter() - begin,
                )
            )
    return results
