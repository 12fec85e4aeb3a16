"""Turning released checkpoints of other code bases into this package's."""

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from mmengine import Config
from mmseg.utils import register_all_modules
from torch import Tensor

from ..registry import MODELS
from .checkpoint import (
    TRUST,
    CheckpointError,
    read_checkpoint,
    weights_of,
)

State = dict[str, Tensor]
# Pattern that a key begins with, and what stands in its place.
Rule = tuple[str, str]


def convert_state(
    state: State, rules: Sequence[Rule], dropped: Sequence[str] = ()
) -> tuple[State, list[str]]:
    r"""Rename the entries of a state dict.

    Args:
        state (dict[str, Tensor]): Entries by their old names.
        rules (Sequence[tuple[str, str]]): Regular expressions and their
            replacements, as of :func:`re.sub`; the first that matches the
            beginning of a name is applied to it. Where two names become one,
            because a tensor is stored twice, the earlier rule wins.
        dropped (Sequence[str]): Regular expressions of the beginnings of
            names that have no counterpart.

    Returns:
        tuple[dict[str, Tensor], list[str]]: Entries by their new names, and
        the old names that were left out.

    Raises:
        CheckpointError: If no rule knows a name.
    """
    chosen: dict[str, tuple[int, str]] = {}
    left_out, unknown = [], []
    for name in state:
        if any(re.match(pattern, name) for pattern in dropped):
            left_out.append(name)
            continue
        found = _apply(rules, name)
        if found is None:
            unknown.append(name)
            continue
        rank, new = found
        known = chosen.setdefault(new, (rank, name))
        if known[1] != name:
            chosen[new] = min(known, (rank, name))
            left_out.append(max(known, (rank, name))[1])
    if unknown:
        more = f' and {len(unknown) - 5} more' if len(unknown) > 5 else ''
        raise CheckpointError(
            f'unknown parameters {", ".join(unknown[:5])}{more}: the '
            'checkpoint is of another method or version than this converter '
            'knows'
        )
    return {new: state[old] for new, (_, old) in chosen.items()}, left_out


def _apply(rules: Sequence[Rule], name: str) -> tuple[int, str] | None:
    """Return the first rule that knows a name, and the new name."""
    for rank, (pattern, replacement) in enumerate(rules):
        match = re.match(pattern, name)
        if match:
            return rank, match.expand(replacement) + name[match.end() :]
    return None


def convert(
    source: str | Path,
    target: str | Path,
    rules: Sequence[Rule],
    dropped: Sequence[str] = (),
    finish: Callable[[State], State] | None = None,
    trust: bool = False,
    config: str | Path | None = None,
) -> list[str]:
    """Convert a checkpoint file.

    Args:
        source (str | Path): Released checkpoint.
        target (str | Path): File to write: ``state_dict`` and ``meta``.
        rules (Sequence[tuple[str, str]]): See :func:`convert_state`.
        dropped (Sequence[str]): See :func:`convert_state`.
        finish (Callable, optional): What is left to do with the renamed
            entries, such as reshaping.
        trust (bool): Whether the file may run code while it is read.
        config (str | Path, optional): Config whose model the result must fit
            completely.

    Returns:
        list[str]: The old names that were left out.

    Raises:
        CheckpointError: If the file cannot be read, is not trusted but
            carries code, has unknown parameters or does not fit the model;
            names the file. Nothing is written then.
    """
    checkpoint = read_checkpoint(source, trust, TRUST)
    state = weights_of(checkpoint, source)
    try:
        converted, left_out = convert_state(state, rules, dropped)
        if finish is not None:
            converted = finish(converted)
        if config is not None:
            check_fits(converted, config)
    except CheckpointError as error:
        raise CheckpointError(f'{source}: {error}') from error
    old = checkpoint.get('meta') or {}
    classes = dict(classes=old.get('CLASSES'), palette=old.get('PALETTE'))
    meta = dict(converted_from=Path(source).name)
    if classes['classes']:
        meta['dataset_meta'] = classes
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(meta=meta, state_dict=converted), target)
    return left_out


def check_fits(state: State, config: str | Path) -> None:
    """Raise unless a state dict fits a config's model completely.

    Args:
        state (dict[str, Tensor]): Entries by our names.
        config (str | Path): The config.

    Raises:
        CheckpointError: If a name is missing or unknown, or a shape differs.
    """
    register_all_modules()
    model = MODELS.build(Config.fromfile(config).model)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f'does not fit the model of {config}: {error}'
        ) from error


def main(
    description: str | None,
    rules: Sequence[Rule],
    dropped: Sequence[str] = (),
    finish: Callable[[State], State] | None = None,
) -> None:
    """Run a converter from the command line: ``SRC DST [--trust]``.

    Args:
        description (str, optional): Text of ``--help``.
        rules (Sequence[tuple[str, str]]): See :func:`convert_state`.
        dropped (Sequence[str]): See :func:`convert_state`.
        finish (Callable, optional): See :func:`convert`.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('source', metavar='SRC', help='released checkpoint')
    parser.add_argument('target', metavar='DST', help='file to write')
    parser.add_argument(
        '--trust',
        action='store_true',
        help='let the file run code while it is read; by default only '
        'weights and plain data are read',
    )
    parser.add_argument(
        '--config', help='config whose model the result must fit completely'
    )
    args = parser.parse_args()
    try:
        left_out = convert(
            args.source,
            args.target,
            rules,
            dropped,
            finish,
            args.trust,
            args.config,
        )
    except CheckpointError as error:
        raise SystemExit(str(error)) from error
    for name in left_out:
        print(f'dropped {name}')
    print(f'wrote {args.target} ({len(left_out)} names dropped)')
