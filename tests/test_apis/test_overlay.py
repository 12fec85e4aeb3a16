"""Pictures of maps over their scenes."""

import cv2
import numpy as np
import pytest

from mmseg_uhr.apis import write_overlay
from mmseg_uhr.rasters import GeoTIFFWriter, as_raster

PALETTE = [[200, 0, 0], [0, 200, 0]]


@pytest.fixture
def labels(tmp_path):
    """A map: no data, class 0, class 1."""
    ids = np.repeat(np.array([[255, 0, 1]], np.uint8), 20, axis=1)
    path = tmp_path / 'map.tif'
    with GeoTIFFWriter(path, (8, 60), nodata=255, categorical=True) as writer:
        writer.write_rows(0, np.repeat(ids, 8, axis=0))
    return path


def test_pixels_without_data_belong_to_no_class(labels, tmp_path):
    scene = np.full((8, 60, 3), (10, 20, 30), np.uint8)
    path = tmp_path / 'new' / 'map.png'
    write_overlay(path, as_raster(scene), labels, PALETTE, max_side=30)
    picture = cv2.imread(str(path))
    assert picture.shape == (4, 30, 3)
    found = picture[0, [5, 15, 25]].tolist()
    assert found == [[69, 74, 79], [5, 10, 115], [5, 110, 15]]


@pytest.mark.parametrize('bands', [1, 3, 4])
@pytest.mark.parametrize('dtype', ['uint16', 'float32'])
def test_scenes_of_other_types(labels, tmp_path, dtype, bands):
    ramp = np.linspace(0, 3000, 60, dtype=dtype)
    scene = np.broadcast_to(ramp[None, :, None], (8, 60, bands))
    path = tmp_path / 'map.png'
    write_overlay(path, as_raster(scene), labels, PALETTE, opacity=0)
    picture = cv2.imread(str(path))
    assert (picture[:, 0] == 0).all()
    assert (picture[:, -1] == 255).all()
