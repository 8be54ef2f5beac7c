"""What the surfaces of a clip with people are: instances, classes, body parts, and what shows a keypoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .figure import JOINTS, LIMBS, PARTS, SIDES, Build, charts, keypoints, pieces, surface
from .posing import Posed
from .props import Prop
from .recording import Anatomy

PERSONS = 2  # at most in a clip; props are numbered behind them
CLASSES = {0: "background", 1: "person", 2: "ball", 3: "box", 4: "furniture"}
NUMBERS = {name: number for number, name in CLASSES.items()}
COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# The pieces round a joint that show it.
SHOWN_BY = {
    "nose": ("nose", "skull"),
    "eye": ("{side}_eye", "skull", "nose", "hair"),
    "ear": ("{side}_ear", "skull", "hair", "mane"),
    "shoulder": ("{side}_upper_arm", "shoulders", "breast"),
    "elbow": ("{side}_upper_arm", "{side}_forearm"),
    "wrist": ("{side}_forearm", "{side}_hand"),
    "hip": ("{side}_thigh", "hips", "belly"),
    "knee": ("{side}_thigh", "{side}_shin", "{side}_calf"),
    "ankle": ("{side}_shin", "{side}_calf", "{side}_foot"),
}


def anatomy_of(model: Any, builds: Sequence[Build], props: Sequence[Prop]) -> Anatomy:
    """The anatomy of a model with these people and props; names of classes, parts and joints are always the same."""
    names = [model.geom(g).name for g in range(model.ngeom)]
    instance, label = np.zeros(len(names), int), np.zeros(len(names), int)
    owners = np.zeros((PERSONS, len(JOINTS), len(names)), bool)
    under = np.zeros((PERSONS, len(JOINTS)))
    laid = {}
    for number, build in enumerate(builds):
        person = f"person{number + 1}"
        links, maps = {piece.name: piece.link for piece in pieces(build)}, charts(build)
        for g, name in enumerate(names):
            if name.startswith(f"{person}."):
                piece = name.removeprefix(f"{person}.")
                instance[g], label[g] = number + 1, NUMBERS["person"]
                laid[g] = (_rotation(model.geom_quat[g]), model.geom_pos[g].copy(), maps[links[piece]])
                owners[number, :, g] = [piece in shown_by(joint) for joint in JOINTS]
        under[number] = [deep for _, _, deep in keypoints(build)]
    for number, prop in enumerate(props):
        g = names.index(f"thing{number}")
        instance[g], label[g] = PERSONS + 1 + number, NUMBERS[prop.kind]
    for g, name in enumerate(names):
        if name.startswith("room."):
            label[g] = NUMBERS["furniture"]

    def chart(geom: np.ndarray, local: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        part, u, v = np.zeros(len(geom), int), np.zeros(len(geom)), np.zeros(len(geom))
        for g in np.unique(geom):
            turned, place, own = laid[int(g)]
            here = geom == g
            part[here], u[here], v[here] = surface(local[here] @ turned.T + place, own)
        return part, u, v

    persons = [f"person{number + 1}" for number in range(PERSONS)]
    return Anatomy(
        instance=instance,
        label=label,
        classes=CLASSES,
        parts=PARTS,
        surface=chart,
        mapped=label == NUMBERS["person"],
        joints=tuple(f"{person}.{joint}" for person in persons for joint in JOINTS),
        limbs=tuple((f"{person}.{a}", f"{person}.{b}") for person in persons for a, b in LIMBS),
        owners=owners.reshape(len(owners) * len(JOINTS), len(names)),
        under=under.reshape(-1),
    )


def shown(labels: np.ndarray) -> str:
    """Whom and what a segmentation (n, H, W, 2) shows, all frames together: "two persons, one ball and furniture"."""
    codes = labels[..., 0].astype(np.int64) * len(CLASSES) + labels[..., 1]
    classes = np.flatnonzero(np.bincount(codes.reshape(-1))) % len(CLASSES)  # of each instance once
    told = []
    for name in ("person", "ball", "box"):
        count = int((classes == NUMBERS[name]).sum())
        if count:
            several = "boxes" if name == "box" else f"{name}s"
            told.append(f"{COUNTS[count] if count < len(COUNTS) else count} {name if count == 1 else several}")
    if NUMBERS["furniture"] in classes:
        told.append("furniture")
    return " and ".join(part for part in (", ".join(told[:-1]), *told[-1:]) if part)


def shown_by(joint: str) -> tuple[str, ...]:
    """The names of the pieces that show a COCO joint, such as left_elbow."""
    side = next((s for s in SIDES if joint.startswith(s)), "")
    return tuple(name.format(side=side) for name in SHOWN_BY[joint.removeprefix(f"{side}_")])


def joints(builds: Sequence[Build], posed: Sequence[Posed]) -> np.ndarray:
    """(T, 2 x 17, 3) m: the keypoints in the world; NaN for a person who is not there."""
    found = np.full((len(posed[0].position), PERSONS, len(JOINTS), 3), np.nan)
    for number, (build, poses) in enumerate(zip(builds, posed, strict=True)):
        for k, (link, place, _) in enumerate(keypoints(build)):
            position, rotation = poses.of(link)
            found[:, number, k] = position + rotation @ place
    return found.reshape(len(found), -1, 3)


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) of a unit quaternion (4,)."""
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
