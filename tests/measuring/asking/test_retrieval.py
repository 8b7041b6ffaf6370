"""Retrieval finds the passage that answers, in scripts with and without spaces, and says so where there is nothing to find."""

from __future__ import annotations

from typing import Any

import pytest

import addenda
from addenda.core.errors import DataError
from addenda.measuring.asking.retrieval import Passages, words_of

PASSAGES: dict[str, tuple[list[str], dict[str, int]]] = {
    "Chinese": (
        ["北京是中国的首都，有故宫和长城。", "上海是中国最大的城市，位于长江口。", "熊猫喜欢吃竹子，住在四川的山里。"],
        {"中国的首都是哪里？": 0, "熊猫吃什么？": 2, "最大的城市": 1},
    ),
    "Japanese": (
        ["東京は日本の首都です。", "富士山は日本で一番高い山です。", "寿司は米と魚で作ります。"],
        {"日本の首都はどこですか": 0, "一番高い山は？": 1, "寿司の作り方": 2},
    ),
    "Thai": (
        ["กรุงเทพเป็นเมืองหลวงของไทย", "ช้างเป็นสัตว์ประจำชาติ", "ข้าวผัดทำจากข้าวและไข่"],
        {"เมืองหลวงของไทยคืออะไร": 0, "ช้างคือสัตว์อะไร": 1, "ข้าวผัดทำอย่างไร": 2},
    ),
    "Hindi": (["दिल्ली भारत की राजधानी है।", "हाथी बड़ा जानवर है।"], {"भारत की राजधानी": 0, "बड़ा जानवर": 1}),
    "Korean": (
        ["서울은 대한민국의 수도입니다.", "한라산은 제주도에 있습니다."],
        {"수도는 어디": 0, "한라산": 1},
    ),
    "German": (
        ["Die Straße führt nach Köln.", "Der Bär schläft im Winter."],
        {"Wohin führt die Straße?": 0, "der BÄR": 1},
    ),
    "mixed": (["GPU的内存是139GiB。", "CPU有十六个核。"], {"ＧＰＵ 内存": 0, "几个核": 1}),
}


@pytest.fixture(scope="module")
def base() -> addenda.Base:
    return addenda.load_base("tiny")


@pytest.mark.parametrize("language", PASSAGES)
def test_the_right_passage_is_found(language: str, base: addenda.Base) -> None:
    passages, asked = PASSAGES[language]
    index = Passages(base, passages)
    for question, wanted in asked.items():
        assert index.search(question)[0] == index.passages[wanted]
        assert len(index.search(question, count=9)) <= len(passages)
    assert index.search("?? !!") == []
    assert index.search("xyzzy") == []


@pytest.mark.parametrize("empty", ["... !!! ???", "，。！", "the of and", "a b c", "\u200b\u200d", "☃ → ∑"])
def test_passages_without_words_are_left_out(empty: str, base: addenda.Base) -> None:
    with pytest.raises(DataError, match="holds no words that count"):
        Passages(base, [empty])
    index = Passages(base, [empty, "The heart pumps blood."])
    assert index.passages == ["The heart pumps blood."]
    assert index.search("heart") == index.passages
    assert index.search(empty) == []


def test_english_words_are_those_of_bm25s() -> None:
    import bm25s

    text = "The patient's heart-rate was 72.5 (p<0.01); don't stop_it, naïve façade of A B."
    tokenized: Any = bm25s.tokenize([text], stopwords="en", show_progress=False)
    assert words_of(text) == list(tokenized.vocab)
