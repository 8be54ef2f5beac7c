"""Which questions a model can be asked, read off what it models, what it is given and what its law trains.

Where the law trains queries, these are asked, word for word. Beside them stand the plain questions that nothing trained
answers already. What lies in the past of the window's anchor (the first frames of a clip that starts at the present) is
given to every plain question; what lies ahead is what questions are about.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from ..modality import Modality, family
from ..model import WorldModel
from ..query import Query, Role, Roles
from ..solver import absent_rivals
from .kinds import DENSE, NUMBERS, PICTURE, kinds_of


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question.

    name        "policy", "forward", "inverse", "video", "joint", or "depth from video" and the like
    query       as `sample` takes it
    wanted      modality -> its first data frame that is wanted; all frames from there on are
    given       modalities with frames that are given
    of          groups that are given as a whole: what the question is about beside the present
    conditions  conditions that are given: every one that the data have
    tokens      modalities that have tokens
    control     what is said of the answer when the inputs in question are those of another window: "shuffled actions"
    varied      those inputs: the given modalities; where only the past and conditions are given, all of these
    """

    name: str
    query: str
    wanted: Mapping[str, int]
    given: tuple[str, ...]
    of: tuple[str, ...]
    conditions: tuple[str, ...]
    tokens: tuple[str, ...]
    control: str = ""
    varied: tuple[str, ...] = ()

    def without(self, conditions: Collection[str]) -> Question:
        """The same question with these conditions not given."""
        query = Query.parse(self.query)
        terms = sorted((t for t in query.given + query.absent if t.name not in conditions), key=lambda t: t.at)
        right = [query.text[slice(*t.at)] for t in terms]
        return replace(
            self,
            query=f"{query.text.split('|')[0].strip()} | {', '.join(right)}".strip(),
            conditions=tuple(c for c in self.conditions if c not in conditions),
        )


def questions(
    model: WorldModel, fps: float, absent: Collection[str] = (), kinds: Mapping[str, str] | None = None
) -> tuple[tuple[Question, ...], tuple[str, ...]]:
    """The questions that can be asked, and a sentence for each that cannot.

    fps is the data set's; `absent` are modalities and conditions that the data lack; `kinds` are those of `kinds_of`
    (None: as far as the codecs say them).
    Errors: ValueError for a required condition that the data lack, or where no question can be asked at all.
    """
    for name, c in model.conditions.items():
        if c.required and name in absent:
            raise ValueError(f"the model must be given {name!r} (column {c.key or name!r}), which the data lack")
    plan = _Plan(model, fps, absent, kinds or kinds_of(model))
    trained, skipped = plan.trained()
    asked = {q.name: q for q in trained}
    for name, wanted, given in plan.list():
        if name in asked or any(set(wanted) <= plan.heads(q.wanted) and set(given) == set(q.of) for q in trained):
            continue
        found = plan.question(name, wanted, given)
        if isinstance(found, Question):
            asked[name] = found
        else:
            skipped.append(found)
    if not asked:
        why = "; ".join(skipped) or "the data lack what it models"
        raise ValueError(f"no question can be asked of this model: {why}")
    order = [name for name, _, _ in plan.list()]
    return tuple(sorted(asked.values(), key=lambda q: order.index(q.name) if q.name in order else 2)), tuple(skipped)


