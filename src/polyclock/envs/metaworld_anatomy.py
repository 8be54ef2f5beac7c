"""What the geoms of a tabletop scene are: instances, classes, the parts of the surface map, the joints of the skeleton.

The surface map is the robot's counterpart of DensePose, and named surface: each pixel of the arm and of the objects
tells its part (one for each body) and where on the part it lies, in two coordinates over the part's box: u runs along
the longest side of the box that holds the body's drawn geoms, v along the second longest, both from 0 to 1, in the
body's own frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .metaworld_tables import (
    CLASSES,
    JOINTS,
    LIMBS,
    PARTS,
    SHOWN_BY,
    class_of,
    instance_of,
    part_of,
)
from .recording import Anatomy

DRAWN = (0, 1, 2)  # groups that are drawn; the others hold shapes for collisions only


def anatomy(model: Any) -> Anatomy:
    """The anatomy of a model; its G surfaces are its geoms."""
    bodies = [body_name(model, int(body)) for body in model.geom_bodyid]
    drawn = np.isin(model.geom_group, DRAWN) & (_alpha(model) > 0)
    classes = {name: number for number, name in CLASSES.items()}
    part = np.array([part_of(body) for body in bodies])
    return Anatomy(
        instance=np.array([instance_of(body) for body in bodies]),
        label=np.array([classes[class_of(body)] for body in bodies]),
        classes=CLASSES,
        parts={0: "none"} | dict(enumerate(PARTS, 1)),
        surface=_chart(model, drawn, part),
        mapped=(part > 0) & drawn,
        joints=tuple(JOINTS),
        limbs=LIMBS,
        owners=_owners(model, drawn),
    )


def joints(model: Any, data: Any) -> np.ndarray:
    """(K, 3) m: where the joints of the skeleton are in the world."""
    return np.stack([data.xpos[model.body(body).id] for body in JOINTS.values()])


def body_name(model: Any, body: int) -> str:
    """The name of a body, or of the nearest one above it that has one; "object" where that is the world."""
    first = body
    while body and not model.body(body).name:
        body = int(model.body_parentid[body])
    return model.body(body).name if body or not first else "object"


def _alpha(model: Any) -> np.ndarray:
    """(geoms,) each geom's alpha times its material's, where it has one: 0 where either makes it invisible."""
    plain = model.geom_rgba[:, 3]
    if not model.nmat:
        return plain
    material = model.geom_matid
    return np.where(material >= 0, model.mat_rgba[material, 3] * plain, plain)


def _owners(model: Any, drawn: np.ndarray) -> np.ndarray:
    """(K, G): a joint is shown by its body and the body it hangs on, or by those that the table names."""
    found = np.zeros((len(JOINTS), model.ngeom), bool)
    for k, (joint, body) in enumerate(JOINTS.items()):
        above = model.body(model.body_parentid[model.body(body).id]).name
        names = SHOWN_BY.get(joint, (body, above))
        bodies = [model.body(name).id for name in names]
        found[k] = np.isin(model.geom_bodyid, bodies) & drawn
    return found


def _chart(model: Any, drawn: np.ndarray, part: np.ndarray) -> Any:
    """The function (geom (n,), local (n, 3)) -> part, u, v of an anatomy."""
    rotation, corners = _into_bodies(model)
    low = np.zeros((model.ngeom, 3))
    side = np.ones((model.ngeom, 3))
    axes = np.zeros((model.ngeom, 2), int)
    for body in np.unique(model.geom_bodyid[drawn]):
        geoms = np.flatnonzero((model.geom_bodyid == body) & drawn)
        points = corners[geoms].reshape(-1, 3)
        box = np.ptp(points, axis=0)
        low[geoms], side[geoms] = points.min(0), np.maximum(box, 1e-6)
        axes[geoms] = np.argsort(-box, kind="stable")[:2]

    def surface(geom: np.ndarray, local: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        points = np.einsum("nij,nj->ni", rotation[geom], local) + model.geom_pos[geom]
        share = np.clip((points - low[geom]) / side[geom], 0, 1)
        u, v = np.take_along_axis(share, axes[geom], 1).T
        return part[geom], u, v

    return surface


def _into_bodies(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (geoms, 3, 3) geom to body, and the corners (geoms, 8, 3) of each geom's box in its body's frame."""
    import mujoco

    rotation = np.empty((model.ngeom, 9))
    for geom in range(model.ngeom):
        mujoco.mju_quat2Mat(rotation[geom], model.geom_quat[geom])
    rotation = rotation.reshape(-1, 3, 3)
    signs = np.stack(np.meshgrid(*[(-1, 1)] * 3, indexing="ij"), -1).reshape(8, 3)
    local = model.geom_aabb[:, None, :3] + signs * model.geom_aabb[:, None, 3:]
    return rotation, np.einsum("gij,gkj->gki", rotation, local) + model.geom_pos[:, None]
