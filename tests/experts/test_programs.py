"""RAFT and DensePose come from the user: a function or a TorchScript file, in a stated form, else one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from moving_clips import shifting

from polyclock.experts.densepose import DensePose
from polyclock.experts.raft import Raft


class Constant(torch.nn.Module):
    """Says that everything moves 3 px to the right and 1 px up, in steps as RAFT does."""

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> list[torch.Tensor]:
        flow = torch.tensor([3.0, -1.0]).view(1, 2, 1, 1).expand(first.shape[0], 2, first.shape[2], first.shape[3])
        return [flow * 0.5, flow]


class Bright(torch.nn.Module):
    """Part 3 where red is bright; u and v are green and blue."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        part = (pictures[:, :1] > 128).float() * 3
        return torch.cat([part, pictures[:, 1:] / 255], 1)


def script(module: torch.nn.Module, path: Path) -> str:
    torch.jit.script(module).save(str(path))
    return str(path)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_network_as_torchscript_and_as_a_function_say_the_same(tmp_path: Path) -> None:
    path, clip = script(Constant(), tmp_path / "raft.pt"), shifting(5, (3, -1), (45, 61))
    raft = Raft(weights=path, batch=2)
    flow = raft(clip)
    assert flow.shape == (5, 45, 61, 3) and np.allclose(flow[:4, ..., :2], (3, -1)) and (flow[4] == 0).all()
    assert flow[:4, ..., 2].mean() == 1, "a flow back that is the same as that there is no way back"
    assert (Raft(network=Constant(), name="constant")(clip) == flow).all()
    assert raft.fingerprint == Raft(weights=path, batch=7).fingerprint != Raft(weights=path, steps=2).fingerprint
    names = {Raft(network=Constant(), name=n).fingerprint for n in ("a", "b")}
    assert len(names | {raft.fingerprint}) == 3


def test_what_the_network_sees_is_scaled_and_padded() -> None:
    seen: list[torch.Tensor] = []

    def network(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        seen.append(first)
        return first[:, :2] * 0

    Raft(network=network, name="x", occlusion=False)(shifting(2, (0, 0), (45, 61)))
    assert seen[0].shape == (1, 3, 48, 64) and -1 <= float(seen[0].min()) < -0.5 < 0.5 < float(seen[0].max()) <= 1


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_surface_maps(tmp_path: Path) -> None:
    clip = shifting(3, (1, 0))
    found = DensePose(weights=script(Bright(), tmp_path / "d.pt"))(clip)
    seen = clip[..., 0] > 128
    assert found.shape == clip.shape and ((found[..., 0] == 3) == seen).all() and (found[~seen] == 0).all()
    assert np.allclose(found[seen][:, 1:], clip[seen][:, 1:] / 255, atol=1e-6)
    assert DensePose(network=Bright(), name="x").note["parts"]["3"] == "right hand"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Raft().fingerprint, "RAFT's network must be given: .* there is flow=dis"),
        (lambda: Raft(weights="none.pt").fingerprint, "none.pt is not there; RAFT's network must be given"),
        (lambda: Raft(network=Constant()).fingerprint, "needs name='...'"),
        (lambda: Raft(network=lambda a, b: a, name="x")(shifting(2, (0, 0))), r"the network gave \(1, 3, 48, 64\)"),
        (
            lambda: Raft(network=Constant(), weights=__file__)(shifting(2, (0, 0))),
            "a network and a file; possible: one",
        ),
        (lambda: Raft(network=Constant(), name="x")(shifting(1, (0, 0))[:0]), "a clip without frames"),
        (lambda: DensePose().fingerprint, "DensePose's network must be given"),
        (lambda: DensePose(network=lambda x: x, name="x")(shifting(1, (0, 0))), "the network gave part 2.*0 to 24"),
    ],
)
def test_what_is_lacking_is_said_in_one_sentence(make, message: str) -> None:
    with pytest.raises(ValueError, match=f"^[^\n]*{message}[^\n]*$"):
        make()


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"not a program")
    with pytest.raises(ValueError, match="x.pt is no TorchScript file"):
        Raft(weights=str(tmp_path / "x.pt"))(shifting(2, (0, 0)))
