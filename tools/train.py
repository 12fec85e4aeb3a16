"""Train a segmentor; takes the arguments of MMSegmentation's train.py."""

import argparse
import os
import os.path as osp
import sys

# Before its dependencies: it explains what is wrong with them.
import mmseg_uhr  # noqa: F401

# isort: split
from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from mmseg.registry import RUNNERS
from torch.distributed.elastic.multiprocessing.errors import record

from mmseg_uhr.apis.budgets import fit_config
from mmseg_uhr.apis.checkpoint import CheckpointError
from mmseg_uhr.apis.launch import enable_amp, prepare_launch
from mmseg_uhr.apis.ranks import telling_rank
from mmseg_uhr.apis.safe_loading import safe_loading


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    parser.add_argument(
        '--resume',
        action='store_true',
        help='continue from the latest checkpoint in the work dir',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='train in mixed precision; without a GPU, in fp32',
    )
    parser.add_argument(
        '--trust',
        action='store_true',
        help='let checkpoints run code while they are read; by default only '
        'weights and plain data are read',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='overrides of the config as key=value, e.g. '
        'train_cfg.max_iters=100 or "key=[a,b]" (no spaces)',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes of a distributed run were started',
    )
    # Some launchers pass the rank as an argument instead of the environment.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


# The error of a process becomes part of what torchrun says in the end.
@record
def main() -> None:
    """Run the tool; bad input ends it with one sentence."""
    args = parse_args()
    try:
        cfg = Config.fromfile(args.config)
        if args.cfg_options is not None:
            cfg.merge_from_dict(args.cfg_options)
        cfg.work_dir = (
            args.work_dir
            or cfg.get('work_dir')
            or osp.join(
                'work_dirs', osp.splitext(osp.basename(args.config))[0]
            )
        )
        if args.amp:
            enable_amp(cfg)
        cfg.resume = args.resume
        prepare_launch(cfg, args.launcher)
        fit_config(cfg)
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        sys.exit(f'train.py: {error}')
    try:
        with safe_loading(args.trust), telling_rank('train.py', cfg.work_dir):
            build = RUNNERS.build if 'runner_type' in cfg else Runner.from_cfg
            build(cfg).train()
    except CheckpointError as error:
        sys.exit(f'train.py: {error}')


if __name__ == '__main__':
    main()
