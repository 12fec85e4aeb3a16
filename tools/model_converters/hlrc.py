"""Convert a checkpoint of the authors of HLRC.

    python tools/model_converters/hlrc.py SRC DST [--trust] [--config CONFIG]

The result loads strictly into the config of its data set:
``configs/hlrc/hlrc_swin-t_80k_deepglobe-*.py``, ``*_80k_inria-*.py`` or
``*_160k_cityscapes-*.py``.
"""

import re

import torch
from torch import Tensor

from mmseg_uhr.apis.conversion import main
from mmseg_uhr.apis.reference_names import (
    class_head_rules,
    efficientvit_rules,
    super_resolution_rules,
)

# A constant filter, and a layer that the authors' network never uses.
DROPPED = (r'haar\.', r'refine_head\.region\.conv_seg\.')

ENCODERS = 'backbone.shallow.encoders.'
TOKENS = 'auxiliary_head.0.'
REGION = r'refine_head\.region\.'
CONTEXT = r'refine_head\.felc_'


def context_rules(scale: int, index: int) -> list[tuple[str, str]]:
    """Rules of the local context of one scale."""
    old, new = f'{CONTEXT}{scale}', f'decode_head.contexts.{index}.'
    return [
        (rf'{old}\.fc1\.', f'{new}project_in.'),
        (rf'{old}\.fc2\.', f'{new}project_out.'),
        (rf'{old}\.dwconv\.bn\.', f'{new}norm.'),
        *(
            (rf'{old}\.dwconv\.dwconv{i + 1}\.', f'{new}fields.{i}.')
            for i in range(3)
        ),
    ]


RULES = [
    (r'backbone\.', 'backbone.deep.'),
    (r'decode_head\.conv_seg\.', f'{TOKENS}conv_seg.'),
    (r'decode_head\.', 'neck.uper.'),
    (r'auxiliary_head\.', 'auxiliary_head.1.'),
    *efficientvit_rules(r'refine_head\.efficientvit\.', f'{ENCODERS}0.'),
    *efficientvit_rules(r'refine_head\.spa_branch\.', f'{ENCODERS}1.'),
    (rf'{REGION}affinity_head\.0\.', 'decode_head.region.0.'),
    (rf'{REGION}affinity_head\.1\.conv\.', 'decode_head.region.1.'),
    (rf'{REGION}rpae\.gate\.', 'decode_head.experts.router.'),
    (rf'{REGION}rpae\.experts\.', 'decode_head.experts.'),
    *context_rules(8, 0),
    *context_rules(16, 1),
    (r'refine_head\.compression\.', 'decode_head.compress.'),
    *class_head_rules(
        r'refine_head\.conv_seg\.',
        'decode_head.decode.',
        'decode_head.conv_seg.',
    ),
    (r'refine_head\.reduce\.conv1\.', f'{TOKENS}reduce.conv.'),
    (r'refine_head\.reduce\.bn1\.', f'{TOKENS}reduce.bn.'),
    *super_resolution_rules(r'refine_head\.sr_decoder\.', TOKENS),
]


def finish(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Stack the experts: (E, in, out) for each of their three layers."""
    rest, layers = {}, {}
    for name, value in state.items():
        match = re.fullmatch(
            r'(decode_head\.experts\.)(\d+)\.w\.(\d+)\.weight', name
        )
        if match is None:
            rest[name] = value
            continue
        # Layers 0, 2 and 4; between them are activations.
        new = f'{match[1]}layers.{int(match[3]) // 2}'
        layers.setdefault(new, {})[int(match[2])] = value.T
    for name, experts in layers.items():
        rest[name] = torch.stack([experts[i] for i in sorted(experts)])
    return rest


if __name__ == '__main__':
    main(__doc__, RULES, DROPPED, finish)
