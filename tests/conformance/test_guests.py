"""Trainers of others, as they are, through `base.trainable`: they learn the module, save it alone, leave the base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from conformance.kinds import MAIN
from conformance.world import IDS, Subject, assert_values, batch, logits, throwaway, values
from pico import pico_tokenizer

TEXTS = [f"the heart and the liver of patient {n} is treated with drug {n % 7}." for n in range(24)]


def rows() -> list[dict[str, list[int]]]:
    ids = IDS[:1].tolist() * 24  # every batch is the same, so that its loss must fall
    return [{"input_ids": row, "labels": row, "attention_mask": [1] * len(row)} for row in ids]


def arguments(folder: Path, **more: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-3}
    settings |= {"save_steps": 2, "report_to": [], "use_cpu": True, "disable_tqdm": True, "logging_steps": 1}
    return {"output_dir": str(folder), **settings, **more}


def check_trained(subject: Subject, before: dict[str, Any], numbers: dict[str, Any], folder: Path) -> None:
    """The module moved, the base did not; every checkpoint holds the module's tensors and nothing else."""
    module = subject.base.modules["m"]
    assert any(not torch.equal(tensor, before[name]) for name, tensor in module.tensors().items())
    assert_values(subject.model, numbers)
    assert not any(parameter.grad is not None for parameter in subject.model.parameters())
    checkpoints = sorted(folder.glob("checkpoint-*"))
    assert len(checkpoints) == 2
    for checkpoint in checkpoints:
        files = [*checkpoint.rglob("*.safetensors")]
        assert len(files) == 1, files
        found = load_file(files[0])
        assert sum(tensor.numel() for tensor in found.values()) == sum(t.numel() for t in module.tensors().values())
        weights = sum(tensor.numel() * tensor.itemsize for tensor in found.values())
        assert files[0].stat().st_size < weights + 20_000
    with subject.base.using("m"):
        assert not torch.equal(logits(subject.model, *batch()), subject.bare())
    assert torch.equal(logits(subject.model, *batch()), subject.bare())


