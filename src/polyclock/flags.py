"""Command-line flags read off keyword arguments and frozen dataclasses: name, type, default, and the comment beside."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import unknown

Read = Callable[[str], Any]
REQUIRED = inspect.Parameter.empty
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flag:
    """One setting: `name` in Python, its annotation `kind`, its default (or `REQUIRED`), and a line of help."""

    name: str
    kind: Any
    default: Any = REQUIRED
    help: str = ""

    @property
    def word(self) -> str:
        """As it is written on the command line: action_rate -> --action-rate."""
        return "--" + self.name.replace("_", "-")


def of_function(function: Callable) -> list[Flag]:
    """The keyword arguments of a function that can be written on a command line; help from the comment beside each.

    Errors: an argument without a default whose type cannot be written there.
    """
    hints, notes = get_type_hints(function), comments(function)
    flags = []
    for name, p in inspect.signature(function).parameters.items():
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        kind = hints.get(name, str if p.default in (None, REQUIRED) else type(p.default))
        if reader(kind) is not None:
            flags.append(Flag(name=name, kind=kind, default=p.default, help=notes.get(name, "")))
        elif p.default is REQUIRED:
            raise ValueError(
                f"the argument {name!r} of {function.__name__} has no default and cannot be a flag: {kind}"
            )
    return flags


def arguments_of(
    other: Callable[Arguments, Result], *, without: Collection[str]
) -> Callable[[Callable[..., Result]], Callable[Arguments, Result]]:
    """For a function that hands its `**settings` to `other`: it takes the keyword arguments of `other` but `without`.

    Their types, defaults and comments stand once, in `other`. An argument that the function writes out itself takes the
    place of the one of that name. To a type checker it takes all that `other` takes.

    Errors: ValueError for a name in `without` that `other` does not take; TypeError for a call with one of them.
    """
    theirs = inspect.signature(other).parameters
    for name in without:
        if name not in theirs:
            raise unknown(f"argument of {other.__name__}", name, theirs)

    def taking(function: Callable[..., Result]) -> Callable[Arguments, Result]:
        own = {n: p for n, p in inspect.signature(function).parameters.items() if p.kind is not p.VAR_KEYWORD}
        taken = {n: p for n, p in theirs.items() if n not in without} | own

        @functools.wraps(function)
        def checked(**settings: Any) -> Result:
            for name in settings:
                if name not in taken:
                    raise TypeError(str(unknown(f"argument of {function.__name__}", name, taken)))
            return function(**settings)

        hints = get_type_hints(other) | get_type_hints(function)
        checked.__annotations__ = {n: hints[n] for n in (*taken, "return") if n in hints}
        checked.__signature__ = inspect.Signature(list(taken.values()))  # type: ignore[attr-defined]
        checked.handed_to = other  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]

    return taking


def of_dataclass(cls: type) -> list[Flag]:
    """The fields of a frozen dataclass; help from the lines `name   what it is` of its docstring."""
    hints, notes = get_type_hints(cls), described(cls.__doc__ or "")
    flags = []
    for f in dataclasses.fields(cls):
        default = REQUIRED if f.default is dataclasses.MISSING else f.default
        flags.append(Flag(name=f.name, kind=hints[f.name], default=default, help=notes.get(f.name, "")))
    return flags


def comments(function: Callable) -> dict[str, str]:
    """{argument: the comment at the end of its line}, from the source of a function; {} where there is none.

    Those of the function that its settings are handed to come first.
    """
    before = comments(function.handed_to) if hasattr(function, "handed_to") else {}
    try:
        text = textwrap.dedent(inspect.getsource(function))
        tree = ast.parse(text)
    except (OSError, TypeError, SyntaxError):
        return before
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    beside = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    node = tree.body[0]
    assert isinstance(node, ast.FunctionDef)
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    own = {a.arg: beside[a.end_lineno or a.lineno] for a in arguments if (a.end_lineno or a.lineno) in beside}
    return before | own


def described(docstring: str) -> dict[str, str]:
    """{name: text} from lines like `lr, betas   of AdamW`, and `; keep: how many` within them."""
    notes: dict[str, str] = {}
    for line in inspect.cleandoc(docstring).splitlines():
        match = re.fullmatch(r"(\w+(?:, \w+)*)\s{2,}(\S.*)", line)
        if not match:
            continue
        first, *rest = re.split(r"; (?=\w+: )", match[2])
        notes |= dict.fromkeys(match[1].split(", "), first)
        notes |= dict(piece.split(": ", 1) for piece in rest)
    return notes


# Text to values.


def reader(kind: Any) -> Read | None:
    """The function from a word to a value of an annotation; None where it cannot be written as one word."""
    simple: dict[Any, Read] = {int: _whole, float: _number, str: str, bool: _truth}
    if kind in simple:
        return simple[kind]
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return _one_of(parts)
    if origin in (Union, UnionType):
        return _maybe([reader(p) for p in parts if p is not NoneType], NoneType in parts)
    if origin is tuple and parts:
        return _several(parts)
    return None


def _whole(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number") from None


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is no number") from None


def _truth(word: str) -> bool:
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if word.lower() not in known:
        raise argparse.ArgumentTypeError(f"{word!r} is neither true nor false")
    return known[word.lower()]


def _one_of(options: Sequence[Any]) -> Read:
    def read(word: str) -> Any:
        if word not in map(str, options):
            raise argparse.ArgumentTypeError(str(unknown("value", word, options)))
        return next(o for o in options if str(o) == word)

    return read


def _maybe(readers: Sequence[Read | None], none: bool) -> Read | None:
    """The first reader that takes the word; with `none`, the word "none" is None."""
    known = [r for r in readers if r is not None]
    if not known:
        return None

    def read(word: str) -> Any:
        if none and word.lower() == "none":
            return None
        for attempt in known[:-1]:
            try:
                return attempt(word)
            except argparse.ArgumentTypeError:
                continue
        return known[-1](word)

    return read


def _several(parts: Sequence[Any]) -> Read | None:
    """tuple[X, ...] and tuple[X, Y] as `a,b`; a tuple of (name, value) pairs as `name=value,name=value`."""
    endless = len(parts) == 2 and parts[1] is Ellipsis
    pair = get_args(parts[0]) if endless and get_origin(parts[0]) is tuple else ()
    inner = [reader(p) for p in (pair or (parts[:1] if endless else parts))]
    if any(r is None for r in inner) or (pair and (len(pair) != 2 or Ellipsis in pair)):
        return None
    readers = [r for r in inner if r is not None]

    def read(word: str) -> tuple:
        pieces = [p.strip() for p in word.split(",")] if word.strip() else []
        if pair:
            if not all("=" in p for p in pieces):
                raise argparse.ArgumentTypeError(f"{word!r} must be NAME=VALUE, separated by commas")
            return tuple(tuple(r(x) for r, x in zip(readers, p.split("=", 1), strict=True)) for p in pieces)
        if endless:
            return tuple(readers[0](p) for p in pieces)
        if len(pieces) != len(readers):
            raise argparse.ArgumentTypeError(f"{word!r} has {len(pieces)} parts; it must have {len(readers)}")
        return tuple(r(p) for r, p in zip(readers, pieces, strict=True))

    return read


def shown(value: Any) -> str:
    """A value as it would be written on the command line."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        inner = [f"{v[0]}={shown(v[1])}" if isinstance(v, tuple) and len(v) == 2 else shown(v) for v in value]
        return ",".join(inner)
    return f"{value:g}" if isinstance(value, float) else str(value)


