"""Same state, other actions: does the predicted picture change as the simulator's does?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch
from ..data.video import resized
from ..data.window import offsets
from ..dice import seed_of
from ..envs import Env, Observation, Start, open_env, starts
from ..modality import Signal
from ..views import View
from .asking import Asking
from .compare import MODEL, Plain
from .held_out import Place
from .kinds import PICTURE
from .probing import Probing, skipped
from .questions import Question
from .scores import Scores
from .viewed import looked

CAMERA = "observation.images."
STARTS = 8
WHAT = (
    "From one state of a simulated world two chunks of actions are carried out: the expert's, and one recorded in "
    "another episode. The change from one film to the other is compared with the change that the forward model "
    "predicts, both asked with the same noise. To predict no change at all scores 0."
)
# name, cameras, size (H, W), how many starts -> a world and its starts
Stage = Callable[[str, tuple[str, ...], tuple[int, int], int], tuple[Env, Sequence[Start]]]


def published(name: str, cameras: tuple[str, ...], size: tuple[int, int], count: int) -> tuple[Env, Sequence[Start]]:
    """A simulated world and its first published starts."""
    return open_env(name, cameras=cameras, size=size), starts(name, "evaluation", count)


@dataclass(frozen=True)
class Branch:
    """One way on from a state: all that was seen and done up to it and beyond; seen[now] is the state's."""

    seen: Sequence[Observation]
    actions: Sequence[np.ndarray]
    now: int

    def value(self, name: str, signal: Signal, fps: float, action: bool, view: View | None = None) -> Tensor | str:
        """(T', *S', C') of a signal around the state, as a view shows it, or its sentence.

        Errors: ValueError: the world lacks it.
        """
        if not action and signal.key not in self.seen[0]:
            raise ValueError(f"the world does not bring {name!r} (column {signal.key!r})")
        if signal.kind == "text":
            return str(self.seen[self.now][signal.key])
        source = list(self.actions) if action else [np.asarray(o[signal.key]) for o in self.seen]
        frames = [source[i] for i in np.clip(self.now + np.array(offsets(signal, fps)), 0, len(source) - 1)]
        if signal.kind != "video":
            return torch.from_numpy(np.stack(frames).astype(np.float32))
        height, width = signal.shape[1:3] if view is None else view.size or (None, None)
        size = (int(height or frames[0].shape[0]), int(width or frames[0].shape[1]))
        film = np.stack([resized(frame, size) for frame in frames])
        return torch.from_numpy(film if view is None else looked(film, view))


def counterfactual(probing: Probing, worlds: Sequence[str], count: int = STARTS, stage: Stage = published) -> Plain:
    """Cosine and explained share of the predicted change in each world, from `count` starts.

    Errors: ValueError for an unknown world, one that does not bring what the model must be given, or another rate or
    width of actions than the data have; ImportError without the simulator.
    """
    forward = probing.asked.get("forward")
    if forward is None:
        return skipped(WHAT, "the model cannot be asked for the video of actions")
    scores, notes = probing.scores(), []
    for world in worlds:
        env, chosen = stage(world, *_view(probing, forward), count)
        try:
            visit = Visit(probing, forward, env)
            branches = [visit.both(start) for start in chosen]
        finally:
            env.close()
        still = _score(probing, forward, scores, world, branches, [Place(s.number, 0) for s in chosen])
        if still:
            notes.append(f"{world}: from {still} of {len(chosen)} states both chunks look the same; these do not count")
    return probing.found(WHAT, scores, block=lambda place: place, starts=count) | {"notes": notes}


def _view(probing: Probing, forward: Question) -> tuple[tuple[str, ...], tuple[int, int]]:
    """The cameras that the model looks at, by name, and the size (H, W) of their recorded pictures."""
    held = probing.held
    names = (*forward.wanted, *forward.given, *forward.conditions)
    keys = dict.fromkeys(held.signals[n].key for n in names if probing.reference.kinds.get(n) == PICTURE)
    height, width, _ = held.dataset.facts.columns[next(iter(keys))]
    return tuple(key.removeprefix(CAMERA) for key in keys), (int(height or 0), int(width or 0))


