"""A reader of pickles that runs nothing: it knows a few opcodes, and of names only those of a table it is given.

A pickle is a program for a stack machine that may import and call whatever it names. This machine imports nothing:
a name in the file is looked up in a table of functions of ours, and what is not there is refused, called or not.
"""

from __future__ import annotations

import io
import pickletools
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

Persistent = Callable[[Any], Any]

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
PUTS, GETS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}, {"GET", "BINGET", "LONG_BINGET"}
KEYS = (str, int, float, bytes, type(None))  # of dicts; a tuple of tuples of tuples could take for ever to hash
LARGEST = 1 << 60  # whole number that may be a key: larger ones can be chosen to have one and the same hash
# How many times the length of a pickle its calls and states may be given. A writer names an array's bytes three times;
# a file that names the same ones for ever makes copies of them that are larger than any memory.
GIVEN = 8
FAULTS = (TypeError, ValueError, RuntimeError, OverflowError)  # of what is given something that does not fit
LONG = (str, bytes, np.ndarray)  # what may be long and is copied
SHOWN = 80  # letters of a file's own words in a message


class Restored:
    """What a file may fill with a state after it has made it empty; subclasses say how."""

    def restore(self, state: Any) -> None:
        """Errors: ValueError for a state that does not fit."""
        raise NotImplementedError("restore(state)")


@dataclass(frozen=True)
class Known:
    """What a name of the file stands for.

    call   answers a call with arguments; None: it may not be called
    new    makes an empty `Restored`; None: it has no instances here
    """

    call: Callable[..., Any] | None = None
    new: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Named:
    """A name of the file on the stack, with what it stands for."""

    text: str
    known: Known


