"""Fixtures of the laws: one shared model per architecture, given back as it was by every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("conformance.world", "conformance.client")

from conformance.client import OtherProcess  # noqa: E402
from conformance.kinds import CASES, REFUSED  # noqa: E402
from conformance.world import Subject, subject_of  # noqa: E402


@pytest.fixture(scope="session")
def other() -> Iterator[OtherProcess]:
    """Another process, which forks for every request."""
    made = OtherProcess()
    yield made
    made.close()


@pytest.fixture
def subject(arch: str, case: str) -> Iterator[Subject]:
    """A subject with one perturbed module, `m`, plugged and not selected."""
    assert case in CASES
    assert (arch, case) not in REFUSED
    with subject_of(arch, case) as made:
        made.plug("m")
        yield made
