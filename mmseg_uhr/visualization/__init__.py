"""Pictures of images, labels and statistics."""

from .charts import write_class_chart
from .colours import IGNORE_COLOUR, as_rgb, colour_labels, fit_size
from .sheets import window_sheet

__all__ = [
    'IGNORE_COLOUR',
    'as_rgb',
    'colour_labels',
    'fit_size',
    'window_sheet',
    'write_class_chart',
]
