"""Batches by presence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polyclock.data import Sample, collate
from polyclock.modality import Signal

SIGNALS = {
    "video": Signal(key="v", kind="video", shape=(2, 4, 4, 3)),
    "action": Signal(key="a", kind="vector", shape=(3, None)),
    "text": Signal(key="task", kind="text", shape=()),
    "depth": Signal(key="d", kind="video", shape=(2, 4, 4, 1)),
}


def sample(j: int, *names: str) -> Sample:
    values = {
        "video": np.full((2, 4, 4, 3), j, np.uint8),
        "action": np.full((3, 7), j, np.float64),
        "text": f"text {j}",
        "depth": np.full((2, 4, 4, 1), 60_000 + j, np.uint16),
    }
    valid = {"video": np.array([True, False]), "action": np.array([True] * 3)}
    return Sample(
        {n: values[n] for n in names}, {n: v for n, v in valid.items() if n in names}, f"episode {j}, frame 0"
    )


def test_rows_say_which_samples_have_a_signal() -> None:
    batch = collate([sample(0, "video", "action"), sample(1, "text"), sample(2, "action", "text")], [4, 5, 6], SIGNALS)
    assert batch.index.tolist() == [4, 5, 6] and batch.size == 3
    assert {n: r.tolist() for n, r in batch.rows.items()} == {
        "video": [0],
        "action": [0, 2],
        "text": [1, 2],
        "depth": [],
    }
    assert batch.values["video"].shape == (1, 2, 4, 4, 3) and batch.values["video"].dtype == torch.uint8
    assert batch.values["action"].shape == (2, 3, 7) and batch.values["action"].dtype == torch.float32
    assert batch.values["action"][:, 0, 0].tolist() == [0, 2]
    assert batch.values["text"] == ["text 1", "text 2"]
    assert batch.values["depth"].shape == (0, 2, 4, 4, 1) and batch.valid["depth"].shape == (0, 2)
    assert batch.valid["video"].tolist() == [[True, False]] and set(batch.valid) == {"video", "action", "depth"}


def test_a_name_that_no_sample_has_keeps_its_key() -> None:
    batch = collate([sample(0, "text")], [0], SIGNALS)
    assert batch.values["action"].shape == (0, 3, 1) and batch.values["action"].dtype == torch.float32
    assert set(batch.values) == set(SIGNALS)


def test_sixteen_bit_planes_keep_their_numbers() -> None:
    assert collate([sample(3, "depth")], [0], SIGNALS).values["depth"].unique().tolist() == [60_003]


def test_another_shape_is_named_with_its_place() -> None:
    odd = Sample({"video": np.zeros((2, 5, 4, 3), np.uint8)}, {}, "episode 7, frame 12")
    with pytest.raises(
        ValueError, match=r"episode 7, frame 12: video has shape \(2, 5, 4, 3\), the batch wants \(2, 4, 4, 3\)"
    ):
        collate([sample(0, "video"), odd], [0, 1], SIGNALS)
    other = Sample({"action": np.zeros((3, 6), np.float32)}, {}, "episode 8, frame 1")
    with pytest.raises(ValueError, match=r"episode 8, frame 1: action has shape \(3, 6\), the batch wants \(3, 7\)"):
        collate([sample(0, "action"), other], [0, 1], SIGNALS)
