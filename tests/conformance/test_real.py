"""The laws on real pretrained models: those that were written for picos, as they are, for every kind. All are slow."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch

from addenda.bases.named import NAMED
from conformance import test_law01_off_is_off as law01
from conformance import test_law02_fresh_is_neutral as law02
from conformance import test_law03_round_trip as law03
from conformance import test_law04_cache_is_invisible as law04
from conformance import test_law05_rows_are_alone as law05
from conformance import test_law06_weights as law06
from conformance import test_law07_resume_is_exact as law07
from conformance import test_law08_merge_carries_its_proof as law08
from conformance import test_law09_only_the_module_learns as law09
from conformance import test_law10_compiled_models_see_it as law10
from conformance import test_law11_it_was_really_on as law11
from conformance import test_law12_derived_values_follow as law12
from conformance.client import OtherProcess
from conformance.kinds import CASES, MAIN
from conformance.world import REAL, subject_of

pytestmark = pytest.mark.slow
#: One configuration of every kind, and one with each gate. Not registers in the text's softmax: drawn at random they take
#: the place of the first token, to which a real model attends when it attends to nothing, and float32 rounds a hundred
#: times as coarsely (in float64 all holds).
KINDS = ("registers-neutral", "cartridge", "neutral-context", "parallel", "lora", "locas-glu")
FOLD = tuple(case for case in KINDS if case in law08.FOLDS)
COMPILED = ("lora", "neutral-context")
SUBJECTS = {2: law02.test_fresh_is_neutral, 4: law04.test_cache_is_invisible}
PAIRED = {
    1: law01.test_off_is_off,
    5: law05.test_rows_are_alone,
    6: law06.test_weights_mean_what_they_say,
    9: law09.test_only_the_module_learns,
    11: law11.test_it_was_really_on,
    12: law12.test_derived_values_follow,
}


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest) -> str:
    """The name of a real model whose packages are installed."""
    named = NAMED[request.param]
    for package, wanted, _ in named.packages:
        try:
            there = version(package) == wanted
        except PackageNotFoundError:
            there = False
        if not there:
            pytest.skip(f"{package} {wanted} is not installed: {named.command}")
    return request.param


@pytest.mark.parametrize("case", KINDS)
@pytest.mark.parametrize("law", PAIRED)
def test_a_law_holds(law: int, real: str, case: str) -> None:
    PAIRED[law](real, case)


@pytest.mark.parametrize("case", KINDS)
@pytest.mark.parametrize("law", SUBJECTS)
def test_a_law_of_plugged_modules_holds(law: int, real: str, case: str) -> None:
    with subject_of(real, case) as subject:
        subject.plug("m")
        SUBJECTS[law](subject)


def test_a_saved_module_is_the_same_in_another_process(real: str, other: OtherProcess, tmp_path: Path) -> None:
    with subject_of(real, "lora") as subject:
        law03.check_round_trip(subject, list(KINDS), other, tmp_path)


@pytest.mark.parametrize("case", KINDS)
def test_resume_is_exact(real: str, case: str, other: OtherProcess, tmp_path: Path) -> None:
    law07.check_resume(real, case, other, tmp_path)


@pytest.mark.parametrize("case", FOLD)
def test_a_merge_is_proven(real: str, case: str, tmp_path: Path) -> None:
    law08.test_every_case_that_folds_is_proven(real, case, tmp_path)


@pytest.mark.parametrize("case", COMPILED)
def test_a_compiled_model_sees_it(real: str, case: str) -> None:
    torch._dynamo.reset()
    law10.test_compiled_models_see_it(real, case)


def test_every_kind_is_here() -> None:
    kinds = {case.partition("-")[0] for case in MAIN}
    assert {case.partition("-")[0] for case in KINDS} == kinds
    assert set(KINDS) <= set(CASES)
