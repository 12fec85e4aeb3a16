"""Test a segmentor; takes the arguments of MMSegmentation's test.py."""

import argparse
import os
import os.path as osp
import sys

# Before its dependencies: it explains what is wrong with them.
import mmseg_uhr  # noqa: F401

# isort: split
from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS

from mmseg_uhr.apis.checkpoint import TRUST, CheckpointError, load_weights
from mmseg_uhr.apis.launch import prepare_launch
from mmseg_uhr.apis.safe_loading import safe_loading


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='weights')
    parser.add_argument('--work-dir', help='folder for the scores (JSON)')
    parser.add_argument('--out', help='folder for predicted label maps')
    parser.add_argument(
        '--show', action='store_true', help='show predictions in a window'
    )
    parser.add_argument('--show-dir', help='folder for prediction pictures')
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds of --show'
    )
    parser.add_argument(
        '--trust',
        action='store_true',
        help='let the checkpoint run code while it is read; by default only '
        'weights and plain data are read',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='overrides of the config as key=value, e.g. '
        'model.test_cfg.batch_size=4 or "key=[a,b]" (no spaces)',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes of a distributed run were started',
    )
    parser.add_argument(
        '--tta', action='store_true', help='test-time augmentation'
    )
    # Some launchers pass the rank as an argument instead of the environment.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def configure(args: argparse.Namespace) -> Config:
    """Apply the arguments to the config.

    Raises:
        ValueError: If the config lacks what an argument needs.
    """
    cfg = Config.fromfile(args.config)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    cfg.work_dir = (
        args.work_dir
        or cfg.get('work_dir')
        or osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])
    )
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.show or args.show_dir:
        hook = cfg.get('default_hooks', {}).get('visualization')
        if hook is None:
            raise ValueError(
                f'{args.config}: --show and --show-dir need '
                'default_hooks.visualization; set it to '
                "dict(type='mmseg_uhr.UHRVisualizationHook')"
            )
        hook.update(draw=True)
        if args.show:
            hook.update(show=True, wait_time=args.wait_time)
        if args.show_dir:
            cfg.visualizer.save_dir = args.show_dir
    if args.tta:
        for name in ('tta_pipeline', 'tta_model'):
            if name not in cfg:
                raise ValueError(
                    f'{args.config}: --tta needs {name}, which the config '
                    'does not define'
                )
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.model = dict(cfg.tta_model, module=cfg.model)
    if args.out is not None:
        _writing_metric(cfg).update(output_dir=args.out, keep_results=True)
    return cfg


def _writing_metric(cfg: Config) -> dict:
    """Return the first metric that can write predictions."""
    metrics = cfg.test_evaluator
    for metric in [metrics] if isinstance(metrics, dict) else metrics:
        kind = metric['type']
        if not isinstance(kind, type):
            kind = METRICS.get(kind)
        if kind is not None and issubclass(kind, IoUMetric):
            return metric
    raise ValueError(
        '--out: no metric of test_evaluator writes predictions, as IoUMetric '
        'and mmseg_uhr.UHRIoUMetric do; add one'
    )


def main() -> None:
    """Run the tool; bad input ends it with one sentence."""
    args = parse_args()
    try:
        cfg = configure(args)
        prepare_launch(cfg, args.launcher)
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        sys.exit(f'test.py: {error}')
    try:
        with safe_loading(args.trust):
            runner = Runner.from_cfg(cfg)
            # The Runner loads what fits and goes on; refuse others first.
            load_weights(runner.model, args.checkpoint, args.trust, TRUST)
            runner.test()
    except CheckpointError as error:
        sys.exit(f'test.py: {error}')


if __name__ == '__main__':
    main()
