"""Time and memory of stream mode against other ways through the same windows.

Every run has a process of its own, so that peaks do not mix; rounds of all
ways take turns; the table has their medians. The ways:

- `model`: `encode_decode` on windows that lie in memory, the floor;
- `stream`: ours, from a file to rows of class ids;
- `slide`: stock mmseg on a decoded image;
- `strips`: the least that accumulates strips of a decoded image, below;
- `rs`: mmseg's `RSInferencer`, which writes a file, where `osgeo` imports;
- `monai`: MONAI's `sliding_window_inference` on a decoded image.

`--trivial` takes a convolution of one pixel for a network: then all that is
left is overhead. "same" is the share of pixels that get the class that
`stream` gives them; `RSInferencer` does not average overlapping windows.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from measuring.own_process import run_alone
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

import mmseg_uhr  # noqa: F401  registers the types that configs name
from mmseg_uhr.memory.meter import Meter
from mmseg_uhr.rasters import GeoTIFFWriter, open_raster
from mmseg_uhr.streaming import StreamSettings

# Rows of a scene or a map that are held at a time.
_STRIPE = 256
# What to import for a way, if it is not always there.
_NEEDS = dict(rs='osgeo', monai='monai')


@MODELS.register_module()
class PassOn(nn.Module):
    """A backbone that does nothing."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Return the images (N, C, H, W) as the only feature map."""
        return (x,)


