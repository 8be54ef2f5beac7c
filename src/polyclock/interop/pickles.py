"""A reader of pickles that runs nothing: it knows a few opcodes, and of names only those of a table it is given.

A pickle is a program for a stack machine that may import and call whatever it names. This machine imports nothing:
a name in the file is looked up in a table of functions of ours, and what is not there is refused, called or not.
"""

from __future__ import annotations

import io
import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

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
    here, or a stream that makes no sense.
    """

    def __init__(
        self, data: bytes, names: Mapping[str, Known], where: str, persistent: Persistent | None = None
    ) -> None:
        self.data, self.names, self.where, self.persistent = data, names, where, persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []  # stacks set aside by MARK
        self.memo: dict[int, Any] = {}
        self.place = self.end = 0

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
        except (ValueError, IndexError, KeyError, OverflowError, struct.error) as problem:
            self.refuse(f"no readable pickle ({type(problem).__name__}: {problem})")

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
            self.memo[len(self.memo) if argument is None else argument] = stack[-1]
        elif name in GETS:
            stack.append(self.memo[argument])
        elif name not in ("PROTO", "FRAME"):
            action = ACTIONS.get(name)
            if action is None:
                said = f" ({argument})" if isinstance(argument, str) else ""
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
            if not isinstance(key, KEYS):
                self.refuse(f"a {type(key).__name__} is the key of a dict")
            target[key] = value

    # ------------------------------------------------------------ names

    def name(self, module: Any, attribute: Any) -> None:
        text = f"{module}.{attribute}"
        known = self.names.get(text) if isinstance(module, str) and isinstance(attribute, str) else None
        if known is None:
            self.refuse(f"the file asks for {text}, which a checkpoint has no need of")
        self.stack.append(Named(text, known))

    def stack_name(self, _: Any) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        self.name(module, attribute)

    def call(self, _: Any) -> None:
        arguments, target = self.stack.pop(), self.stack.pop()
        if not isinstance(target, Named) or target.known.call is None or type(arguments) is not tuple:
            self.refuse(f"{shown(target)} is called")
        try:
            self.stack.append(target.known.call(*arguments))
        except (TypeError, ValueError, RuntimeError, OverflowError) as problem:
            self.refuse(f"{target.text} does not take what it is given ({problem})")

    def new(self, _: Any) -> None:
        arguments, target = self.stack.pop(), self.stack.pop()
        if not isinstance(target, Named) or target.known.new is None or arguments != ():
            self.refuse(f"an instance of {shown(target)} is made")
        self.stack.append(target.known.new())

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Restored):
            try:
                target.restore(state)
            except (TypeError, ValueError) as problem:
                self.refuse(f"a {type(target).__name__} does not take its state ({problem})")
        elif not (type(target) is dict and isinstance(state, dict) and set(state) == {"_metadata"}):
            # A state dict carries the versions of its modules in this one attribute; nothing here asks for them.
            self.refuse(f"a {type(target).__name__} is given attributes")

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


ACTIONS: dict[str, Callable[[Machine, Any], None]] = {
    "MARK": Machine.mark,
    "POP": Machine.pop,
    "POP_MARK": lambda m, _: _drop(m.since_mark()),
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


def _drop(_: Any) -> None:
    """Nothing is kept."""


def _push(machine: Machine, value: Any) -> None:
    machine.stack.append(value)


def _dict(machine: Machine, items: list[Any]) -> None:
    machine.stack.append({})
    machine.fill(items)
