"""Remarks: what makes a figure mean less than it seems to is said, and nothing else is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from addenda.cli.compare import NAMES
from addenda.comparing.methods import METHODS
from addenda.comparing.overlap import Overlap
from addenda.comparing.remarks import remarks_on
from addenda.comparing.settings import CompareSettings

ENOUGH = CompareSettings(tokens=50_000)


def rows(*names: str, forgotten: float = 0.0, kl: float | None = None) -> Any:
    divergence = None if kl is None else SimpleNamespace(value=kl)
    return [SimpleNamespace(method=name, forgotten=SimpleNamespace(value=forgotten), kl=divergence) for name in names]


def overlap(share: float) -> Overlap:
    return Overlap("learning", "corpus", ("held", "texts"), share, 0, 10)


def test_nothing_is_said_of_a_sound_comparison() -> None:
    assert remarks_on(rows("base", "lora", "neutral", "rag"), ENOUGH, [900, 700] * 5, True, [overlap(0.001)]) == ()


@pytest.mark.parametrize(
    ("names", "settings", "documents", "replay", "share", "told"),
    [
        (["lora"], CompareSettings(tokens=2100), [900] * 10, True, 0.0, "1 step of training: too few"),
        (["lora"], CompareSettings(tokens=4096), [900] * 10, True, 0.0, "2 steps of training: too few"),
        (
            ["lora", "neutral", "registers-neutral"],
            ENOUGH,
            [900] * 10,
            False,
            0.0,
            "gates of neutral, registers-neutral were",
        ),
        (["rag"], ENOUGH, [200, 256] * 5, True, 0.0, "rag had a passage for 0% of the scored tokens"),
        (["rag"], ENOUGH, [356, 144] * 5, True, 0.0, "rag had a passage for 20% of the scored tokens"),
        (["lora"], ENOUGH, [900] * 9, True, 0.0, "What is learned is measured on 9 documents: too few"),
        (["lora"], ENOUGH, [900], True, 0.0, "measured on 1 document: too few to speak of others"),
        (["lora"], ENOUGH, [900] * 10, True, 0.4, "40.0% of the runs of 13 tokens of the text of learning, 'held'"),
    ],
)
def test_what_makes_a_figure_mean_less_is_said(
    names: list[str], settings: CompareSettings, documents: list[int], replay: bool, share: float, told: str
) -> None:
    (found,) = remarks_on(rows("base", *names), settings, documents, replay, [overlap(share)])
    assert told in found


@pytest.mark.parametrize(("forgotten", "kl", "said"), [(-0.05, 0.3, True), (0.01, 0.3, False), (-0.05, 0.001, False)])
def test_a_loss_that_falls_while_the_base_moves_is_said(forgotten: float, kl: float, said: bool) -> None:
    found = remarks_on(rows("lora", forgotten=forgotten, kl=kl), ENOUGH, [900] * 10, True, [])
    assert [f"{kl:.3f} nats of KL from the base" in one for one in found] == [True] * said


def test_one_step_of_a_method_that_does_not_train_is_no_matter() -> None:
    assert remarks_on(rows("base", "context"), CompareSettings(tokens=2100), [900] * 10, False, []) == ()


def test_the_help_names_every_method() -> None:
    assert sorted(NAMES.split(", ")) == sorted(METHODS)
