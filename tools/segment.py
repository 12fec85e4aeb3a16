"""Segment scenes of any size into georeferenced, paletted maps.

What `mmseg-uhr-segment` does, which the package installs; see there:
mmseg_uhr/apis/segment_command.py.
"""

from mmseg_uhr.apis.segment_command import main

if __name__ == '__main__':
    main()
