import json
from pathlib import Path

import pytest
from mmengine.runner import Runner

from mmseg_uhr.engine.hooks import LoggerHook, logger


@pytest.mark.parametrize('main', [True, False])
def test_the_first_process_writes_the_scores(tiny_cfg, monkeypatch, main):
    tiny_cfg.test_dataloader.num_workers = 0
    runner = Runner.from_cfg(tiny_cfg)
    assert sum(isinstance(hook, LoggerHook) for hook in runner.hooks) == 1
    monkeypatch.setattr(logger, 'is_main_process', lambda: main)
    scores = runner.test()
    written = list(Path(tiny_cfg.work_dir).glob('*/*.json'))
    assert len(written) == main
    for path in written:
        assert json.loads(path.read_text())['mIoU'] == scores['mIoU']
