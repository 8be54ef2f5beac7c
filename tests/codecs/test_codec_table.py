"""The table of codecs in docs/concepts.md says what the tests of the codecs hold them to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path

import test_depth
import test_flow
import test_labels
import test_skeleton
import test_surface

from polyclock.codecs import TAB20

PAGE = Path(__file__).parents[2] / "docs" / "concepts.md"


def short(codec: object) -> str:
    """The codec as a user writes it: without the fields that have their default."""
    said = [(f, getattr(codec, f.name)) for f in fields(codec)]
    said = [(f.name, "TAB20" if v == TAB20 else repr(v)) for f, v in said if f.default is MISSING or v != f.default]
    return f"{type(codec).__name__}({', '.join(f'{name}={value}' for name, value in said)})"


def rows() -> Iterator[str]:
    for what, module in (("AbsRel", test_depth), ("EPE, px", test_flow), ("mIoU", test_labels)):
        for codec, bounds in module.BOUNDS:
            yield f"| `{short(codec)}` | {codec.channels} | {what} | {' | '.join(f'{b:g}' for b in bounds)} |"
    for codec, bounds in test_surface.BOUNDS:
        yield f"| `{short(codec)}` | {codec.channels} | part accuracy | {' | '.join(f'{b:g}' for b in bounds)} |"
    for side, joints, bounds in test_skeleton.BOUNDS:
        whose = "PCK@0.1, px" if joints == slice(None) else "the same without the face"
        yield (
            f"| `coco_skeleton(({side}, {side}))` | 3 | {whose} | {' | '.join(f'{p:g}, {e:g}' for p, e in bounds)} |"
        )


def test_the_table_is_the_tests() -> None:
    page = PAGE.read_text(encoding="utf-8")
    wanted = list(rows())
    assert [r for r in wanted if r not in page] == []
    assert page.count("| `DepthColor(") + page.count("| `DepthPlane(") == len(test_depth.BOUNDS)
