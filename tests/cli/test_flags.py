"""Flags are read off the code: names, types, defaults and the words beside them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from typing import Any, Literal

import pytest

from polyclock import flags, recipes
from polyclock.commands import recipe_word, train
from polyclock.path import Linear, Path
from polyclock.train.settings import Training


def make(
    *,
    steps_ahead: int = 3,  # how far
    names: tuple[str, ...] = ("a",),
    span: tuple[float, float] = (0.0, 1.0),  # from, to
    state: str | None = "s",
    loud: bool = False,
    kind: Literal["x", "y"] = "x",
    factors: tuple[tuple[str, float], ...] = (),
    limit: float | None = None,
    route: Path = Linear(),  # no word says this
) -> None: ...


def take(*words: str) -> dict:
    parser = flags.Parser("x", "text")
    parser.add_flags("x", flags.of_function(make))
    return parser.take(words)


def test_every_argument_that_a_word_can_say_is_a_flag() -> None:
    found = {f.name: f for f in flags.of_function(make)}
    assert set(found) == set(inspect.signature(make).parameters) - {"route"}
    assert found["steps_ahead"].help == "how far" and found["span"].help == "from, to" and found["names"].help == ""
    assert found["steps_ahead"].word == "--steps-ahead" and found["span"].default == (0.0, 1.0)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--steps-ahead", "5"], {"steps_ahead": 5}),
        (["--steps-ahead=-5"], {"steps_ahead": -5}),
        (["--names", "a,b.c"], {"names": ("a", "b.c")}),
        (["--names", ""], {"names": ()}),
        (["--span", "0.5,2e-1"], {"span": (0.5, 0.2)}),
        (["--state", "none"], {"state": None}),
        (["--state", "q"], {"state": "q"}),
        (["--limit", "none"], {"limit": None}),
        (["--limit", "1.5"], {"limit": 1.5}),
        (["--loud"], {"loud": True}),
        (["--no-loud"], {"loud": False}),
        (["--kind", "y"], {"kind": "y"}),
        (["--factors", "net=0.1,head=2"], {"factors": (("net", 0.1), ("head", 2.0))}),
        ([], {}),
    ],
)
def test_words_become_values(words: list[str], value: dict) -> None:
    assert take(*words) == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--step-ahead", "5"], "Did you mean '--steps-ahead'"),
        (["--steps"], "unknown flag '--steps'"),
        (["--steps-ahead", "x"], "'x' is no whole number"),
        (["--steps-ahead"], "expected one argument"),
        (["--span", "1"], "has 1 parts; it must have 2"),
        (["--kind", "z"], "unknown value 'z'"),
        (["--factors", "net"], "NAME=VALUE"),
        (["--limit", "soon"], "'soon' is no number"),
        (["word"], "'word' was not expected"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match="(?s)^[^\n]*$") as problem:
        take(*words)
    assert message in str(problem.value)


def test_a_value_is_shown_as_it_is_written() -> None:
    for flag in flags.of_function(make):
        if flag.kind is not bool:
            assert take(f"{flag.word}={flags.shown(flag.default)}") == {flag.name: flag.default}


@flags.arguments_of(make, without=("route", "span"))
def louder(
    *,
    loud: bool = True,  # shout
    pitch: float,
    **settings: Any,
) -> tuple:
    """Like make, louder."""
    return loud, pitch, settings


def test_settings_that_are_handed_on_are_flags_with_the_words_that_stand_there() -> None:
    found = {f.name: f for f in flags.of_function(louder)}
    theirs = {f.name: f for f in flags.of_function(make)}
    assert list(found) == ["steps_ahead", "names", "state", "loud", "kind", "factors", "limit", "pitch"]
    assert {n: f for n, f in found.items() if n not in ("loud", "pitch")}.items() <= theirs.items()
    assert found["loud"] == flags.Flag(name="loud", kind=bool, default=True, help="shout")
    assert found["pitch"] == flags.Flag(name="pitch", kind=float)
    assert (louder.__name__, louder.__doc__) == ("louder", "Like make, louder.")
    assert louder(pitch=2.0, limit=1.0) == (True, 2.0, {"limit": 1.0})


def test_settings_that_are_not_handed_on_are_refused() -> None:
    with pytest.raises(
        TypeError, match="^unknown argument of louder 'span'.* Possible: steps_ahead, names, state, loud"
    ):
        louder(pitch=2.0, span=(0.0, 1.0))
    with pytest.raises(ValueError, match="unknown argument of make 'spam'. Did you mean 'span'"):
        flags.arguments_of(make, without=("spam",))


def test_an_argument_that_must_be_given_and_cannot_be_written_is_an_error() -> None:
    def needs(*, path: Path) -> None: ...

    with pytest.raises(ValueError, match="'path' of needs has no default"):
        flags.of_function(needs)


def test_dataclasses_are_described_by_their_docstring() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Size:
        """Two numbers.

        width, height   in pixels
        depth           layers; keep: how many stay
        """

        width: int = 1
        height: int = 2
        depth: int
        keep: int = 3

    notes = flags.described(Size.__doc__ or "")
    assert notes == {"width": "in pixels", "height": "in pixels", "depth": "layers", "keep": "how many stay"}


def test_every_setting_of_training_is_a_flag() -> None:
    assert [f.name for f in flags.of_dataclass(Training)] == [f.name for f in fields(Training)]


@pytest.mark.parametrize("name", recipes.__all__)
def test_recipes_and_training_share_no_name_but_the_seed(name: str) -> None:
    own = flags.of_function(getattr(recipes, name))
    train.check_names(own)
    taken = {f.name for cls in (train.Setup, Training) for f in fields(cls)}
    assert {f.name for f in own} & taken <= {"seed"}
    assert len(own) == len(inspect.signature(getattr(recipes, name)).parameters), "an argument that is no flag"


def test_a_clash_is_an_error() -> None:
    def mine(*, steps: int = 3) -> None: ...

    with pytest.raises(ValueError, match="'steps' is a setting of the training too"):
        train.check_names(flags.of_function(mine))


def test_the_recipes_of_the_help_are_those_of_the_package() -> None:
    assert list(recipe_word.own_recipes()) == sorted(recipes.__all__)
    assert all(text.endswith(".") for text in recipe_word.own_recipes().values())
