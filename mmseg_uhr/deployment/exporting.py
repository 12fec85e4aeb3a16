"""From a trained segmentor to a file that has been checked."""

import copy
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmseg.structures import SegDataSample
from torch import Tensor

from ..apis.prediction import loader_options
from ..models.segmentors import StreamingSegmentor
from ..streaming import StreamSettings
from ..tiling.views import LOCAL
from ..version import __version__
from .check import Parity, compare
from .exporters import reason
from .window_network import WindowNetwork
from .windows import local_size, random_windows, read_windows

# What may vary, the most first.
_AXES = (
    ('batch', 'height', 'width'),
    ('height', 'width'),
    ('batch',),
)
# Of what sizes may have to be multiples: nothing, or the coarsest map's step.
_MULTIPLES = (1, 32)


class ExportError(ValueError):
    """A network that cannot be exported, or that failed the check."""


@dataclass(frozen=True)
class ExportResult:
    """What was exported.

    Args:
        path (Path): The file.
        size (tuple[int]): ``(h, w)`` of the local view that it was made for.
        axes (tuple[str]): What may vary: of ``'batch'``, ``'height'`` and
            ``'width'``.
        multiple (int): Of which height and width have to be, 1 or 32.
        inputs (tuple[str]): Names of the inputs.
        nodes (int): Of the graph.
        parity (dict[str, Parity]): By kind of windows.
        refused (dict[str, str]): Axes that may not vary, and why.
    """

    path: Path
    size: tuple[int, int]
    axes: tuple[str, ...]
    multiple: int
    inputs: tuple[str, ...]
    nodes: int
    parity: dict[str, Parity]
    refused: dict[str, str] = field(default_factory=dict)


class Format(ABC):
    """A kind of file.

    Attributes:
        suffix (str): Of its name.
    """

    suffix: str

    @abstractmethod
    def write(
        self,
        network: WindowNetwork,
        inputs: Sequence[Tensor],
        path: Path,
        axes: Sequence[str],
        properties: dict[str, str],
    ) -> int:
        """Write a network.

        Args:
            network (WindowNetwork): What is exported.
            inputs (Sequence[Tensor]): Example of them.
            path (Path): File to write.
            axes (Sequence[str]): What may vary.
            properties (dict[str, str]): To be kept in the file.

        Returns:
            int: Nodes of the graph.

        Raises:
            ExportError: If it cannot be done.
        """

    @abstractmethod
    def open(self, path: Path) -> Any:
        """Return what runs a file, with the methods of a session."""

    def tell(self, path: Path, properties: dict[str, str]) -> None:
        """Add properties that the check has found out."""
        return


def shapes_of(network: WindowNetwork, axes: Sequence[str]) -> tuple | None:
    """Return ``torch.export``'s dynamic shapes.

    Args:
        network (WindowNetwork): What is exported.
        axes (Sequence[str]): What may vary.

    Returns:
        tuple | None: None if nothing may.
    """
    if not axes:
        return None
    vary = torch.export.Dim.DYNAMIC
    batch = {0: vary} if 'batch' in axes else {}
    sides = {2: vary, 3: vary} if 'height' in axes else {}
    of_inputs = [
        {**batch, **(sides if name == LOCAL else {})} for name in network.names
    ]
    return (tuple(of_inputs),)


