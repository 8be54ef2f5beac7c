"""Questions and signals in plain words: what was given, what was asked, and what is right."""

from __future__ import annotations

from collections.abc import Sequence

from ..evaluate.kinds import DENSE, NUMBERS, PICTURE
from ..evaluate.questions import Question
from .scenes import Scenes

MANY = 6  # numbers that are still named in a sentence
NOUNS = {"depth": "depth", "flow": "motion", "segmentation": "masks", "skeleton": "joints", "surface": "surface parts"}
ASKED = {
    "depth": "How far away is everything?",
    "flow": "What moves where?",
    "segmentation": "What is what?",
    "skeleton": "Where are the joints?",
    "surface": "Which part of the body is where?",
}


def noun(scenes: Scenes, name: str) -> str:
    """A signal as it is called inside a sentence."""
    kind = scenes.kinds.get(name)
    if kind == PICTURE:
        view = name.partition(".")[2]
        return f"pictures ({view})" if view else "pictures"
    return NOUNS.get(kind or "", "actions" if name == "action" else name)


def title(scenes: Scenes, question: Question) -> str:
    """The question as a person would ask it."""
    plain = {
        "policy": "What should be done now?",
        "forward": "What will be seen if this is done?",
        "inverse": "What was done here?",
        "joint": "What will be done, and what will be seen?",
        "video": "What will be seen next?",
        "maps": "What will depth, motion and masks be next?",
    }
    if question.name in plain:
        return plain[question.name]
    wanted = {scenes.kinds.get(n) for n in question.wanted}
    given = {scenes.kinds.get(n) for n in question.of}
    if given == {PICTURE} and wanted <= set(DENSE):
        return ASKED[str(*wanted)] if len(wanted) == 1 else "What do these pictures show?"
    if given and given <= set(DENSE) and wanted == {PICTURE}:
        by = f", going by {listed([noun(scenes, n) for n in question.of])}" if len(question.of) == 1 else ""
        return f"What did the camera see{by}?"
    return question.name.capitalize()


def sentence(scenes: Scenes, question: Question) -> str:
    """What the network is given and what it is to say, in one sentence."""
    wanted = listed([noun(scenes, n) for n in _order(scenes, question.wanted)])
    rest = _beside(scenes, question)
    if question.name == "policy":
        acts = f"the actions{_named(scenes, next(iter(question.wanted)))}"
        return f"Shown {rest or 'nothing'}, the network says {acts} of the next {_span(scenes, question)}."
    if question.name == "forward":
        acts = _joined("the actions", rest)
        return f"Told {acts}, the network predicts {wanted} of the next {_span(scenes, question)}."
    if question.name == "inverse":
        seen = _joined("the pictures of before, meanwhile and after", rest)
        return f"Shown {seen}, the network says which actions lie between."
    given = [noun(scenes, n) for n in question.of]
    if given:
        source = f"From {_joined(listed(given), rest)}"
        pictures = {scenes.kinds.get(n) for n in question.of} == {PICTURE}
        alone = " alone" if pictures and not rest else ""
        return f"{source}{alone}, the network works out {wanted}, frame by frame."
    source = f"Shown {rest}" if rest else "From nothing"
    return f"{source}, the network makes up {wanted} of the next {_span(scenes, question)}."


def right(scenes: Scenes, question: Question) -> str:
    """What the answer is held against."""
    dense = any(scenes.kinds.get(n) in DENSE for n in question.wanted)
    kinds = " and measured" if dense else ""
    more = ""
    if question.name in ("policy", "joint", "video", "maps"):
        more = "; other answers may be as good, since nobody told the network which of the possible futures came about"
    return f"what was recorded{kinds} at the same moments{more}"


def listed(words: Sequence[str]) -> str:
    """ "a, b and c"."""
    words = list(dict.fromkeys(words))
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def dimension(scenes: Scenes, name: str, d: int) -> str:
    """What dimension d of a vector is called."""
    names = scenes.notes.get(scenes.signals[name].key, {}).get("names") or []
    return f"{noun(scenes, name)}: {names[d]}" if d < len(names) else f"{name}[{d}]"


def _beside(scenes: Scenes, question: Question) -> str:
    """What is given besides what the question is about."""
    past = [n for n in question.given if n not in question.of]
    found = [f"the first of the {noun(scenes, n)}" for n in past] if past else []
    return listed([*found, *(_condition(scenes, n) for n in question.conditions)])


def _condition(scenes: Scenes, name: str) -> str:
    signal = scenes.signals[name]
    count = int(signal.shape[0] or 0) if signal.shape else 0
    if signal.kind == "text":
        return "the sentence"
    if scenes.kinds.get(name) == PICTURE:
        cameras = {s.key for n, s in scenes.signals.items() if scenes.kinds.get(n) == PICTURE}
        of = f"the camera {signal.key.rsplit('.', 1)[-1]}" if len(cameras) > 1 else "the camera"
        return f"the last {count} pictures of {of}" if count > 1 else f"the present picture of {of}"
    return f"the {name}{_named(scenes, name)}"


def _named(scenes: Scenes, name: str) -> str:
    """What the numbers of a vector are, in brackets, where the data say it of a few."""
    names = scenes.notes.get(scenes.signals[name].key, {}).get("names") or []
    return f" ({', '.join(map(str, names))})" if 0 < len(names) <= MANY else ""


def _order(scenes: Scenes, names: Sequence[str]) -> list[str]:
    return sorted(names, key=lambda n: scenes.kinds.get(n) != PICTURE)


def _joined(first: str, rest: str) -> str:
    return f"{first}, and {rest}" if rest else first


def _span(scenes: Scenes, question: Question) -> str:
    """Seconds from the anchor to the end of what is asked for; a picture is of one moment, an action takes a step."""
    ends = []
    for name in question.wanted:
        signal = scenes.signals[name]
        step = 1 / (signal.rate or scenes.fps)
        lasting = scenes.kinds.get(name) == NUMBERS
        ends.append(signal.start + step * (int(signal.shape[0] or 0) - 1 + lasting))
    return f"{max(ends):.2g} s"
