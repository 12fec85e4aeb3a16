"""What PyTorch's exporters say: kept away, but for the one sentence."""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep an exporter's progress and advice to its developers away."""
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


def reason(error: BaseException) -> str:
    """Find the one sentence in what an exporter says.

    Args:
        error (BaseException): With its causes.

    Returns:
        str: Without the full stop.
    """
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
