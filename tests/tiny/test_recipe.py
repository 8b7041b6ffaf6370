"""The recipe: exact to resume, endable at any time, exported as an ordinary model folder."""

import json
import shutil

import pytest
import torch

from addenda.tiny import export as exporting
from addenda.tiny import network, training
from addenda.tiny.corpus import tokens_of
from addenda.tiny.rows import Rows

UNICODE = "Zoë's naïve café — 漢字 \U0001f9ea\n\n\ttabs,  spaces  and \x00\x7f\u200b\u0301 עברית"


@pytest.fixture
def work(pico_work, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(pico_work, folder)
    return folder


def run(work, settings, **limits):
    trainer = training.Trainer(work, tokens_of(work), settings)
    return trainer, training.train(trainer, **limits)


def state(trainer):
    tensors = {n: p.detach().clone() for n, p in trainer.named.items()}
    for key, optimizer in trainer.optimizers.items():
        for name, p in trainer.named.items():
            for field, value in optimizer.state[p].items():
                tensors[f"{key}/{field}/{name}"] = torch.as_tensor(value).clone()
    return tensors


@pytest.mark.parametrize("variant", ["glu", "mlp"])
def test_resumed_equals_uninterrupted(work, pico_settings, variant, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(work, other)
    whole, reason = run(work, pico_settings(variant))
    assert reason == "done"
    assert whole.seen == 1024
    assert whole.long_rows == 2
    _, reason = run(other, pico_settings(variant), until_tokens=512)
    assert reason == "token limit"
    pieces, reason = run(other, pico_settings(variant))
    assert reason == "done"
    a, b = state(whole), state(pieces)
    assert a.keys() == b.keys()
    assert len(a) > 40
    assert all(torch.equal(a[k], b[k]) for k in a)
    losses = [[json.loads(line)["loss"] for line in (w / "loss.jsonl").read_text().splitlines()] for w in (work, other)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4


@pytest.mark.slow
def test_two_processes_do_exactly_what_one_does(work, pico_settings, tmp_path):
    threads = torch.get_num_threads()
    other = tmp_path / "other"
    shutil.copytree(work, other)
    torch.set_num_threads(1)
    alone, _ = run(work, pico_settings())
    for limit in (512, None):
        pair = training.Trainer(other, tokens_of(other), pico_settings(), workers=2)
        training.train(pair, until_tokens=limit)
    torch.set_num_threads(threads)
    a, b = state(alone), state(pair)
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_it_learns(work, pico_settings):
    settings = pico_settings(tokens=256 * 30, lr_matrix=1e-2, lr_other=1e-2)
    run(work, settings)
    lines = (work / "loss.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["loss"] < json.loads(lines[0])["loss"] - 0.5


def test_signal_saves_and_stops(work, pico_settings):
    import os
    import signal

    trainer = training.Trainer(work, tokens_of(work), pico_settings())
    reason = training.train(trainer, on_step=lambda record: os.kill(os.getpid(), signal.SIGTERM))
    assert reason == "SIGTERM"
    assert trainer.seen == 256
    again = training.Trainer(work, tokens_of(work), pico_settings())
    assert again.seen == 256


def test_other_settings_are_refused(work, pico_settings):
    run(work, pico_settings(), until_tokens=256)
    with pytest.raises(ValueError, match="lr_matrix"):
        training.Trainer(work, tokens_of(work), pico_settings(lr_matrix=1.0))


def test_control_file_starts_the_decay(work, pico_settings):
    trainer, _ = run(work, pico_settings(tokens=100_000), until_tokens=768)
    assert training.rate(trainer.seen, trainer.settings) == 1.0
    (work / "total").write_text("now")
    training.read_control(trainer)
    assert trainer.settings.tokens == 1024
    assert (work / "total").read_text() == "1024"
    assert training.rate(1024, trainer.settings) == 0.0
    assert 0 < training.rate(800, trainer.settings) < 1


def test_rows_cover_the_corpus_once_an_epoch(work):
    tokens = tokens_of(work)
    rows = Rows(tokens, 64, seed=3)
    starts = rows.starts(rows.count)
    assert len(set(starts.tolist())) == rows.count
    assert starts.max() + 65 <= len(tokens)
    assert (rows.batch(5, 2)[1].numpy() == tokens[starts[6] : starts[6] + 65]).all()


@pytest.mark.parametrize("length", [64, 300, 512])
def test_block_attention_equals_torch(length):
    torch.manual_seed(0)
    q = torch.randn(2, 4, length, 16, requires_grad=True)
    k, v = (torch.randn(2, 2, length, 16, requires_grad=True) for _ in range(2))
    up = torch.randn(2, 4, length, 16)
    mine = network.BlockCausal.apply(q, k, v, 0.25)
    torchs = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(mine, torchs)
    for a, b in zip(torch.autograd.grad(mine, (q, k, v), up), torch.autograd.grad(torchs, (q, k, v), up), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_head_loss_equals_torch():
    torch.manual_seed(0)
    hidden = torch.randn(50, 16, requires_grad=True)
    weight = torch.randn(40, 16, requires_grad=True)
    targets = torch.randint(0, 40, (50,))
    loss = torch.nn.functional.cross_entropy(hidden @ weight.t(), targets, reduction="sum")
    loss.backward()
    mine, d_hidden, d_weight = network.head_loss(hidden.detach(), targets, weight.detach(), chunk=16)
    torch.testing.assert_close(mine, loss.detach())
    torch.testing.assert_close(d_hidden, hidden.grad)
    torch.testing.assert_close(d_weight, weight.grad)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["glu", "mlp"])
def test_export_loads_in_transformers(work, pico_data, pico_settings, variant, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run(work, pico_settings(variant), until_tokens=512)
    out = tmp_path / "out"
    out.mkdir()
    (out / "stale").write_text("")
    card = exporting.export(pico_data, work, out, limit=200)
    assert not (out / "stale").exists()
    assert card["tokens_seen"] == 512
    assert card["unique_tokens_seen"] <= 512
    assert set(card["losses"]) >= {"wikipedia", "openstax", "novels", "pubmed abstracts"}
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.dtype == torch.bfloat16
    assert model.config.model_type == {"glu": "llama", "mlp": "opt"}[variant]
    tokenizer = AutoTokenizer.from_pretrained(out)
    ids = tokenizer(UNICODE)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id == model.config.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == UNICODE
    made, _ = exporting.load_checkpoint(work)
    weights = dict(made.named_parameters())
    assert all(torch.equal(p, weights[n]) for n, p in model.named_parameters())
    readme = (out / "README.md").read_text()
    assert "too small to reason" in readme
    assert "intermediate" in readme


@pytest.mark.slow
def test_the_command_trains_in_pieces_and_exports(work, pico_data, pico_settings, tmp_path, monkeypatch):
    from dataclasses import asdict, replace

    from addenda.tiny import recipe, settings

    def small(**chosen):
        assert set(chosen) == {"tokens", "variant", "seed", "compile"}
        return replace(pico_settings(chosen["variant"]), **chosen)

    monkeypatch.setattr(settings, "Settings", small)
    out = tmp_path / "out"
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # or the command would set it for all later tests
    command = ["--data", str(pico_data), "--work", str(work), "--tokens", "1024", "--variant", "mlp"]
    command += ["--workers", "1", "--no-compile", "--score-tokens", "100", "--out", str(out)]
    assert recipe.main([*command, "--until", "512"]) == 0
    assert not out.exists()
    assert recipe.main([*command, "--export-only"]) == 0
    assert json.loads((out / "card.json").read_text())["tokens_seen"] == 512
    assert recipe.main(command) == 0
    card = json.loads((out / "card.json").read_text())
    assert card["finished"]
    assert card["tokens_seen"] == 1024
    assert card["settings"] == asdict(small(tokens=1024, variant="mlp", seed=0, compile=False))