class _Plan:
    """The model's modalities in groups: a camera's views are one group, named as a query names it."""

    def __init__(self, model: WorldModel, fps: float, absent: Collection[str], kinds: Mapping[str, str]) -> None:
        self.model, self.fps, self.kinds = model, fps, kinds
        names = list(model.modalities)
        heads = [n for n in names if not any(n.startswith(f"{o}.") for o in names if o != n)]
        groups = {head: family(names, head) for head in heads}
        self.members = {h: ns for h, ns in groups.items() if not set(ns) & set(absent)}
        self.pictures = [h for h in self.members if kinds[h] == PICTURE]
        self.maps = [h for h in self.members if kinds[h] in DENSE]
        self.action = next((h for h in self.members if h == "action" and kinds[h] == NUMBERS), None)
        self.conditions = tuple(n for n in model.conditions if n not in absent)
        self.optional = [n for n in self.conditions if not model.conditions[n].required]
        self.past = {h: min(self._past(n) for n in ns) for h, ns in self.members.items()}
        self.together = [h for h in self.members if not any(self._rivals(h, o) for o in self.members if o != h)]

    def heads(self, names: Collection[str]) -> set[str]:
        """The groups that have a member among the names."""
        return {h for h, ns in self.members.items() if set(ns) & set(names)}

    def list(self) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
        """(name, wanted groups, given groups) of every plain question that makes sense."""
        out: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        action, first = self.action, next(iter(self.pictures), None)
        if action:
            out.append(((action,), ()))
        if action and first:
            out += [((first,), (action,)), ((action,), (first,))]
        out += [((head,), ()) for head in self.members if head != action]
        for head in self.members:
            if first and head not in (first, action):
                out += [((head,), (first,)), ((first,), (head,))]
        if len(self.together) > 1:
            out.append((tuple(sorted(self.together, key=lambda h: h == action)), ()))
        return [(self.name(wanted, given), wanted, given) for wanted, given in out]

    def name(self, wanted: Collection[str], given: Collection[str]) -> str:
        """What a question is called, from the groups that it wants and those that it is given."""
        w, g, first = set(wanted), set(given), next(iter(self.pictures), None)
        if w == {self.action} and not g:
            return "policy"
        if g == {self.action} and first in w:
            return "forward"
        if w == {self.action} and g == {first}:
            return "inverse"
        if not g:
            return "joint" if len(w) > 1 and w == set(self.together) else self._said(w)
        return f"{self._said(w)} from {self._said(g)}"

    def _said(self, groups: set[str]) -> str:
        if len(groups) > 1 and groups == set(self.maps):
            return "maps"
        return " and ".join("actions" if h == self.action else h for h in self.members if h in groups)

    def trained(self) -> tuple[list[Question], list[str]]:
        """The queries that the law trains, as far as the data have what they give and something of what they want.

        Then a sentence for each that is not asked all the same.
        """
        model, found, skipped = self.model, {}, []
        for pattern in model.patterns or ():
            try:
                query = Query.parse(pattern.label)
                if query.free:
                    skipped.append(f"`{query.text}` is not asked: {', '.join(query.free)} can be any number")
                    continue
                said = query.roles(model.modalities, model.conditions)
                roles = absent_rivals(said, model)
            except ValueError:  # a law that is no query calls its pattern something else
                continue
            given = {n for n, frames in roles.items() if Role.GIVEN in frames}
            if not pattern.covers(said) or given - {n for ns in self.members.values() for n in ns}:
                continue
            whole = [n for n in given if set(roles[n]) == {Role.GIVEN}]
            wanted = self.heads([n for n, frames in roles.items() if Role.WANT in frames])
            if wanted and not self._last(roles):
                skipped.append(f"`{query.text}` is not asked: only frames up to a window's end are measured")
            elif wanted:
                of = tuple(h for h in self.members if h in self.heads(whole))
                named = query.given_conditions(model.conditions)
                here = tuple(c for c in named if c in self.conditions)
                question = self._question(self.name(wanted, of), query.text, roles, of, here)
                found.setdefault(question.name, question.without([c for c in named if c not in here]))
        return list(found.values()), list(dict.fromkeys(skipped))

    def _last(self, roles: Roles) -> bool:
        """Whether all frames behind the first one that is wanted are wanted too."""
        here = [roles[n] for ns in self.members.values() for n in ns]
        wanted = [frames[frames.index(Role.WANT) :] for frames in here if Role.WANT in frames]
        return all(set(frames) == {Role.WANT} for frames in wanted)

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
            return self._question(name, text, roles, given, self.conditions)
        return f"{name} is not asked: `{self._text(wanted, given, False)}` lies outside what the model was trained for"

    def _question(
        self, name: str, text: str, roles: Roles, of: tuple[str, ...], conditions: tuple[str, ...]
    ) -> Question:
        here = {n for ns in self.members.values() for n in ns}
        given = tuple(n for n, frames in roles.items() if Role.GIVEN in frames)
        varied = tuple(n for h in of for n in self.members[h]) or (*given, *conditions)
        inputs = ", ".join("actions" if h == self.action else h for h in of) or "inputs"
        return Question(
            name=name,
            query=text,
            wanted={
                n: self.model.modalities[n].covers(frames.index(Role.WANT)).start
                for n, frames in roles.items()
                if Role.WANT in frames and n in here
            },
            given=given,
            of=of,
            conditions=conditions,
            tokens=tuple(n for n, frames in roles.items() if frames[0] is not Role.ABSENT),
            control=f"shuffled {inputs}" if varied else "",
            varied=varied,
        )

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
        """Leading token frames known at the anchor: a picture of this instant is, an action taken now is not.

        Nobody is told depth, flow, masks or joints: they are asked about from their first frame on.
        """
        m: Modality = self.model.modalities[name]
        if self.kinds[name] in DENSE:
            return 0
        picture = self.kinds[name] == PICTURE
        step = 1 / (m.rate or self.fps)
        last = [m.start + (m.covers(f).stop - 1) * step for f in range(m.frames)]
        return sum(t < 1e-9 if picture else t < -1e-9 for t in last)

    def _rivals(self, a: str, b: str) -> bool:
        """Whether two groups share a slot of the layout, so that a sample has one of them."""
        groups = [set(group) for stream in self.model.layout.streams for group in stream.exclusive]
        return any(set(self.members[a]) & g and set(self.members[b]) & g for g in groups)
