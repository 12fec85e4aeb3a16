import numpy as np

from mmseg_uhr.visualization import IGNORE_COLOUR, colour_labels, fit_size


def test_labels_take_their_colours():
    labels = np.array([[0, 1], [255, 2]], np.uint8)
    coloured = colour_labels(labels, [(1, 2, 3), (4, 5, 6)])
    assert coloured.tolist() == [
        [[1, 2, 3], [4, 5, 6]],
        [list(IGNORE_COLOUR), list(IGNORE_COLOUR)],
    ]


def test_colours_without_a_palette_differ():
    labels = np.arange(150, dtype=np.int16)[None]
    assert len(np.unique(colour_labels(labels)[0], axis=0)) == 150


def test_fit_size():
    assert fit_size((5000, 10000), 1000) == (500, 1000)
    assert fit_size((50, 100), 1000) == (50, 100)
    assert fit_size((1, 10000), 100) == (1, 100)
