"""Reports: one self-contained page about a run, with curves, clips and tables."""

from __future__ import annotations

from .page import write

__all__ = ["write"]
