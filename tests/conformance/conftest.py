"""Fixtures of the laws: one shared model per architecture, given back as it was by every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance.client import OtherProcess
from conformance.kinds import CASES, REFUSED
from conformance.world import TIES, Subject, subject_of


@pytest.fixture(scope="session")
def other() -> Iterator[OtherProcess]:
    """Another process, which forks for every request."""
    made = OtherProcess()
    yield made
    made.close()


@pytest.fixture(scope="session", autouse=True)
def ties_are_rare() -> Iterator[None]:
    """At the end of each worker's session: few of its token comparisons were cut short by a tie."""
    yield
    assert TIES.stopped <= max(2, 0.01 * TIES.compared), f"{TIES}: too many comparisons were cut short"


@pytest.fixture
def subject(arch: str, case: str) -> Iterator[Subject]:
    """A subject with one perturbed module, `m`, plugged and not selected."""
    assert case in CASES
    assert (arch, case) not in REFUSED
    with subject_of(arch, case) as made:
        made.plug("m")
        yield made
