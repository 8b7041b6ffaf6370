"""Prompts: begun as the tokenizer begins a text, never closed, in every path; and ids without an embedding are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tokenizers import processors

import addenda
from addenda.core.errors import DataError
from addenda.measuring.asking.options import likelihoods
from addenda.measuring.asking.written import written
from addenda.measuring.looking.activity import activity
from addenda.showing.conversation import Conversation
from addenda.showing.generating import generate, side_by_side
from addenda.text.prompting import chats, marks, prompt_ids, unclosed
from pico import BOS, EOS, PAD, UNK, VOCAB, pico, pico_tokenizer


def closing(single: str) -> Any:
    """A pico tokenizer whose post-processor puts tokens around a text: `<bos> $A <eos>`."""
    tokenizer = pico_tokenizer()
    names = {"<pad>": PAD, "<bos>": BOS, "<eos>": EOS, "<unk>": UNK}
    tokens = [(name, number) for name, number in names.items() if name in single]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=tokens)
    return tokenizer


def class_closing() -> Any:
    """A tokenizer that closes texts by its setting `add_eos_token`, as Llama's does."""
    from transformers import LlamaTokenizer

    vocab = pico_tokenizer().get_vocab()
    own = LlamaTokenizer(
        vocab=vocab, merges=[], bos_token="<bos>", eos_token="<eos>", unk_token="<unk>", add_bos_token=True,
        add_eos_token=True,
    )  # fmt: skip
    own.pad_token = "<pad>"
    own.chat_template = pico_tokenizer().chat_template
    return own


SORTS: dict[str, tuple[Callable[[], Any], list[int], list[int]]] = {
    "neither": (pico_tokenizer, [], []),
    "bos": (lambda: closing("<bos> $A"), [BOS], []),
    "eos": (lambda: closing("$A <eos>"), [], [EOS]),
    "both": (lambda: closing("<bos> $A <eos>"), [BOS], [EOS]),
    "another": (lambda: closing("<pad> <bos> $A <eos> <unk>"), [PAD, BOS], [EOS, UNK]),
    "add_eos_token": (class_closing, [BOS], [EOS]),
}


@pytest.fixture(params=SORTS)
def sort(request: pytest.FixtureRequest) -> tuple[Any, list[int], list[int]]:
    """A tokenizer, what it opens a text with, and what it closes one with."""
    make, opens, closes = SORTS[request.param]
    return make(), opens, closes


@pytest.mark.parametrize("text", ["the patients", "", "<eos>", "the<bos> end<eos>", "  a "])
def test_a_prompt_is_opened_and_not_closed(sort: Any, text: str) -> None:
    tokenizer, opens, closes = sort
    assert marks(tokenizer) == (opens, closes)
    whole = tokenizer(text)["input_ids"]
    assert [*prompt_ids(tokenizer, text), *closes] == whole
    assert unclosed(tokenizer, whole, text) == prompt_ids(tokenizer, text)
    bare = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert unclosed(tokenizer, bare, text) == bare


def twin(sort: Any) -> tuple[Any, Any]:
    """Two bases of one model: with the tokenizer, and with one that opens texts alike and closes none."""
    tokenizer, opens, _ = sort
    other = SORTS["add_eos_token"][0]() if type(tokenizer).__name__.startswith("Llama") else pico_tokenizer()
    names = other.convert_ids_to_tokens(opens)
    template = processors.TemplateProcessing(
        single=" ".join([*names, "$A"]), special_tokens=list(zip(names, opens, strict=True))
    )
    other.backend_tokenizer.post_processor = template
    return addenda.attach(pico("llama"), tokenizer), addenda.attach(pico("llama"), other)


def test_every_path_is_that_of_a_tokenizer_that_closes_nothing(sort: Any) -> None:
    closed, plain = twin(sort)
    assert torch.equal(closed.tokenize("the patients"), plain.tokenize("the patients"))
    for ask in (
        lambda base: likelihoods(base, "the patients", ["were", "an inn"]),
        lambda base: likelihoods(base, "", ["were"]),
        lambda base: generate(base, ["the patients"], raw=True, max_tokens=8),
        lambda base: generate(base, ["the patients"], max_tokens=8),
        lambda base: side_by_side(base, ["the patients"], {"base": {}}, raw=True, max_tokens=8),
        lambda base: written(base, ["the patients", "a"], tokens=8),
        lambda base: Conversation(base, raw=True, max_tokens=8).say("the patients"),
        lambda base: Conversation(base, max_tokens=8).say("the patients"),
        lambda base: [one.tolist() for one in base.prompts(["the patients", "a"], raw=True).values()],
    ):
        assert ask(closed) == ask(plain)


def test_a_prompt_with_its_completion_is_one_text(sort: Any) -> None:
    from addenda.text.encoding import Encoder

    tokenizer, opens, _ = sort
    tokenizer.chat_template = None
    coded = Encoder(tokenizer, VOCAB).one({"prompt": "the", "completion": " inn"})
    head = [*opens, *tokenizer("the", add_special_tokens=False)["input_ids"]]
    tail = [*tokenizer(" inn", add_special_tokens=False)["input_ids"], EOS]
    assert coded.ids.tolist() == [*head, *tail]
    assert coded.weights.tolist() == [0] * len(head) + [1] * len(tail)


def test_lm_eval_asks_alike(sort: Any) -> None:
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance

    from addenda.measuring.conducting.harness import AddendaLM

    answers = []
    for base in twin(sort):
        model = AddendaLM(base=base, batch_size=2)
        model.pad = None
        pair = Instance("loglikelihood", {}, ("the patients", " were"), 0)
        go_on = [
            Instance("generate_until", {}, (text, {"until": ["\n"], "max_gen_toks": 6}), 0)
            for text in ("the", "an inn")
        ]
        answers.append((model.loglikelihood([pair]), model.generate_until(go_on), model.tok_encode("the")))
    assert answers[0] == answers[1]


