"""PMET's identities: what it writes is exact where nothing holds it back, small on general keys, and within its ball."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import addenda
from addenda.core.errors import AddendaError
from addenda.core.registry import build
from addenda.core.site import Seam
from addenda.editing.edit import BaseEditor, fact_of
from addenda.measuring.asking.edits import Edit
from addenda.writes.pmet import PMET, ridge
from pico import pico, pico_tokenizer

EDITS = [
    Edit(f"Patient {n}", f"Patient {n} is treated with", "aspirin", answer, (), ())
    for n, answer in enumerate(("water", "honey", "salt"))
]


def known(arch: str = "llama", prefix: str = "") -> tuple[addenda.Base, BaseEditor, list[Any]]:
    base = addenda.attach(pico(arch), pico_tokenizer())
    prefixes = [base.tokenize(prefix)] if prefix else []
    return base, BaseEditor(base), [fact_of(base, edit, prefixes) for edit in EDITS]


def sums(editor: BaseEditor, rule: PMET, base: addenda.Base) -> dict[str, Tensor]:
    return rule.collect(
        editor, [base.tokenize("the river runs past the old mill and on to the sea"), base.tokenize("a boat")]
    )


def test_without_lam_what_leaves_is_what_was_wanted() -> None:
    draw = torch.Generator().manual_seed(0)
    keys, lacking = (torch.randn(rows, 5, generator=draw, dtype=torch.float64) for rows in (24, 8))
    change = ridge(lacking, keys, torch.zeros(24, 24, dtype=torch.float64))
    torch.testing.assert_close(change @ keys, lacking)
    assert int(torch.linalg.matrix_rank(change)) == 5


def test_what_is_written_does_less_to_general_keys_the_larger_lam() -> None:
    draw = torch.Generator().manual_seed(0)
    keys, lacking, general = (
        torch.randn(r, n, generator=draw, dtype=torch.float64) for r, n in ((24, 5), (8, 5), (24, 99))
    )
    second = general @ general.T / 99
    told = [
        float((ridge(lacking, keys, lam * second) @ general).norm()) for lam in (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
    ]
    assert told == sorted(told, reverse=True)
    assert told[-1] < 0.1 * told[0]


def test_the_second_moment_is_that_of_all_tokens_at_once() -> None:
    base, editor, _ = known()
    rule = PMET(layers=(0, 1))
    found = sums(editor, rule, base)
    texts = [base.tokenize("the river runs past the old mill and on to the sea"), base.tokenize("a boat")]
    for site in rule.sites(base.anatomy):
        k = torch.cat([editor.inputs([site], ids)[site] for ids in texts]).double()
        torch.testing.assert_close(found[site], k.T @ k / len(k))


@pytest.mark.parametrize("arch", ["llama", "gpt2", "gpt_neox"])
def test_a_module_makes_the_last_ffn_give_the_targets(arch: str) -> None:
    """Through the base with its module, where nothing holds the rule back; each layer writes its share."""
    base, editor, facts = known(arch)
    rule = PMET(layers=(0, 1), lam=0.0, steps=5)
    changes = rule.solve(editor, facts, {site: torch.zeros(1) for site in rule.sites(base.anatomy)})
    kind = addenda.LoRA(rank=min(8, base.anatomy.width), alpha=8.0, targets=tuple(changes))
    module = base.new("m", kind)
    for site, change in changes.items():
        module.adapter(site).set_task_vector(change.float())
    ffn, attention = (next(s.key for s in base.anatomy.at(seam) if s.layer == 1) for seam in (Seam.FFN, Seam.ATTENTION))
    for fact in facts:
        seen: list[Tensor] = []

        def note(x: Tensor | None, y: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(y.reshape(1, -1, base.anatomy.width)[0])
            return y

        with base.using("m"), base.reader.changed({ffn: note}), torch.no_grad():
            base.model(input_ids=fact.prompts[0][None])
        wanted = rule.target(editor, fact, ffn, attention)
        torch.testing.assert_close(seen[0][fact.subjects[0]], wanted, rtol=1e-3, atol=1e-4)


def test_a_target_stays_in_its_ball_and_makes_the_answer_likelier() -> None:
    base, editor, facts = known()
    ffn, attention = (next(s.key for s in base.anatomy.at(seam) if s.layer == 1) for seam in (Seam.FFN, Seam.ATTENTION))
    for ball in (0.1, 0.75):
        rule = PMET(layers=(1,), ball=ball, lr=0.5, joint=False, kl=0.0, decay=0.0)
        for fact in facts:
            start = PMET(layers=(1,), steps=1, lr=1e-12, joint=False).target(editor, fact, ffn, attention)
            moved = rule.target(editor, fact, ffn, attention)
            assert float((moved - start).norm()) <= ball * float(start.norm()) * (1 + 1e-5)
            assert float((moved - start).norm()) > 0
            told: list[float] = []
            for value in (start, moved):
                at = fact.subjects[0]
                place = (torch.tensor([0]), torch.tensor([at]))
                ids, ends = torch.cat([fact.prompts[0], fact.target])[None], len(fact.prompts[0])
                with torch.no_grad():
                    logits = editor.logits(ids, {ffn: lambda x, y, v=value, p=place: y.index_put(p, v)})
                odds = logits[0, ends - 1 : -1].log_softmax(-1)
                told.append(float(odds.gather(1, fact.target[:, None]).sum()))
            assert told[1] > told[0]


def test_words_before_a_prompt_move_its_subject() -> None:
    base, editor, facts = known(prefix="In the town")
    (bare, moved), (first, second) = facts[0].prompts, facts[0].subjects
    assert moved[second] == bare[first]
    assert second - first == len(moved) - len(bare)
    assert base.tokenizer.decode(bare[: first + 1]).endswith(EDITS[0].subject)
    rule = PMET(layers=(1,))
    (change,) = rule.solve(editor, facts, sums(editor, rule, base)).values()
    assert bool(change.any())


def test_editing_leaves_the_base_bit_equal_and_the_facts_likelier(tmp_path: Any) -> None:
    base, _, _ = known()
    ids = base.tokenize("Patient 1 is treated with")[None]
    with base.off():
        before = base.model(input_ids=ids).logits
    report = addenda.edit(
        base, "m", EDITS, write=PMET(layers=(0, 1), lam=0.01, lr=0.5), general=["a river runs to the sea. " * 9],
        tokens=200, out=tmp_path / "m",
    )  # fmt: skip
    with base.off():
        assert torch.equal(before, base.model(input_ids=ids).logits)
    assert base.selection.empty
    assert report.scores is not None
    assert report.scores.reliability is not None
    assert report.scores.reliability.value >= report.scores.reliability_before.value
    card = base.modules["m"].card
    assert card.training[0].objective == "edit: pmet"
    assert {measure.name for measure in card.measures} == {"edit reliability"}
    again = addenda.attach(pico("llama"), pico_tokenizer()).plug(tmp_path / "m")
    assert all(torch.equal(t, again.tensors()[name]) for name, t in base.modules["m"].tensors().items())
    assert not any(part._forward_hooks for part in base.model.modules())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"write": "gradient"}, "gradient writes a text that is read, and no facts: addenda.memorize takes it"),
        ({"write": "pmet(layers=(9,))"}, "pmet: layers is made of numbers from 0 to"),
        ({"write": "pmet(lam=-1)"}, "pmet: lam is not negative"),
        ({"edits": []}, "there is no fact to write"),
        (
            {"edits": [Edit("x", "nobody is", "a", "b", (), ())]},
            "the prompt 'nobody is' does not name its subject, 'x'",
        ),
        ({"edits": "missing.jsonl"}, "cannot be read"),
        ({"tokens": 0}, "tokens of general text are at least 1"),
    ],
)
def test_mistakes_are_told_and_leave_nothing(given: dict[str, Any], told: str) -> None:
    base, _, _ = known()
    with pytest.raises(AddendaError, match=told):
        addenda.edit(base, "m", **{"edits": EDITS, "general": ["some text"]} | given)
    assert not base.modules


def test_a_folder_of_something_else_is_found_before_the_work(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    base, _, _ = known()
    monkeypatch.setattr(PMET, "collect", None)  # whoever begins to work fails
    with pytest.raises(AddendaError, match="letters.txt"):
        addenda.edit(base, "m", EDITS, general=["some text"], out=tmp_path)
    assert "m" not in base.modules


def test_it_writes_no_text() -> None:
    base, _, _ = known()
    with pytest.raises(AddendaError, match="pmet writes facts, and no text that is read: addenda.edit takes it"):
        addenda.memorize(base, "m", text="some text to read", write="pmet", window=48, chunk=16, log=False)
    with pytest.raises(AddendaError, match="pmet: layers is layer numbers"):
        build("write", "pmet", {"layers": ()})