def export_network(
    model: StreamingSegmentor,
    path: str | Path,
    kind: Format,
    size: tuple[int, int] | None = None,
    dynamic: bool = False,
    half: bool = False,
    normalise: bool = True,
    uint8: bool = False,
    scene: str | Path | None = None,
) -> ExportResult:
    """Write the network of windows, if the file computes what it does.

    Args:
        model (StreamingSegmentor): From ``init_segmentor``.
        path (str | Path): File to write.
        kind (Format): Of file.
        size (tuple[int], optional): See ``export_onnx``, as all that follow.
        dynamic (bool): Whether sizes may vary.
        half (bool): Whether to compute in float16.
        normalise (bool): Whether raw pixels come in.
        uint8 (bool): Whether these are bytes.
        scene (str | Path, optional): File whose windows are checked, too.

    Returns:
        ExportResult: What was written, and how it compares.

    Raises:
        ExportError: If it cannot be exported, or computes something else.
    """
    path = Path(path)
    size = _size_of(model, size)
    _check_options(model, path, kind.suffix, size, normalise, uint8)
    network = WindowNetwork(model, normalise)
    _check_normalising(model, network)
    written = WindowNetwork(model, normalise, half=True) if half else network
    real = [] if scene is None else read_windows(model, network, scene, size)
    partial = path.with_name(f'.{path.stem}.partial{path.suffix}')
    properties = _properties(model, written, size)
    refused: dict[str, str] = {}
    try:
        for axes in _axes_of(model) if dynamic else [()]:
            try:
                inputs = _example(model, written, size, axes, uint8)
                nodes = kind.write(written, inputs, partial, axes, properties)
                session = kind.open(partial)
                multiple, parity = _check(
                    model, network, session, size, axes, real, half
                )
                kind.tell(
                    partial, {'mmseg_uhr.multiple': json.dumps(multiple)}
                )
            except ExportError as error:
                if not dynamic:
                    raise
                refused[', '.join(axes)] = str(error)
                continue
            names = tuple(one.name for one in session.get_inputs())
            os.replace(partial, path)
            return ExportResult(
                path,
                local_size(model, size),
                axes,
                multiple,
                names,
                nodes,
                parity,
                refused,
            )
    finally:
        partial.unlink(missing_ok=True)
    reasons = '; '.join(f'{axes}: {why}' for axes, why in refused.items())
    raise ExportError(
        f'nothing may vary in this network ({reasons}); export it for one '
        'size, without dynamic'
    )


def _size_of(
    model: StreamingSegmentor, size: Sequence[int] | None
) -> tuple[int, int]:
    """Choose the size of windows."""
    size = size or (model.test_cfg or {}).get('crop_size')
    if size is None:
        raise ExportError(
            'the config has no test_cfg.crop_size; give the size of windows'
        )
    height, width = size
    if min(height, width) < 1:
        raise ExportError(
            f'size {height} x {width}: expected pixels, 1 or more'
        )
    return height, width


def _check_options(
    model: StreamingSegmentor,
    path: Path,
    suffix: str,
    size: tuple[int, int],
    normalise: bool,
    uint8: bool,
) -> None:
    """Refuse what makes no sense before minutes are spent."""
    if path.suffix != suffix:
        raise ExportError(f'{path}: expected a name that ends in {suffix}')
    if not path.parent.is_dir():
        raise ExportError(f'{path}: there is no folder {path.parent}')
    if uint8 and not normalise:
        raise ExportError(
            'bytes cannot be normalised values: leave out uint8, or let the '
            'network normalise'
        )
    padding = getattr(model.data_preprocessor, 'test_cfg', None) or {}
    divisor = padding.get('size_divisor')
    seen = local_size(model, size)
    if padding.get('size') or (divisor and any(n % divisor for n in seen)):
        raise ExportError(
            f'data_preprocessor.test_cfg={dict(padding)} pads windows of '
            f'{seen[0]} x {seen[1]}, which the exported network would not; '
            'give a size that needs no padding'
        )


def _check_normalising(
    model: StreamingSegmentor, network: WindowNetwork
) -> None:
    """Raise if a preprocessor does something else than ours here."""
    pixels = random_windows(model, network, (32, 32))[0][0].cpu()
    preprocessor = copy.deepcopy(model.data_preprocessor).cpu()
    batch = dict(inputs=[pixels], data_samples=[SegDataSample()])
    # Padding is another matter, see above.
    height, width = pixels.shape[1:]
    expected = preprocessor(batch, False)['inputs'][..., :height, :width]
    found = network.normalise(pixels[None])
    if network.normalises and not torch.allclose(expected, found):
        raise ExportError(
            f'{type(preprocessor).__name__} does more than turning the bands '
            'and scaling their values; export without normalising'
        )


