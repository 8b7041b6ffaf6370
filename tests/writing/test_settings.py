"""Settings are checked before anything is read."""

from __future__ import annotations

import math
from typing import Any

import pytest

from addenda.core.errors import AddendaError, TrainingError
from addenda.writing.settings import Settings, compare, settings_from


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(AddendaError, match=r"train has no setting 'warm_up'; .*did you mean 'warmup'\?"):
        settings_from({"warm_up": 0.1})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"batch_rows": "many"}, "'batch_rows'"),
        ({"batch_rows": 0}, "'batch_rows' must be at least 1; got 0"),
        ({"length": 1}, "'length' must be at least 2"),
        ({"precision": "fp8"}, "'precision'"),
        ({"objective": "rl"}, "no objective is called 'rl'; there are distill, lm, on_policy, reverse_kl"),
        ({"local": -1.0}, "'local' must be not negative"),
        ({"local": math.inf}, "'local' must be not negative, and finite"),
        ({"weight_decay": math.nan}, "'weight_decay' must be not negative, and finite"),
        ({"clip": math.inf}, "'clip' must be positive, or None for no clipping"),
        ({"warmup": 2.0}, "'warmup' must be a share"),
        ({"clip": 0.0}, "'clip' must be positive, or None"),
        ({"patience": 3}, "'patience' must be None where there is no validation"),
        ({"licence": " "}, "'licence' must be words, or None"),
        ({"validation": ["a"]}, "'validation' must be texts by name"),
    ],
)
def test_a_value_out_of_range(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(AddendaError, match=told):
        settings_from(wrong)


def test_plain_settings_hold_what_decides_what_is_learned() -> None:
    given = {"clip": None, "validation": {"b": ["text"], "a": ["text"]}, "log": False, "keep": 9, "licence": "cc0-1.0"}
    plain = settings_from(given).plain()
    assert plain["validation"] == ["a", "b"]
    assert plain["clip"] is None
    assert not {"log", "keep", "tracker", "checkpoint_every", "licence"} & plain.keys()


def test_a_resumption_says_what_differs() -> None:
    one, two = Settings(batch_rows=8).plain(), Settings(batch_rows=4, precision="bf16").plain()
    compare(one, Settings(batch_rows=8, log=False, checkpoint_every=3).plain())
    with pytest.raises(TrainingError, match=r"batch_rows: 8 then, 4 now; precision: 'fp32' then, 'bf16' now"):
        compare(one, two)