class Visit:
    """Plays a world up to a state, then on in two ways."""

    def __init__(self, probing: Probing, forward: Question, env: Env) -> None:
        self.probing, self.env, held = probing, env, probing.held
        self.action = held.signals[forward.varied[0]]
        if env.fps != held.fps:
            raise ValueError(f"the world makes {env.fps:g} steps a second, the data have {held.fps:g}")
        width = self.action.shape[-1]
        if width not in (None, env.action_dim):
            raise ValueError(f"an action of the world has {env.action_dim} numbers, the model's {width}")
        names = (*forward.wanted, *forward.given, *forward.conditions)
        due = [offsets(held.signals[n], held.fps) for n in names if held.signals[n].kind != "text"]
        self.behind = max(0, -min(map(min, due)))
        self.ahead = max(1, max(map(max, due)) + 1)
        self.recorded = held.fitting(1, max(0, self.ahead - 1 - held.last))
        if not self.recorded:
            raise ValueError(f"no held-out episode has {self.ahead} actions in a row to try in the world")

    def both(self, start: Start) -> tuple[Branch, Branch]:
        """The expert's way on from a state, and that of recorded actions of another episode."""
        env, seed = self.env, self.probing.seed
        seen, done = [env.reset(start)], []
        for _ in range(self.behind + seed_of(seed, "drive", start.number) % max(1, env.limit // 4)):
            done.append(env.expert())
            seen.append(env.step(done[-1])[0])
        state, now = env.save(), len(seen) - 1
        other = self.recorded[seed_of(seed, "other", start.number) % len(self.recorded)]
        frames = range(other.frame, other.frame + self.ahead)
        chunk = list(np.asarray(self.probing.held.dataset.read(other.episode, self.action.key, frames), np.float32))
        ways = []
        for actions in (None, chunk):
            env.restore(state)
            mine, films = list(done), list(seen)
            for k in range(self.ahead):
                mine.append(env.expert() if actions is None else actions[k])
                films.append(env.step(mine[-1])[0])
            ways.append(Branch(films, mine, now))
        return ways[0], ways[1]


def _score(
    probing: Probing,
    forward: Question,
    scores: Scores,
    world: str,
    branches: Sequence[tuple[Branch, Branch]],
    places: Sequence[Place],
) -> int:
    """Score the predicted changes of all states; how many states show no change."""
    first, second = (_asking(probing, forward, [pair[i] for pair in branches], places) for i in (0, 1))
    predicted = (first.ask(forward), second.ask(forward))
    told = {MODEL: predicted}
    if len(branches) > 1:
        # Each state is told the actions of the next one.
        turned = [{n: _turned(a.values([n])[n]) for n in forward.varied} for a in (first, second)]
        told[forward.control] = (first.ask(forward, turned[0]), second.ask(forward, turned[1]))
    still = 0
    for name in probing.pictures(forward):
        begin = forward.wanted[name]
        true = _change(first.batch.tensor(name), second.batch.tensor(name), begin)
        moved = true.square().sum(1) > 0
        still = max(still, int((~moved).sum()))
        rows = [p for p, m in zip(places, moved.tolist(), strict=True) if m]
        for series, (one, other) in told.items():
            p, t = _change(one[name], other[name], begin)[moved], true[moved]
            square = t.square().sum(1)
            cosine = torch.stack([(p * t).sum(1), p.square().sum(1), square], 1)
            explained = torch.stack([(t - p).square().sum(1), square], 1)
            scores.put(world, series, f"{name}.cosine", rows, cosine.numpy())
            scores.put(world, series, f"{name}.explained", rows, explained.numpy())
    return still


def _asking(probing: Probing, forward: Question, ways: Sequence[Branch], places: Sequence[Place]) -> Asking:
    """Questions about one way on from each state."""
    held, values = probing.held, {}
    for name in dict.fromkeys((*probing.pictures(forward), *forward.given, *forward.conditions)):
        signal, acts = held.signals[name], name in forward.varied
        rows = [way.value(name, signal, held.fps, acts, held.views.get(signal.key)) for way in ways]
        values[name] = rows if isinstance(rows[0], str) else torch.stack(rows)
    index = torch.arange(len(ways))
    return probing.asking(places, Batch(index=index, values=values, rows=dict.fromkeys(values, index)))


def _turned(value: Tensor | list[str]) -> Tensor:
    assert isinstance(value, Tensor)
    return value.roll(-1, 0)


def _change(one: Tensor, other: Tensor, begin: int) -> Tensor:
    """uint8 (B, T', H, W, C) twice -> (B, n) float64: other - one from frame `begin` on, pixels in [0, 1]."""
    return ((other[:, begin:].double() - one[:, begin:].double()) / 255).flatten(1)
