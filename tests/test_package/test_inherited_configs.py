"""Configs that inherit ours by package run in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Types of stock, in dicts that MMEngine marks with our scope.
PROBE = """
import sys
from mmengine.config import Config
from mmengine.registry import VISUALIZERS, DefaultScope
from mmseg.registry import MODELS
import mmseg_uhr
cfg = Config.fromfile(sys.argv[1])
DefaultScope.get_instance('probe', scope_name=cfg.default_scope)
print(type(VISUALIZERS.build(cfg.visualizer)).__name__)
head = MODELS.build(cfg.model.decode_head)
print(type(head.sampler).__name__)
"""
CONFIG = """
_base_ = ['mmseg_uhr::hgn/hgn_r18_20k_bluemarble-768x768.py']
model = dict(decode_head=dict(sampler=dict(type='OHEMPixelSampler')))
"""


def test_stock_types_are_found(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(CONFIG)
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', PROBE, str(path)],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    found = result.stdout.split()[-2:]
    assert found == ['SegLocalVisualizer', 'OHEMPixelSampler']
