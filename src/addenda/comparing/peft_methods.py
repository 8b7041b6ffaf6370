"""PEFT's methods, by the names of its own registry: put into a fresh base, as large as what they are compared with."""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import inspect
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from addenda.core.errors import AddendaError, TrainingError, known
from addenda.core.registry import options_from

#: what stands before the name of one of PEFT's methods
PREFIX = "peft:"
#: where PEFT's name for it stands: a rank, and tokens that nobody wrote
RANK, TOKENS, WHERE = "r", "num_virtual_tokens", "target_modules"
#: models of which the parameters are counted in the search for a rank
TRIES = 8
#: a rank that a method does not take is rounded to such a multiple: most take these
ROUND = 8
#: of what is added to parameters in the trial
NOISE = 0.05
#: what states may differ by, over the largest, and be the same: some methods scale their parameters whenever they are read
SAME = 1e-3


@dataclass(frozen=True)
class Rival:
    """One of PEFT's methods, with the options that its configuration is given; what is not given is PEFT's default."""

    name: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return self.name + (f"({self.told()})" if self.options else "")

    @property
    def tokens(self) -> int | None:
        """The number of virtual tokens among its options."""
        number = self.options.get(TOKENS)
        return number if isinstance(number, int) else None

    def told(self) -> str:
        """Its options in words."""
        return options_told(self.options)

    def plain(self) -> dict[str, Any]:
        """What a record says of it: the package with its version, too."""
        return {"name": self.name, "options": dict(self.options), "package": package()}

    def put(self, model: Any, start: np.ndarray | None = None) -> None:
        """Let a model act and train with it, in place; the model's own weights stand still.

        Keys and values that stand for tokens begin as those of the token ids `start` [n], which PEFT offers, where it can.

        Raises:
            TrainingError: PEFT cannot put it there; says why.
        """
        import peft

        try:
            wrapped = peft.get_peft_model(model, self._config())
            if wrapped.active_peft_config.is_prompt_learning:
                _Virtual(wrapped, start).stand_in(model)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - each of PEFT's methods raises what it likes
            raise self._refused(error) from None

    def sized(self, fresh: Callable[[], Any], parameters: int, count: int, start: np.ndarray | None = None) -> Rival:
        """It with the options that were left open, in a model that `fresh` gives, in which it was seen to act.

        Those of a rank stand on all linears, as ours do, or else where PEFT puts them, with the rank whose trained parameters
        come nearest to `parameters`; a scale follows its rank. Those of tokens that nobody wrote have `count`.

        Raises:
            TrainingError: it cannot be trained in this model; says why.
        """
        if not _is_there():
            raise TrainingError("PEFT is not installed: pip install peft")
        defaults = _defaults(self.name)
        if _told_of_steps(self.name, {name: self.options.get(name, value) for name, value in defaults.items()}):
            raise TrainingError(
                f"PEFT's {self.name} is told of every step of its training, and adds to the loss: `compare` does neither"
            )
        places: list[dict[str, Any]] = [{}]
        if RANK in defaults and WHERE in defaults and WHERE not in self.options:
            places.insert(0, {WHERE: "all-linear"})
        refused: TrainingError | None = None
        for place in places:
            rival = replace(self, options={**({TOKENS: count} if TOKENS in defaults else {}), **place, **self.options})
            try:
                if isinstance(defaults.get(RANK), int) and defaults[RANK] > 0 and RANK not in self.options:
                    rival = rival._at_size(fresh, parameters, defaults)
                rival._seen_to_act(fresh(), start)
            except TrainingError as error:
                refused = error
            else:
                return rival._as_taken()
        assert refused is not None
        raise refused

    def _at_size(self, fresh: Callable[[], Any], parameters: int, defaults: Mapping[str, Any]) -> Rival:
        """It at the rank whose number of trained parameters is nearest to `parameters`; no wider than the model."""
        model = fresh()
        follow = {
            name: value
            for name, value in defaults.items()
            if name.endswith("alpha") and type(value) is int and name not in self.options
        }

        def at(rank: int) -> Rival:
            scales = {name: value * rank / defaults[RANK] for name, value in follow.items()}
            whole = {name: int(value) if value == int(value) else value for name, value in scales.items()}
            return replace(self, options={RANK: rank, **whole, **self.options})

        most = model.get_input_embeddings().weight.shape[1]
        rank = nearest(lambda rank: at(rank)._count(fresh, model), defaults[RANK], most, parameters)
        return self if rank in (None, defaults[RANK]) else at(rank)

    def _count(self, fresh: Callable[[], Any], like: Any) -> int | None:
        """Parameters that it would train: of a model without weights where PEFT can, else of a fresh one; None: neither."""
        import peft

        def empty() -> Any:
            return type(like)(copy.deepcopy(like.config))

        for made, place in ((empty, torch.device("meta")), (fresh, torch.device("cpu"))):
            try:
                with warnings.catch_warnings(), place:
                    warnings.simplefilter("ignore")
                    wrapped = peft.get_peft_model(made(), self._config())
            except Exception:  # noqa: BLE001 - each of PEFT's methods raises what it likes; why is said where it is put to work
                continue
            return sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
        return None

    def _seen_to_act(self, model: Any, start: np.ndarray | None) -> None:
        """Put it into a model that is thrown away after, and read some tokens.

        Raises:
            TrainingError: it cannot be put there, fails where it reads, has nothing to train, or does not act in the decoder
                alone: losses are taken of its states.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said again where it trains
            self.put(model, start)
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.numel()]
            nothing = TrainingError(f"PEFT's {self.name} has nothing to train here{self._open()}")
            if not trained:
                raise nothing
            with torch.no_grad():
                for parameter in trained:  # else one that begins with nothing would change nothing
                    parameter.add_(torch.randn_like(parameter), alpha=NOISE)
            ids = torch.arange(1, 5, device=model.get_input_embeddings().weight.device)[None]
            model.eval()
            try:
                alone = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
                logits = model(input_ids=ids + len(ids[0]), use_cache=False).logits
                logits.float().pow(2).mean().backward()
                again = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - as above
                raise self._refused(error) from None
        if not any(parameter.grad is not None and parameter.grad.any() for parameter in trained):
            raise nothing
        if logits.shape[1] != ids.shape[1] or (alone - again).abs().max() > SAME * alone.abs().max():
            raise TrainingError(
                f"PEFT's {self.name} does not act in the decoder alone, of whose states losses are taken"
            )

    def _as_taken(self) -> Rival:
        """It without a number of virtual tokens that its configuration did not take: CPT's are those of its own text."""
        if self.tokens is None or self._config().num_virtual_tokens == self.tokens:
            return self
        return replace(self, options={name: value for name, value in self.options.items() if name != TOKENS})

    def _config(self) -> Any:
        return _configs()[self.name](task_type="CAUSAL_LM", **copy.deepcopy(dict(self.options)))

    def _refused(self, error: Exception) -> TrainingError:
        """Why it cannot be trained, in one sentence; which options are open, where PEFT does not explain itself."""
        said = (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
        if isinstance(error, ValueError | ImportError):
            return TrainingError(f"PEFT's {self.name} cannot be trained on this base: {said}")
        return TrainingError(
            f"PEFT's {self.name} cannot be trained on this base: {type(error).__name__}: {said}{self._open()}"
        )

    def _open(self) -> str:
        """The end of a sentence: its options that have no value, one of which it may need."""
        whose = inspect.getmro(_configs()[self.name])[1:]
        general = {field.name for above in whose if hasattr(above, "__dataclass_fields__") for field in fields(above)}
        own = [name for name, value in _defaults(self.name).items() if value is None and name not in general]
        missing = [name for name in own if name not in self.options]
        return f"; it may need one of its options: {', '.join(missing)}" if missing else ""


class _Virtual:
    """Tokens that nobody wrote, ahead of every text a model reads: as keys and values, or as embeddings cut off again after.

    So the model's states and logits are those of the tokens it was given, and its cache holds what was put ahead of them.
    """

    def __init__(self, wrapped: Any, start: np.ndarray | None) -> None:
        self.wrapped, self.count, self.cut = wrapped, wrapped.active_peft_config.num_virtual_tokens, 0
        encoder = wrapped.prompt_encoder[wrapped.active_adapter]
        projected = getattr(wrapped.active_peft_config, "prefix_projection", False)
        if start is not None and len(start) and hasattr(encoder, "load_prompt_embeddings") and not projected:
            import peft

            ids = torch.from_numpy(np.resize(start, self.count).astype(np.int64))[None].to(wrapped.device)
            with torch.no_grad():
                cache = wrapped.get_base_model()(input_ids=ids, use_cache=True).past_key_values
            peft.initialize_kv_prefix_from_past_key_values(wrapped, past_key_values=cache)

    def stand_in(self, model: Any) -> None:
        """Act in a model, whose parameters then have ours among them, and whose window is as much shorter."""
        window = getattr(model.config, "max_position_embeddings", None)
        if window is not None:  # who reads it cuts prompts by it
            model.config.max_position_embeddings = window - self.count
        model.add_module("virtual", self.wrapped.prompt_encoder)
        model.base_model.register_forward_pre_hook(self._before, with_kwargs=True)
        model.base_model.register_forward_hook(self._after)

    def _before(self, decoder: Any, args: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Marks and places for the tokens ahead, and these themselves where a text begins."""
        ids, states, cache = (inputs.get(name) for name in ("input_ids", "inputs_embeds", "past_key_values"))
        given: Tensor | None = states if ids is None else ids
        assert given is not None
        mask, places = inputs.get("attention_mask"), inputs.get("position_ids")
        if mask is not None:
            mask = torch.cat([mask.new_ones(len(given), self.count), mask], 1)
        if places is not None:
            places = places + self.count
        self.cut = 0
        if cache is None or not cache.get_seq_length():
            ahead = self.wrapped.get_prompt(len(given))
            if isinstance(ahead, Tensor):
                states = decoder.get_input_embeddings()(ids) if states is None else states
                states, ids, self.cut = torch.cat([ahead.to(states.dtype), states], 1), None, self.count
                if places is not None:
                    first = torch.arange(self.count, device=places.device).expand(len(places), -1)
                    places = torch.cat([first, places], 1)
            else:
                cache = ahead
        told = {
            "input_ids": ids, "inputs_embeds": states, "past_key_values": cache, "attention_mask": mask, "position_ids": places,
        }  # fmt: skip
        return args, {name: value for name, value in inputs.items() if name != "cache_position"} | told

    def _after(self, decoder: Any, args: Any, output: Any) -> Any:
        """The states of the tokens that were given."""
        if self.cut:
            output.last_hidden_state = output.last_hidden_state[:, self.cut :]
        return output


def rival_named(words: str) -> Rival:
    """PEFT's method under a name, however it is spelled, with options in Python's form: `vera`, `VERA(r=64)`.

    Without PEFT nothing is known of either; who asks has to say that it is missing.

    Raises:
        AddendaError: the installed version has no such method, or the method no such option; or these are not plain data.
    """
    name, options = options_from("PEFT's methods", words)
    try:
        json.dumps(options)
    except TypeError:
        raise AddendaError(f"options of PEFT's methods are numbers, texts, and lists of these; got '{words}'") from None
    if not _is_there():
        return Rival(name.upper(), options)
    plain = {called.replace("_", "").lower(): called for called in _configs()}
    found = plain.get(name.replace("_", "").replace("-", "").lower())
    if found is None:
        raise AddendaError(f"{package()} has no method '{name}'; it has {known(name, _configs())}")
    allowed = _defaults(found)
    for option in options:
        if option not in allowed:
            raise AddendaError(f"PEFT's {found} has no option '{option}'; its options are {known(option, allowed)}")
    return Rival(found, options)


def options_told(options: Mapping[str, Any]) -> str:
    """Options in words: `r=8, lora_alpha=16`."""
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def ours(rank: int) -> Rival:
    """PEFT's LoRA as ours is: on all linears, of the same rank and scale."""
    return Rival("LORA", {RANK: rank, "lora_alpha": 2 * rank, WHERE: "all-linear"})


def package() -> str:
    """PEFT with its version, as a record has it."""
    return f"peft {importlib.metadata.version('peft')}" if _is_there() else "peft"


def nearest(count: Callable[[int], int | None], first: int, most: int, wanted: int) -> int | None:
    """The number from 1 to `most` whose count is nearest to `wanted`, as if counts lay on a line; None where none is counted."""
    tried: dict[int, int | None] = {}

    def counted(number: int) -> bool:
        """Whether it has a count, or a round number near it."""
        for near in dict.fromkeys((number, min(most, max(1, round(number / ROUND) * ROUND)))):
            if near not in tried:
                tried[near] = count(near)
            if tried[near] is not None:
                return True
        return False

    counted(min(first, most))
    counted(max(1, min(first, most) // 2))
    for _ in range(TRIES):
        counts = {number: value for number, value in tried.items() if value is not None}
        best = sorted(counts, key=lambda number: (abs(counts[number] - wanted), number))
        beyond = [number for number in best if (counts[number] > wanted) != (counts[best[0]] > wanted)]
        best = [*best[:1], *(beyond or best[1:])][:2]  # one on either side, where there is
        if len(best) < 2 or counts[best[0]] == counts[best[1]]:
            break
        slope = (counts[best[1]] - counts[best[0]]) / (best[1] - best[0])
        guess = min(most, max(1, round(best[0] + (wanted - counts[best[0]]) / slope)))
        if guess in tried:
            break
        if not counted(guess):  # as where it is more than some linear is wide
            most = (best[0] + guess) // 2
    counts = {number: value for number, value in tried.items() if value is not None}
    if len(set(counts.values())) == 1 and first in counts:  # it does not depend on it
        return first
    return min(counts, key=lambda number: (abs(counts[number] - wanted), number), default=None)


def _is_there() -> bool:
    return importlib.util.find_spec("peft") is not None


def _configs() -> dict[str, Any]:
    """The configuration of each of PEFT's methods, by name."""
    import peft

    return {str(kind.value): config for kind, config in peft.PEFT_TYPE_TO_CONFIG_MAPPING.items()}


def _defaults(name: str) -> dict[str, Any]:
    """The options of one of PEFT's methods, with their defaults."""
    own = [field for field in fields(_configs()[name]) if field.init and field.name not in ("peft_type", "task_type")]
    return {field.name: None if field.default is MISSING else field.default for field in own}


def _told_of_steps(name: str, options: Mapping[str, Any]) -> bool:
    """Whether a method is told of each step of its training: some only where `use_asa` asks for it."""
    import peft

    tuner = peft.PEFT_TYPE_TO_TUNER_MAPPING[peft.PeftType(name)]
    return hasattr(tuner, "update_and_allocate") and bool(options.get("use_asa", True))
