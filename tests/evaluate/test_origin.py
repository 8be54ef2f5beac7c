"""What a document says of the data that a run was trained on, as far as the run tells."""

from __future__ import annotations

from dataclasses import dataclass

from moving import Moving
from polyclock.commands.evaluate import trained_apart, trained_on

RUN = {"fingerprint": Moving().only([0, 1]).fingerprint, "episodes": [0, 1], "held_out": [2, 3]}


@dataclass(frozen=True)
class Other(Moving):
    @property
    def fingerprint(self) -> str:
        return f"other {super().fingerprint}"


def test_the_training_episodes_of_the_same_data() -> None:
    same, notes = trained_on(Moving(), RUN, [2, 3])
    assert same is not None and [e.index for e in same.episodes] == [0, 1] and notes == []
    same, (note,) = trained_on(Moving(), RUN, [0, 1, 2])
    assert same is not None and note == "the run was trained on episode 0 and 1 more of those asked about"


def test_a_checkpoint_that_was_chosen_on_the_episodes_asked_about() -> None:
    assert trained_on(Moving(), RUN, [3], best=True)[1][0].startswith("the checkpoint is the best of its run on")
    assert trained_on(Moving(), RUN, [3])[1] == []
    (note,) = trained_on(Moving(), RUN, [1], best=True)[1]
    assert note.startswith("the run was trained on episode 1")


def test_other_data_and_runs_that_do_not_tell_are_noted() -> None:
    for data in (Other(), Moving().only([0, 2])):
        same, (note,) = trained_on(data, RUN, [2])
        assert same is None and note.startswith("these are other data than the run was trained on")
    same, (note,) = trained_on(Moving(), {}, [2])
    assert same is None and note.startswith("the run does not say which episodes it was trained on")


def test_the_training_episodes_of_data_of_their_own() -> None:
    same, notes = trained_apart(Moving(), RUN)
    assert [e.index for e in same.episodes] == [0, 1] and notes == []
    for data in (Other(), Moving().only([0, 2])):
        assert trained_apart(data, RUN)[1] == ["--training names other data than the run was trained on"]
    assert trained_apart(Moving(), {})[1][0].startswith("the run does not say")
