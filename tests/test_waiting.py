"""A forward pass of a sampling loop asks no tensor for its value: on a GPU it would have to wait for the answer."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from polyclock import Guide, sample
from polyclock.backbones.wan import Wan
from polyclock.encoders import Bytes, Vector
from polyclock.layout import Layout, Stream
from polyclock.modality import Condition
from polyclock.model import WorldModel
from polyclock.nn.modulation import Local
from polyclock.timesteps import Independent
from worlds import awake, recipe

ASKED = ("_local_scalar_dense", "nonzero", "_unique2", "equal", "masked_select")
BYTES = Bytes(width=16, depth=1, heads=2)
TEXT = {
    "text": Condition(encoder=BYTES, route="context", drop=0.2),
    "note": Condition(encoder=BYTES, route="tokens", drop=0.2),
    "state": Condition(encoder=Vector(width=16), shape=(1, 3)),
}
LAYOUT = Layout(Stream("video", "depth"), Stream("action"), sees={"video+depth": ()})


class Asked(TorchDispatchMode):
    """Counts the operations whose answer Python waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").partition(".")[0]
        if name in ASKED:
            self.ops.append(name)
        return func(*args, **(kwargs or {}))


def model(backbone, **changes) -> WorldModel:
    parts = {"conditions": TEXT, "modulation": Local(shared=isinstance(backbone, Wan)), "law": Independent()}
    return awake(recipe(**parts | ({"backbone": backbone} if backbone else {}) | changes).build())


@pytest.mark.parametrize("backbone", [None, Wan(width=32, depth=2, heads=2, feedforward=64)], ids=["dit", "wan"])
@pytest.mark.parametrize("texts", [["open", "shut"], ["open", "a longer one"]], ids=["even", "uneven"])
@pytest.mark.parametrize("layout", [None, LAYOUT], ids=["free", "sees"])
def test_no_forward_pass_asks(backbone, texts, layout, monkeypatch: pytest.MonkeyPatch) -> None:
    made = model(backbone, **({"layout": layout} if layout else {}))
    calls, without = [], []
    plain, drop = type(made).forward, made.conditioner.without

    def forward(*args, **kwargs):
        with Asked() as asked:
            out = plain(made, *args, **kwargs)
        calls.append(asked.ops)
        return out

    monkeypatch.setattr(made, "forward", forward)
    monkeypatch.setattr(made.conditioner, "without", lambda *a: without.append(1) or drop(*a))
    given = {"text": texts, "note": texts, "state": torch.zeros(2, 1, 3), "video": torch.randn(2, 4, 4, 4, 3)}
    guides = [Guide(weight=1.0, drop={"text", "note"}), Guide(weight=1.0, drop={"text"}, instead={"text": "no"})]
    for query, more in (("action | video, depth, text, note, state", {"depth": torch.randn(2, 4, 4, 4, 1)}),
                        ("action, depth | video, text, note, state", {})):  # fmt: skip
        sample(made, query, steps=3, decode=False, **given, **more)
        sample(made, query, steps=3, decode=False, guides=guides, guide_batch=2, **given, **more)
    assert len(calls) >= 18 and not any(calls), calls
    assert len(without) == 4, "what a guide drops is looked up once for a call, not at every step"


def test_what_is_known_of_masks_is_what_they_say() -> None:
    """`Given.whole` beside the masks themselves, after all that is done to them."""
    from polyclock.conditioning import stack

    made = model(None)
    rows = {n: torch.arange(2) for n in ("text", "note", "state")}
    givens = []
    for texts in (["open", "shut"], ["open", "a longer one"], ["a", "b"]):
        given = made.conditioner({"text": texts, "note": texts, "state": torch.zeros(2, 1, 3)}, rows, 2)
        givens += [given, made.conditioner.without(given, ["note"])]
    some = made.conditioner({"text": ["open"]}, {"text": torch.tensor([1])}, 2)
    for given in (*givens, some, *(stack([a, b]) for a in givens for b in givens)):
        assert given.whole == {n for n in ("text", "note") if given.masks[n].all()}
    assert givens[0].whole == {"text", "note"} and givens[2].whole == set()