# Words to flags.


class Parser(argparse.ArgumentParser):
    """argparse that raises `ValueError` in one sentence, takes no abbreviations, and knows the nearest flag."""

    def __init__(self, command: str, text: str, usage: str | None = None) -> None:
        super().__init__(
            prog=f"polyclock {command}",
            usage=usage,
            description=text,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def add_flags(self, title: str, flags: Iterable[Flag]) -> None:
        """A group of flags. One that is not given has no place in what `take` returns."""
        group = self.add_argument_group(title)
        for flag in flags:
            default = "" if flag.default is REQUIRED else f"[{shown(flag.default)}]"
            note = " ".join(filter(None, [flag.help, default])).replace("%", "%%") or None
            if flag.kind is bool:
                group.add_argument(
                    flag.word, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=note
                )
                continue
            read = reader(flag.kind)
            assert read is not None
            group.add_argument(
                flag.word,
                dest=flag.name,
                type=read,
                default=argparse.SUPPRESS,
                required=flag.default is REQUIRED,
                metavar=_metavar(flag.kind),
                help=note,
            )

    def take(self, words: Sequence[str]) -> dict[str, Any]:
        """{name: value} of what stands in `words`. Errors: `ValueError` for anything that is not understood."""
        options = list(self._option_string_actions)
        for word in words:
            if word == "--":
                break
            if re.match(r"--?[A-Za-z]", word) and word.split("=", 1)[0] not in options:
                raise unknown("flag", word.split("=", 1)[0], [o for o in options if o.startswith("--")])
        found, extra = self.parse_known_args(list(words))
        if extra:
            raise ValueError(f"{extra[0]!r} was not expected; see {self.prog} --help")
        return vars(found)

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def _metavar(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "{" + ",".join(map(str, parts)) + "}"
    if origin in (Union, UnionType):
        return _metavar(next(p for p in parts if p is not NoneType))
    if origin is tuple:
        if get_origin(parts[0]) is tuple:
            return "NAME=VALUE,.."
        return f"{_metavar(parts[0])},.."
    return {int: "N", float: "X", bool: "{true,false}"}.get(kind, "TEXT")


def settings(cls: type, given: Mapping[str, Any]) -> Any:
    """`cls` built from those of the given values that are its fields."""
    names = {f.name for f in dataclasses.fields(cls)}
    return cls(**{name: value for name, value in given.items() if name in names})
