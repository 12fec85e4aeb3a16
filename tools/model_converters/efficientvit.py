"""Convert ImageNet weights of the authors of EfficientViT (b2-r224.pt).

The result is loaded by ``init_cfg=dict(type='Pretrained', checkpoint=DST)``
of ``mmseg_uhr.EfficientViT``, also of one with more input channels. The
classifier and the last stage, which HLRC does not have, are dropped.
"""

from mmseg_uhr.apis.conversion import main
from mmseg_uhr.apis.reference_names import efficientvit_rules

RULES = efficientvit_rules(r'(?:backbone\.)?', '')
DROPPED = (r'head\.', r'(?:backbone\.)?stages\.3\.')

if __name__ == '__main__':
    main(__doc__, RULES, DROPPED)
