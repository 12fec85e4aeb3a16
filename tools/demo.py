"""Train two networks on the real Earth for equal time, and map it whole.

Builds the Blue Marble land-cover data, trains a CPU-sized HGN and a narrow
stock DeepLabV3+ for the same time, tests both on a scene that
neither has seen, fits a per-pixel logistic regression to compare with, maps
the whole 5400 x 2700 Earth, and writes the scores and pictures.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.device import get_device

from mmseg_uhr.datasets import BlueMarbleDataset
from mmseg_uhr.evaluation import confusion_matrix
from mmseg_uhr.rasters import Raster, open_raster
from mmseg_uhr.visualization import colour_labels

ROOT = Path(__file__).resolve().parent.parent
MODELS = {
    'HGN': 'configs/hgn/hgn_r18-w16_5min_bluemarble-192x192.py',
    'DeepLabV3+ (stock)': (
        'configs/baselines/deeplabv3plus_r18-w16-d8_5min_bluemarble-192x192.py'
    ),
}
# A map to look at: windows that overlap by a third and blend hide the seams.
WORLD_OPTIONS = (
    'model.test_cfg.stride=(810,720)',
    'model.test_cfg.blend=gaussian',
)
TRAIN_SCENES, TEST_SCENE = 'ABD', 'C'
# Western Europe and the Mediterranean in the test scene: (y, x, h, w).
CLOSE_UP = (560, 380, 420, 560)


def run(*command: str) -> None:
    """Run one of the project's tools; its failure ends the demo."""
    print('\n$ python', *command, flush=True)
    done = subprocess.run([sys.executable, *command], cwd=ROOT)
    if done.returncode:
        sys.exit(f'demo.py: `python {" ".join(command)}` failed, see above')


def newest(folder: Path, pattern: str) -> Path:
    """Return the file that was written last."""
    return max(folder.glob(pattern), key=lambda path: path.stat().st_mtime)


def train_and_test(config: str, work_dir: Path, minutes: float) -> Path:
    """Train for a time with the standard tools, then test.

    Returns:
        Path: The checkpoint; the scores lie beside it.
    """
    options = ['--work-dir', str(work_dir)]
    run(
        'tools/train.py',
        config,
        *options,
        '--cfg-options',
        f'custom_hooks.0.minutes={minutes}',
    )
    checkpoint = Path((work_dir / 'last_checkpoint').read_text().strip())
    run('tools/test.py', config, str(checkpoint), *options)
    return checkpoint


def features(pixels: np.ndarray) -> torch.Tensor:
    """Return colour and its quadratic terms, shape (n, 9)."""
    rgb = torch.from_numpy(pixels.reshape(-1, 3)).float() / 255
    products = [rgb[:, i] * rgb[:, j] for i in range(3) for j in range(i, 3)]
    return torch.cat([rgb, torch.stack(products, 1)], 1)


