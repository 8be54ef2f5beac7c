"""Features of texts on disk: whole or absent, however many write them at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from polyclock.encoders.text_store import TextStore


def test_two_that_write_one_text_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As processes of two machines do, which may have the same number."""
    store, features, replace = TextStore(tmp_path, "encoder"), torch.rand(3, 4), os.replace

    def replaced(aside: Path, file: Path) -> None:
        monkeypatch.setattr(os, "replace", replace)
        TextStore(tmp_path, "encoder").put("push", features)
        replace(aside, file)

    monkeypatch.setattr(os, "replace", replaced)
    store.put("push", features)
    found = store.get("push")
    assert found is not None and torch.equal(found, features)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [store.path("push").name]


def test_what_is_damaged_is_named(tmp_path: Path) -> None:
    store = TextStore(tmp_path, "encoder")
    assert store.get("push") is None
    store.put("push", torch.rand(3, 4))
    store.path("push").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="holds no features of a text"):
        store.get("push")
