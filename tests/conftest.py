"""What every test relies on: fixed seeds, few threads, no network, and real data only where it is present."""

from __future__ import annotations

import os

# Before torch, transformers and huggingface_hub are imported: they read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import ipaddress
import random
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

import long_records

# before any test imports them: tests of other folders use them too
pytest.register_assert_rewrite("conformance.world", "conformance.client")

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

# Fixed examples: a red test is red again. `--hypothesis-profile=search` looks for new ones.
settings.register_profile("fixed", deadline=None, derandomize=True, max_examples=25, database=None)
settings.register_profile("search", deadline=None, max_examples=400)
settings.load_profile("fixed")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Long tests leave a record."""
    long_records.keep(report)


class NetworkRefusedError(RuntimeError):
    """A test tried to leave this machine."""


def _refuse_outside(address: Any) -> None:
    """Raise unless the address is a loopback one; names other than localhost are never looked up."""
    host = address[0] if isinstance(address, tuple) else None
    if host is None or host in {"", "localhost"}:  # a Unix socket, or this machine
        return
    try:
        inside = ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        inside = host == socket.gethostname()
    if not inside:
        raise NetworkRefusedError(f"tests run without a network; {address!r} was asked for")


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Sockets reach loopback addresses only."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            original = getattr(socket.socket, name)

            def guarded(self: socket.socket, address: Any, _original: Any = original) -> Any:
                _refuse_outside(address)
                return _original(self, address)

            patch.setattr(socket.socket, name, guarded)
        yield


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """The same random numbers for every test, whatever ran before it; and grad mode as torch has it by default."""
    random.seed(0)
    np.random.seed(0)  # libraries draw from the global state
    torch.manual_seed(0)
    with torch.enable_grad():
        yield


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`recipes` and `benchmarks` can be imported, and nothing of them is left behind."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("recipes", "benchmarks")]:
        del sys.modules[name]


def _folder(variable: str) -> Path:
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"{variable} is not set; it names a folder (see CONTRIBUTING.md)")
    if not Path(path).is_dir():
        pytest.skip(f"{variable}={path} is not a folder")
    return Path(path)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real texts, `ADDENDA_DATA`; `make` sets it where ../shared/data is present."""
    return _folder("ADDENDA_DATA")


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The folder of trained outside models, `ADDENDA_MODELS`; `make` sets it where ../shared/models is present."""
    return _folder("ADDENDA_MODELS")
