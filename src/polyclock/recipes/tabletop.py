"""One small network for a robot on a table: video, depth, flow, masks and skeleton in one stream, actions beside it.

Expects    one network acts on five tasks, sees depth, flow, masks and joints in a picture, and predicts all of them for
           given actions (docs/results.md)
Hardware   two CPU cores, 100 minutes
Command    polyclock train tabletop --data DATASET --out RUN, on what `polyclock collect metaworld/... --flow-steps 8`
           wrote (runs/tabletop.sh)
"""

from __future__ import annotations

from ..augment import Shift
from ..backbones.dit import DiT
from ..codecs import DepthPlane, FlowPlanes, LabelPlanes, Pixels, Quantile, SkeletonPicture
from ..codecs.codec import Codec
from ..density import Uniform
from ..encoders import Bytes, ResNet, Vector
from ..layout import Layout, Stream
from ..modality import Condition, Modality
from ..nn.detail import Detail
from ..nn.modulation import Local
from ..path import Linear
from ..recipe import Recipe
from ..timesteps import Law, Mixture, PerFrame, Task


def tabletop(
    *,
    camera: str = "corner2",  # the view: columns observation.images.NAME, observation.depth.NAME, ...
    image: int = 64,  # pixels to a side
    frame: int = 128,  # pixels to a side of the data set's pictures, which keypoints are measured in
    patch: int = 8,  # pixels to a side of a token
    horizon: int = 8,  # action steps
    action_rate: float = 80.0,  # action steps a second
    frames: int = 2,  # of video and maps: the present, then evenly over the horizon, the last at its end
    pictures: bool = True,  # False: a network for actions alone
    near: float = 1.0,  # m, of the range of depth; what lies beyond its ends is taken to lie on them
    far: float = 7.0,
    reach: float = 3.0,  # px of `image`, the largest flow
    classes: int = 13,  # of the segmentation
    joints: int = 11,  # of the skeleton
    width: int = 192,
    depth: int = 4,
    shift: int = 3,  # px, how far the camera's picture, given to actions, is moved at random in training; 0: not
    acting: float = 0.65,  # share of steps that train the policy alone, without the picture stream
    seed: int = 0,
) -> Recipe:
    """Video and maps (frames, image, image, C) in one fused stream, action (horizon, A), given two camera frames.

    What is given besides (a camera's picture, hand position, sentence) is optional: each query names what it has.
    One picture, not two: who sees how he has been moving learns to go on, and not to look.
    """
    rate = action_rate * (frames - 1) / horizon
    modalities = {"action": Modality(shape=(horizon, None), patch=(1,), rate=action_rate, codec=Quantile())}
    fused = _fused(image, frame, near, far, reach, classes, joints) if pictures else {}
    for name, (channels, codec, weight) in fused.items():
        column = "images" if name == "video" else name
        modalities[name] = Modality(
            key=f"observation.{column}.{camera}",
            shape=(frames, image, image, channels),
            patch=(1, patch, patch),
            rate=rate,
            # A token holds more numbers than the network is wide: noise would not pass. Most of a flow is 0.
            path=Linear(predict="data", spread=0.1 if name == "flow" else 0.5),
            codec=codec,
            weight=weight,
        )
    conditions = {
        "camera": Condition(
            key=f"observation.images.{camera}",
            shape=(1, image, image, 3),
            rate=action_rate,
            encoder=ResNet(size="fine", width=128, pool="tokens"),
            route="tokens",
        ),
        "state": Condition(
            key="observation.state", shape=(1, None), rate=action_rate, encoder=Vector(width=128), codec=Quantile()
        ),
        "text": Condition(key="task", encoder=Bytes(width=64, depth=1, heads=2, pool=True)),
    }
    return Recipe(
        name="tabletop",
        modalities=modalities,
        conditions=conditions,
        layout=Layout(*((Stream(*fused, place=True, detail=Detail()),) if fused else ()), Stream("action")),
        law=law(tuple(fused), acting),
        modulation=Local(frequencies=64),
        backbone=DiT(width=width, depth=depth, heads=width // 32),
        registers=4,
        augment=(Shift(of=("camera",), pixels=shift),) if shift else (),
        seed=seed,
    )


def _fused(
    image: int, frame: int, near: float, far: float, reach: float, classes: int, joints: int
) -> dict[str, tuple[int, Codec, float]]:
    """name -> (channels, codec, weight of the loss): what shares the picture stream.

    Clean pictures are predicted, whose errors are small numbers beside those of an action's velocity.
    """
    drawn = SkeletonPicture(size=(image, image), frame=(frame, frame), joints=joints, radius=max(1.0, 2.5 * image / 64))
    return {
        "video": (3, Pixels(), 4.0),
        "depth": (1, DepthPlane(near=near, far=far, scale="inverse"), 12.0),
        "flow": (2, FlowPlanes(reach=reach), 60.0),
        "segmentation": (classes, LabelPlanes(classes=classes), 8.0),
        "skeleton": (3, drawn, 4.0),
    }


def law(fused: tuple[str, ...], acting: float) -> Law:
    """One question for all samples of a step, so that a step of the policy does not pay for pictures."""
    sees = "camera, state, text"
    if not fused:
        return Task(f"action | {sees}")
    maps = ", ".join(n for n in fused if n != "video")
    rest = 1 - acting
    return Mixture(
        (acting, Task(f"action | {sees}, {', '.join(f'-{n}' for n in fused)}")),
        (0.15 * rest, PerFrame(ends=0.15)),
        # Given the picture, nearly all of the answer is decided where the maps are still noise.
        (0.40 * rest, Task(f"{maps} | video", Uniform(shift=5.0))),
        (0.25 * rest, Task(f"video[1:], {maps} | video[:1], action, {sees}")),
        (0.08 * rest, Task(f"video[1:], {maps}, action | video[:1], {sees}")),
        (0.08 * rest, Task(f"action | video, {sees}")),
        (0.04 * rest, Task(f"video | {maps}, text")),
        whole=True,
    )
