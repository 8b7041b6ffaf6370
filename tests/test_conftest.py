"""The test environment itself: the network is shut, loopback is open, seeds are fixed, long tests leave records."""

from __future__ import annotations

import json
import os
import random
import socket
from pathlib import Path

import pytest
import torch

import long_records


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80, 0, 0), ("example.org", 443)])
def test_no_socket_leaves_this_machine(address: tuple) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as sock, pytest.raises(RuntimeError, match="without a network"):
        sock.connect(address)
    with socket.socket(family) as sock, pytest.raises(RuntimeError, match="without a network"):
        sock.connect_ex(address)


def test_loopback_is_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        connection, _ = server.accept()
        connection.close()


@pytest.mark.parametrize("turn", [0, 1])
def test_seeds_do_not_depend_on_what_ran_before(turn: int) -> None:
    assert torch.rand(()).item() == pytest.approx(0.4962566, abs=1e-6)
    assert random.random() == pytest.approx(0.8444218, abs=1e-6)


def test_threads_and_hub_settings() -> None:
    assert torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def report(outcome: str = "passed", when: str = "call", *marks: str) -> pytest.TestReport:
    return pytest.TestReport(
        "tests/test_it.py::test_all_of_it[a/b]",
        ("tests/test_it.py", 1, "test_all_of_it"),
        dict.fromkeys(marks, 1),
        outcome,  # type: ignore[arg-type]
        None,
        when,  # type: ignore[arg-type]
        user_properties=[("gain", 1.09)],
        duration=61.2,
    )


def test_a_long_test_that_passed_leaves_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setenv("ADDENDA_RECORDS", str(tmp_path / "long"))
    path = long_records.keep(report("passed", "call", "long"))
    assert path == tmp_path / "long" / "test-all-of-it-a-b.json"
    record = json.loads(path.read_text())
    assert (record["figures"], record["seconds"]) == ({"gain": 1.09}, 61)
    assert record["versions"].keys() == {"addenda", "torch", "transformers"}


@pytest.mark.parametrize(
    ("given", "variables"),
    [
        (("failed", "call", "long"), {}),
        (("passed", "setup", "long"), {}),
        (("passed", "call", "slow"), {}),
        (("passed", "call", "long"), {"ADDENDA_RECORDS": ""}),
        (("passed", "call", "long"), {"PYTEST_XDIST_WORKER": "gw0"}),
    ],
)
def test_nothing_else_does(
    given: tuple[str, ...], variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    for name, value in ({"ADDENDA_RECORDS": str(tmp_path / "long")} | variables).items():
        monkeypatch.setenv(name, value)
    assert long_records.keep(report(*given)) is None
    assert not list(tmp_path.iterdir())
