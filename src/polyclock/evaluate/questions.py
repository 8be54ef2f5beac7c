"""Which questions a model can be asked, read off what it models, what it is given and what its law trains.

What lies in the past of the window's anchor (the first frames of a clip that starts at the present) is given to every
question; what lies ahead is what questions are about.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ..modality import Modality, family
from ..model import WorldModel
from ..query import Query, Role
from ..solver import absent_rivals


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question.

    name        "policy", "forward", "inverse", "video", "joint", or "depth from video" and the like
    query       as `sample` takes it
    wanted      modality -> its first data frame that is wanted; all frames from there on are
    given       modalities with frames that are given
    conditions  conditions that are given: every one that the data have
    tokens      modalities that have tokens
    """

    name: str
    query: str
    wanted: Mapping[str, int]
    given: tuple[str, ...]
    conditions: tuple[str, ...]
    tokens: tuple[str, ...]


def questions(
    model: WorldModel, fps: float, absent: Collection[str] = ()
) -> tuple[tuple[Question, ...], tuple[str, ...]]:
    """The questions that can be asked, and a sentence for each that cannot.

    fps is the data set's; `absent` are modalities and conditions that the data lack.
    Errors: ValueError for a required condition that the data lack, or where no question can be asked at all.
    """
    for name, c in model.conditions.items():
        if c.required and name in absent:
            raise ValueError(f"the model must be given {name!r} (column {c.key or name!r}), which the data lack")
    plan = _Plan(model, fps, absent)
    asked, skipped = [], []
    for name, wanted, given in plan.list():
        found = plan.question(name, wanted, given)
        if isinstance(found, Question):
            asked.append(found)
        else:
            skipped.append(found)
    if not asked:
        why = "; ".join(skipped) or "the data lack what it models"
        raise ValueError(f"no question can be asked of this model: {why}")
    return tuple(asked), tuple(skipped)


class _Plan:
    """The model's modalities in groups: a camera's views are one group, named as a query names it."""

    def __init__(self, model: WorldModel, fps: float, absent: Collection[str]) -> None:
        self.model, self.fps = model, fps
        names = list(model.modalities)
        heads = [n for n in names if not any(n.startswith(f"{o}.") for o in names if o != n)]
        members = {head: family(names, head) for head in heads}
        self.members = {h: ns for h, ns in members.items() if not set(ns) & set(absent)}
        self.videos = [h for h in self.members if model.modalities[h].signal(h).kind == "video"]
        self.action = next((h for h in self.members if h == "action" and h not in self.videos), None)
        self.conditions = tuple(n for n in model.conditions if n not in absent)
        self.optional = [n for n in self.conditions if not model.conditions[n].required]
        self.past = {h: min(self._past(n) for n in ns) for h, ns in self.members.items()}

    def list(self) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
        """(name, wanted groups, given groups) of every question that makes sense."""
        out: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
        action, first = self.action, next(iter(self.videos), None)
        if action:
            out.append(("policy", (action,), ()))
        if action and first:
            out += [("forward", (first,), (action,)), ("inverse", (action,), (first,))]
        for head in self.members:
            if head != action:
                out.append((head, (head,), ()))
        for head in self.members:
            if first and head not in (first, action):
                out += [(f"{head} from {first}", (head,), (first,)), (f"{first} from {head}", (first,), (head,))]
        together = [h for h in self.members if not any(self._rivals(h, o) for o in self.members if o != h)]
        if len(together) > 1:
            out.append(("joint", tuple(sorted(together, key=lambda h: h == action)), ()))
        return out

    def question(self, name: str, wanted: tuple[str, ...], given: tuple[str, ...]) -> Question | str:
        """The question, or why it cannot be asked."""
        model = self.model
        if any(self._rivals(a, b) for a in (*wanted, *given) for b in (*wanted, *given) if a != b):
            return f"{name} is not asked: {', '.join((*wanted, *given))} share one slot of the layout"
        for with_past in dict.fromkeys((any(self.past.values()), False)):
            text = self._text(wanted, given, with_past)
            if text is None:
                continue
            said = Query.parse(text).roles(model.modalities, model.conditions)
            roles = absent_rivals(said, model)
            # Of the modalities that share a slot a sample has one: that the others are absent is always trained.
            if model.patterns is not None and not any(p.covers(said) or p.covers(roles) for p in model.patterns):
                continue
            firsts = {
                n: model.modalities[n].covers(frames.index(Role.WANT)).start
                for n, frames in roles.items()
                if Role.WANT in frames
            }
            return Question(
                name=name,
                query=text,
                wanted=firsts,
                given=tuple(n for n, frames in roles.items() if Role.GIVEN in frames),
                conditions=self.conditions,
                tokens=tuple(n for n, frames in roles.items() if frames[0] is not Role.ABSENT),
            )
        return f"{name} is not asked: `{self._text(wanted, given, False)}` lies outside what the model was trained for"

    def _text(self, wanted: tuple[str, ...], given: tuple[str, ...], with_past: bool) -> str | None:
        """The query; None where nothing wanted lies ahead."""
        past = self.past if with_past else dict.fromkeys(self.past, 0)
        if any(past[h] >= self.model.modalities[h].frames for h in wanted):
            return None
        left = [f"{h}[{past[h]}:]" if past[h] else h for h in wanted]
        known = [
            f"{h}[:{past[h]}]"
            for h in self.members
            if past[h] and h not in given and not any(self._rivals(h, o) for o in (*wanted, *given) if o != h)
        ]
        return f"{', '.join(left)} | {', '.join([*known, *given, *self.optional])}".strip()

    def _past(self, name: str) -> int:
        """Leading token frames known at the anchor: a picture of this instant is, an action taken now is not."""
        m: Modality = self.model.modalities[name]
        picture = m.signal(name).kind == "video"
        step = 1 / (m.rate or self.fps)
        last = [m.start + (m.covers(f).stop - 1) * step for f in range(m.frames)]
        return sum(t < 1e-9 if picture else t < -1e-9 for t in last)

    def _rivals(self, a: str, b: str) -> bool:
        """Whether two groups share a slot of the layout, so that a sample has one of them."""
        groups = [set(group) for stream in self.model.layout.streams for group in stream.exclusive]
        return any(set(self.members[a]) & g and set(self.members[b]) & g for g in groups)
