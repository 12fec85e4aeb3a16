"""Time and memory of stream mode against its own windows and stock slide.

Three ways through the same windows of one random image, in turns:
`model` is `encode_decode` on windows that lie in memory, the floor;
`stream` reads, preprocesses, predicts, blends and arg-maxes;
`slide` is what stock mmseg does with a decoded image.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

import mmseg_uhr  # noqa: F401  registers the types that configs name
from mmseg_uhr.memory.meter import Meter
from mmseg_uhr.rasters import GeoTIFFWriter, open_raster
from mmseg_uhr.streaming import StreamSettings


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config')
    parser.add_argument('--sizes', type=int, nargs='+', default=[2048, 4096])
    parser.add_argument('--crop', type=int, default=512)
    parser.add_argument('--stride', type=int, default=341)
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument(
        '--slide-up-to',
        type=int,
        default=4096,
        help='largest side at which stock slide is run, pixels',
    )
    parser.add_argument('--device', default=get_device())
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args()


def write_scene(path: Path, side: int) -> None:
    """Write a tiled GeoTIFF of smooth noise, 256 rows at a time."""
    rng = np.random.default_rng(0)
    with GeoTIFFWriter(path, (side, side), bands=3) as writer:
        for y in range(0, side, 256):
            coarse = rng.integers(0, 250, (64, side // 4, 3), np.uint8)
            rows = coarse.repeat(4, 0).repeat(4, 1)[: side - y]
            writer.write_rows(y, rows + rng.integers(0, 5, 1, np.uint8))


@torch.no_grad()
def run_model(model: torch.nn.Module, scene: Path) -> None:
    """Predict the windows with nothing around it."""
    raster = open_raster(scene)
    settings = StreamSettings.from_test_cfg(model.test_cfg)
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


def run_stream(model: torch.nn.Module, scene: Path) -> Meter:
    """Segment the file by streaming."""
    with Meter() as meter:
        model.test_step(dict(inputs=[open_raster(scene)]))
    return meter


@torch.no_grad()
def run_slide(model: torch.nn.Module, scene: Path) -> Meter:
    """Segment the file as stock does."""
    test_cfg = model.test_cfg
    model.test_cfg = ConfigDict(test_cfg, mode='slide')
    with Meter() as meter:
        model.test_step(dict(inputs=[open_raster(scene)]))
    model.test_cfg = test_cfg
    return meter


def main() -> None:
    """Run the benchmark and print a table."""
    args = parse_args()
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    cfg.model.test_cfg = dict(
        mode='stream',
        crop_size=(args.crop,) * 2,
        stride=(args.stride,) * 2,
        batch_size=args.batch_size,
    )
    if cfg.model.type == 'EncoderDecoder':
        cfg.model.type = 'mmseg_uhr.UHREncoderDecoder'
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model).to(args.device).eval()
    ways = dict(model=run_model, stream=run_stream, slide=run_slide)
    print(
        f'{args.config}, windows {args.crop}/{args.stride}, batch '
        f'{args.batch_size}, {args.device}, {torch.get_num_threads()} threads'
    )
    print('side    way     seconds  CPU s  / model  extra MiB  device MiB')
    with tempfile.TemporaryDirectory() as folder:
        for side in args.sizes:
            scene = Path(folder) / f'{side}.tif'
            write_scene(scene, side)
            chosen = [
                name
                for name in ways
                if name != 'slide' or side <= args.slide_up_to
            ]
            rounds = [
                {name: ways[name](model, scene) for name in chosen}
                for _ in range(args.rounds)
            ]
            for name in chosen:
                meters = [r[name] for r in rounds]
                ratio = median(
                    r[name].seconds / r['model'].seconds for r in rounds
                )
                print(
                    f'{side:<7} {name:7} '
                    f'{median(m.seconds for m in meters):7.1f} '
                    f'{median(m.cpu_seconds for m in meters):6.1f} '
                    f'{ratio:8.2f} '
                    f'{median(m.host_mib for m in meters):10.0f} '
                    f'{median(m.device_mib for m in meters):11.0f}',
                    flush=True,
                )


if __name__ == '__main__':
    main()