def logistic_regression(data: Path) -> float:
    """Fit classes to the colours of single pixels.

    Returns:
        float: mIoU on the test scene, percent.
    """
    classes = len(BlueMarbleDataset.METAINFO['classes'])
    generator = torch.Generator().manual_seed(0)
    samples = []
    for path in sorted((data / 'img_dir/train').glob('*.tif')):
        labels = open_raster(data / 'ann_dir/train' / path.name).read()
        x = features(open_raster(path).read())
        y = torch.from_numpy(labels.reshape(-1)).long()
        chosen = torch.randperm(len(y), generator=generator)[:200_000]
        samples.append((x[chosen], y[chosen]))
    x, y = (torch.cat(parts) for parts in zip(*samples, strict=True))
    mean, std = x.mean(0), x.std(0)
    x = (x - mean) / std
    layer = torch.nn.Linear(x.shape[1], classes)
    torch.nn.init.zeros_(layer.weight)
    optimiser = torch.optim.LBFGS(
        layer.parameters(), max_iter=150, line_search_fn='strong_wolfe'
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(layer(x), y, ignore_index=255)
        loss.backward()
        return loss

    optimiser.step(closure)
    matrix = np.zeros((classes, classes), np.int64)
    for path in (data / 'img_dir/test').glob('*.tif'):
        labels = open_raster(data / 'ann_dir/test' / path.name).read()[..., 0]
        test = (features(open_raster(path).read()) - mean) / std
        with torch.no_grad():
            found = layer(test).argmax(1).reshape(labels.shape).byte()
        matrix += confusion_matrix(found.numpy(), labels, classes, 255)
    hits = matrix.diagonal()
    union = matrix.sum(0) + matrix.sum(1) - hits
    return float(100 * np.mean(hits / union))


def caption(picture: np.ndarray, text: str) -> np.ndarray:
    """Put a line of text above a BGR picture."""
    bar = np.full((28, picture.shape[1], 3), 255, np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(bar, text, (4, 20), font, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([bar, picture])


def draw(labels: Raster, window: tuple | None, size: tuple) -> np.ndarray:
    """Colour a part of a label map, BGR."""
    ids = labels.read(window, size, 'nearest')[..., 0]
    palette = BlueMarbleDataset.METAINFO['palette']
    return np.ascontiguousarray(colour_labels(ids, palette)[..., ::-1])


def write_picture(
    path: Path, data: Path, world_map: Path, scene_maps: dict[str, Path]
) -> None:
    """Draw the Earth with its map, and a close-up of the test scene."""
    half = (470, 940)
    image, labels = (open_raster(p) for p in (data / 'world.tif', world_map))
    top = np.hstack(
        [
            caption(
                cv2.cvtColor(image.read(size=half), cv2.COLOR_RGB2BGR),
                'Blue Marble, 5400 x 2700',
            ),
            caption(draw(labels, None, half), 'HGN, streamed'),
        ]
    )
    name = f'bmng_{TEST_SCENE}.tif'
    size = (round(470 * CLOSE_UP[2] / CLOSE_UP[3]), 470)
    scene = open_raster(data / 'img_dir/test' / name)
    panels = [
        caption(
            cv2.cvtColor(scene.read(CLOSE_UP, size), cv2.COLOR_RGB2BGR),
            'test scene, close-up',
        )
    ]
    truth = {'labels': data / 'ann_dir/test' / name}
    panels += [
        caption(draw(open_raster(file), CLOSE_UP, size), title)
        for title, file in {**truth, **scene_maps}.items()
    ]
    cv2.imwrite(
        str(path),
        np.vstack([top, np.hstack(panels)]),
        [cv2.IMWRITE_JPEG_QUALITY, 88],
    )


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--minutes', type=float, default=5, help='per model')
    parser.add_argument('--data', type=Path, default=Path('data/bluemarble'))
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo'))
    args = parser.parse_args()
    run('tools/dataset_converters/bluemarble.py', '--out', str(args.data))
    data, out = ROOT / args.data, ROOT / args.out
    rows, scene_maps = [], {}
    for name, config in MODELS.items():
        work_dir = out / Path(config).stem
        checkpoint = train_and_test(config, work_dir, args.minutes)
        scores = json.loads(newest(work_dir, '*/*.json').read_text())
        model = [config, str(checkpoint)]
        scene = str(data / f'img_dir/test/bmng_{TEST_SCENE}.tif')
        scene_maps[name] = work_dir / 'test_scene.tif'
        run('tools/segment.py', *model, scene, '--out', str(scene_maps[name]))
        run(
            *('tools/segment.py', *model, str(data / 'world.tif')),
            *('--out', str(work_dir / 'world.tif')),
            *('--overlay', str(work_dir / 'world.png')),
            *('--report', str(work_dir / 'world.json')),
            *('--cfg-options', *WORLD_OPTIONS),
        )
        report = json.loads((work_dir / 'world.json').read_text())
        (world,) = report['scenes']
        rows.append(
            (
                name,
                f'{scores["mIoU"]:.1f}',
                f'{scores["aAcc"]:.1f}',
                f'{world["seconds_per_megapixel"]:.2f}',
                f'{report["device_mib"] or report["process_mib"]:.0f}',
            )
        )
    score = logistic_regression(data)
    rows.append(('logistic regression', f'{score:.1f}', '', '', ''))
    world_map = out / Path(MODELS['HGN']).stem / 'world.tif'
    write_picture(out / 'demo.jpg', data, world_map, scene_maps)
    table = [
        '| model | test mIoU | test aAcc | s/MP, whole Earth | peak MiB |',
        '|---|---|---|---|---|',
        *('| ' + ' | '.join(row) + ' |' for row in rows),
    ]
    text = '\n'.join(table) + '\n'
    (out / 'scores.md').write_text(text)
    print(
        f'\nTrained {args.minutes:g} minutes each on scenes '
        f'{", ".join(TRAIN_SCENES)}; tested on scene {TEST_SCENE}; '
        f'device {get_device()}\n\n{text}\n'
        f'{world_map}\n{out / "demo.jpg"}\n{out / "scores.md"}'
    )


if __name__ == '__main__':
    main()
