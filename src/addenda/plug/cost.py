"""What a base costs on this machine: memory, and tokens a second for reading and for training, by a short probe."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addenda.core.contracts import Kind
from addenda.core.errors import AddendaError
from addenda.core.modes import evaluating
from addenda.core.module import unused
from addenda.core.registry import build_kind
from addenda.objectives.head import Head
from addenda.objectives.objective import likelihood
from addenda.plug.scoring import cast, default_length

if TYPE_CHECKING:
    from addenda.plug.base import Base

#: rows of a pass in `addenda.train` and in estimates, unless told otherwise
ROWS = 8
#: bytes for each parameter that learns: itself, its gradient and AdamW's two moments, in float32
LEARNING = 16


@dataclass(frozen=True)
class BaseCost:
    """What a base costs, and what training one module beside it does. Speeds are in tokens a second, sizes in bytes.

    Speeds were measured on rows of `probed` tokens; larger passes are somewhat faster. `activation_bytes` is what a
    training pass keeps for each of its tokens. The estimate of memory leaves out what Python and the libraries take.
    """

    base: str
    parameters: int
    dtype: str
    device: str
    threads: int
    weight_bytes: int
    kind: str
    module_parameters: int
    activation_bytes: int
    probed: int
    length: int
    reading: float
    training: float
    seconds: float

    def training_bytes(self, rows: int = ROWS, length: int | None = None) -> int:
        """Memory while a module is trained: weights, what learns, and a pass of `rows` rows of `length` tokens."""
        tokens = rows * (length or self.length)
        return self.weight_bytes + LEARNING * self.module_parameters + self.activation_bytes * tokens

    def seconds_to_read(self, tokens: int) -> float:
        """How long reading so many tokens takes (scoring, validation), in seconds."""
        return tokens / self.reading

    def seconds_to_train(self, tokens: int) -> float:
        """How long training on so many tokens takes, in seconds."""
        return tokens / self.training

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON, with the memory of training in passes of 8 rows."""
        return asdict(self) | {"training_bytes": self.training_bytes()}

    def __str__(self) -> str:
        return (
            f"{self.base}: {self.parameters:,} parameters in {self.dtype} on {self.device}, {_size(self.weight_bytes)}; "
            f"reads {self.reading:,.0f} tokens a second and trains {self.kind} on {self.training:,.0f}, in about "
            f"{_size(self.training_bytes())} ({ROWS} rows of {self.length} tokens)"
        )


def cost_of(base: Base, kind: Kind | None = None, *, seconds: float = 3.0, precision: str = "fp32") -> BaseCost:
    """Find out, by a probe of a few seconds, what a base costs on this machine. The base is left as it was, bit for bit.

    Args:
        base: on the device and in the dtype that are to be used; what is plugged and selected stays so.
        kind: the kind of module to train in the probe; default: `NeutralResidues`, or `LoRA` where the base cannot host it.
        seconds: about how long each of the two probes, reading and training, may take.
        precision: that is computed in, "fp32" or "bf16" (autocast).

    Raises:
        AddendaError: `seconds` is not positive, or the kind's options do not fit this base.
        UnsupportedError: this base cannot host the kind.
    """
    if not seconds > 0:
        raise AddendaError(f"seconds is a positive number; got {seconds!r}")
    began, name = time.perf_counter(), unused("cost-probe", base.modules)
    kind = kind or _usual(base)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.random.fork_rng(),
        evaluating(base.model),
        cast(base.device, precision),
    ):
        with base.off():
            head = Head(base.model)
            probed, reading = _read(base, head, seconds)
        module = base.new(name, kind)
        try:
            kept, training = _train(base, head, name, probed, seconds)
        finally:
            base.unplug(name)
    tensors = {id(t): t for t in (*base.host.model.parameters(), *base.host.model.buffers())}
    return BaseCost(
        base=base.name,
        parameters=base.anatomy.parameters,
        dtype=str(base.host.dtype()).removeprefix("torch."),
        device=str(base.device),
        threads=torch.get_num_threads(),
        weight_bytes=sum(t.numel() * t.element_size() for t in tensors.values()),
        kind=type(kind).__name__,
        module_parameters=sum(p.numel() for p in module.parameters() if p.requires_grad),
        activation_bytes=kept // probed,
        probed=probed,
        length=default_length(base),
        reading=reading,
        training=training,
        seconds=time.perf_counter() - began,
    )


def _usual(base: Base) -> Kind:
    kind = build_kind("NeutralResidues", {})
    return kind if base.host.refusal(kind.seam) is None else build_kind("LoRA", {"rank": 16})


def _read(base: Base, head: Head, seconds: float) -> tuple[int, float]:
    """A row's length, such that a training step on it takes about half of `seconds`, and tokens read a second."""

    def read(length: int) -> Callable[[], None]:
        ids = _ids(base, length)

        def run() -> None:
            with torch.no_grad():
                _costs(head, ids)

        return run

    longest = default_length(base)
    first = read(min(32, longest))
    first()  # the first pass of all prepares much
    speed = min(32, longest) / _times(first, 0.0, base.device)
    # short rows are slow ones: below a hundred tokens a pass mostly waits for the weights
    length = min(longest, max(32, 128 if speed * seconds > 32 else 0, int(speed * seconds / 6)))
    return length, length / _times(read(length), seconds, base.device)


def _train(base: Base, head: Head, name: str, length: int, seconds: float) -> tuple[int, float]:
    """Bytes that a pass keeps until its gradients are taken, and tokens trained a second."""
    ids = _ids(base, length)
    parameters = list(base.modules[name].parameters())
    optimizer = torch.optim.AdamW([p for p in parameters if p.requires_grad])
    base_values = {p.untyped_storage().data_ptr() for p in (*base.host.model.parameters(), *parameters)}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in base_values:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def step() -> None:
        optimizer.zero_grad()
        with base.using({name: 1.0}):
            loss = _costs(head, ids)
        if loss.requires_grad:
            loss.backward()
        optimizer.step()

    with ExitStack() as stack:
        stack.enter_context(base.trainable(name))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            step()
        return sum(kept.values()), length / _times(step, seconds, base.device)


def _costs(head: Head, ids: Tensor) -> Tensor:
    """The loss of a row of token ids [1, T + 1], as a training pass computes it."""
    hidden = head.hidden(ids[:, :-1])
    targets = ids[:, 1:].flatten()
    weights = torch.full(targets.shape, 1.0 / len(targets), device=targets.device)
    loss, _ = head.costs(likelihood(), hidden.flatten(0, 1), targets, weights)
    return loss


def _ids(base: Base, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(base.vocabulary, (1, length + 1), generator=generator).to(base.device)


def _times(run: Callable[[], None], seconds: float, device: torch.device) -> float:
    """The median of how long calls take, at least one, until `seconds` have passed."""
    times: list[float] = []
    while not times or sum(times) < seconds:
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
