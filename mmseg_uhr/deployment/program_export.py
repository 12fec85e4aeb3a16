"""Networks compiled for the processor here, run by PyTorch alone."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from ..models.segmentors import StreamingSegmentor
from .exporters import quiet, reason
from .exporting import (
    ExportError,
    ExportResult,
    Format,
    export_network,
    shapes_of,
)
from .window_network import WindowNetwork

# Property: names and types of the inputs, as onnxruntime calls them.
_INPUTS = 'mmseg_uhr.inputs'
_TYPES = {torch.uint8: 'tensor(uint8)', torch.float32: 'tensor(float)'}


def export_program(
    model: StreamingSegmentor,
    path: str | Path,
    size: tuple[int, int] | None = None,
    dynamic: bool = False,
    half: bool = False,
    normalise: bool = True,
    uint8: bool = False,
    scene: str | Path | None = None,
) -> ExportResult:
    """Compile the network of windows ahead of time, with AOTInductor.

    The file holds machine code of this kind of CPU, for this version of
    PyTorch; the code of the network, MMSegmentation and a compiler are not
    needed to run it. Inputs and the output are those of ``export_onnx``, and
    so are the checks.

    Args:
        model (StreamingSegmentor): From ``init_segmentor``.
        path (str | Path): File to write, ``.pt2``.
        size (tuple[int], optional): See ``export_onnx``, as all that follow.
        dynamic (bool): Whether batch, height and width may vary.
        half (bool): Whether to compute in float16.
        normalise (bool): Whether raw pixels come in.
        uint8 (bool): Whether these are bytes; else float32.
        scene (str | Path, optional): File whose windows are checked, too.

    Returns:
        ExportResult: What was written, and how it compares.

    Raises:
        ExportError: If it cannot be compiled, or computes something else.
    """
    return export_network(
        model,
        path,
        Package(),
        size,
        dynamic,
        half,
        normalise,
        uint8,
        scene,
    )


class Package(Format):
    """A package of AOTInductor."""

    suffix = '.pt2'

    def write(
        self,
        network: WindowNetwork,
        inputs: Sequence[Tensor],
        path: Path,
        axes: Sequence[str],
        properties: dict[str, str],
    ) -> int:
        """Compile; see :meth:`Format.write`."""
        types = [_TYPES[x.dtype] for x in inputs]
        named = json.dumps(list(zip(network.names, types)))
        known = {**properties, _INPUTS: named}
        with quiet():
            try:
                program = torch.export.export(
                    network,
                    tuple(inputs),
                    dynamic_shapes=shapes_of(network, axes),
                )
                torch._inductor.aoti_compile_and_package(
                    program,
                    package_path=str(path),
                    inductor_configs={'aot_inductor.metadata': known},
                )
            except Exception as error:
                # Of the exporter, of the compiler, or if there is none.
                raise ExportError(reason(error)) from error
        return len(program.graph.nodes)

    def open(self, path: Path) -> 'Program':
        """Load it."""
        return Program(path)


class Program:
    """A compiled network, with the methods of an onnxruntime session.

    Args:
        path (str | Path): From :func:`export_program`. It holds machine code:
            load files of people you trust.
    """

    def __init__(self, path: str | Path) -> None:
        self._program = torch._inductor.aoti_load_package(str(path))
        #: Properties of the network, as those of an ONNX file.
        self.properties = self._program.loader.get_metadata()
        self._inputs = json.loads(self.properties[_INPUTS])

    def get_inputs(self) -> list[SimpleNamespace]:
        """Return names and types of the inputs, in order."""
        return [
            SimpleNamespace(name=name, type=kind)
            for name, kind in self._inputs
        ]

    def run(
        self, outputs: None, inputs: Mapping[str, np.ndarray]
    ) -> list[np.ndarray]:
        """Run a batch.

        Args:
            outputs (None): All of them.
            inputs (Mapping[str, np.ndarray]): By name.

        Returns:
            list[np.ndarray]: The logits (N, classes, h, w).
        """
        ordered = [torch.from_numpy(inputs[name]) for name, _ in self._inputs]
        with torch.no_grad():
            return [self._program(*ordered).numpy()]