def _axes_of(model: StreamingSegmentor) -> list[tuple[str, ...]]:
    """Return the sets of axes worth trying."""
    others = [view for name, view in model.views.items() if name != LOCAL]
    fixed = all(view.size is not None for view in others)
    # Contexts without a size of their own change with the window.
    return [axes for axes in _AXES if fixed or 'height' not in axes]


def _example(
    model: StreamingSegmentor,
    network: WindowNetwork,
    size: tuple[int, int],
    axes: Sequence[str],
    uint8: bool,
) -> list[Tensor]:
    """Make the inputs that are traced; sizes that may vary all differ."""
    if 'width' in axes and size[0] == size[1]:
        size = (size[0], size[1] + 64)
    count = 2 if 'batch' in axes else 1
    inputs = random_windows(model, network, size, count)
    if uint8:
        views = len(network.views)
        inputs = [x.byte() for x in inputs[:views]] + inputs[views:]
    return inputs


def _properties(
    model: StreamingSegmentor, network: WindowNetwork, size: tuple[int, int]
) -> dict[str, str]:
    """Tell in the file what one has to know to use it."""
    meta = getattr(model, 'dataset_meta', None) or {}
    views = {name: vars(view) for name, view in model.views.items()}
    known = dict(
        version=__version__,
        classes=list(meta.get('classes') or ()),
        palette=[[int(v) for v in c] for c in meta.get('palette') or ()],
        views=views,
        window=list(size),
        normalises=network.normalises,
        # Of three bands, which files have the other way round.
        bands='reversed'
        if network.turns_bands and network.normalises
        else 'as trained',
        threshold=getattr(model.decode_head, 'threshold', None),
        # How scenes are cut into windows, and how their files are opened.
        stream={
            name: value
            for name, value in (model.test_cfg or {}).items()
            if name in StreamSettings.__dataclass_fields__
        },
        image=loader_options(getattr(model, 'cfg', {})),
    )
    return {f'mmseg_uhr.{k}': json.dumps(v) for k, v in known.items()}


def _check(
    model: StreamingSegmentor,
    network: WindowNetwork,
    session: Any,
    size: tuple[int, int],
    axes: Sequence[str],
    real: Sequence[Sequence[Tensor]],
    half: bool,
) -> tuple[int, dict[str, Parity]]:
    """Compare on random and real windows, also of other sizes.

    Returns:
        tuple[int, dict]: Of what sizes have to be multiples, and the parity
        by kind of windows.
    """

    def compared(name: str, inputs: Sequence[Tensor]) -> Parity:
        try:
            parity = compare(network, session, inputs)
        except Exception as error:
            # What runtimes raise has no common base.
            raise ExportError(
                f'exported, but it does not run on {name} windows: '
                f'{reason(error)}'
            ) from error
        if not parity.holds(half):
            raise ExportError(
                'exported, but the file computes something else: '
                f'{name} {parity}'
            )
        return parity

    found = {
        'random': compared('random', random_windows(model, network, size))
    }
    for i, inputs in enumerate(real, 1):
        found[f'real {i}'] = compared(f'real {i}', inputs)
    if not axes:
        return 1, found
    count = 3 if 'batch' in axes else 1
    multiples = _MULTIPLES if 'height' in axes else (1,)
    for multiple in multiples:
        try:
            others = {}
            for other in _other_sizes(size, axes, multiple):
                name = f'random, {other[0]} x {other[1]}'
                inputs = random_windows(model, network, other, count, seed=1)
                others[name] = compared(name, inputs)
        except ExportError:
            if multiple == multiples[-1]:
                raise
            continue
        break
    return multiple, {**found, **others}


def _other_sizes(
    size: tuple[int, int], axes: Sequence[str], multiple: int
) -> list[tuple[int, int]]:
    """Return sizes that a network is tried at which was exported for one."""
    if 'height' not in axes:
        return [size]
    height, width = (max(n // multiple, 1) * multiple for n in size)
    # Larger by odd numbers, and one side smaller.
    return [
        (height + multiple, width + 3 * multiple),
        (height + 5 * multiple, max(width // 2 // multiple, 1) * multiple),
    ]
