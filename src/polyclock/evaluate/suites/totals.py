"""How published benchmarks of video generation make a total of their dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...errors import unknown

PASSED = 0.5  # a rating from here on counts as 1


@dataclass(frozen=True, kw_only=True)
class Total:
    """Groups of dimensions, all in per cent.

    groups   name -> its dimensions; a group's number is their weighted mean
    bounds   dimension -> (least, most) that it is normalised by first, in shares; else 0 and 1
    weights  dimension -> its weight in its group; else 1
    shares   group -> its weight in the total
    name     of the total
    """

    groups: Mapping[str, tuple[str, ...]]
    shares: Mapping[str, float]
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    name: str = "overall"

    @property
    def dimensions(self) -> tuple[str, ...]:
        """All of them, in order."""
        return tuple(d for group in self.groups.values() for d in group)

    def __call__(self, scores: Mapping[str, float]) -> dict[str, float]:
        """{dimension: per cent} -> {group: per cent} of groups that are complete, and the total if all of them are.

        Dimensions are named in any case, with blanks or underscores. Errors: ValueError for one that is none, and for a
        number outside of 0 to 100.
        """
        found = {plain(name): float(score) for name, score in scores.items()}
        for name, score in found.items():
            if name not in self.dimensions:
                raise unknown("dimension", name, self.dimensions)
            if not 0 <= score <= 100:
                raise ValueError(f"{name} is {score}; a score lies between 0 and 100 per cent")
        out = {}
        for group, names in self.groups.items():
            if all(name in found for name in names):
                parts = [(self._normal(name, found[name]), self.weights.get(name, 1.0)) for name in names]
                out[group] = sum(v * w for v, w in parts) / sum(w for _, w in parts)
        if len(out) == len(self.groups):
            out[self.name] = sum(out[g] * w for g, w in self.shares.items()) / sum(self.shares.values())
        return out

    def _normal(self, name: str, score: float) -> float:
        low, high = self.bounds.get(name, (0.0, 1.0))
        return 100 * (score / 100 - low) / (high - low)


def plain(name: str) -> str:
    """ "Human_Anatomy" -> "human anatomy"."""
    return name.strip().lower().replace("_", " ")


# Huang et al. 2024 (CVPR), with the numbers of its leaderboard.
VBENCH = Total(
    groups={
        "quality": (
            *("subject consistency", "background consistency", "temporal flickering", "motion smoothness"),
            *("dynamic degree", "aesthetic quality", "imaging quality"),
        ),
        "semantic": (
            *("object class", "multiple objects", "human action", "color", "spatial relationship", "scene"),
            *("appearance style", "temporal style", "overall consistency"),
        ),
    },
    shares={"quality": 4, "semantic": 1},
    bounds={
        "subject consistency": (0.1462, 1.0),
        "background consistency": (0.2615, 1.0),
        "temporal flickering": (0.6293, 1.0),
        "motion smoothness": (0.706, 0.9975),
        "scene": (0.0, 0.8222),
        "appearance style": (0.0009, 0.2855),
        "temporal style": (0.0, 0.364),
        "overall consistency": (0.0, 0.364),
    },
    weights={"dynamic degree": 0.5},
)
# Zheng et al. 2025.
VBENCH2 = Total(
    groups={
        "creativity": ("composition", "diversity"),
        "commonsense": ("motion rationality", "instance preservation"),
        "controllability": (
            *("dynamic spatial relationship", "dynamic attribute", "motion order understanding", "human interaction"),
            *("complex landscape", "complex plot", "camera motion"),
        ),
        "human fidelity": ("human anatomy", "human identity", "human clothes"),
        "physics": ("mechanics", "material", "thermotics", "multi-view consistency"),
    },
    shares=dict.fromkeys(("creativity", "commonsense", "controllability", "human fidelity", "physics"), 1),
    name="total",
)
# Duan et al. 2025. Both parts are printed; the last number is the mean of all ten dimensions.
WORLDSCORE = Total(
    groups={
        "static": (
            *("camera control", "object control", "content alignment", "3d consistency", "photometric consistency"),
            *("style consistency", "subjective quality"),
        ),
        "dynamic": ("motion accuracy", "motion magnitude", "motion smoothness"),
    },
    shares={"static": 7, "dynamic": 3},
)
TOTALS = {"vbench": VBENCH, "vbench2": VBENCH2, "worldscore": WORLDSCORE}


@dataclass(frozen=True, kw_only=True)
class Rating:
    """What a rater says of one film, each from 0 to 1: does it show its caption (sa), does it obey physics (pc)?

    matter: what acts on what, such as "solid-solid".
    """

    matter: str
    sa: float
    pc: float


def shares(ratings: Sequence[Rating]) -> dict[str, dict[str, float]]:
    """Ratings -> {matter, ..., "all": {"sa", "pc", "both", "films"}}, per cent of films that pass; films: how many.

    A rating of 0.5 or more passes (Bansal et al. 2024, as later papers count it). Errors: ValueError for none.
    """
    if not ratings:
        raise ValueError("no film was rated")
    out = {}
    for matter in (*dict.fromkeys(r.matter for r in ratings), "all"):
        mine = [(r.sa >= PASSED, r.pc >= PASSED) for r in ratings if matter in (r.matter, "all")]
        n = len(mine)
        out[matter] = {
            "sa": 100 * sum(a for a, _ in mine) / n,
            "pc": 100 * sum(b for _, b in mine) / n,
            "both": 100 * sum(a and b for a, b in mine) / n,
            "films": n,
        }
    return out
