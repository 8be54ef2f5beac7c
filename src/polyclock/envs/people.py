"""People in rooms, filmed by a moving camera: figures move by plan, balls and boxes by physics; every truth is exact.

Clip k is a function of the settings and k alone. The movements take turns, each round in a new order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .. import errors
from ..data import dense
from ..dice import seed_of
from .cast import Actor, caption, describe, draw_cast, dress
from .collect import Columns, Unit
from .figure import CHART, LINKS, mjcf
from .motions import MOTIONS, SHORTEST, Held
from .people_anatomy import PERSONS, anatomy_of, joints, shown
from .posing import Posed, quaternions
from .props import Prop, draw_free, happened, paint_prop
from .recording import Anatomy, Recording, Row
from .rooms import Stuff, draw_room
from .scene import Scene, import_simulator
from .shots import Shot, draw_shot, extent

CAMERA = "main"
SHOWN = "prompt"  # the column that says whom and what the segmentation shows
NAMED = "named"  # the column that picks some of these, whom observation.named shows alone
SAID = {"dtype": "string", "shape": (1,), "names": None}
LEADS = ("walk", "wave", "squat", "jump", "throw", "lift")
SUBSTEP = 1 / 400  # s at most, of physics
LEAST_SIZE = 16  # px
SEEN = 12  # pixels that a prop must show in some frame to be spoken of, at 128 px
AHEAD = 0.4  # m before a thrower that the camera looks at
LET_GO = 0.4  # s after which a thrown thing may touch its thrower again


@dataclass(frozen=True, kw_only=True)
class PeopleSource:
    """What to film.

    clips       how many
    frames      of each
    fps         frames a second
    size        pixels, height and width of a picture
    motions     movements that the clips take in turn; a second person may also stand
    pairs       share of clips with two people
    flow_steps  frames that optical flow spans
    named       also a text that picks someone or something, and the segmentation of that alone
    seed        of everything
    """

    clips: int
    frames: int = 49
    fps: float = 20
    size: int = 128
    motions: tuple[str, ...] = LEADS
    pairs: float = 0.5
    flow_steps: int = 1
    named: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for motion in self.motions:
            if motion not in MOTIONS:
                raise errors.unknown("movement", motion, MOTIONS)
        if not 0 < self.fps <= 200:
            raise ValueError(f"fps {self.fps}; possible: above 0, at most 200")
        bounds = {
            "clips": (self.clips >= 1, "1 or more"),
            "frames": (
                (self.frames - 1) / self.fps >= SHORTEST - 1e-6,
                f"enough for {SHORTEST} s; at {self.fps:g} a second {int(np.ceil(SHORTEST * self.fps)) + 1}",
            ),
            "size": (self.size >= LEAST_SIZE and self.size % 2 == 0, f"an even number, {LEAST_SIZE} or more"),
            "motions": (len(self.motions) == len(set(self.motions)) > 0, "each once, and at least one"),
            "pairs": (0 <= self.pairs <= 1, "0 to 1"),
            "flow_steps": (self.flow_steps >= 1, "1 or more"),
        }
        for name, (good, possible) in bounds.items():
            if not good:
                raise ValueError(f"{name.replace('_', '-')} {getattr(self, name)}; possible: {possible}")

    @property
    def lines(self) -> tuple[str, ...]:
        return ("people",)

    @property
    def episodes(self) -> int:
        return self.clips

    def settings(self) -> dict[str, Any]:
        """What the data depend on besides the number of clips."""
        plain = asdict(self)
        del plain["clips"]
        if not self.named:
            del plain["named"]  # what was collected before there was this setting goes on
        return {"world": "people"} | plain

    def features(self) -> dict[str, Any]:
        """The columns, the same for all clips; the surface map's entry names the chart of U and V.

        Errors: OSError, one sentence, where this machine cannot draw them; ImportError without mujoco.
        """
        clip = Clip(self, 0)
        Scene(clip.model, self.size, turned=()).close()
        found = self.recording(clip.anatomy).features()
        found[f"observation.surface.{CAMERA}"][dense.BLOCK]["surface_chart"] = CHART
        found[SHOWN] = SAID
        if self.named:
            found |= {NAMED: SAID, f"observation.named.{CAMERA}": found[f"observation.segmentation.{CAMERA}"]}
        return found

    def recording(self, anatomy: Anatomy) -> Recording:
        """What turns views into columns."""
        return Recording((CAMERA,), (self.size, self.size), anatomy, self.flow_steps)

    def open(self) -> PeopleMaker:
        """What makes the clips."""
        return PeopleMaker(self)


class PeopleMaker:
    """Clips of a `PeopleSource`."""

    def __init__(self, source: PeopleSource) -> None:
        self.source = source

    def worth(self, unit: Unit) -> bool:
        """Every clip is."""
        return True

    def make(self, unit: Unit) -> tuple[Columns, str]:
        """The columns of a clip, {feature: (n, ...)}, and its caption."""
        clip = Clip(self.source, unit.number)
        columns = self.source.recording(clip.anatomy).columns(clip.rows())
        labels = columns[f"observation.segmentation.{CAMERA}"]
        columns[SHOWN] = np.full(len(labels), shown(labels))
        if self.source.named:
            text, instances = clip.named(labels[..., 0])
            columns[NAMED] = np.full(len(labels), text)
            columns[f"observation.named.{CAMERA}"] = np.where(np.isin(labels[..., :1], instances), labels, 0)
        return columns, clip.caption(labels[..., 0])


class Clip:
    """One clip: who and what is in it is drawn when it is made, `rows` films it."""

    def __init__(self, source: PeopleSource, number: int) -> None:
        """Errors: ImportError without mujoco."""
        import_simulator()
        self.source, self.number, rng = source, number, self._rng
        self.steps = int(np.ceil(1 / (source.fps * SUBSTEP)))  # of physics in a frame
        self.step = 1 / (source.fps * self.steps)
        time = np.arange((source.frames - 1) * self.steps + 1) * self.step
        self.azimuth = float(rng("view").uniform(0, 360))
        lead, motions = _motions(source, number, rng("motions"))
        # Two for whom there is no room are one.
        self.actors = draw_cast(rng("cast"), motions, time, self.azimuth) or draw_cast(
            rng("cast"), (lead,), time, self.azimuth
        )
        self.motions = tuple(actor.motion for actor in self.actors)
        angle = np.deg2rad(self.azimuth)
        right, away = np.array([-np.sin(angle), np.cos(angle)]), -np.array([np.cos(angle), np.sin(angle)])
        taken = np.concatenate([_track(actor, self.steps) for actor in self.actors])
        self.props = [a.thing for a in self.actors if a.thing] + draw_free(rng("props"), taken, right, away)
        self.shot = self._shot(rng("camera"))
        self.model = self._build(rng("room"), taken)
        self.anatomy = anatomy_of(self.model, [a.build for a in self.actors], self.props)
        self.paths = np.zeros((len(time), len(self.props), 3))

    def _rng(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng(seed_of(self.source.seed, "people", purpose, self.number))

    def rows(self) -> Iterator[Row]:
        """The frames, one after the other."""
        scene = Scene(self.model, self.source.size, turned=())
        try:
            for data, points in self.states():
                yield Row({CAMERA: scene.view(data, CAMERA)}, scene.poses(data), points)
        finally:
            scene.close()

    def states(self) -> Iterator[tuple[Any, np.ndarray]]:
        """The simulator's state at each frame, ready to be drawn, and the joints (K, 3) m; always the same object."""
        import mujoco

        data = mujoco.MjData(self.model)
        points = joints([a.build for a in self.actors], [_every(a.posed, self.steps) for a in self.actors])
        poses = [(a.posed.position, quaternions(a.posed.rotation)) for a in self.actors]
        for number, prop in enumerate(self.props):
            self.model.geom(f"thing{number}").conaffinity = prop.touches(holding=True)
            data.qvel[6 * number : 6 * number + 3] = prop.speed
        for index in range(len(self.paths)):
            self._set(data, index, poses)
            if index % self.steps == 0:
                mujoco.mj_kinematics(self.model, data)
                mujoco.mj_camlight(self.model, data)
                yield data, points[index // self.steps]
            mujoco.mj_step(self.model, data)

    def caption(self, instances: np.ndarray) -> str:
        """The sentence of a clip that was filmed, of which `instances` (n, H, W) were seen."""
        events = []
        least = SEEN * (self.source.size / 128) ** 2
        for number, prop in enumerate(self.props):
            seen = (instances == number + 1 + PERSONS).sum((1, 2)) >= least
            seen = np.repeat(seen, self.steps)[: len(self.paths)]
            events.append((prop, happened(prop, self.paths[:, number], self.step, self._holding(number), seen)))
        return caption(self.actors, self.azimuth, events, self.shot.said)

    def named(self, instances: np.ndarray) -> tuple[str, list[int]]:
        """Some of those who are seen in `instances` (n, H, W): words that mean them alone, such as "the person in a red
        shirt", "the blue ball" or "two persons", and their numbers. ("", []) where words mean nobody alone."""
        choices = {f"the{describe(a.build)[1:]}": [n + 1] for n, a in enumerate(self.actors)}
        if len(self.actors) == 2:
            choices["two persons"] = [1, 2]
        words = [f"the {prop.colour} {prop.kind}" for prop in self.props]
        choices |= {w: [n + 1 + PERSONS] for n, w in enumerate(words) if words.count(w) == 1}
        seen = set(np.unique(instances).tolist())
        here = sorted(text for text, numbers in choices.items() if seen.issuperset(numbers))
        text = str(self._rng("named").choice(here)) if here else ""
        return text, choices.get(text, [])

    def _shot(self, rng: np.random.Generator) -> Shot:
        extents = [extent(a.build, _every(a.posed, self.steps)) for a in self.actors]
        middles = []
        for actor in self.actors:
            ahead = AHEAD if actor.motion == "throw" else 0.0  # room in the picture for what flies
            middles.append(actor.posed.position[:: self.steps, 0, :2] + ahead * actor.posed.rotation[0, 0, :2, 0])
        path = np.stack(middles).mean(0)
        wanders = len(self.actors) == 1 and self.actors[0].motion == "walk"
        return draw_shot(rng, self.azimuth, extents, path, wanders)

    def _build(self, rng: np.random.Generator, taken: np.ndarray) -> Any:
        """The model: room, people, props and camera."""
        import mujoco

        stuff = Stuff()
        starts = np.array([p.place[:2] for p in self.props if p.owner is None]).reshape(-1, 2)
        lines = draw_room(stuff, rng, np.concatenate([taken, starts]), self.shot.place, taken.mean(0))
        for number, actor in enumerate(self.actors):
            dress(stuff, actor.build, f"person{number + 1}", rng)
            lines += mjcf(actor.build, f"person{number + 1}", 2 << number)
        for number, prop in enumerate(self.props):
            paint_prop(stuff, prop, f"thing{number}", rng)
            lines.append(prop.mjcf(f"thing{number}"))
        ambient, ahead = rng.uniform(0.38, 0.48), rng.uniform(0.12, 0.25)
        head = f'ambient="{ambient:.3f} {ambient:.3f} {ambient:.3f}" diffuse="{ahead:.3f} {ahead:.3f} {ahead:.3f}"'
        model = mujoco.MjModel.from_xml_string(
            f'<mujoco><option timestep="{self.step:.9f}" integrator="implicitfast"/>'
            f'<statistic extent="1" center="0 0 1"/><visual><headlight {head} specular="0 0 0"/>'
            f'<map znear="0.05" zfar="40"/></visual>{stuff.xml}<worldbody>{"".join(lines)}'
            f'<body name="{CAMERA}" mocap="true"><camera name="{CAMERA}" fovy="{self.shot.fovy:.6f}"/></body>'
            "</worldbody></mujoco>"
        )
        for texture in stuff.textures:
            texture.put(model)
        return model

    def _holding(self, prop: int) -> np.ndarray:
        thing = self.props[prop]
        return np.zeros(len(self.paths), bool) if thing.owner is None else self._held(thing).holding

    def _held(self, prop: Prop) -> Held:
        assert prop.owner is not None
        held = self.actors[prop.owner].held
        assert held is not None
        return held

    def _set(self, data: Any, index: int, poses: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Put people, camera and what is held where they are at this step of physics, and note where props are."""
        count = len(LINKS)
        for number, (place, turned) in enumerate(poses):
            data.mocap_pos[number * count : (number + 1) * count] = place[index]
            data.mocap_quat[number * count : (number + 1) * count] = turned[index]
        frame, share = divmod(index, self.steps)
        if share == 0:
            data.mocap_pos[-1] = self.shot.place[frame]
            data.mocap_quat[-1] = quaternions(self.shot.rotation[frame])
        for number, prop in enumerate(self.props):
            if prop.owner is not None:
                self._carry(data, index, number, prop)
            self.paths[index, number] = data.qpos[7 * number : 7 * number + 3]

    def _carry(self, data: Any, index: int, number: int, prop: Prop) -> None:
        """A held thing goes with the hands, at their speed; on being let go it keeps that speed."""
        held = self._held(prop)
        if held.holding[index]:
            before = held.place[max(index - 1, 0)]
            data.qpos[7 * number : 7 * number + 3] = held.place[index]
            data.qpos[7 * number + 3 : 7 * number + 7] = quaternions(held.rotation[index])
            data.qvel[6 * number : 6 * number + 3] = (held.place[index] - before) / self.step
            data.qvel[6 * number + 3 : 6 * number + 6] = 0
        elif index == int(np.flatnonzero(held.holding)[-1]) + int(LET_GO / self.step):
            self.model.geom(f"thing{number}").conaffinity = prop.touches(holding=False)


def _motions(source: PeopleSource, number: int, rng: np.random.Generator) -> tuple[str, tuple[str, ...]]:
    """The movement whose turn it is in clip `number`, and what all do, from left to right."""
    count = len(source.motions)
    order = np.random.default_rng(seed_of(source.seed, "people", "order", number // count)).permutation(count)
    lead = source.motions[order[number % count]]
    if rng.random() >= source.pairs:
        return lead, (lead,)
    others = [m for m in (*source.motions, "stand") if m != lead] or [lead]
    return lead, tuple(rng.permutation([lead, str(rng.choice(others))]).tolist())


def _every(posed: Posed, steps: int) -> Posed:
    return Posed(posed.position[::steps], posed.rotation[::steps])


def _track(actor: Actor, steps: int) -> np.ndarray:
    """(n, 2) m: where the links of a person, and what is held, pass over the floor."""
    track = actor.posed.position[::steps, :, :2].reshape(-1, 2)
    if actor.held is None:
        return track
    return np.concatenate([track, actor.held.place[actor.held.holding][::steps, :2]])