@pytest.mark.parametrize(
    ("case", "checkpointing"), [*((case, False) for case in MAIN), ("neutral", True), ("registers", True)]
)
def test_transformers_trainer(case: str, checkpointing: bool, tmp_path: Path) -> None:
    subject = throwaway("llama", case)
    before = {name: tensor.clone() for name, tensor in subject.base.modules["m"].tensors().items()}
    numbers = values(subject.model)
    more = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    with subject.base.trainable("m") as trainable:
        trainer = Trainer(
            model=trainable,
            args=TrainingArguments(**arguments(tmp_path, **(more if checkpointing else {}))),
            train_dataset=rows(),
        )
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        assert losses[-1] < losses[0]
        trainer.save_model(str(tmp_path / "final"))
    check_trained(subject, before, numbers, tmp_path)
    module = subject.base.modules["m"]
    saved = load_file(tmp_path / "final" / "model.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in module.state_dict().items())
    loaded = subject.base.plug(module.save(tmp_path / "m"), name="loaded")
    assert all(torch.equal(loaded.tensors()[name], tensor) for name, tensor in module.tensors().items())


def test_transformers_trainer_resumes(tmp_path: Path) -> None:
    """Trainer's own checkpoints load back into the module."""
    finals = []
    for resume in (False, True):
        subject = throwaway("llama", "lora")
        with subject.base.trainable("m") as trainable:
            trainer = Trainer(model=trainable, args=TrainingArguments(**arguments(tmp_path)), train_dataset=rows())
            trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2") if resume else None)
        finals.append({name: tensor.clone() for name, tensor in subject.base.modules["m"].tensors().items()})
    for name, tensor in finals[0].items():
        assert torch.allclose(finals[1][name], tensor, atol=1e-6), name


@pytest.mark.parametrize("case", ["neutral", pytest.param("registers", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_trl_sft_trainer(case: str, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    subject = throwaway("llama", case)
    before = {name: tensor.clone() for name, tensor in subject.base.modules["m"].tensors().items()}
    numbers = values(subject.model)
    with subject.base.trainable("m") as trainable:
        trainer = trl.SFTTrainer(
            model=trainable,
            args=trl.SFTConfig(**arguments(tmp_path, max_length=64, bf16=False, gradient_checkpointing=False)),
            train_dataset=datasets.Dataset.from_list([{"text": text} for text in TEXTS]),
            processing_class=pico_tokenizer(padding_side="right"),
        )
        trainer.train()
    check_trained(subject, before, numbers, tmp_path)


def check_decay(subject: Subject, groups: list[dict[str, Any]], decay: float) -> None:
    """Every parameter stands in one group of the optimizer; matrices decay, vectors and gates do not."""
    module = subject.base.modules["m"]
    wanted = {id(p): decay if p.dim() >= 2 else 0.0 for p in module.parameters()}
    assert {id(p): group["weight_decay"] for group in groups for p in group["params"]} == wanted
    assert sum(len(group["params"]) for group in groups) == len(wanted)


@pytest.mark.parametrize("case", MAIN)
def test_trainers_let_matrices_decay_and_nothing_else(case: str, tmp_path: Path) -> None:
    subject = throwaway("llama", case)
    with subject.base.trainable("m") as trainable:
        trainer = Trainer(model=trainable, args=TrainingArguments(**arguments(tmp_path, weight_decay=5.0)))
        named = dict(trainable.named_parameters())
        decaying = trainer.get_decay_parameter_names(trainable)
        assert set(decaying) == {name for name, p in named.items() if p.dim() >= 2}
        assert named.keys() <= trainable.state_dict().keys()
        walked = [
            (part, own) for part, one in trainable.named_modules() for own, _ in one.named_parameters(recurse=False)
        ]
        assert {f"{part}.{own}" for part, own in walked} == named.keys()
        optimizer = trainer.create_optimizer()
        assert optimizer is not None
        check_decay(subject, optimizer.param_groups, 5.0)


@pytest.mark.parametrize("case", ["lora", "neutral", "neutral-context", "registers-neutral"])
def test_a_decay_is_felt_as_pefts(case: str, tmp_path: Path) -> None:
    """A step without a gradient shrinks matrices by lr times decay, as it does PEFT's, and vectors not at all."""
    subject = throwaway("llama", case)
    module = subject.base.modules["m"]
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    with subject.base.trainable("m") as trainable:
        args = TrainingArguments(**arguments(tmp_path, weight_decay=5.0, learning_rate=0.01))
        optimizer = Trainer(model=trainable, args=args).create_optimizer()
        for parameter in trainable.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    for name, parameter in module.named_parameters():
        shrunk = before[name] * (1 - 0.01 * 5.0) if parameter.dim() >= 2 else before[name]
        assert torch.allclose(parameter, shrunk, atol=1e-6), name


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_trl_lets_matrices_decay_and_gives_everything_back(tmp_path: Path) -> None:
    """SFTTrainer as it is by default: with gradient checkpointing, in training mode, without a cache."""
    trl = pytest.importorskip("trl")
    subject = throwaway("gpt2", "neutral-context", resid_pdrop=0.1)
    model = subject.model
    model.config.use_cache = True
    before, settings = state_of(model), [vars(part).copy() for part in (model.config, model.generation_config)]
    with subject.base.using("m"):
        ids, mask = batch()
        kept = model.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False)
    trainable = subject.base.trainable("m")
    trainer = trl.SFTTrainer(
        model=trainable,
        args=trl.SFTConfig(**arguments(tmp_path, max_length=64, bf16=False, weight_decay=5.0, learning_rate=0.0)),
        train_dataset=datasets.Dataset.from_list([{"text": text} for text in TEXTS]),
        processing_class=pico_tokenizer(padding_side="right"),
    )
    trainer.train()
    check_decay(subject, trainer.optimizer.optimizer.param_groups, 5.0)
    model.enable_input_require_grads()
    assert state_of(model) != before, "the trainer changed nothing"
    trainable.close()
    assert state_of(model) == before
    assert [vars(part) for part in (model.config, model.generation_config)] == settings
    with subject.base.using("m"):
        assert torch.equal(model.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False), kept)


def state_of(model: Any) -> list[tuple[Any, ...]]:
    """Modes, checkpointing, hooks and flags of every part of a model."""
    return [
        (
            part.training,
            getattr(part, "gradient_checkpointing", None),
            len(part._forward_hooks),
            [p.requires_grad for p in part.parameters(recurse=False)],
        )
        for part in model.modules()
    ]
