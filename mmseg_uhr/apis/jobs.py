"""The map of one scene: its parts, its files, and what is made of them."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from ..rasters import Raster
from ..rasters.polygons import write_polygons
from ..streaming.parts import PartStore
from .identity import digest_of
from .maps import MapStyle, layer_path, map_digest, write_maps
from .overlay import write_overlay
from .scenes import Scene


@dataclass
class MapJob:
    """The map of one scene, from missing parts to finished files.

    Args:
        scene (Scene): With the file to write.
        store (PartStore): The parts.
        style (MapStyle): Names and colours.
        overlay (Path, optional): Picture to write.
        polygons (Path, optional): File of polygons to write.
        missing (list[tuple[int]], optional): Rows to segment; None if the map
            is finished already.
    """

    scene: Scene
    store: PartStore
    style: MapStyle
    overlay: Path | None = None
    polygons: Path | None = None
    missing: list[tuple[int, int]] | None = field(default_factory=list)

    @property
    def pixels(self) -> int:
        """int: Of the scene."""
        return self.store.shape[0] * self.store.shape[1]

    @property
    def pixels_missing(self) -> int:
        """int: Of the rows to segment."""
        rows = sum(stop - start for start, stop in self.missing or [])
        return rows * self.store.shape[1]

    def prepare(self, resume: bool, overwrite: bool) -> None:
        """Find out what is missing; one process does that.

        Args:
            resume (bool): Whether to take what an earlier run has left.
            overwrite (bool): Whether to throw it away.

        Raises:
            RasterError: If there are parts and neither is asked for, or if
                they belong to another run.
        """
        if resume and self._is_written():
            self.missing = None
            return
        self.store.open(resume, overwrite)
        self.missing = self.store.missing()

    def finish(self, raster: Raster, nodata: int | None) -> None:
        """Write the files; all parts must be there.

        Args:
            raster (Raster): The scene.
            nodata (int, optional): Class id of pixels without data.

        Raises:
            RasterError: If a file cannot be written.
        """
        out = self.scene.out
        if self.missing is not None:
            style = replace(self.style, nodata=nodata)
            digest = digest_of(self.store.identity)
            write_maps(self.store, out, raster.georef, style, digest)
        if self.overlay is not None and self._is_stale(self.overlay):
            write_overlay(self.overlay, raster, out, self.style.palette)
        if self.polygons is not None and self._is_stale(self.polygons):
            ignored = () if nodata is None else (nodata,)
            write_polygons(out, self.polygons, self.style.classes, ignored)
        if self.store.folder.exists():
            self.store.remove()

    def _is_written(self) -> bool:
        """Tell whether the maps of this very run are there."""
        out = self.scene.out
        return map_digest(out) == digest_of(self.store.identity) and all(
            layer_path(out, name).exists() for name in self.store.layers
        )

    def _is_stale(self, path: Path) -> bool:
        """Tell whether a file made of the map has to be made."""
        made = path.stat().st_mtime_ns if path.exists() else 0
        return made < self.scene.out.stat().st_mtime_ns
