"""MuJoCo pictures off screen with everything behind them: colour, metric depth, surface numbers and the true camera."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from .. import errors
from .truth import Camera, Moment, Poses

INSTALL = "on Debian and Ubuntu: apt-get install --no-install-recommends libegl1 libgl1-mesa-dri"
LARGEST = 20_000  # things that one picture may show

_open: weakref.WeakSet[Scene] = weakref.WeakSet()


@dataclass(frozen=True, eq=False)
class View:
    """One picture: rgb uint8 (H, W, 3), depth float32 (H, W) m, geom int32 (H, W), camera.

    Depth 0 and geom -1 stand for nothing there; geom is also -1 on what is no geom of the model, such as a skin or an
    ornament. depth and geom are None where only colour was asked for.
    """

    rgb: np.ndarray
    depth: np.ndarray | None
    geom: np.ndarray | None
    camera: Camera

    def moment(self, poses: Poses) -> Moment:
        """The view as `truth.flow` takes it."""
        assert self.depth is not None and self.geom is not None, "the view was taken with dense=False"
        return Moment(self.depth, self.geom, self.camera, poses)


@dataclass(frozen=True, kw_only=True)
class Ornament:
    """A thing that is drawn and no more: the simulator does not know it, so nothing can touch it.

    shape   an mjtGeom; size: three numbers in m, as a geom of this shape has them
    place   its centre in the world, m; turn: its angle about the vertical, radians
    colour  red, green, blue in [0, 1]
    """

    shape: int
    size: tuple[float, float, float]
    place: tuple[float, float, float]
    turn: float
    colour: tuple[float, float, float]


class Scene:
    """Pictures of `model`, an mjModel, of `size` (H, W) or one number.

    Its shadow map, smoothing and mirror images are switched off in the model: shadows and mirror images do not move
    with a surface, and a smoothed edge shows two. Sites are not drawn. `turned` cameras hang upside down in the model:
    their pictures are turned by 180 degrees and their poses rolled with them, so they are ordinary right-handed
    cameras. `ornaments` are drawn among the model's geoms.
    """

    ornaments: tuple[Ornament, ...] = ()

    def __init__(self, model: Any, size: int | tuple[int, int], turned: Collection[str] = ("corner2",)) -> None:
        """Errors: OSError, one sentence, where this machine cannot draw that; ImportError without mujoco."""
        self.size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        height, width = self.size
        if height < 1 or width < 1:
            raise ValueError(f"a picture of size {self.size}; possible: at least 1 by 1")
        self._context, self._drawing = None, None
        self._context = _gl_context(width, height)
        import mujoco

        self.model, self.turned = model, frozenset(turned)
        model.vis.quality.shadowsize = 0
        model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, height)
        self._scene = mujoco.MjvScene(model, maxgeom=LARGEST)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._option, self._rect = mujoco.MjvOption(), mujoco.MjrRect(0, 0, width, height)
        self._option.sitegroup[:] = 0  # marks are no things: a drawn goal would show the policy where it is
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._context.make_current()
        try:
            self._drawing = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except mujoco.FatalError as error:
            raise OSError(f"pictures of {height} x {width} cannot be drawn ({error}); possible: smaller") from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawing)
        self._drawing.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        _close_at_exit()
        _open.add(self)

    def view(self, data: Any, camera: str, dense: bool = True) -> View:
        """What `camera` sees of `data`, an mjData whose kinematics are up to date; only colour where not `dense`.

        Errors: ValueError for a camera that the model lacks.
        """
        import mujoco

        if self._context is None or self._drawing is None:
            raise ValueError("this scene is closed")
        self._camera.fixedcamid = self._number(camera)
        mujoco.mjv_updateScene(
            self.model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        for ornament in self.ornaments:
            self._add(ornament)
        self._context.make_current()
        colour, depth, geom = np.empty((*self.size, 3), np.uint8), None, None
        mujoco.mjr_render(self._rect, self._scene, self._drawing)
        mujoco.mjr_readPixels(colour, None, self._rect, self._drawing)
        if dense:
            depth, geom = self._behind()
        # OpenGL's first row is the lowest one; turned by 180 degrees it is the first, from right to left.
        order = np.s_[:, ::-1] if camera in self.turned else np.s_[::-1]
        colour, depth, geom = (p if p is None else np.ascontiguousarray(p[order]) for p in (colour, depth, geom))
        return View(colour, depth, geom, self.camera(data, camera))

    def camera(self, data: Any, name: str) -> Camera:
        """The camera as it stands in `data`."""
        number = self._number(name)
        height, width = self.size
        focal = height / 2 / np.tan(np.deg2rad(self.model.cam_fovy[number]) / 2)
        pose = np.eye(4)
        roll = -1 if name in self.turned else 1
        # MuJoCo's cameras look along -z with y up.
        pose[:3, :3] = data.cam_xmat[number].reshape(3, 3) * (roll, -roll, -1)
        pose[:3, 3] = data.cam_xpos[number]
        return Camera(np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]), pose, self.size)

    def poses(self, data: Any) -> Poses:
        """Poses of the model's geoms as they stand in `data`."""
        return Poses(data.geom_xpos.copy(), data.geom_xmat.reshape(-1, 3, 3).copy())

    def close(self) -> None:
        """Give back what the graphics hold; the scene draws no more. Twice is harmless."""
        if self._context is None:
            return
        if self._drawing is not None:
            self._context.make_current()
            self._drawing.free()
        self._context.free()
        self._context, self._drawing = None, None
        _open.discard(self)

    def __del__(self) -> None:
        # Without `_context` the first line of __init__ failed.
        if not sys.is_finalizing() and getattr(self, "_context", None) is not None:
            self.close()

    def _add(self, ornament: Ornament) -> None:
        import mujoco

        thing, cos, sin = self._scene.geoms[self._scene.ngeom], np.cos(ornament.turn), np.sin(ornament.turn)
        upright = np.array([cos, -sin, 0, sin, cos, 0, 0, 0, 1])
        colour = np.array([*ornament.colour, 1], np.float32)
        mujoco.mjv_initGeom(thing, ornament.shape, np.array(ornament.size), np.array(ornament.place), upright, colour)
        thing.segid = self._scene.ngeom  # without a number it would hide nothing in the depth
        self._scene.ngeom += 1

    def _number(self, camera: str) -> int:
        import mujoco

        number = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        if number < 0:
            raise errors.unknown("camera", camera, [self.model.camera(i).name for i in range(self.model.ncam)])
        return number

    def _behind(self) -> tuple[np.ndarray, np.ndarray]:
        """Depth (H, W) m and surface numbers (H, W) of the scene as it stands, the lowest row first."""
        import mujoco

        flags = self._scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = True
        colour, buffer = np.empty((*self.size, 3), np.uint8), np.empty(self.size, np.float32)
        mujoco.mjr_render(self._rect, self._scene, self._drawing)
        mujoco.mjr_readPixels(colour, buffer, self._rect, self._drawing)
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = False
        number = colour.astype(np.int32) @ np.array([1, 256, 65536], np.int32)
        near = np.float32(self.model.vis.map.znear * self.model.stat.extent)
        far = np.float32(self.model.vis.map.zfar * self.model.stat.extent)
        # The buffer is near (far / z - 1) / (far - near), 0 at the far plane.
        depth = np.float64(far) * near / (buffer.astype(np.float64) * (far - near) + near)
        return np.where(number > 0, depth, 0).astype(np.float32), self._numbers()[number]

    def _numbers(self) -> np.ndarray:
        """What a drawn number means: (things + 1,) int32, a geom or -1."""
        import mujoco

        numbers = np.full(self._scene.ngeom + 1, -1, np.int32)
        for thing in self._scene.geoms[: self._scene.ngeom]:
            if thing.segid >= 0 and thing.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                numbers[thing.segid + 1] = thing.objid
        return numbers


def import_simulator() -> Any:
    """The module mujoco, told to draw off screen. Errors: ImportError without it; OSError where it finds no OpenGL."""
    if sys.platform.startswith("linux"):
        # MuJoCo reads it at import and asks for a window otherwise.
        os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import mujoco
    except ModuleNotFoundError:
        raise errors.missing("mujoco", "sim") from None
    except Exception as error:
        raise OSError(_cannot(error)) from error
    return mujoco


def _gl_context(width: int, height: int) -> Any:
    """An OpenGL context without a window."""
    context = import_simulator().gl_context.GLContext
    try:
        if os.environ.get("MUJOCO_GL", "").lower() == "egl":
            from mujoco.egl import GLContext as context

            # Its destructor reads this, also where the display did not open, and would complain a second time.
            context._context = None
        return context(width, height)
    except Exception as error:
        raise OSError(_cannot(error)) from error


def _cannot(error: Exception) -> str:
    return f"this machine cannot draw off screen ({type(error).__name__}: {error}); {INSTALL}"


@cache
def _close_at_exit() -> None:
    """Once, and after a display opened: so it runs before the display closes, and prints nothing."""
    atexit.register(lambda: [scene.close() for scene in list(_open)])
