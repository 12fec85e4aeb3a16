"""The planned memory that the tables of configs/*/README.md tell."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmseg_uhr.planning import Planner

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
# (H, W) of the scenes to predict, by what configs are named after.
SCENES = dict(
    deepglobe=(2448, 2448),
    inria=(5000, 5000),
    cityscapes=(1024, 2048),
    urur=(5120, 5120),
    bluemarble=(2430, 1080),
)


def planned_rows():
    """Yield config, name of a column and what stands there."""
    for readme in sorted(CONFIGS.glob('*/README.md')):
        columns = []
        for line in readme.read_text().splitlines():
            cells = [cell.strip(' `') for cell in line.strip('|').split('|')]
            if cells[0] == 'config':
                columns = cells
            elif columns and cells[0].endswith('.py'):
                row = dict(zip(columns, cells, strict=True))
                for column in ('train, GiB', 'predict, GiB'):
                    # Stripes of a whole image are in no plan.
                    if column in row and 'stripes' not in line:
                        yield (
                            readme.parent / row['config'],
                            column,
                            row[column],
                        )


ROWS = list(planned_rows())


@pytest.mark.parametrize(
    'path, column, told',
    [
        pytest.param(
            *row,
            id=f'{row[0].stem}-{row[1].split(",")[0]}',
            marks=() if '-w16_5min' in row[0].stem else pytest.mark.slow,
        )
        for row in ROWS
    ],
)
def test_planned_memory(path, column, told):
    scene = next(size for name, size in SCENES.items() if name in path.stem)
    if column.startswith('train'):
        planner = Planner(Config.fromfile(path), 'train')
    else:
        planner = Planner(Config.fromfile(path), image_size=scene)
    found = planner.as_configured().device_bytes / 2**30
    assert f'{found:.1f}' == told or f'{found:.2f}' == told


def test_all_methods_are_told():
    assert {path.parent.name for path, *_ in ROWS} >= {
        folder.parent.name for folder in CONFIGS.glob('[!_]*/metafile.yaml')
    }