def test_lm_eval_gets_plain_ids_whatever_the_models_settings_return() -> None:
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance

    from addenda.measuring.conducting.harness import AddendaLM

    base = addenda.attach(pico("llama"), pico_tokenizer())
    ask = [Instance("generate_until", {}, ("the", {"until": ["\n"], "max_gen_toks": 6}), 0)]
    plain = AddendaLM(base=base, batch_size=1).generate_until(ask)
    base.model.generation_config.update(return_dict_in_generate=True, output_scores=True, stop_strings=["the"])
    assert AddendaLM(base=base, batch_size=1).generate_until(ask) == plain


def test_words_stand_with_their_tokens_whatever_is_put_around(sort: Any) -> None:
    base = addenda.attach(pico("llama"), sort[0])
    base.new("m", addenda.LoRA(rank=2))
    seen = activity(base, "m", "the patients sang")
    assert "".join(seen.tokens) == "the patients sang"
    assert seen.values.shape[1] == len(seen.tokens) == len(base.tokenize("the patients sang"))


def test_prompts_are_padded_on_the_left_and_answered_as_if_alone() -> None:
    base = addenda.attach(pico("llama"), pico_tokenizer(padding_side="right"))
    texts = ["the patients were", "a", "of the inn and the"]
    for raw in (True, False):
        batch = base.prompts(texts, raw=raw)
        assert batch["input_ids"].shape == batch["attention_mask"].shape == (3, batch["input_ids"].shape[1])
        assert bool((batch["attention_mask"][:, -1] == 1).all())
        out = base.model.generate(**batch, max_new_tokens=6, do_sample=False)[:, batch["input_ids"].shape[1] :]
        alone = [generate(base, [text], raw=raw, max_tokens=6)[0].text for text in texts]
        assert base.tokenizer.batch_decode(out, skip_special_tokens=True) == alone
    assert base.prompts(texts)["input_ids"].tolist() == base.prompts(texts, raw=False)["input_ids"].tolist()
    for wrong in ([], "the patients"):
        with pytest.raises(addenda.AddendaError, match="a list of texts"):
            base.prompts(wrong)
    with pytest.raises(addenda.AddendaError, match="no token"):
        base.prompts(["the", ""], raw=True)


def test_a_template_that_was_never_learned_is_not_taken_by_default() -> None:
    tokenizer = pico_tokenizer()
    assert chats(tokenizer)
    tokenizer.init_kwargs["chat_learned"] = False
    assert not chats(tokenizer)
    tokenizer = pico_tokenizer()
    tokenizer.chat_template = None
    assert not chats(tokenizer)


# --- ids that the model has no embedding for --------------------------------------------------------------------------


@pytest.fixture
def outgrown() -> Any:
    """A base whose tokenizer was given a token that the model has no embedding for."""
    tokenizer = pico_tokenizer()
    while len(tokenizer) <= VOCAB:
        tokenizer.add_tokens([f"@{len(tokenizer)}@"])
    base = addenda.attach(pico("llama"), tokenizer)
    base.new("m", addenda.LoRA(rank=2))
    return base


WORD = f"the @{VOCAB}@ end"
IDS = torch.tensor([[5, VOCAB, 6]])
PATHS: dict[str, Callable[[Any], Any]] = {
    "tokenize": lambda base: base.tokenize(WORD),
    "prompts": lambda base: base.prompts([WORD]),
    "perplexity": lambda base: addenda.perplexity(base, [WORD]),
    "generate": lambda base: generate(base, [WORD]),
    "generate, raw": lambda base: generate(base, [WORD], raw=True),
    "side by side": lambda base: side_by_side(base, [WORD], {"m": "m"}),
    "chat": lambda base: Conversation(base).say(WORD),
    "chat, raw": lambda base: Conversation(base, raw=True).say(WORD),
    "likelihoods": lambda base: likelihoods(base, "the", [WORD]),
    "written": lambda base: written(base, [WORD]),
    "train": lambda base: addenda.train(base, "m", corpus=[WORD] * 40, tokens=64, length=16, batch_rows=2),
    "memorize": lambda base: addenda.memorize(base, "m", text=[WORD * 20], window=32, chunk=16),
    "activity": lambda base: activity(base, "m", WORD),
    "a start from text": lambda base: base.new("c", addenda.Cartridge(count=4, init="text"), text=WORD),
    "rows, generate": lambda base: base.model.generate(IDS, max_new_tokens=2),
    "rows, a forward": lambda base: base.model(input_ids=IDS),
    "a trainable": lambda base: base.trainable("m")(input_ids=IDS),
}


@pytest.mark.parametrize("path", PATHS)
def test_an_id_without_an_embedding_is_refused_in_every_path(path: str, outgrown: Any) -> None:
    with (
        outgrown.rows([{"m": 1.0}]),
        pytest.raises(DataError, match=f"token id {VOCAB}.*vocabulary has {VOCAB} entries"),
    ):
        PATHS[path](outgrown)


@pytest.mark.parametrize("arch", ["gpt2", "opt"])
def test_other_architectures_too(arch: str) -> None:
    base = addenda.attach(pico(arch), pico_tokenizer())
    base.new("m", addenda.LoRA(rank=2))
    with base.using("m"), pytest.raises(DataError, match="does not match the base"):
        base.model(IDS)
