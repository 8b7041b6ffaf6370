"""Spectrum: the four numbers of covariances that are known, what does not change them, and real modules beside their hosts."""

from __future__ import annotations

import math

import pytest
import torch

import addenda
from addenda.core.errors import AddendaError
from addenda.measuring.looking.spectrum import divergence, shares_of, spectrum, spectrum_of


def rotation(d: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q


def test_equal_directions_are_all_used() -> None:
    found = spectrum_of(torch.eye(16), torch.eye(16) * 3)
    assert found.entropy == pytest.approx(math.log(16))
    assert found.participation == pytest.approx(16)
    assert found.early == pytest.approx(0, abs=1e-12)
    assert found.shift == pytest.approx(0, abs=1e-12)


def test_one_direction_is_a_collapse() -> None:
    covariance = torch.zeros(16, 16)
    covariance[3, 3] = 5.0
    found = spectrum_of(covariance)
    assert found.entropy == pytest.approx(0, abs=1e-12)
    assert found.participation == pytest.approx(1)
    assert found.early == pytest.approx(15 / 16)
    assert found.shift is None


def test_scale_and_rotation_change_nothing() -> None:
    covariance = torch.diag(torch.arange(1, 9, dtype=torch.float64))
    turned = rotation(8) @ covariance @ rotation(8).T * 100
    one, other = spectrum_of(covariance), spectrum_of(turned)
    assert (one.entropy, one.participation, one.early) == pytest.approx(
        (other.entropy, other.participation, other.early)
    )


def test_the_divergence_is_symmetric_and_bounded() -> None:
    p, q = shares_of(torch.diag(torch.tensor([1.0, 0, 0, 0]))), shares_of(torch.eye(4))
    assert divergence(p, q) == pytest.approx(divergence(q, p))
    assert 0 < divergence(p, q) < math.log(2)
    assert divergence(p, p) == 0


def test_what_never_varies_uses_no_direction() -> None:
    found = spectrum_of(torch.zeros(4, 4))
    assert (found.entropy, found.participation, found.early) == (0, 0, 0)


@pytest.fixture(scope="module")
def base() -> addenda.Base:
    return addenda.load_base("tiny", dtype=torch.float32)


def test_units_and_what_they_add_are_looked_at_beside_their_host(base: addenda.Base) -> None:
    base.new("book", addenda.LocasGLU(8, init="random", scale=16.0))
    with torch.no_grad():
        for parameter in base.modules["book"].parameters():
            if parameter.shape[0] == 8:
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    found = spectrum(base, "book", "general_valid", tokens=1024)
    base.unplug("book")
    assert [one.site for one in found] == [f"layers.{n}.ffn" for n in range(6)]
    for one in found:
        assert one.host is not None
        assert one.module is not None
        assert one.added is not None
        assert one.host.dimensions == 1024
        assert one.module.dimensions == 8
        assert 1 < one.module.participation <= 8 + 1e-9
        assert one.added.participation <= 8 + 1e-9  # no more directions than it has units
        assert one.host.participation > one.module.participation
        assert one.module.shift is not None


@pytest.mark.slow
def test_what_other_kinds_add_is_measured_too(base: addenda.Base) -> None:
    base.new("thin", addenda.LoRA(1))
    with torch.no_grad():
        for parameter in base.modules["thin"].parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    found = spectrum(base, "thin", "general_valid", tokens=512)
    base.unplug("thin")
    for one in found:
        assert one.module is None
        assert one.added is not None
        assert one.added.participation == pytest.approx(1, abs=1e-6)  # rank 1
    base.new("slots", addenda.Registers(4))
    assert all(one.added is None for one in spectrum(base, "slots", "general_valid", tokens=512))
    base.unplug("slots")


def test_an_unknown_module_is_told(base: addenda.Base) -> None:
    with pytest.raises(AddendaError, match="no module 'none'"):
        spectrum(base, "none", "general_valid")
