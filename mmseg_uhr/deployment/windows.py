"""Windows that an exported network is tried with."""

from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from ..apis.prediction import test_loader
from ..models.segmentors import StreamingSegmentor
from ..rasters import RasterError
from ..streaming import StreamSettings, WindowBatch
from ..streaming.loop import read_batches
from ..tiling import Window
from ..tiling.views import LOCAL
from .window_network import WindowNetwork


def view_sizes(
    model: StreamingSegmentor, size: tuple[int, int]
) -> dict[str, tuple[int, int]]:
    """Return the sizes at which a network sees the views of a window.

    Args:
        model (StreamingSegmentor): With ``views``.
        size (tuple[int]): ``(h, w)`` of the window, pixels of the scene; one
            view of the whole scene has it too.

    Returns:
        dict[str, tuple[int]]: ``(h, w)`` by view.
    """
    window = Window(0, 0, *size)
    return {
        name: view.size_of(view.region_of(window, size))
        for name, view in model.views.items()
    }


def random_windows(
    model: StreamingSegmentor,
    network: WindowNetwork,
    size: tuple[int, int],
    batch_size: int = 1,
    seed: int = 0,
) -> list[Tensor]:
    """Make windows of uniform noise, 0 to 255.

    Args:
        model (StreamingSegmentor): With ``views``.
        network (WindowNetwork): Made of it.
        size (tuple[int]): ``(h, w)`` of a window, pixels of the scene.
        batch_size (int): Windows.
        seed (int): Of the noise.

    Returns:
        list[Tensor]: Inputs of the network; views (N, C, h, w), raw.
    """
    generator = torch.Generator().manual_seed(seed)
    window = Window(0, 0, *size)
    inputs = [
        torch.randint(
            256,
            (batch_size, network.channels, *seen),
            generator=generator,
        ).float()
        for seen in view_sizes(model, size).values()
    ]
    boxes = {
        f'box_{name}': window.box_in(view.region_of(window, size))
        for name, view in model.views.items()
    }
    for name in network.names[len(inputs) :]:
        inputs.append(torch.tensor([boxes[name]] * batch_size))
    return inputs


def read_windows(
    model: StreamingSegmentor,
    network: WindowNetwork,
    scene: str | Path,
    size: tuple[int, int],
    count: int = 4,
) -> list[list[Tensor]]:
    """Read windows of a scene, as a prediction does.

    Args:
        model (StreamingSegmentor): From ``init_segmentor``, with ``cfg``.
        network (WindowNetwork): Made of it.
        scene (str | Path): A file.
        size (tuple[int]): ``(h, w)`` of a window, pixels of the scene.
        count (int): Windows at most, from the middle row of the scene.

    Returns:
        list[list[Tensor]]: Inputs of the network, raw, a window at a time.

    Raises:
        RasterError: If the scene cannot be read or is smaller than a window.
    """
    raster = test_loader(model.cfg, None).open(str(scene))
    plan = StreamSettings(crop_size=size, stride=size).plan(raster.shape)
    if tuple(plan.window_size) != tuple(size):
        raise RasterError(
            raster.name,
            f'is {raster.shape[0]} x {raster.shape[1]} pixels, smaller than '
            f'a window of {size[0]} x {size[1]}; give a larger scene or a '
            'smaller size',
        )
    middle = raster.shape[0] // 2
    batches = read_batches(raster, plan, model.views, 1, (middle, middle + 1))
    return [_inputs_of(batch, network) for batch in islice(batches, count)]


def _inputs_of(batch: WindowBatch, network: WindowNetwork) -> list[Tensor]:
    """Stack what was read."""
    inputs = [
        torch.stack([one[name] for one in batch.inputs]).float()
        for name in network.views
    ]
    for name in network.names[len(inputs) :]:
        view = name.removeprefix('box_')
        inputs.append(torch.tensor([one[view] for one in batch.boxes]))
    return inputs


def local_size(
    model: StreamingSegmentor, size: tuple[int, int]
) -> tuple[int, int]:
    """Return the ``(h, w)`` at which the network sees a window."""
    return view_sizes(model, size)[LOCAL]
