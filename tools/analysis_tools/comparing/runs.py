"""Which systems are trained, how, and where their results are kept."""

import copy
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .presets import System

_BUDGET_HOOK = 'mmseg_uhr.TimeBudgetHook'
# As TimeBudgetHook has them.
_WARMUP, _POWER = 0.05, 0.9
# Parts of a training that a kill may cost one of.
_PARTS = 6
# Of what is trained, all that matters; how it is tested does not.
_TRAINED = (
    'model',
    'train_dataloader',
    'optim_wrapper',
    'param_scheduler',
    'train_cfg',
    'custom_hooks',
    'randomness',
)
_TESTED = ('test_dataloader', 'test_evaluator')


@dataclass(frozen=True)
class Budget:
    """How long every system trains: the same for all.

    With neither, each config's own schedule.

    Attributes:
        iterations (int, optional): Of the optimiser.
        minutes (float, optional): Of time.
        clock (str): That tells it, see ``TimeBudgetHook``.
    """

    iterations: int | None = None
    minutes: float | None = None
    clock: str = 'wall'

    def __str__(self) -> str:
        if self.iterations:
            return f'{self.iterations} iterations'
        if not self.minutes:
            return 'own schedules'
        unit = 'CPU minutes' if self.clock == 'cpu' else 'minutes'
        return f'{self.minutes:g} {unit}'

    def apply(self, cfg: Config) -> None:
        """Give a config this schedule: a warm-up, then polynomial decay.

        Args:
            cfg (Config): Changed in place.
        """
        hooks = [
            hook
            for hook in cfg.get('custom_hooks') or []
            if hook['type'] != _BUDGET_HOOK
        ]
        interval = 100
        if self.minutes:
            hooks.append(
                dict(type=_BUDGET_HOOK, minutes=self.minutes, clock=self.clock)
            )
            cfg.param_scheduler = []
        elif self.iterations:
            interval = max(self.iterations // _PARTS, 1)
            cfg.train_cfg = dict(
                type='IterBasedTrainLoop',
                max_iters=self.iterations,
                val_interval=self.iterations,
            )
            warmup = max(round(_WARMUP * self.iterations), 2)
            cfg.param_scheduler = [
                dict(
                    type='LinearLR',
                    start_factor=0.01,
                    begin=0,
                    end=warmup,
                    by_epoch=False,
                ),
                dict(
                    type='PolyLR',
                    power=_POWER,
                    eta_min=0.0,
                    begin=0,
                    end=self.iterations,
                    by_epoch=False,
                ),
            ]
        else:
            interval = cfg.default_hooks.checkpoint.interval
            hooks = list(cfg.get('custom_hooks') or [])
        cfg.custom_hooks = hooks
        cfg.default_hooks.checkpoint = dict(
            type='mmseg_uhr.CheckpointHook',
            by_epoch=False,
            interval=interval,
            max_keep_ckpts=1,
        )


@dataclass(frozen=True)
class Run:
    """One training of one system.

    Attributes:
        name (str): Of the system, for people.
        config (str): Its file.
        seed (int): Of weights and data.
        folder (Path): Of all that is kept.
        cfg (Config): What is trained and tested, resolved.
    """

    name: str
    config: str
    seed: int
    folder: Path
    cfg: Config

    @property
    def window(self) -> tuple[int, int] | None:
        """tuple[int, int]: ``(h, w)`` of the windows of a stream, pixels."""
        found = self.cfg.model.test_cfg.get('crop_size')
        return None if found is None else tuple(found)

    @property
    def config_file(self) -> Path:
        """Path: The resolved config."""
        return self.folder / 'config.py'

    @property
    def trained_file(self) -> Path:
        """Path: Says that the training is done, and what it took."""
        return self.folder / 'trained.json'

    @property
    def test_folder(self) -> Path:
        """Path: Of the scores by this way of testing."""
        parts = {key: self.cfg.get(key) for key in _TESTED}
        parts['test_cfg'] = self.cfg.model.get('test_cfg')
        return self.folder / f'test-{digest(parts)}'

    @property
    def scores_file(self) -> Path:
        """Path: Says that the test is done, and what it found."""
        return self.test_folder / 'scores.json'

    def maps(self) -> Path:
        """Return the folder of the predicted label maps."""
        return self.test_folder / 'maps'


def make_run(
    name: str,
    system: System,
    seed: int,
    budget: Budget,
    metrics: Sequence[Mapping[str, Any]],
    out: Path,
    test_cfg: Mapping[str, Any] | None = None,
    split: str = 'test',
) -> Run:
    """Resolve a config for a comparison.

    Args:
        name (str): For people.
        system (System): What to train.
        seed (int): Of weights and data.
        budget (Budget): Of all.
        metrics (Sequence[dict]): All are tested by.
        out (Path): Folder of the comparison.
        test_cfg (dict, optional): Overrides of ``model.test_cfg``; the
            trained weights are the same.
        split (str): What is predicted, ``'test'`` or ``'val'``. Defaults to
            ``'test'``.

    Returns:
        Run: Its folder is named after what is trained, so that equal runs
        share it and any change makes another.

    Raises:
        FileNotFoundError: If the config or the data are missing.
    """
    cfg = Config.fromfile(system.config)
    cfg.merge_from_dict(dict(system.options), allow_list_keys=True)
    budget.apply(cfg)
    cfg.randomness = dict(seed=seed)
    cfg.test_dataloader = cfg[f'{split}_dataloader']
    cfg.test_evaluator = copy.deepcopy(list(metrics))
    cfg.model.test_cfg = dict(cfg.model.get('test_cfg') or {})
    key = {part: copy.deepcopy(cfg.get(part)) for part in _TRAINED}
    key['model'].pop('test_cfg')
    # How many processes load is no part of what is learnt.
    for how in ('num_workers', 'persistent_workers'):
        key['train_dataloader'].pop(how, None)
    key['data'] = fingerprint(cfg.train_dataloader.dataset)
    folder = out / 'runs' / f'{Path(system.config).stem}-s{seed}-{digest(key)}'
    cfg.model.test_cfg.update(test_cfg or {})
    return Run(name, system.config, seed, folder, cfg)


def digest(parts: Any) -> str:
    """Return ten letters that differ where anything of a config does."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha1(text.encode()).hexdigest()[:10]


def fingerprint(dataset: Mapping[str, Any]) -> str:
    """Tell data by their contents.

    Args:
        dataset (dict): Config of a data set.

    Returns:
        str: Differs if any file of its folders does.

    Raises:
        FileNotFoundError: If there is none.
    """
    root = Path(dataset.get('data_root') or '.')
    prefix = dataset.get('data_prefix') or {}
    return '-'.join(
        _contents(root / folder) for folder in sorted(set(prefix.values()))
    )


@functools.cache
def _contents(folder: Path) -> str:
    """Hash the files of a folder, names included."""
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    if not files:
        raise FileNotFoundError(
            f'{folder}: no data; build them with '
            'tools/dataset_converters/bluemarble.py --out data/bluemarble'
        )
    found = hashlib.sha1()
    for path in files:
        found.update(str(path.relative_to(folder)).encode())
        with open(path, 'rb') as file:
            while block := file.read(1 << 20):
                found.update(block)
    return found.hexdigest()[:10]
