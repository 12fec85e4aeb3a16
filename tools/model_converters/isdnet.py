"""Convert a checkpoint released by ISDNet's authors.

The result loads into configs/isdnet/isdnet_r18_*_deepglobe-*.py (7 classes)
or isdnet_r18_*_inria-*.py (2 classes).
"""

from mmseg_uhr.apis.conversion import main
from mmseg_uhr.apis.reference_names import (
    class_head_rules,
    stdc_rules,
    super_resolution_rules,
)


def fusion_rules(name: str, index: int) -> list[tuple[str, str]]:
    """Rules for one relation-aware fusion."""
    old, new = rf'refine_head\.{name}\.', f'neck.fusions.{index}.'
    rules = [
        (old + 'g1', new + 'shallow_gain'),
        (old + 'g2', new + 'deep_gain'),
        (old + r'context_head\.', new + 'enlarged_conv.'),
        (old + r'smooth\.', new + 'sum_conv.'),
    ]
    for theirs, ours in (('spatial', 'shallow'), ('context', 'deep')):
        rules += [
            (rf'{old}{theirs}_mlp\.', f'{new}{ours}_relation.'),
            (rf'{old}{theirs}_att\.conv_bn_relu\.', f'{new}{ours}_conv.'),
            (rf'{old}{theirs}_att\.conv_1x1\.', f'{new}{ours}_weight.'),
        ]
    return rules


def head_rules(old: str, new: str) -> list[tuple[str, str]]:
    """Rules for one of the refining heads."""
    return class_head_rules(
        rf'refine_head\.{old}\.', f'{new}.convs.0.', f'{new}.conv_seg.'
    )


RULES = [
    (r'backbone\.', 'backbone.deep.'),
    (r'decode_head\.image_pool\.1\.', 'neck.context.image_pool.'),
    (r'decode_head\.aspp_modules\.', 'neck.context.branches.'),
    (r'decode_head\.bottleneck\.', 'neck.context.bottleneck.'),
    (r'decode_head\.conv_seg\.', 'auxiliary_head.0.conv_seg.'),
    *fusion_rules('fuse8', 0),
    *fusion_rules('fuse16', 1),
    *head_rules('conv_seg', 'decode_head'),
    # The head named 16 reads the map at 1/8, the other one that at 1/16.
    *head_rules('conv_seg_aux_16', 'auxiliary_head.1'),
    *head_rules('conv_seg_aux_8', 'auxiliary_head.2'),
    *super_resolution_rules(r'refine_head\.sr_decoder\.', 'auxiliary_head.0.'),
    (r'auxiliary_head\.', 'auxiliary_head.3.'),
    # Stored twice; the slices are loaded last, so they count.
    *stdc_rules(r'refine_head\.stdc_net\.', 'backbone.shallow.', slices=True),
    *stdc_rules(r'refine_head\.stdc_net\.', 'backbone.shallow.'),
]

if __name__ == '__main__':
    main(__doc__, RULES)
