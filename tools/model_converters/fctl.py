"""Convert checkpoints released by FCtL's authors.

The network that fuses, and the two it takes its contexts from:

    python tools/model_converters/fctl.py LOCAL MEDIUM LARGE DST

with all.epoch.pth, B10.epoch.pth and B15.epoch.pth of Inria, or
all.epoch.pth, medium.epoch.pth and global.epoch.pth of DeepGlobe. The result
loads strictly into configs/fctl/fctl_vgg16_phase3_*.py of the data set.

A network of an earlier phase:

    python tools/model_converters/fctl.py SRC DST [--context large]

loads strictly into configs/fctl/fctl_vgg16_phase1_*.py or phase2*.py.
"""

import argparse
import re
from pathlib import Path

import torch

from mmseg_uhr.apis.checkpoint import (
    TRUST,
    CheckpointError,
    read_checkpoint,
    weights_of,
)
from mmseg_uhr.apis.conversion import check_fits, convert_state

# Convolutions in torchvision's `features`, by stage; the networks also hold
# them as three slices that begin at 0, 17 and 24.
FEATURES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
SLICES = {'pool3': 0, 'pool4': 17, 'pool5': 24}
# The three blocks of Inria's fusion are for these sources.
INRIA_ORDER = ('medium', 'large', 'local')
DEEPGLOBE_ORDER = ('local', 'medium', 'large')
# The canonical order, as blocks of Inria's.
INRIA_BLOCKS = [INRIA_ORDER.index(name) for name in DEEPGLOBE_ORDER]
FUSION = 'decode_head.fusion.'
DECODER = [
    (r'output\.0\.', 'decode_head.conv6.'),
    (r'output\.3\.', 'decode_head.conv7.'),
    (r'output\.6\.', 'decode_head.conv_seg.'),
    (r'adj_pool4\.', 'decode_head.skip4.'),
    (r'adj_pool3\.', 'decode_head.skip3.'),
    (r'up_output\.weight', 'decode_head.up5'),
    (r'up_pool4_out\.weight', 'decode_head.up4'),
    (r'up_final\.weight', 'decode_head.up3'),
]
DROPPED = [r'vgg\.classifier\.']


def encoder_rules(target: str) -> list[tuple[str, str]]:
    """Rules for VGG-16 and the slices of it."""
    whole, slices = [], []
    for i, stage in enumerate(FEATURES):
        for j, index in enumerate(stage):
            new = f'{target}stages.{i}.{j}.'
            whole.append((rf'vgg\.features\.{index}\.', new))
            name = f'pool{max(i, 2) + 1}'
            old = rf'(?:big_)?{name}\.{index - SLICES[name]}\.'
            slices.append((old, new))
    return whole + slices


def correlation_rules(old: str, suffix: str, name: str):
    """Rules for one correlation."""
    new = f'{FUSION}correlations.{name}.'
    return [
        (rf'{old}conv_query{suffix}\.', f'{new}query.'),
        (rf'{old}conv_key{suffix}\.', f'{new}key.'),
        (rf'{old}conv_value{suffix}\.', f'{new}value.'),
        (rf'{old}gamma{suffix}$', f'{new}gamma'),
    ]


def gate_rules(old: str, order: tuple[str, ...]):
    """Rules for the gate."""
    rules = [(rf'{old}trans\.', f'{FUSION}gate.mix.')]
    for i, name in enumerate(order, start=1):
        rules += [
            (rf'{old}in_{i}\.', f'{FUSION}gate.squeeze.{name}.'),
            (rf'{old}out_{i}\.', f'{FUSION}gate.split.{name}.'),
        ]
    return rules


