"""Evaluation: the questions a model can be asked, its errors on held-out episodes, and how sure they are."""

from __future__ import annotations

from .evaluate import PROBES, evaluate
from .questions import Question, questions
from .table import show

__all__ = ["PROBES", "Question", "evaluate", "questions", "show"]
