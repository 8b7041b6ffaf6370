"""The test environment itself: the network is shut, loopback is open, seeds are fixed."""

from __future__ import annotations

import os
import random
import socket

import pytest
import torch


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
