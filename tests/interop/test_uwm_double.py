"""In float64 a checkpoint of the authors' is ours to rounding: what float32 leaves open is rounding and nothing else.

The golden numbers are what their own code said in float64 (`tools/make_uwm_golden.py`). Pictures and latents are given
to both as they are: what comes before them is the business of `test_uwm_import`.
"""

from __future__ import annotations

import pytest
from test_uwm_golden import QUICK
from test_uwm_import import SAMPLERS, Bounds, Imported, check_features, check_loss, check_network, check_sampler

import uwm_weights as numbers

EXACT = Bounds(output=1e-12, sample=1e-12, gradient=1e-12)  # what differs is at most 5e-14 on the CPU that ran this


@pytest.fixture(scope="module", params=QUICK)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    return Imported(request.param, tmp_path_factory.mktemp("uwm"), double=True)


def test_features(case: Imported) -> None:
    check_features(case, EXACT)


def test_the_network(case: Imported) -> None:
    check_network(case, EXACT)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers(case: Imported, name: str) -> None:
    latents = numbers.future(case.golden.name, case.golden.sizes)
    check_sampler(case, name, latents, case.golden.draws(name), EXACT)


@pytest.mark.parametrize("name", ["loss", "loss_absent"])
def test_losses_and_gradients(case: Imported, name: str) -> None:
    latents = numbers.future(case.golden.name, case.golden.sizes)
    check_loss(case, name, {}, latents, case.golden.draws(name), EXACT)
    assert f"{name}.projections" in case.golden.tensors
