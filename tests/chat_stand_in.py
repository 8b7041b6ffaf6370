"""A chat endpoint of one machine: OpenAI's form on loopback, with answers that a test makes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

MODEL = "local"


def completion(text: Any, finish: str = "stop") -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}]}


@dataclass
class Served:
    """Where the endpoint is, what it was asked so far, and its keys; `answer` may be changed meanwhile."""

    answer: Callable[[str], Any]
    address: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    keys: list[str | None] = field(default_factory=list[str | None])


@contextmanager
def served(answer: Callable[[str], Any]) -> Iterator[Served]:
    """An endpoint whose `answer`, to what was said last, is text, a status, bytes that are sent as they are, or JSON."""
    place = Served(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, {"data": [{"id": MODEL}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            place.asked.append(body)
            place.keys.append(self.headers["authorization"])
            said = place.answer(body["messages"][-1]["content"])
            if isinstance(said, int):
                self._send(said, {"error": {"message": "as the test has it"}})
            else:
                self._send(200, completion(said) if isinstance(said, str) else said)

        def _send(self, status: int, value: Any) -> None:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            try:
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:  # whoever asked has gone
                pass

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    place.address = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield place
    finally:
        server.shutdown()
        server.server_close()
