"""From a trained segmentor to an ONNX file that has been checked."""

import contextlib
import copy
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmseg.structures import SegDataSample
from torch import Tensor

from ..models.segmentors import StreamingSegmentor
from ..tiling.views import LOCAL
from ..version import __version__
from .check import Parity, compare, import_onnx, open_session
from .operators import translations
from .window_network import WindowNetwork
from .windows import local_size, random_windows, read_windows

# The first has anti-aliased resizing, which the encoders for two resolutions
# need; PyTorch writes none after the last.
OPSETS = range(18, 24)
OUTPUT = 'logits'
# What may vary, the most first.
_AXES = (
    ('batch', 'height', 'width'),
    ('height', 'width'),
    ('batch',),
)
# Of what sizes may have to be multiples: nothing, or the coarsest map's step.
_MULTIPLES = (1, 32)
_PACKAGES = ('onnx', 'onnxruntime', 'onnxscript')


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
        opset (int): Version of the operators.
        nodes (int): Of the graph.
        parity (dict[str, Parity]): By kind of windows.
        refused (dict[str, str]): Axes that may not vary, and why.
    """

    path: Path
    size: tuple[int, int]
    axes: tuple[str, ...]
    multiple: int
    inputs: tuple[str, ...]
    opset: int
    nodes: int
    parity: dict[str, Parity]
    refused: dict[str, str] = field(default_factory=dict)


def export_onnx(
    model: StreamingSegmentor,
    path: str | Path,
    size: tuple[int, int] | None = None,
    opset: int = OPSETS[0],
    dynamic: bool = False,
    half: bool = False,
    normalise: bool = True,
    uint8: bool = False,
    scene: str | Path | None = None,
) -> ExportResult:
    """Write the network of windows as ONNX, if onnxruntime agrees with it.

    Inputs are the views by name, (N, C, h, w), and, where a network uses
    them, ``box_<view>`` (N, 4); the output is ``'logits'``
    (N, classes, h, w). The file appears once it has passed the check, under
    its name; what is left of a failed one is removed.

    Args:
        model (StreamingSegmentor): From ``init_segmentor``.
        path (str | Path): File to write.
        size (tuple[int], optional): ``(h, w)`` of windows, pixels of the
            scene. Defaults to ``test_cfg.crop_size``.
        opset (int): Version of ONNX's operators.
        dynamic (bool): Whether batch, height and width may vary; as many of
            them as the network allows, see ``axes`` of the result. Without,
            the batch is 1.
        half (bool): Whether to compute in float16.
        normalise (bool): Whether raw pixels come in.
        uint8 (bool): Whether these are bytes; else float32.
        scene (str | Path, optional): File whose windows are checked, too.

    Returns:
        ExportResult: What was written, and how it compares.

    Raises:
        ExportError: If it cannot be exported, or computes something else.
        ImportError: If a package of the extra ``onnx`` is missing.
    """
    path = Path(path)
    for name in _PACKAGES:
        import_onnx(name)
    size = _size_of(model, size)
    _check_options(model, path, size, opset, normalise, uint8)
    network = WindowNetwork(model, normalise)
    _check_normalising(model, network)
    written = WindowNetwork(model, normalise, half=True) if half else network
    real = [] if scene is None else read_windows(model, network, scene, size)
    partial = path.with_name(f'.{path.name}.partial')
    refused: dict[str, str] = {}
    try:
        for axes in _axes_of(model) if dynamic else [()]:
            try:
                inputs = _example(model, written, size, axes, uint8)
                _write(written, inputs, partial, opset, axes)
                nodes = _finish(partial, _properties(model, written, size))
                multiple, parity = _check(
                    model, network, partial, size, axes, real, half
                )
            except ExportError as error:
                if not dynamic:
                    raise
                refused[', '.join(axes)] = str(error)
                continue
            names = tuple(i.name for i in open_session(partial).get_inputs())
            os.replace(partial, path)
            return ExportResult(
                path,
                local_size(model, size),
                axes,
                multiple,
                names,
                opset,
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
    size: tuple[int, int],
    opset: int,
    normalise: bool,
    uint8: bool,
) -> None:
    """Refuse what makes no sense before minutes are spent."""
    if path.suffix != '.onnx':
        raise ExportError(f'{path}: expected a name that ends in .onnx')
    if not path.parent.is_dir():
        raise ExportError(f'{path}: there is no folder {path.parent}')
    if opset not in OPSETS:
        raise ExportError(
            f'opset {opset}: expected {OPSETS[0]} to {OPSETS[-1]}; older ones '
            'cannot resize with anti-aliasing'
        )
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


def _write(
    network: WindowNetwork,
    inputs: Sequence[Tensor],
    path: Path,
    opset: int,
    axes: Sequence[str],
) -> None:
    """Export.

    By ``torch.export``: the older exporter, by TorchScript, knows no
    anti-aliased resizing, and keeps the sizes of what it has traced.
    """
    shapes = None
    if axes:
        vary = torch.export.Dim.DYNAMIC
        batch = {0: vary} if 'batch' in axes else {}
        sides = {2: vary, 3: vary} if 'height' in axes else {}
        of_inputs = [
            {**batch, **(sides if name == LOCAL else {})}
            for name in network.names
        ]
        shapes = (tuple(of_inputs),)
    with _quiet():
        try:
            torch.onnx.export(
                network,
                tuple(inputs),
                str(path),
                dynamo=True,
                opset_version=opset,
                input_names=list(network.names),
                output_names=[OUTPUT],
                dynamic_shapes=shapes,
                custom_translation_table=translations(),
                external_data=False,
                # It takes small numbers for zero, such as the one that keeps
                # a division by zero away; onnxruntime optimises anyway.
                optimize=False,
                verbose=False,
            )
        except Exception as error:
            # Anything: it runs the code of all layers with sizes unknown.
            raise ExportError(_reason(error)) from error


def _finish(path: Path, properties: dict[str, str]) -> int:
    """Check the operators, drop inputs nobody reads, add properties.

    Returns:
        int: How many nodes there are.
    """
    import onnx
    import onnx.inliner

    graph = onnx.inliner.inline_local_functions(onnx.load(path))
    foreign = {
        f'{node.domain}.{node.op_type}'
        for node in graph.graph.node
        if node.domain not in ('', 'ai.onnx')
    } | {f'{one.domain}.{one.name}' for one in graph.functions}
    if foreign:
        raise ExportError(
            f'needs operators that are not of ONNX: {sorted(foreign)}'
        )
    read = {name for node in graph.graph.node for name in node.input}
    for value in list(graph.graph.input):
        if value.name.startswith('box_') and value.name not in read:
            graph.graph.input.remove(value)
    onnx.helper.set_model_props(graph, properties)
    try:
        onnx.checker.check_model(graph)
    except onnx.checker.ValidationError as error:
        raise ExportError(f'is no valid ONNX: {_reason(error)}') from error
    onnx.save(graph, path)
    return len(graph.graph.node)


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
    )
    return {f'mmseg_uhr.{k}': json.dumps(v) for k, v in known.items()}


def _check(
    model: StreamingSegmentor,
    network: WindowNetwork,
    path: Path,
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
    session = open_session(path)

    def compared(name: str, inputs: Sequence[Tensor]) -> Parity:
        try:
            parity = compare(network, session, inputs)
        except Exception as error:
            # What onnxruntime raises has no common base.
            raise ExportError(
                f'exported, but it does not run on {name} windows: '
                f'{_reason(error)}'
            ) from error
        if not parity.holds(half):
            raise ExportError(
                'exported, but onnxruntime computes something else: '
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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and advice to its developers away."""
    loggers = [logging.getLogger(n) for n in ('torch.onnx', 'onnxscript')]
    loggers += [logging.getLogger('onnx_ir'), logging.getLogger('torch')]
    levels = [logger.level for logger in loggers]
    said = io.StringIO()
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """Find the one sentence in what the exporter says."""
    said = []
    while error is not None:
        said.append(str(error))
        error = error.__cause__
    text = re.sub(r'\x1b\[\d+m', '', '\n'.join(reversed(said)))
    operator = re.search(r"OpOverload\(op='([^']+)'", text)
    if operator and 'No ONNX function' in text:
        return f'the operator {operator[1]} has no counterpart in ONNX'
    for pattern in (
        r'tracing inferred a static shape of [^\n]+',
        r'Could not guard on [^\n]+',
        r'Not all values of [^\n]+',
    ):
        if found := re.search(pattern, text):
            return found[0].strip().rstrip('.')
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:300] if lines else 'no reason is known'
