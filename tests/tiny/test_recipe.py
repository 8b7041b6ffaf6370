"""The recipe: exact to resume, endable at any time, exported as an ordinary model folder."""

import json
import shutil
import signal

import pytest
import torch

from addenda.core.errors import TrainingError
from addenda.tiny import export as exporting
from addenda.tiny import network, training
from addenda.tiny.corpus import tokens_of
from addenda.tiny.rows import Rows
from addenda.writing.signals import TrainingStopped

UNICODE = "Zoë's naïve café — 漢字 \U0001f9ea\n\n\ttabs,  spaces  and \x00\x7f\u200b\u0301 עברית"


class Stopping(training.Trainer):
    """Gets a signal once it has read so many tokens."""

    until = 0

    def measure(self):
        if self.read == self.until:
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def work(pico_work, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(pico_work, folder)
    return folder


def run(work, settings):
    trainer = training.Trainer(work, tokens_of(work), settings)
    trainer.run()
    return trainer


def stopped(work, settings, until):
    trainer = Stopping(work, tokens_of(work), settings)
    trainer.until = until
    with pytest.raises(TrainingStopped) as stop:
        trainer.run()
    assert stop.value.signal == "SIGTERM"
    return trainer


def test_resumed_equals_uninterrupted(work, pico_settings, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(work, other)
    whole = run(work, pico_settings())
    assert (whole.read, whole.long_rows) == (1024, 2)
    assert stopped(other, pico_settings(), 512).read == 512
    again = run(other, pico_settings())
    assert again.resumed_from == 2
    a, b = whole.tensors(), again.tensors()
    assert a.keys() == b.keys()
    assert len(a) > 40
    assert all(torch.equal(a[k], b[k]) for k in a)
    losses = [[json.loads(line)["loss"] for line in (w / "log.jsonl").read_text().splitlines()] for w in (work, other)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4


def test_a_step_sums_the_gradient_of_its_parts(work, pico_settings):
    """One part or many: the same step, to rounding."""
    trainers = [training.Trainer(work, tokens_of(work), pico_settings(micro=m, precision="fp32")) for m in (64, 256)]
    for trainer in trainers:
        trainer.write(trainer.take())
    for one, other in zip(*(trainer.names for trainer in trainers), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_loss_is_the_models_own(work, pico_settings):
    trainer = training.Trainer(work, tokens_of(work), pico_settings(precision="fp32"))
    ids = trainer.rows[64].batch(0, 4)
    with torch.no_grad():
        logits = trainer.model(input_ids=ids[:, :-1]).logits
    trainer.write(trainer.take())
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    assert trainer.losses == [pytest.approx(float(expected), rel=1e-5)]


#: losses of the first steps of the code that made the shipped base, on the pico corpus in float32
MADE = [6.2359, 6.23656, 6.20517, 6.19054, 6.15805, 6.09365, 6.06434, 6.02056]


def test_steps_are_those_that_made_the_base(work, pico_settings):
    trainer = training.Trainer(work, tokens_of(work), pico_settings(tokens=256 * 24, precision="fp32"))
    for _ in MADE:
        trainer.read += trainer.write(trainer.take())
    assert trainer.losses == pytest.approx(MADE, abs=2e-4)


def test_it_learns(work, pico_settings):
    run(work, pico_settings(tokens=256 * 30, lr_matrix=1e-2, lr_other=1e-2))
    lines = (work / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["loss"] < json.loads(lines[0])["loss"] - 0.5


def test_other_settings_are_refused(work, pico_settings):
    stopped(work, pico_settings(), 256)
    with pytest.raises(TrainingError, match="lr_matrix"):
        run(work, pico_settings(lr_matrix=1.0))


def test_the_number_of_tokens_may_change_on_the_way(work, pico_settings):
    trainer = stopped(work, pico_settings(tokens=100_096), 768)
    assert training.rate(trainer.read, trainer.chosen) == 1.0
    shorter = run(work, pico_settings(tokens=1024))
    assert (shorter.read, shorter.resumed_from) == (1024, 3)
    assert training.rate(1024, shorter.chosen) == 0.0
    assert 0 < training.rate(800, shorter.chosen) < 1


def test_what_writes_to_the_residual_stream_starts_smaller():
    model = network.make_model(512, num_hidden_layers=2)
    down, up = (getattr(model.model.layers[0].mlp, f"{name}_proj").weight.detach().std() for name in ("down", "up"))
    assert float(down / up) == pytest.approx(0.5, rel=0.05)


def test_rows_cover_the_corpus_once_an_epoch(work):
    tokens = tokens_of(work)
    rows = Rows(tokens, 64, seed=3)
    starts = rows.starts(rows.count)
    assert len(set(starts.tolist())) == rows.count
    assert starts.max() + 65 <= len(tokens)
    assert (rows.batch(5, 2)[1].numpy() == tokens[starts[6] : starts[6] + 65]).all()


@pytest.mark.slow
def test_export_loads_in_transformers(work, pico_data, pico_settings, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    stopped(work, pico_settings(), 512)
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
    assert model.config.model_type == "llama"
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
def test_the_command_trains_and_exports(work, pico_data, pico_settings, tmp_path, monkeypatch):
    from dataclasses import asdict

    from addenda.tiny import recipe

    monkeypatch.setattr(training, "Settings", pico_settings)
    out = tmp_path / "out"
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # or the command would set it for all later tests
    command = ["--data", str(pico_data), "--work", str(work), "--tokens", "1024", "--score-tokens", "100"]
    command += ["--out", str(out)]
    assert recipe.main([*command, "--prepare-only"]) == 0
    assert not out.exists()
    assert recipe.main(command) == 0
    card = json.loads((out / "card.json").read_text())
    assert card["finished"]
    assert card["tokens_seen"] == 1024
    assert card["settings"] == asdict(pico_settings(tokens=1024, seed=0))
    assert recipe.main([*command, "--export-only"]) == 0