class Machine:
    """Reads one pickle at the start of `data`; `end` is then the place behind it.

    `names` maps "module.attribute" to what it stands for; `persistent` answers persistent ids; `where` names the file
    in messages. Errors: ValueError, saying where, for a name that is not in the table, an opcode that is not known
    here, a stream that makes no sense, or one that names the same long parts again and again.
    """

    def __init__(
        self, data: bytes, names: Mapping[str, Known], where: str, persistent: Persistent | None = None
    ) -> None:
        self.data, self.names, self.where, self.persistent = data, names, where, persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []  # stacks set aside by MARK
        self.memo: dict[int, Any] = {}
        self.place = self.end = 0
        self.given = 0  # bytes that calls and states were given

    def load(self) -> Any:
        """What the pickle holds: dicts, lists, tuples, texts, numbers, and what the table makes."""
        stream = io.BytesIO(self.data)
        try:
            for opcode, argument, place in pickletools.genops(stream):
                self.place = int(place or 0)
                if opcode.name != "STOP":
                    self.step(opcode.name, argument)
            self.end = stream.tell()
            return self.stack.pop()
        except Refused:
            raise
        except (*FAULTS, LookupError, struct.error) as problem:
            self.refuse(f"no readable pickle ({type(problem).__name__}: {str(problem)[:SHOWN]})")

    def refuse(self, what: str) -> NoReturn:
        raise Refused(f"{self.where}, byte {self.place}: {what}; nothing of it was run")

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in LITERALS:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name in TUPLES:
            count = TUPLES[name]
            if len(stack) < count:
                raise IndexError("too little on the stack")
            stack[-count:] = [tuple(stack[-count:])]
        elif name in PUTS:
            number = len(self.memo) if argument is None else argument
            if not 0 <= number < len(self.data):
                self.refuse(f"the memo {shown(number)}, of which a writer counts from 0")
            self.memo[number] = stack[-1]
        elif name in GETS:
            stack.append(self.memo[argument])
        elif name not in ("PROTO", "FRAME"):
            action = ACTIONS.get(name)
            if action is None:
                said = f" ({argument[:SHOWN]!r})" if isinstance(argument, str) else ""
                self.refuse(f"the opcode {name}{said}, which is not allowed")
            action(self, argument)

    # ------------------------------------------------------------ containers

    def since_mark(self) -> list[Any]:
        """What was put on the stack since the last MARK; it is taken off."""
        taken, self.stack = self.stack, self.marks.pop()
        return taken

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            self.refuse(f"items are put into a {type(target).__name__}")
        target.extend(items)

    def fill(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            self.refuse(f"keys and values are put into a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, KEYS) or (isinstance(key, int) and abs(key) >= LARGEST):
                self.refuse(f"{shown(key)} is the key of a dict")
            target[key] = value

    # ------------------------------------------------------------ names

    def name(self, module: Any, attribute: Any) -> None:
        if not isinstance(module, str) or not isinstance(attribute, str):
            self.refuse(f"{shown(module)} and {shown(attribute)} are a name")
        text = f"{module}.{attribute}"
        known = self.names.get(text)
        if known is None:
            self.refuse(f"the file asks for {text[:SHOWN]!r}, which a checkpoint has no need of")
        self.stack.append(Named(text, known))

    def stack_name(self, _: Any) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        self.name(module, attribute)

    def call(self, _: Any) -> None:
        arguments, target = self.stack.pop(), self.stack.pop()
        if not isinstance(target, Named) or target.known.call is None or type(arguments) is not tuple:
            self.refuse(f"{shown(target)} is called")
        self.weigh(arguments)
        try:
            self.stack.append(target.known.call(*arguments))
        except FAULTS as problem:
            self.refuse(f"{target.text} does not take what it is given ({problem})")

    def new(self, _: Any) -> None:
        arguments, target = self.stack.pop(), self.stack.pop()
        if not isinstance(target, Named) or target.known.new is None or arguments != ():
            self.refuse(f"an instance of {shown(target)} is made")
        self.stack.append(target.known.new())

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Restored):
            self.weigh(state.values() if isinstance(state, dict) else state if isinstance(state, tuple) else ())
            try:
                target.restore(state)
            except FAULTS as problem:
                self.refuse(f"a {type(target).__name__} does not take its state ({problem})")
        elif not (type(target) is dict and isinstance(state, dict) and set(state) == {"_metadata"}):
            # A state dict carries the versions of its modules in this one attribute; nothing here asks for them.
            self.refuse(f"a {type(target).__name__} is given attributes")

    def weigh(self, parts: Iterable[Any]) -> None:
        """Count what a call or a state is given, and refuse what no writer gives."""
        self.given += sum(p.nbytes if isinstance(p, np.ndarray) else len(p) for p in parts if isinstance(p, LONG))
        if self.given > GIVEN * len(self.data):
            self.refuse("the same texts or arrays are given again and again")

    def persist(self, _: Any) -> None:
        if self.persistent is None:
            self.refuse("a persistent id")
        try:
            self.stack.append(self.persistent(self.stack.pop()))
        except ValueError as problem:
            self.refuse(str(problem))


class Refused(ValueError):
    """A file holds what must not be read."""


def shown(value: Any) -> str:
    """A value in a message. Only plain ones are printed: nested ones may be made to be larger than any memory."""
    if isinstance(value, Named):
        return value.text
    short = isinstance(value, int | float | str | bytes | None) and len(text := repr(value)) <= 60
    return text if short else f"a {type(value).__name__}"


def _split(text: str) -> tuple[str, str]:
    """ "module attribute" of the opcode GLOBAL."""
    module, _, attribute = text.partition(" ")
    return module, attribute


ACTIONS: dict[str, Callable[[Machine, Any], object]] = {
    "MARK": Machine.mark,
    "POP": Machine.pop,
    "POP_MARK": lambda m, _: m.since_mark(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "TUPLE": lambda m, _: _push(m, tuple(m.since_mark())),
    "LIST": lambda m, _: _push(m, m.since_mark()),
    "DICT": lambda m, _: _dict(m, m.since_mark()),
    "APPEND": lambda m, _: m.extend([m.stack.pop()]),
    "APPENDS": lambda m, _: m.extend(m.since_mark()),
    "SETITEM": lambda m, _: m.fill([m.stack.pop() for _ in range(2)][::-1]),
    "SETITEMS": lambda m, _: m.fill(m.since_mark()),
    "GLOBAL": lambda m, text: m.name(*_split(text)),
    "STACK_GLOBAL": Machine.stack_name,
    "REDUCE": Machine.call,
    "NEWOBJ": Machine.new,
    "BUILD": Machine.build,
    "BINPERSID": Machine.persist,
}


def _push(machine: Machine, value: Any) -> None:
    machine.stack.append(value)


def _dict(machine: Machine, items: list[Any]) -> None:
    machine.stack.append({})
    machine.fill(items)
