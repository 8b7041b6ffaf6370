"""Recipes that are no study of their own: what their pages tell."""

from __future__ import annotations

import importlib


def test_retrieval_stands_beside_modules(recipes: None) -> None:
    """The page tells of each method what it learned and read ahead, and what the bare base can read at best."""
    from types import SimpleNamespace

    from addenda.telling.intervals import Interval

    retrieval = importlib.import_module("recipes.against_retrieval")

    def row(name: str, parameters: int, ahead: int) -> SimpleNamespace:
        one = Interval(0.25, 0.2, 0.3, 9)
        numbers = dict.fromkeys(("learned", "forgotten", "prefill", "decode"), one)
        return SimpleNamespace(method=name, parameters=parameters, extra_tokens=ahead, **numbers)

    found = SimpleNamespace(
        rows=[row("base", 0, 0), row("lora", 1000, 0), row("rag", 0, 128)],
        facts={"tokens": "many", "learning measured on": "articles: 28 documents"},
        remarks=("a remark",),
    )
    shares = {name: Interval(0.1, 0.0, 0.2, 25) for name in ("closed", "offline", "online", "oracle")}
    text = retrieval.page(found, shares, "Computed on: a CPU.")
    number = "0.250 [0.200, 0.300]"
    assert f"| lora | {number} | {number} | 1,000 | - | 0.25 [0.20, 0.30] | 0.25 [0.20, 0.30] |" in text
    assert f"| rag | {number} | {number} | - | 128 |" in text
    assert "| base |" not in text
    assert text.count("| 0.100 [0.000, 0.200] |") == 3
    assert "articles: 28 documents" in text
    assert "a remark" in text