TRIVIAL = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[127.5] * 3, std=[64.0] * 3
    ),
    backbone=dict(type='PassOn'),
    decode_head=dict(
        type='FCNHead',
        in_channels=3,
        in_index=0,
        channels=3,
        num_convs=0,
        concat_input=False,
        num_classes=7,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
        align_corners=False,
    ),
)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument('config', nargs='?', help='config of the network')
    model.add_argument('--trivial', action='store_true')
    parser.add_argument(
        '--sizes', type=int, nargs='+', help='sides of square scenes, pixels'
    )
    parser.add_argument(
        '--width', type=int, default=8000, help='of scenes by --megapixels'
    )
    parser.add_argument(
        '--megapixels', type=float, nargs='+', help='areas of scenes'
    )
    parser.add_argument('--crop', type=int, default=512)
    parser.add_argument('--stride', type=int, default=341)
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument(
        '--only', nargs='+', choices=WAYS, default=list(WAYS), metavar='WAY'
    )
    parser.add_argument(
        '--slide-up-to',
        type=float,
        default=17,
        help='megapixels of the largest scene that stock slide gets',
    )
    parser.add_argument('--device', default=get_device())
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    parser.add_argument('--json', type=Path, help='file for all the numbers')
    # How the tool calls itself for one run.
    parser.add_argument('--measure', nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not (args.sizes or args.megapixels):
        args.sizes = [2048, 4096]
    return args


def write_scene(path: Path, shape: tuple[int, int]) -> None:
    """Write a tiled GeoTIFF of smooth noise, some rows at a time."""
    rng = np.random.default_rng(0)
    height, width = shape
    with GeoTIFFWriter(path, shape, bands=3) as writer:
        for y in range(0, height, _STRIPE):
            coarse = rng.integers(
                0, 250, (_STRIPE // 4, -(-width // 4), 3), np.uint8
            )
            rows = coarse.repeat(4, 0).repeat(4, 1)[: height - y, :width]
            writer.write_rows(y, rows + rng.integers(0, 5, 1, np.uint8))


def build(args: argparse.Namespace, way: str) -> nn.Module:
    """Build the network, stock or ours, as the way needs it."""
    init_default_scope('mmseg')
    cfg = Config(dict(model=TRIVIAL))
    if args.config:
        cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    options = dict(
        crop_size=(args.crop,) * 2,
        stride=(args.stride,) * 2,
        batch_size=args.batch_size,
    )
    mode = dict(slide='slide', rs='whole').get(way, 'stream')
    cfg.model.test_cfg = ConfigDict(cfg.model.get('test_cfg') or {}, mode=mode)
    cfg.model.test_cfg.update(options)
    stock = way in ('slide', 'rs') and 'views' not in cfg.model
    cfg.model.type = (
        'EncoderDecoder' if stock else 'mmseg_uhr.UHREncoderDecoder'
    )
    cfg.model.pretrained = cfg.model.train_cfg = None
    cfg.test_pipeline = [
        dict(type='LoadImageFromNDArray'),
        dict(type='PackSegInputs'),
    ]
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.cfg = cfg
    model.to(args.device).eval()
    # Libraries load now, not while time and memory are measured.
    predict(model, [torch.zeros(3, 64, 64, dtype=torch.uint8)])
    return model


@torch.no_grad()
def predict(model: nn.Module, windows: list[Tensor]) -> Tensor:
    """Return the logits (n, C, h, w) of raw windows (3, h, w)."""
    samples = [SegDataSample() for _ in windows]
    inputs = model.data_preprocessor(
        dict(inputs=windows, data_samples=samples), False
    )['inputs']
    shape = inputs.shape[2:]
    meta = dict(img_shape=shape, pad_shape=shape, ori_shape=shape)
    return model.encode_decode(inputs, [dict(meta) for _ in windows])


def save(labels: Tensor, path: Path) -> None:
    """Write a label map (H, W) for comparison, as bytes."""
    labels.to(torch.uint8).cpu().numpy().tofile(path)


@torch.no_grad()
def run_model(
    model: nn.Module, settings: StreamSettings, scene: Path, out: Path
) -> Meter:
    """Predict the windows with nothing around it."""
    raster = open_raster(scene)
    plan = settings.plan(raster.shape)
    pixels = raster.read_tensor((0, 0, *plan.window_size))
    batch = torch.stack([pixels.float() / 255] * settings.batch_size)
    batch = batch.to(next(model.parameters()).device)
    shape = batch.shape[2:]
    meta = dict(img_shape=shape, pad_shape=shape, ori_shape=shape)
    with Meter() as meter:
        for start in range(0, len(plan), settings.batch_size):
            count = min(settings.batch_size, len(plan) - start)
            model.encode_decode(batch[:count], [dict(meta)] * count)
    return meter


def run_stream(
    model: nn.Module, settings: StreamSettings, scene: Path, out: Path
) -> Meter:
    """Stream the file, and write rows as they come."""
    with Meter() as meter, open(out, 'wb') as file:
        for rows in model.stream(scene):
            file.write(rows.labels.numpy())
    return meter


@torch.no_grad()
def run_slide(
    model: nn.Module, settings: StreamSettings, scene: Path, out: Path
) -> Meter:
    """Segment the file as stock does."""
    with Meter() as meter:
        image = open_raster(scene).read_tensor()
        samples = model.test_step(dict(inputs=[image]))
    save(samples[0].pred_sem_seg.data[0], out)
    return meter


def run_strips(
    model: nn.Module, settings: StreamSettings, scene: Path, out: Path
) -> Meter:
    """Add windows of a decoded image in strips of one window's height."""
    with Meter() as meter:
        image = open_raster(scene).read_tensor()
        plan = settings.plan(image.shape[1:])
        height, width = plan.window_size
        labels = torch.empty(plan.shape, dtype=torch.uint8)
        strip = None
        for y, after in zip(
            plan.rows, [*plan.rows[1:], plan.shape[0]], strict=True
        ):
            for first in range(0, len(plan.columns), settings.batch_size):
                columns = plan.columns[first : first + settings.batch_size]
                logits = predict(
                    model,
                    [image[:, y : y + height, x : x + width] for x in columns],
                )
                if strip is None:
                    size = logits.shape[1], height, plan.shape[1]
                    strip = logits.new_zeros(size)
                for x, one in zip(columns, logits, strict=True):
                    strip[:, :, x : x + width] += one
            done = after - y
            labels[y:after] = strip[:, :done].argmax(0)
            rest = strip[:, done:].clone()
            strip.zero_()
            strip[:, : height - done] = rest
    save(labels, out)
    return meter


def run_rs(
    model: nn.Module, settings: StreamSettings, scene: Path, out: Path
) -> Meter:
    """Segment the file by mmseg's inferencer for remote sensing."""
    from mmseg.apis import RSImage, RSInferencer

    found = out.with_suffix('.tif')
    with Meter() as meter:
        inferencer = RSInferencer.from_model(
            model,
            batch_size=settings.batch_size,
            device=next(model.parameters()).device,
        )
        inferencer.run(
            RSImage(str(scene)),
            settings.crop_size[::-1],
            settings.stride[::-1],
            str(found),
        )
    save(open_raster(found).read_tensor()[0], out)
    found.unlink()
    return meter


def run_monai(
    model: nn.Module, settings: StreamSettings, scene: Path, out: Path
) -> Meter:
    """Segment the decoded file by MONAI's sliding windows."""
    from monai.inferers import sliding_window_inference

    with Meter() as meter:
        image = open_raster(scene).read_tensor()[None].float()
        logits = sliding_window_inference(
            image,
            settings.crop_size,
            settings.batch_size,
            lambda windows: predict(model, list(windows)),
            # It truncates steps.
            overlap=[
                max(1 - (step + 0.5) / side, 0)
                for step, side in zip(
                    settings.stride, settings.crop_size, strict=True
                )
            ],
        )
        labels = logits[0].argmax(0)
    save(labels, out)
    return meter


WAYS: dict[str, Callable] = dict(
    model=run_model,
    stream=run_stream,
    strips=run_strips,
    rs=run_rs,
    monai=run_monai,
    slide=run_slide,
)


def measure(args: argparse.Namespace) -> None:
    """Run one way once, in this process, and write what it took."""
    way, scene, out = args.measure
    model = build(args, way)
    settings = StreamSettings(
        (args.crop,) * 2, (args.stride,) * 2, args.batch_size
    )
    meter = WAYS[way](model, settings, Path(scene), Path(out))
    fields = ('seconds', 'cpu_seconds', 'host_mib', 'device_mib')
    Path(f'{out}.json').write_text(
        json.dumps({name: getattr(meter, name) for name in fields})
    )


def call(way: str, scene: Path, out: Path) -> dict:
    """Run one way once, in a process of its own.

    Returns:
        dict: What was measured, or ``problem``.
    """
    if way in _NEEDS and importlib.util.find_spec(_NEEDS[way]) is None:
        return dict(problem=f'{_NEEDS[way]} is not installed')
    return run_alone(
        [*sys.argv, '--measure', way, scene, out], Path(f'{out}.json')
    )


def agreement(maps: dict[str, Path], way: str, width: int) -> float | None:
    """Return the share of pixels that get the class that streaming gives."""
    if not {way, 'stream'} <= {name for name in maps if maps[name].exists()}:
        return None
    ours, theirs = (
        np.memmap(maps[name], np.uint8, 'r').reshape(-1, width)
        for name in ('stream', way)
    )
    same = sum(
        int((ours[y : y + _STRIPE] == theirs[y : y + _STRIPE]).sum())
        for y in range(0, len(ours), _STRIPE)
    )
    return same / ours.size


def compare(
    args: argparse.Namespace, shape: tuple[int, int], folder: Path
) -> list[dict]:
    """Run all ways on one scene.

    Returns:
        list[dict]: For each way medians, all runs, or the problem it had.
    """
    scene = folder / f'{shape[0]}x{shape[1]}.tif'
    write_scene(scene, shape)
    megapixels = shape[0] * shape[1] / 1e6
    chosen = [
        way
        for way in args.only
        if way != 'slide' or megapixels <= args.slide_up_to
    ]
    maps = {way: folder / f'{way}.bin' for way in chosen}
    runs: dict[str, list[dict]] = {way: [] for way in chosen}
    for _ in range(args.rounds):
        for way in chosen:
            if not any('problem' in run for run in runs[way]):
                runs[way].append(call(way, scene, maps[way]))
    rows = []
    for way in chosen:
        row = dict(
            height=shape[0], width=shape[1], megapixels=megapixels, way=way
        )
        if 'problem' in runs[way][-1]:
            row.update(runs[way][-1])
        else:
            for name in runs[way][0]:
                row[name] = median(run[name] for run in runs[way])
            row.update(same=agreement(maps, way, shape[1]), runs=runs[way])
        rows.append(row)
    for path in (scene, *maps.values()):
        path.unlink(missing_ok=True)
    return rows


def show(rows: list[dict]) -> None:
    """Print lines of the table, those of one scene."""
    floor = {row['way']: row for row in rows}.get('model', {}).get('seconds')
    for row in rows:
        image = f'{row["height"]} x {row["width"]}'
        if 'problem' in row:
            print(f'| {image} | {row["way"]} | {row["problem"]} | | | | | | |')
            continue
        times = f'{row["seconds"] / floor:.2f}' if floor else ''
        same = '' if row['same'] is None else f'{100 * row["same"]:.3f} %'
        print(
            f'| {image} | {row["way"]} | {row["seconds"]:.1f} | '
            f'{row["cpu_seconds"]:.1f} | '
            f'{row["cpu_seconds"] / row["megapixels"]:.3f} | {times} | '
            f'{row["host_mib"]:.0f} | {row["device_mib"]:.0f} | {same} |',
            flush=True,
        )


def main() -> None:
    """Run the benchmark and print a table."""
    args = parse_args()
    if args.measure:
        measure(args)
        return
    shapes = [(side, side) for side in args.sizes or ()]
    shapes += [
        (round(area * 1e6 / args.width), args.width)
        for area in args.megapixels or ()
    ]
    print(
        f'{args.config or "one convolution of a pixel"}, windows {args.crop}/'
        f'{args.stride}, batch {args.batch_size}, {args.device}, '
        f'{torch.get_num_threads()} threads, median of {args.rounds}\n\n'
        '| pixels | way | s | CPU s | CPU s / MP | s / model | added MiB | '
        'device MiB | same |\n|---|---|---|---|---|---|---|---|---|',
        flush=True,
    )
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for shape in shapes:
            rows = compare(args, shape, Path(folder))
            show(rows)
            table += rows
            if args.json is not None:
                args.json.write_text(json.dumps(table, indent=1))


if __name__ == '__main__':
    main()
