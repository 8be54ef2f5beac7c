"""What a policy's query means: what the world must bring, which of the answer are actions, what is under way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..data.window import offsets
from ..modality import Signal
from ..model import WorldModel
from ..query import Query, Role, Roles
from ..solver import absent_rivals, check_trained

COLUMN = "action"  # of the data set: what a policy must want


@dataclass(frozen=True)
class Control:
    """What a policy's query means.

    signals    what the world must bring, by name; past: how many leading frames of each must have been seen by now
    action     the wanted modality of the column "action", and its signal
    committed  leading data frames of it that are given, from the answer before
    usable     leading data frames of it that are given or wanted
    opening    the query of an episode's first call, for which nothing is under way
    """

    signals: dict[str, Signal]
    past: dict[str, int]
    action: str
    signal: Signal
    committed: int
    usable: int
    opening: Query

    @classmethod
    def of(cls, model: WorldModel, query: Query, execute: int, *, ahead: bool = False) -> Control:
        """Of a query that a model is asked; `ahead`: it may be given frames that lie ahead.

        Errors: ValueError for a query that wants no action or several, is given what lies ahead, or leaves too few.
        """
        assert model.recipe is not None
        every = model.recipe.signals()
        roles = query.roles(model.modalities, model.conditions)
        wanted = [n for n, r in roles.items() if Role.WANT in r]
        actions = [n for n in wanted if every[n].key == COLUMN]
        if len(actions) != 1:
            have = [n for n in model.modalities if every[n].key == COLUMN]
            raise ValueError(
                f"a policy wants one modality of the column {COLUMN!r}; the query {query.text!r} wants "
                f"{', '.join(wanted)}, and the model has {', '.join(have) or 'none'}"
            )
        action = actions[0]
        committed, usable = _leading(model, action, roles[action], query)
        if execute + committed > usable:
            raise ValueError(
                f"execute={execute} of {usable} actions of {query.text!r}"
                + (f", of which {committed} are under way" if committed else "")
                + f"; possible: 1 to {usable - committed}"
            )
        terms = tuple(replace(t, span=None) if committed and t.name == action else t for t in query.want)
        given = tuple(t for t in query.given if t.name != action)
        opening = replace(query, want=terms, given=given)
        asked = (query, opening) if committed else (query,)
        for one in asked:
            said = one.roles(model.modalities, model.conditions)
            check_trained(model, one, absent_rivals(said, model), strict=False)
        signals, past = given_signals(model, query, roles, action)
        found = cls(signals, past, action, every[action], committed, usable, opening)
        if found.signal.rate and not ahead:  # the world's too: `begin` sees to it
            check_past(query, signals, past, found.signal.rate)
        return found


def given_signals(
    model: WorldModel, query: Query, roles: Roles, action: str
) -> tuple[dict[str, Signal], dict[str, int]]:
    """What a query is given beside the action, by name, and how many leading frames of each it is given."""
    assert model.recipe is not None
    every = model.recipe.signals()  # pictures as they are before a view cuts them
    names = [n for n, r in roles.items() if Role.GIVEN in r and n != action]
    signals = {n: every[n] for n in (*names, *query.given_conditions(model.conditions))}
    past = {n: int(s.shape[0] or 0) for n, s in signals.items() if s.kind != "text"}
    for name in (n for n in names if n in past):
        past[name] = model.modalities[name].covers(max(_given(roles[name]))).stop
    return signals, past


def lying_ahead(signals: Mapping[str, Signal], past: Mapping[str, int], fps: float) -> dict[str, int]:
    """name -> how many steps after the moment of acting its last given frame lies, of those that lie after it."""
    last = {n: max(offsets(signals[n], fps)[:frames], default=0) for n, frames in past.items()}
    return {n: steps for n, steps in last.items() if steps > 0}


def check_past(query: Query, signals: Mapping[str, Signal], past: Mapping[str, int], fps: float) -> None:
    """Errors: a given frame that lies ahead of the moment of acting, at `fps` observations a second."""
    for name, steps in lying_ahead(signals, past, fps).items():
        raise ValueError(
            f"the query {query.text!r} gives {name!r} up to {steps / fps:g} s ahead of the moment at "
            "which a policy acts; give what is past or present"
        )


def overlapped(query: Query, action: str, delay: int) -> Query:
    """The query with the first `delay` data frames of the action given in place of wanted.

    Errors: ValueError where only some of the action is wanted, or where the last of these cuts a token frame.
    """
    terms = [t for t in query.want if t.name == action]
    if len(terms) != 1 or terms[0].span is not None:
        raise ValueError(f"overlap needs a query that wants all of {action!r}; got {query.text!r}")
    start, stop = terms[0].at
    said = query.text if "|" in query.text else f"{query.text} |"
    left, right = (side.strip() for side in f"{said[:start]}{action}[{delay}f:]{said[stop:]}".split("|"))
    return Query.parse(f"{left} | {', '.join(filter(None, (f'{action}[:{delay}f]', right)))}")


def _given(roles: tuple[Role, ...]) -> list[int]:
    return [f for f, r in enumerate(roles) if r is Role.GIVEN]


def _leading(model: WorldModel, name: str, roles: tuple[Role, ...], query: Query) -> tuple[int, int]:
    """(data frames given, data frames given or wanted) at the beginning. Errors: given frames that are not first."""
    m = model.modalities[name]
    given = next((f for f, r in enumerate(roles) if r is not Role.GIVEN), len(roles))
    known = next((f for f, r in enumerate(roles) if r not in (Role.GIVEN, Role.WANT)), len(roles))
    if Role.GIVEN in roles[given:]:
        raise ValueError(f"of {name!r} a policy can be given its first frames alone: {query.text!r}")
    if not known:
        raise ValueError(f"the first frame of {name!r} is what is done now; {query.text!r} does not want it")
    return (m.covers(given - 1).stop if given else 0), m.covers(known - 1).stop
