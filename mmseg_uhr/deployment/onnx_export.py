"""Networks as ONNX files, for onnxruntime and others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..models.segmentors import StreamingSegmentor
from .check import open_session
from .exporters import quiet, reason
from .exporting import (
    ExportError,
    ExportResult,
    Format,
    export_network,
    shapes_of,
)
from .operators import translations
from .packages import foreign_operators, import_onnx
from .window_network import WindowNetwork

# The first has anti-aliased resizing, which the encoders for two resolutions
# need; PyTorch writes none after the last.
OPSETS = range(18, 24)
OUTPUT = 'logits'
_PACKAGES = ('onnx', 'onnxruntime', 'onnxscript')


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
    for name in _PACKAGES:
        import_onnx(name)
    if opset not in OPSETS:
        raise ExportError(
            f'opset {opset}: expected {OPSETS[0]} to {OPSETS[-1]}; older ones '
            'cannot resize with anti-aliasing'
        )
    return export_network(
        model,
        path,
        Onnx(opset),
        size,
        dynamic,
        half,
        normalise,
        uint8,
        scene,
    )


class Onnx(Format):
    """Operators of the ONNX standard.

    Args:
        opset (int): Their version.
    """

    suffix = '.onnx'

    def __init__(self, opset: int) -> None:
        self.opset = opset

    def write(
        self,
        network: WindowNetwork,
        inputs: Sequence[Tensor],
        path: Path,
        axes: Sequence[str],
        properties: dict[str, str],
    ) -> int:
        """Export by ``torch.export``; see :meth:`Format.write`.

        The older exporter, by TorchScript, knows no anti-aliased resizing,
        and keeps the sizes of what it has traced.
        """
        with quiet():
            try:
                torch.onnx.export(
                    network,
                    tuple(inputs),
                    str(path),
                    dynamo=True,
                    opset_version=self.opset,
                    input_names=list(network.names),
                    output_names=[OUTPUT],
                    dynamic_shapes=shapes_of(network, axes),
                    custom_translation_table=translations(),
                    external_data=False,
                    # It takes small numbers for zero, such as the one that
                    # keeps a division by zero away; onnxruntime optimises
                    # anyway.
                    optimize=False,
                    verbose=False,
                )
            except Exception as error:
                # Anything: it runs the code of all layers with sizes unknown.
                raise ExportError(reason(error)) from error
        return _finish(path, properties)

    def open(self, path: Path) -> Any:
        """Open with onnxruntime."""
        return open_session(path)

    def tell(self, path: Path, properties: dict[str, str]) -> None:
        """Add properties to a file."""
        import onnx

        graph = onnx.load(path)
        for key, value in properties.items():
            graph.metadata_props.add(key=key, value=value)
        onnx.save(graph, path)


def _finish(path: Path, properties: dict[str, str]) -> int:
    """Check the operators, drop inputs nobody reads, add properties.

    Returns:
        int: How many nodes there are.
    """
    import onnx
    import onnx.inliner

    graph = onnx.inliner.inline_local_functions(onnx.load(path))
    if foreign := foreign_operators(graph):
        raise ExportError(f'needs operators that are not of ONNX: {foreign}')
    read = {name for node in graph.graph.node for name in node.input}
    for value in list(graph.graph.input):
        if value.name.startswith('box_') and value.name not in read:
            graph.graph.input.remove(value)
    onnx.helper.set_model_props(graph, properties)
    try:
        onnx.checker.check_model(graph)
    except onnx.checker.ValidationError as error:
        raise ExportError(f'is no valid ONNX: {reason(error)}') from error
    onnx.save(graph, path)
    return len(graph.graph.node)
