"""Episode numbers on the command line: `3,7-9`."""

from __future__ import annotations

import re


def numbers(text: str) -> list[int]:
    """ "3,7-9" -> [3, 7, 8, 9]. Errors: `ValueError` for anything else."""
    found: list[int] = []
    for piece in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", piece)
        if not match:
            raise ValueError(f"{text!r} does not name episodes; possible: 3 or 3,7-9")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first > 1_000_000:
            raise ValueError(f"the episodes {piece.strip()!r} are no rising span; possible: 3 or 3,7-9")
        found += range(first, last + 1)
    return found
