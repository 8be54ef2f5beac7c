"""Only what an actor looks at is drawn, and it does the same as if all were."""

from __future__ import annotations

import numpy as np
import pytest
import reaching

from polyclock.modality import Signal
from polyclock.rollout import Expert, Policy
from polyclock.rollout.episode import play
from polyclock.rollout.history import History
from polyclock.rollout.policy import Acting

START = reaching.starts("toy/reach", count=4)
FAR = Signal(key=reaching.CAMERA, kind="video", shape=(3, 16, 16, 3), rate=5.0, start=-0.4)
NEAR = Signal(key="observation.state", kind="vector", shape=(1, 2))
TEXT = Signal(key="task", kind="text", shape=())


class Counting(reaching.Reaching):
    """Says how often it was looked at."""

    def reset(self, start):
        self.looks = 0
        return super().reset(start)

    def observe(self):
        self.looks += 1
        return super().observe()


@pytest.mark.parametrize("execute", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("signals", [{"text": TEXT}, {"near": NEAR}, {"far": FAR, "text": TEXT}], ids=",".join)
def test_windows_are_those_of_one_who_always_looks(signals: dict[str, Signal], execute: int) -> None:
    def walked(everything: bool) -> tuple[list, int]:
        windows, env = [], Counting("reach")

        def ask(call, values, planned):
            windows.append(values)
            return np.full((8, 2), 0.1 * (-1) ** call)

        acting = Acting(ask, execute, History(signals, env.fps, "a query"))
        seen = env.reset(START[0])
        for _ in range(20):
            action = acting(seen)
            if everything or acting.looks:
                seen, _ = env.step(action)
            else:
                seen = None
                env.act(action)
        return windows, env.looks

    (windows, looks), (others, all_looks) = walked(False), walked(True)
    assert all_looks == 21 and len(windows) == len(others) == -(-20 // execute)
    for window, other in zip(windows, others, strict=True):
        for name, value in window.items():
            assert value == other[name] if name == "text" else np.array_equal(value, other[name])
    # The window of `far` is of 4, 2 and 0 steps ago.
    back = {0, 2, 4} if "far" in signals else {0}
    wanted = {0} | {k - b for k in range(execute, 40, execute) for b in back if 0 < k - b <= 20}
    assert looks == len(wanted)


def test_an_episode_is_the_same_whether_it_is_filmed_or_not() -> None:
    policy = Policy(reaching.model(), "action | video[:1], state", execute=3, steps=2)
    for actor in (policy, Expert()):
        rows, looks = [], []
        for filmed in (True, False):
            env = Counting("reach")
            row, pictures = play(env, actor, START[1], filmed=filmed)
            assert len(pictures) == (row["steps"] + 1 if filmed else 0)
            rows.append({name: value for name, value in row.items() if name != "latency_ms"})
            looks.append(env.looks)
        assert rows[0] == rows[1] and rows[0]["steps"] >= 3
        assert looks[0] == rows[0]["steps"] + 1
        assert looks[1] == (1 if actor is not policy else 1 + rows[0]["steps"] // 3)