def read(path: str, trust: bool) -> dict[str, torch.Tensor]:
    """Read weights and check that what is stored twice is the same."""
    state = {
        re.sub(r'^module\.', '', name): value
        for name, value in weights_of(
            read_checkpoint(path, trust, TRUST), path
        ).items()
    }
    for name in state:
        match = re.match(r'(?:big_)?(pool[345])\.(\d+)\.(\w+)$', name)
        if match is None:
            continue
        index = SLICES[match[1]] + int(match[2])
        twin = state.get(f'vgg.features.{index}.{match[3]}')
        if twin is not None and not torch.equal(twin, state[name]):
            raise CheckpointError(
                f'{path}: {name} differs from vgg.features.{index}.{match[3]}'
                ', of which it is a second copy; the file has been changed'
            )
    return state


def convert_local(state: dict, context: str) -> tuple[dict, list[str]]:
    """Convert the network of windows, of any phase and data set."""
    rules = encoder_rules('backbone.local.') + DECODER
    dropped = list(DROPPED)
    siamese = any(name.startswith('big_pool') for name in state)
    inria = any(name.startswith('big_attention.') for name in state)
    if inria and siamese:
        # One correlation is used, the rest came with its class.
        rules += correlation_rules(r'big_attention\.', '', context)
        dropped += [r'big_attention\.\w+_[123]\b', r'big_attention\.trans\.']
    elif inria:
        for suffix, name in zip(('', '_1', '_2'), INRIA_ORDER):
            rules += correlation_rules(r'big_attention\.', suffix, name)
        rules += gate_rules(r'big_attention\.', INRIA_ORDER)
    elif siamese:
        rules += correlation_rules(r'big\.', '', context)
    else:
        for name in DEEPGLOBE_ORDER:
            rules += correlation_rules(rf'{name}\.', '', name)
        rules += gate_rules('', DEEPGLOBE_ORDER)
    converted, left_out = convert_state(state, rules, dropped)
    if inria and not siamese:
        reorder(converted)
    return converted, left_out


def reorder(state: dict) -> None:
    """Bring the sources of Inria's mixing convolution in our order."""
    weight, bias = (f'{FUSION}gate.mix.{leaf}' for leaf in ('weight', 'bias'))
    side = len(state[bias]) // 3
    channels = torch.arange(3 * side).view(3, side)[INRIA_BLOCKS].flatten()
    state[weight] = state[weight][channels][:, channels].contiguous()
    state[bias] = state[bias][channels].contiguous()


def convert_context(state: dict, name: str) -> tuple[dict, list[str]]:
    """Convert the encoder of a context; nothing else of it is used."""
    rules = encoder_rules(f'backbone.contexts.{name}.')
    return convert_state(
        state, rules, [r'(?!vgg\.features\.|(?:big_)?pool[345]\.)']
    )


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'files',
        nargs='+',
        metavar='FILE',
        help='LOCAL MEDIUM LARGE DST, or SRC DST',
    )
    parser.add_argument(
        '--trust',
        action='store_true',
        help='let the files run code while they are read',
    )
    parser.add_argument(
        '--context',
        choices=INRIA_ORDER[:2],
        default='medium',
        help='of a network of phase 2: which context it was trained for',
    )
    parser.add_argument(
        '--config', help='config whose model the result must fit completely'
    )
    args = parser.parse_args()
    if len(args.files) not in (2, 4):
        parser.error(
            f'{len(args.files)} files; give LOCAL MEDIUM LARGE DST or SRC DST'
        )
    return args


def main() -> None:
    """Convert the files of the command line."""
    args = parse_args()
    *sources, target = args.files
    converted = {}
    try:
        for path, name in zip(sources, DEEPGLOBE_ORDER):
            state = read(path, args.trust)
            try:
                if name == 'local':
                    part, left_out = convert_local(state, args.context)
                else:
                    part, left_out = convert_context(state, name)
            except CheckpointError as error:
                raise CheckpointError(f'{path}: {error}') from error
            converted.update(part)
            print(f'{path}: {len(part)} read, {len(left_out)} dropped')
        if args.config:
            check_fits(converted, args.config)
    except CheckpointError as error:
        raise SystemExit(str(error)) from error
    names = [Path(path).name for path in sources]
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        dict(meta=dict(converted_from=names), state_dict=converted), target
    )
    print(f'wrote {target}')


if __name__ == '__main__':
    main()
