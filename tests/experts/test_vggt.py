"""VGGT's path on a tiny random network with the output layout of the published aggregator."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from moving_clips import shifting
from safetensors.torch import save_file
from torch import Tensor, nn

from polyclock.commands.annotate import parse_experts
from polyclock.experts.projected import Projected
from polyclock.experts.vggt import Vggt

CLIP = shifting(9, (2, 1), (45, 61))
SPECIAL = 5  # a camera token and four registers before the patches


class Aggregator(nn.Module):
    """(1, S, 3, h, w) in [0, 1] -> tokens (1, S, 5 + patches, 2048) of three layers, and 5.

    The last layer's tokens hold the mean colour of a patch, and what the frames seen at once have in common.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, 1024, 14, 14)
        self.special = nn.Parameter(torch.randn(1, 1, SPECIAL, 1024))

    def forward(self, pictures: Tensor) -> tuple[list[Tensor], int]:
        b, s = pictures.shape[:2]
        patches = self.embed(pictures.flatten(0, 1)).flatten(2).mT.unflatten(0, (b, s))
        own = torch.cat([self.special.expand(b, s, -1, -1), patches], 2)
        together = own + own.mean((1, 2), keepdim=True)
        both = torch.cat([own, together], 3)
        return [both * 0.0, both * 0.5, both], 5


@pytest.fixture(scope="module")
def network() -> Aggregator:
    return Aggregator().eval().requires_grad_(False)


def test_features_are_the_patch_tokens_of_the_last_layer(network: Aggregator) -> None:
    expert = Vggt(network=network, name="tiny", size=(42, 56))
    found = expert(CLIP)
    assert found.shape == (9, 3, 4, 2048) and found.dtype == np.float32 and expert.after is None
    layers, first = network(torch.full((1, 9, 3, 42, 56), 127 / 255))
    told = expert(np.full((9, 42, 56, 3), 127, np.uint8))
    wanted = layers[-1][0, :, first:].unflatten(1, (3, 4))
    assert np.abs(told - wanted.numpy()).max() < 1e-5, "pictures come in [0, 1]"
    half = Vggt(network=network, name="tiny", size=(42, 56), layer=1)(CLIP)
    np.testing.assert_allclose(half, found / 2, rtol=1e-6)


def test_the_published_width_is_the_default(network: Aggregator) -> None:
    assert Vggt(network=network, name="tiny")(CLIP[:1]).shape == (1, 27, 37, 2048)


def test_frames_of_a_call_are_a_number(network: Aggregator) -> None:
    seen: list[int] = []

    def counted(pictures: Tensor) -> tuple[list[Tensor], int]:
        seen.append(pictures.shape[1])
        return network(pictures)

    whole = Vggt(network=counted, name="tiny", size=(42, 56))(CLIP)
    assert seen == [9]
    pieces = Vggt(network=counted, name="tiny", size=(42, 56), frames=4)(CLIP)
    assert seen == [9, 4, 4, 4], "the last ones have company"
    np.testing.assert_allclose(pieces[..., :1024], whole[..., :1024], atol=1e-5)
    assert np.abs(pieces[..., 1024:] - whole[..., 1024:]).max() > 1e-3, "what is common to the frames differs"
    alone = Vggt(network=network, name="tiny", size=(42, 56), frames=4)
    np.testing.assert_allclose(pieces[8], alone(CLIP[5:9])[3], atol=1e-5)
    keys = Vggt(network=counted, name="tiny", size=(42, 56), every=4)(CLIP)
    assert seen[-1] == 3 and keys.shape == whole.shape
    of = [0, 1, 1, 1, 1, 2, 2, 2, 2]
    np.testing.assert_array_equal(keys, Vggt(network=network, name="tiny", size=(42, 56))(CLIP[::4])[of])


def test_a_torchscript_file(network: Aggregator, tmp_path: Path) -> None:
    path = tmp_path / "tiny.pt"
    torch.jit.script(network).save(path)
    expert = Vggt(weights=str(path), size=(42, 56))
    given = Vggt(network=network, name="tiny", size=(42, 56))
    np.testing.assert_allclose(expert(CLIP), given(CLIP), atol=1e-5)
    assert len({expert.fingerprint, given.fingerprint, Vggt(weights=str(path)).fingerprint}) == 3
    (made,) = parse_experts([f"geometry=vggt:{path}?size=42x56&frames=4&components=6&scale=channel"]).values()
    assert isinstance(made, Projected) and (made.components, made.scale, made.expert.frames) == (6, "channel", 4)
    (whole,) = parse_experts([f"geometry:{path}?components=0"]).values()
    assert isinstance(whole, Vggt) and whole.note == {"kind": "features"}


def test_an_installed_package(network: Aggregator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is the user's; here one of the same names stands in for it."""
    (tmp_path / "vggt").mkdir()
    expert = Vggt(weights=str(tmp_path / "vggt"), size=(42, 56))
    with pytest.raises(ValueError, match="holds no model.safetensors"):
        _ = expert.fingerprint
    save_file(network.state_dict(), tmp_path / "vggt" / "model.safetensors")
    assert len(expert.fingerprint) == 64
    monkeypatch.setitem(sys.modules, "vggt", None)
    with pytest.raises(ImportError, match="the package vggt is not installed"):
        expert(CLIP)

    class VGGT(nn.Module):
        @classmethod
        def from_pretrained(cls, folder: str) -> VGGT:
            assert folder == str(tmp_path / "vggt")
            made = cls()
            made.aggregator = network
            return made

    module = types.ModuleType("vggt.models.vggt")
    module.VGGT = VGGT
    for name in ("vggt", "vggt.models"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "vggt.models.vggt", module)
    np.testing.assert_allclose(expert(CLIP), Vggt(network=network, name="tiny", size=(42, 56))(CLIP), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Vggt().fingerprint, "VGGT's aggregator must be given"),
        (lambda: Vggt(network=print).fingerprint, "needs name="),
        (lambda: Vggt(weights="no/such.pt").fingerprint, "no/such.pt is not there"),
        (lambda: Vggt(size=(40, 56)), "must be multiples of 14"),
        (lambda: Vggt(every=0), "frames=0, every=0"),
        (lambda: Vggt(network=lambda x: (x, 5), name="x")(CLIP), r"the network gave \(1, 9, 3"),
        (
            lambda: Vggt(network=lambda x: (x[:, :, 0], 5), name="x", size=(42, 56))(CLIP),
            r"the network gave \(1, 9, 42, 56\)",
        ),
        (lambda: Vggt(network=print, name="x")(CLIP.astype(float)), "frames are float64"),
    ],
)
def test_mistakes(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
