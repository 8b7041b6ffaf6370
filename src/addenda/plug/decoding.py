"""Decoding: the settings of one call of `generate`, made from the model's own without those that no verb asked for."""

from __future__ import annotations

from typing import Any

#: of a model's generation_config: token ids, and tokens that it must not write
KEPT = frozenset(
    "bos_token_id eos_token_id pad_token_id decoder_start_token_id suppress_tokens begin_suppress_tokens bad_words_ids".split()
)
#: what changes the form of what `generate` returns, or needs more than a prompt, and its value that does not
FORM: dict[str, Any] = {
    "return_dict_in_generate": False, "output_scores": False, "output_logits": False, "output_attentions": False,
    "output_hidden_states": False, "num_return_sequences": 1, "stop_strings": None, "token_healing": None,
    "max_time": None, "prompt_lookup_num_tokens": None, "use_mtp": None,
}  # fmt: skip
#: values that do nothing, where None is none
_NEUTRAL: dict[str, Any] = FORM | {
    "num_beams": 1, "num_beam_groups": 1, "min_length": 0, "use_cache": True, "do_sample": False, "early_stopping": False,
    "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "repetition_penalty": 1.0, "length_penalty": 1.0,
    "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0, "diversity_penalty": 0.0,
    "remove_invalid_values": False,
}  # fmt: skip


def form(model: Any) -> dict[str, Any]:
    """Keywords that undo what a model's generation_config says of the form of the answer: plain token ids, one row each."""
    return {key: FORM[key] for key in _said(model) if key in FORM}


def settings(model: Any, tokenizer: Any, **chosen: Any) -> dict[str, Any]:
    """Keywords for `model.generate`: greedy, one row each, with the model's own end tokens, and then what is chosen.

    What a model's generation_config says besides (beams, lengths, forced tokens, stop strings, other kinds of output) is
    undone by name, for `generate` fills in whatever is not given.
    """
    undone = {key: _NEUTRAL.get(key) for key in _said(model) if key not in KEPT}
    ends = sorted(end_ids(model, tokenizer))
    pad = next((token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id, *ends) if token is not None), 0)
    fixed = {"num_beams": 1, "do_sample": False, "eos_token_id": ends or None, "pad_token_id": pad}
    return undone | fixed | chosen


def end_ids(model: Any, tokenizer: Any) -> set[int]:
    """The tokens that end a text: those of the model's generation_config, else the tokenizer's eos."""
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    return set() if ends is None else {int(end) for end in (ends if isinstance(ends, list | tuple | set) else [ends])}


def _said(model: Any) -> list[str]:
    """The names of what a model's generation_config says."""
    every = model.generation_config.to_dict()
    return [
        key for key, value in every.items() if value is not None and key != "transformers_version" and key[0] != "_"
    ]
