"""What was read or decoded lately, kept in memory within a budget of bytes; what was used longest ago goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """An array, or anything else that knows its bytes."""

    @property
    def nbytes(self) -> int: ...


Value = TypeVar("Value", bound=Sized)


class Recent(Generic[Value]):
    """Values by key. Threads may ask at once; the value used last stays, however large it is."""

    def __init__(self, budget: int) -> None:
        """`budget` is in bytes."""
        self.budget = budget
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._total = 0

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of `key`; `make` makes it where it is not here, several threads at once if they need it at once."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        made = make()
        with self._lock:
            if key not in self._values:
                self._values[key] = made
                self._total += made.nbytes
            self._values.move_to_end(key)
            while self._total > self.budget and len(self._values) > 1:
                self._total -= self._values.popitem(last=False)[1].nbytes
            return self._values[key]
