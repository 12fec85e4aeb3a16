# LCF-ALE as we read it, on a feature pyramid. The schedule is ours.
_base_ = [
    '../fctl/fctl-fpn_r18_160k_urur-512x512.py',
    '../_base_/models/lcf-ale_fusion.py',
]
model = dict(neck=dict(fusion=_base_.lcf_ale_fusion))
