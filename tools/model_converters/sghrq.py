"""Convert a checkpoint of the authors of SGHRQ.

    python tools/model_converters/sghrq.py SRC DST [--trust] [--config CONFIG]

The result loads strictly into ``configs/sghrq/sghrq_r18_80k_deepglobe-*.py``
(``DeepGlobe.pth``) or ``sghrq_r18_40k_inria-*.py`` (``InriaAerial.pth``).
"""

from torch import Tensor

from mmseg_uhr.apis.conversion import main
from mmseg_uhr.apis.reference_names import (
    class_head_rules,
    stdc_rules,
    super_resolution_rules,
)

# Never used by the authors' network either.
DROPPED = (
    r'refine_head\.conv_seg\.',
    r'refine_head\.sghrq\.sghrq_mlp\.pos4\.emb',
)

HEAD = 'decode_head.'
COARSE = 'auxiliary_head.0.'
MLP = r'refine_head\.sghrq\.sghrq_mlp\.'


def conv_norm_rules(old: str, index: int, new: str) -> list[tuple[str, str]]:
    """Rules for a 1-D convolution and the norm behind it."""
    return [
        (rf'{old}{index}\.', f'{HEAD}{new}.conv.'),
        (rf'{old}{index + 1}\.', f'{HEAD}{new}.bn.'),
    ]


RULES = [
    (r'backbone\.', 'backbone.deep.'),
    # The same tensors twice; the second time cut into pieces.
    *stdc_rules(r'refine_head\.stdc_net\.', 'backbone.shallow.'),
    *stdc_rules(r'refine_head\.stdc_net\.', 'backbone.shallow.', slices=True),
    (r'decode_head\.image_pool\.1\.', 'neck.image_pool.'),
    (r'decode_head\.aspp_modules\.', 'neck.branches.'),
    (r'decode_head\.bottleneck\.', f'{COARSE}convs.0.'),
    (r'decode_head\.conv_seg\.', f'{COARSE}conv_seg.'),
    *super_resolution_rules(r'refine_head\.sr_decoder\.', COARSE),
    (r'auxiliary_head\.', 'auxiliary_head.1.'),
    *class_head_rules(
        r'refine_head\.conv_seg_aux_(8|16)\.',
        rf'{HEAD}class_head_\1.0.',
        rf'{HEAD}class_head_\1.1.',
    ),
    (r'refine_head\.memory\.memory', f'{HEAD}memory.memory'),
    *conv_norm_rules(r'refine_head\.memory\.S\.', 0, 'memory.embed'),
    *conv_norm_rules(r'refine_head\.sghrq\.head\.', 0, 'compress'),
    (rf'{MLP}pos1\.', f'{HEAD}query.codes.0.'),
    (rf'{MLP}pos2\.', f'{HEAD}query.codes.1.'),
    (rf'{MLP}pos3\.', f'{HEAD}query.codes.2.'),
    *conv_norm_rules(rf'{MLP}imnet\.', 0, 'query.layers.0'),
    *conv_norm_rules(rf'{MLP}imnet\.', 3, 'query.layers.1'),
    *conv_norm_rules(rf'{MLP}imnet\.', 6, 'query.layers.2'),
    (rf'{MLP}imnet\.9\.', f'{HEAD}conv_seg.'),
]


def finish(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make 2-D convolutions of 1-D ones, and rows of the prototypes."""
    shaped = {}
    for name, value in state.items():
        if name == f'{HEAD}memory.memory':
            value = value.flatten(1)
        elif value.dim() == 3:
            value = value[..., None]
        shaped[name] = value
    return shaped


if __name__ == '__main__':
    main(__doc__, RULES, DROPPED, finish)
