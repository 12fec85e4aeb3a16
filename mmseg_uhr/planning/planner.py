"""Plans for configs: what they need, and what of them fits a budget."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn

from ..memory import MemoryPlan, WithoutValues, plan_memory
from ..memory.fakes import faked
from ..memory.plan import describe
from ..memory.search import largest_fitting
from ..memory.trial import Work, try_step
from ..models.segmentors import streaming_config, streaming_type
from ..models.segmentors.budget import bytes_beyond, plan_windows
from ..streaming import StreamSettings
from ..streaming.fit import band_bytes, fit_settings
from ..tiling import parse_views
from ..tiling.views import LOCAL
from .accumulation import accumulated
from .savings import (
    LOSS_ROWS,
    Savings,
    accepted,
    heavy_modules,
)

# More windows at a time do not make anything faster.
_MAX_BATCH = 64
# Crops are proposed in multiples of this, and not smaller than twice that.
_MULTIPLE = 32
_FIELDS = ('crop_size', 'stride', 'batch_size', 'accumulate_on')
# Of the modules whose activations may be computed again, the largest.
_PARTS = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Planned:
    """A plan for a config.

    Attributes:
        plan (MemoryPlan): Of a batch.
        beyond (int): Bytes that a stream takes besides the network and its
            sums, such as for logits enlarged to full resolution.
        band (int): Bytes of a stream's sums of logits.
        band_on (str): ``'device'`` or ``'host'``.
        changes (dict): What a config that inherits has to say, if a budget
            asks for something else than the config.
        notes (tuple[str]): What to know about the changes.
    """

    plan: MemoryPlan
    beyond: int = 0
    band: int = 0
    band_on: str = 'device'
    changes: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def device_bytes(self) -> int:
        """int: Bytes that the device needs."""
        band = 0 if self.band_on == 'host' else self.band
        return self.plan.total + self.beyond + band


class Planner:
    """Plans for one config; weights are neither loaded nor made.

    Args:
        cfg (Config): Of an experiment, ours or stock.
        mode (str): ``'predict'``, as a stream unless the config predicts
            images whole and ``crop_size`` is not given, or ``'train'``.
        precision (str, optional): ``'fp32'``, ``'fp16'`` or ``'bf16'``.
            Defaults to that of the config's training, and fp32.
        crop_size (tuple[int], optional): ``(h, w)`` in pixels. Defaults to
            the config's.
        image_size (tuple[int], optional): ``(h, w)`` of a scene in pixels.
            Defaults to one window.
        batch_size (int, optional): Defaults to the config's.

    Raises:
        ValueError: If the config lacks what is needed.
    """

    def __init__(
        self,
        cfg: Config,
        mode: str = 'predict',
        precision: str | None = None,
        crop_size: tuple[int, int] | None = None,
        image_size: tuple[int, int] | None = None,
        batch_size: int | None = None,
    ) -> None:
        if 'model' not in cfg:
            raise ValueError(
                f'{cfg.filename or "config"}: has no model; give the whole '
                'config of an experiment, not one of its parts'
            )
        self.cfg, self.mode = cfg, mode
        self.precision = precision or _precision(cfg, mode)
        init_default_scope(cfg.get('default_scope', 'mmseg'))
        model_cfg = cfg.model
        if mode == 'predict':
            model_cfg = streaming_config(cfg.model)
        self._model_cfg = model_cfg
        self._model_with = lru_cache(maxsize=None)(self._build)
        self.model = self._model_with(Savings())
        preprocessor = cfg.model.get('data_preprocessor') or {}
        self._channels = len(preprocessor.get('mean') or (0, 0, 0))
        self._plan = lru_cache(maxsize=None)(self._make_plan)
        if mode == 'predict':
            self._set_stream(model_cfg, crop_size, image_size, batch_size)
        else:
            self._set_training(preprocessor, crop_size, batch_size)

    def plan(
        self,
        size: tuple[int, int] | None = None,
        batch_size: int | None = None,
        accumulative_counts: int | None = None,
        savings: Savings = Savings(),
    ) -> MemoryPlan:
        """Plan a batch.

        Args:
            size (tuple[int], optional): ``(h, w)`` of the windows in pixels
                of the scene. Defaults to the planner's.
            batch_size (int, optional): Likewise.
            accumulative_counts (int, optional): Batches per optimizer step.
                Likewise.
            savings (Savings): Of training. Defaults to those of the config.

        Returns:
            MemoryPlan: Made once for the same question.
        """
        return self._plan(
            tuple(size or self.crop_size),
            batch_size or self.batch_size,
            accumulative_counts or self.counts,
            savings,
        )

    def as_configured(self) -> Planned:
        """Plan what the config says."""
        if self.mode == 'train':
            return Planned(self.plan())
        return self._stream(self.settings)

    def fit(self, budget: int) -> Planned:
        """Find what fits a budget.

        Args:
            budget (int): Bytes of the device.

        Returns:
            Planned: With the changes that it takes.

        Raises:
            ValueError: If nothing fits; it names the least that would.
        """
        if self.mode == 'train':
            return self._fit_training(budget)
        return self._fit_stream(budget)

    # Prediction

    def _set_stream(
        self,
        model_cfg: ConfigDict,
        crop_size: tuple[int, int] | None,
        image_size: tuple[int, int] | None,
        batch_size: int | None,
    ) -> None:
        """Read how scenes are predicted."""
        configured = (self.cfg.model.get('test_cfg') or {}).get('mode')
        wanted = dict(model_cfg.test_cfg)
        if configured in (None, 'whole') and image_size is not None:
            wanted.update(crop_size=image_size, stride=image_size)
        settings = StreamSettings.from_test_cfg(wanted)
        if crop_size is not None:
            shares = [
                step / side
                for step, side in zip(
                    settings.stride, settings.crop_size, strict=True
                )
            ]
            stride = tuple(
                max(round(side * share), 1)
                for side, share in zip(crop_size, shares, strict=True)
            )
            settings = replace(
                settings, crop_size=tuple(crop_size), stride=stride
            )
        if batch_size is not None:
            settings = replace(settings, batch_size=batch_size)
        self.settings = settings
        self.limit = batch_size or _MAX_BATCH
        self.image_size = tuple(image_size or settings.crop_size)
        self.crop_size, self.batch_size = (
            settings.crop_size,
            settings.batch_size,
        )
        self.counts = 1

    def _stream(self, settings: StreamSettings, **more: Any) -> Planned:
        """Plan a stream."""
        plan = self.plan(settings.crop_size, settings.batch_size)
        return Planned(
            plan,
            self._beyond(settings, plan),
            band_bytes(settings, self.image_size, self.model.out_channels),
            settings.accumulate_on,
            **more,
        )

    def _fit_stream(self, budget: int) -> Planned:
        """Find windows, the band's place and the largest batch."""
        chosen = fit_settings(
            replace(self.settings, batch_size=1),
            self.image_size,
            self.model.out_channels,
            self._window_bytes,
            budget,
            has_host=True,
            may_shrink=self.model.views[LOCAL].size is None,
        )
        windows = len(list(chosen.plan(self.image_size)))
        batch = largest_fitting(
            lambda count: (
                self._stream(replace(chosen, batch_size=count)).device_bytes
            ),
            budget,
            max(min(windows, self.limit), 1),
        )
        chosen = replace(chosen, batch_size=batch)
        notes = []
        if chosen.crop_size != self.settings.crop_size:
            notes.append(
                'smaller windows see less around them: results change a little'
            )
        if chosen.accumulate_on == 'host':
            notes.append(
                'the sums of logits are on the host: same results, slower'
            )
        configured = self.cfg.model.get('test_cfg') or {}
        new = {
            name: getattr(chosen, name)
            for name in _FIELDS
            if configured.get(name, getattr(_DEFAULTS, name))
            != getattr(chosen, name)
        }
        changes: dict[str, Any] = {}
        if new or configured.get('mode') != 'stream':
            model = dict(test_cfg=dict(mode='stream', **new))
            if self.cfg.model.type != self.model_type:
                model['type'] = self.model_type
            changes = dict(model=model)
        return self._stream(chosen, changes=changes, notes=tuple(notes))

    def _window_bytes(self, settings: StreamSettings) -> int:
        """Return the bytes of weights and of a batch of windows."""
        plan = self.plan(settings.crop_size, settings.batch_size)
        return plan.total + self._beyond(settings, plan)

    def _beyond(self, settings: StreamSettings, plan: MemoryPlan) -> int:
        """Return what a stream takes beyond the plan of its network."""
        return bytes_beyond(
            plan,
            self.model,
            settings,
            self._window(settings.crop_size),
            self.image_size,
            self._channels,
        )

    def _window(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size of windows; a small scene is one window."""
        return tuple(map(min, size, self.image_size))

    @property
    def model_type(self) -> str:
        """str: Type of the model in a config."""
        return self._type_of(type(self.model))

    def _type_of(self, kind: type) -> str:
        """Return the type of a class of segmentors in a config."""
        ours = kind.__module__.split('.')[0] == 'mmseg_uhr'
        known = self.cfg.model.type
        if not ours or str(known).split('.')[-1] == kind.__name__:
            return known
        return f'mmseg_uhr.{kind.__name__}'

    # Training

    def _set_training(
        self,
        preprocessor: dict[str, Any],
        crop_size: tuple[int, int] | None,
        batch_size: int | None,
    ) -> None:
        """Read how the model is trained."""
        configured = preprocessor.get('size')
        if not configured and self.cfg.get('crop_size'):
            scale = self._read_scale()
            configured = [round(side * scale) for side in self.cfg.crop_size]
        self._configured_crop = configured and tuple(configured)
        crop_size = crop_size or configured
        if crop_size is None:
            raise ValueError(
                f'{self.cfg.filename or "config"}: '
                'model.data_preprocessor.size is missing; give --crop-size '
                '(crop_size=)'
            )
        self.crop_size = tuple(crop_size)
        loader = self.cfg.get('train_dataloader') or {}
        self.batch_size = batch_size or loader.get('batch_size', 1)
        wrapper = self.cfg.get('optim_wrapper') or {}
        self.counts = wrapper.get('accumulative_counts', 1)

    def _fit_training(self, budget: int) -> Planned:
        """Find what fits, that which changes the training least first."""
        plan = self.plan()
        if plan.total <= budget:
            more = largest_fitting(
                lambda count: (
                    self.plan(batch_size=self.batch_size + count - 1).total
                ),
                budget,
                max(_MAX_BATCH - self.batch_size + 1, 1),
            )
            return Planned(
                plan,
                changes=self._changes(self.crop_size, self.batch_size),
                notes=(
                    'fits as it is; the largest batch that fits is '
                    f'{self.batch_size + more - 1}',
                ),
            )
        savings = Savings()
        for savings in self._ways_to_save():
            plan = self._plan_with(savings)
            if plan.total <= budget:
                return self._planned(plan, savings)
        for batch in range(self.batch_size - 1, 0, -1):
            if self.batch_size % batch:
                continue
            counts = self.counts * self.batch_size // batch
            try:
                smaller = self.plan(None, batch, counts, savings)
            except ValueError:
                # Batch norms of pooled maps want more than one window.
                break
            plan = smaller
            if plan.total <= budget:
                return self._planned(plan, savings)
        return self._fit_crop(budget, plan.batch_size, savings)

    def _ways_to_save(self) -> Iterator[Savings]:
        """Yield what loses nothing, each more than the one before."""
        if streaming_type(self.cfg.model) is None:
            return
        configured = self.cfg.model.get('train_cfg') or {}
        best, least = Savings(), self.plan()
        if 'loss_rows' not in configured:
            striped = Savings(LOSS_ROWS)
            plan = self._plan_with(striped)
            if plan and plan.total < least.total:
                best, least = striped, plan
                yield best
        if 'checkpoint' in configured:
            return
        names = accepted(
            heavy_modules(
                self._model_with(best),
                self.crop_size,
                self.batch_size,
                self._work(self.counts),
            ),
            lambda names: (
                self._plan_with(replace(best, checkpoint=tuple(names)))
                is not None
            ),
        )
        striped = best
        for part in _PARTS:
            some = tuple(names[: round(part * len(names))])
            plan = self._plan_with(replace(striped, checkpoint=some))
            if plan and plan.total < least.total:
                best, least = replace(striped, checkpoint=some), plan
                yield best

    def _plan_with(self, savings: Savings) -> MemoryPlan | None:
        """Plan a batch with savings; None if the model cannot have them."""
        try:
            return self.plan(savings=savings)
        except Exception:
            # Whatever a module raises that cannot be computed again.
            return None

    def _planned(self, plan: MemoryPlan, savings: Savings) -> Planned:
        """Say how to train as planned."""
        batch = plan.batch_size
        return Planned(
            plan,
            changes=self._changes(self.crop_size, batch, savings),
            notes=savings.notes + self._batch_norm_notes(batch),
        )

    def _fit_crop(self, budget: int, batch: int, savings: Savings) -> Planned:
        """Find the largest crop for the smallest batch."""
        counts = self.counts * self.batch_size // batch
        ratio = self.crop_size[1] / self.crop_size[0]

        def crop(steps: int) -> tuple[int, int]:
            height = _MULTIPLE * (steps + 1)
            width = max(round(height * ratio / _MULTIPLE), 1) * _MULTIPLE
            return tuple(map(min, (height, width), self.crop_size))

        steps = largest_fitting(
            lambda count: self.plan(crop(count), batch, counts, savings).total,
            budget,
            max(self.crop_size[0] // _MULTIPLE - 1, 1),
        )
        if not steps:
            smallest = self.plan(crop(1), batch, counts, savings)
            raise ValueError(
                f'budget: {budget / 2**20:.0f} MiB are not enough; the least '
                'that training this model needs is about '
                f'{-(-smallest.total // 2**20)} MiB, with a crop of '
                f'{crop(1)} and batches of {batch}'
            )
        size = crop(steps)
        notes = ('a smaller crop is another training: expect other scores',)
        if self._cropped(size) is None:
            notes += ("set the crop_size of your pipeline's transform, too",)
        return Planned(
            self.plan(size, batch, counts, savings),
            changes=self._changes(size, batch, savings),
            notes=notes + savings.notes + self._batch_norm_notes(batch),
        )

    def _changes(
        self,
        size: tuple[int, int],
        batch: int,
        savings: Savings = Savings(),
    ) -> dict[str, Any]:
        """Return what a config has to say for a crop and a batch."""
        changes = accumulated(self.cfg, batch, self.batch_size // batch)
        model: dict[str, Any] = {}
        if savings:
            kind = self._type_of(streaming_type(self.cfg.model))
            if self.cfg.model.type != kind:
                model['type'] = kind
            model['train_cfg'] = savings.train_cfg
            if self.cfg.model.get('train_cfg', {}) is None:
                # Nothing to inherit from.
                model['train_cfg']['_delete_'] = True
        if size != self._configured_crop:
            model['data_preprocessor'] = dict(size=size)
            pipeline = self._cropped(size)
            if pipeline is not None:
                loader = changes.setdefault('train_dataloader', {})
                loader['dataset'] = dict(pipeline=pipeline)
        if model:
            changes['model'] = model
        return changes

    def _cropped(self, size: tuple[int, int]) -> list[dict] | None:
        """Return the pipeline with another crop; None if there is no crop."""
        dataset = self.cfg.get('train_dataloader', {}).get('dataset', {})
        pipeline = [dict(step) for step in dataset.get('pipeline', ())]
        crops = [step for step in pipeline if 'crop_size' in step]
        scale = self._read_scale()
        for step in crops:
            # In the pixels of the file.
            step['crop_size'] = tuple(round(side / scale) for side in size)
        return pipeline if crops else None

    def _batch_norm_notes(self, batch: int) -> tuple[str, ...]:
        """Say what smaller batches do to batch norms."""
        norms = any(
            isinstance(module, nn.modules.batchnorm._BatchNorm)
            for module in self.model.modules()
        )
        if not norms or batch == self.batch_size:
            return ()
        return (
            f'batch norms see {batch} instead of {self.batch_size} windows: '
            'all else is as in the larger batch',
        )

    def _make_plan(
        self,
        size: tuple[int, int],
        batch_size: int,
        counts: int,
        savings: Savings,
    ) -> MemoryPlan:
        """Plan a batch of windows of the scene, or of crops as seen."""
        if self.mode == 'predict':
            return plan_windows(
                self.model,
                replace(self.settings, batch_size=batch_size),
                self._window(size),
                self._channels,
                self.precision,
            )
        work = self._work(counts)
        if savings:
            # Not measured where this fails: on real tensors, modules that
            # cannot be computed again may do anything.
            return _plan_on_fakes(
                self._model_with(savings), size, batch_size, work
            )
        return plan_memory(
            self.model,
            size,
            batch_size,
            work.mode,
            work.precision,
            work.optimizer,
            work.channels,
        )

    def _read_scale(self) -> float:
        """Return the scale at which training's pipeline reads windows."""
        dataset = (self.cfg.get('train_dataloader') or {}).get('dataset', {})
        for step in dataset.get('pipeline', ()):
            if str(step.get('type')).split('.')[-1] == 'ReadViews':
                return parse_views(step.get('views'))[LOCAL].scale or 1.0
        return 1.0

    def _work(self, counts: int) -> Work:
        """Return what the model does."""
        wrapper = None
        if self.mode == 'train' and 'optim_wrapper' in self.cfg:
            wrapper = dict(self.cfg.optim_wrapper, accumulative_counts=counts)
        return Work(self.mode, self.precision, wrapper, self._channels)

    def _build(self, savings: Savings) -> nn.Module:
        """Build the model without values."""
        cfg = savings.apply(self._model_cfg)
        with WithoutValues():
            model = MODELS.build(ConfigDict(cfg, pretrained=None))
            return revert_sync_batchnorm(model)


_DEFAULTS = StreamSettings((1, 1), (1, 1))


def _precision(cfg: Config, mode: str) -> str:
    """Read the precision of training."""
    wrapper = cfg.get('optim_wrapper') or {}
    if mode != 'train' or wrapper.get('type') != 'AmpOptimWrapper':
        return 'fp32'
    return 'bf16' if wrapper.get('dtype') == 'bfloat16' else 'fp16'


def _plan_on_fakes(
    model: nn.Module, size: tuple[int, int], batch_size: int, work: Work
) -> MemoryPlan:
    """Plan a batch; raise what the model raises."""
    with faked(model) as double:
        found = try_step(double, size, batch_size, work)
    return describe(found, size, batch_size, work)


def config_lines(changes: dict[str, Any]) -> list[str]:
    """Write changes as the lines of a config.

    Args:
        changes (dict): Of :class:`Planned`.

    Returns:
        list[str]: To paste; empty if nothing changes.
    """
    return Config(changes).pretty_text.strip().splitlines()


def sweep(
    planner: Planner,
    sizes: list[tuple[int, int]],
    batches: list[int],
    report: Callable[[MemoryPlan], None] = lambda plan: None,
) -> dict[tuple[int, int], dict[int, int]]:
    """Plan all sizes with all batches.

    Args:
        planner (Planner): For a config.
        sizes (list[tuple[int]]): ``(h, w)`` of windows, pixels.
        batches (list[int]): Windows.
        report (Callable): Told of each plan as it is made.

    Returns:
        dict: Bytes by size and batch; those that the model cannot run are
        missing.
    """
    found: dict[tuple[int, int], dict[int, int]] = {}
    for size in sizes:
        row = found.setdefault(size, {})
        for batch in batches:
            try:
                plan = planner.plan(size, batch)
            except ValueError:
                continue
            report(plan)
            row[batch] = plan.total
    return found
