"""Packages of the extra ``onnx``, and the standard that they are for."""

from importlib import import_module
from typing import Any


def import_onnx(name: str) -> Any:
    """Import a package of the extra ``onnx``.

    Args:
        name (str): Of the module.

    Returns:
        ModuleType: The module.

    Raises:
        ImportError: If it cannot be; names the extra.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f'{name} cannot be imported ({error}): '
            '`pip install "mmsegmentation-uhr[onnx]"`'
        ) from error


def foreign_operators(graph: Any) -> list[str]:
    """Find operators that are not of the ONNX standard.

    Args:
        graph (onnx.ModelProto): Without functions of its own, or they count.

    Returns:
        list[str]: ``domain.name`` of each, in order.
    """
    found = {
        f'{node.domain}.{node.op_type}'
        for node in graph.graph.node
        if node.domain not in ('', 'ai.onnx')
    }
    return sorted(found | {f'{f.domain}.{f.name}' for f in graph.functions})
