"""A teacher at an address: asked in OpenAI's form, tried again when busy, and every failure one clear sentence."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from addenda.exercises.exercise import Ask
from addenda.remote import endpoint
from addenda.remote.answerer import Said, answers
from addenda.remote.endpoint import MOST, Endpoint, EndpointError
from addenda.remote.store import Store
from addenda.teaching.study import study
from addenda.teaching.study_set import load_study
from addenda.telling.interrupts import Interrupts, Stopped
from chat_stand_in import completion, served
from teaching.studying import HANDBOOK, Answered, Told, Wanted, small

ADDRESS = "http://teacher.invalid/v1"
ASKS = [Ask(({"role": "user", "content": f"Question {number}?"},), (), 16) for number in range(6)]


def teacher(answer: Callable[[httpx2.Request], httpx2.Response], patience: float = 60.0) -> Endpoint:
    return Endpoint(ADDRESS, "small-model", patience, transport=httpx2.MockTransport(answer))


def echo(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, json=completion(f" To {json.loads(request.content)['messages'][0]['content']} "))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)


def test_asks_are_sent_in_openais_form_and_answers_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADDENDA_TEACHER_KEY", "k-1")
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return echo(request)

    store = Store(tmp_path / "said.jsonl")
    said = answers(teacher(answer), [*ASKS, ASKS[0]], store)
    assert [one.text for one in said] == [f"To Question {number}?" for number in [*range(6), 0]]
    assert len(seen) == 6  # what is asked twice is sent once
    body = json.loads(seen[0].content)
    assert str(seen[0].url) == f"{ADDRESS}/chat/completions"
    assert seen[0].headers["authorization"] == "Bearer k-1"
    assert {key: body[key] for key in ("model", "max_tokens", "temperature", "seed")} == {
        "model": "small-model", "max_tokens": 16, "temperature": 0.0, "seed": 0,
    }  # fmt: skip
    assert answers(teacher(answer), ASKS, Store(tmp_path / "said.jsonl")) == said[:6]
    assert len(seen) == 6


def test_the_first_model_that_it_offers_is_asked() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == "/v1/models"
        return httpx2.Response(200, json={"data": [{"id": "first"}, {"id": "second"}]})

    made = Endpoint(f"{ADDRESS}/chat/completions/", transport=httpx2.MockTransport(answer))
    assert (made.model, made.name) == ("first", "first at teacher.invalid")
    with pytest.raises(EndpointError, match="does not tell its models; name one"):
        Endpoint(ADDRESS, transport=httpx2.MockTransport(lambda _: httpx2.Response(200, json={"object": "list"})))


@pytest.mark.parametrize("trouble", [429, 500, 503, "away", "slow"])
def test_a_busy_teacher_is_asked_again(tmp_path: Path, trouble: Any) -> None:
    times: dict[bytes, int] = {}

    def answer(request: httpx2.Request) -> httpx2.Response:
        times[request.content] = times.get(request.content, 0) + 1
        if times[request.content] < 3:
            if trouble == "away":
                raise httpx2.ConnectError("connection refused")
            if trouble == "slow":
                raise httpx2.ReadTimeout("slow")
            return httpx2.Response(trouble, headers={"retry-after": "0"}, json={"error": {"message": "busy"}})
        return echo(request)

    said = answers(teacher(answer), ASKS, Store(tmp_path / "said.jsonl"))
    assert len(said) == 6
    assert set(times.values()) == {3}


FAILURES: dict[str, tuple[Callable[[httpx2.Request], httpx2.Response], str]] = {
    "rate-limited": (
        lambda _: httpx2.Response(429, json={"error": {"message": "slow down"}}),
        r"answers 429 \(slow down\), \d+ times in a row",
    ),
    "refusing": (
        lambda _: httpx2.Response(401, json={"error": {"message": "no key"}}),
        r"refuses \(401 \(no key\)\): put its key into the environment, ADDENDA_TEACHER_KEY",
    ),
    "unknown model": (
        lambda _: httpx2.Response(404, json={"error": "no such model"}),
        r"answers 404 \(no such model\)",
    ),
    "a web page": (
        lambda _: httpx2.Response(200, text="<html>Hello"),
        "no chat completion: '<html>Hello'; is it the address",
    ),
    "other JSON": (lambda _: httpx2.Response(200, json={"answer": 42}), "answers what is no chat completion"),
    "a list": (lambda _: httpx2.Response(200, json=[1]), "answers what is no chat completion"),
    "no choices": (lambda _: httpx2.Response(200, json={"choices": []}), "answers what is no chat completion"),
    "huge": (lambda _: httpx2.Response(200, content=b"x" * (MOST + 1)), "answers what is no chat completion: 'xxx"),
    "nested": (lambda _: httpx2.Response(200, content=b"[" * 100_000), "answers what is no chat completion"),
    "a number": (lambda _: httpx2.Response(200, json=completion(42)), "answers what is no chat completion"),
}


@pytest.mark.parametrize("what", FAILURES)
def test_a_failing_teacher_is_told_in_a_sentence_and_what_it_said_is_kept(tmp_path: Path, what: str) -> None:
    failing, message = FAILURES[what]
    sent = threading.Semaphore(2)

    def answer(request: httpx2.Request) -> httpx2.Response:
        return echo(request) if sent.acquire(blocking=False) else failing(request)

    store = Store(tmp_path / "said.jsonl")
    with pytest.raises(EndpointError, match=message) as caught:
        answers(teacher(answer, patience=0.1), ASKS, store)
    assert "\n" not in str(caught.value)
    assert len(Store(store.file).found) == 2
    assert len(answers(teacher(echo), ASKS, Store(store.file))) == 6


def test_what_drips_for_longer_than_patience_lasts_has_timed_out(tmp_path: Path) -> None:
    def dripping() -> Iterator[bytes]:
        for _ in range(100):
            time.sleep(0.02)
            yield b" "

    answer = teacher(lambda _: httpx2.Response(200, content=dripping()), patience=0.1)
    began = time.monotonic()
    with pytest.raises(EndpointError, match=r"gave no answer within 0.1 seconds, \d+ times in a row"):
        answers(answer, ASKS[:1], Store(tmp_path / "said.jsonl"))
    assert time.monotonic() - began < 2


def test_what_is_not_worth_keeping_is_returned_and_asked_for_again(tmp_path: Path) -> None:
    store, worth = Store(tmp_path / "said.jsonl"), lambda said: said.text.endswith("3?")
    said = answers(teacher(echo), ASKS, store, worth=worth)
    assert [one.text for one in said] == [f"To Question {number}?" for number in range(6)]
    assert [kept["said"] for kept in Store(store.file).found.values()] == ["To Question 3?"]
    assert answers(teacher(echo), ASKS, Store(store.file), worth=worth) == said


def test_a_judge_is_called_a_judge_and_has_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADDENDA_TEACHER_KEY", "k-1")
    monkeypatch.setenv("ADDENDA_JUDGE_KEY", "k-2")
    seen: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers["authorization"])
        return httpx2.Response(401)

    judge = Endpoint(ADDRESS, "m", 0.1, transport=httpx2.MockTransport(answer), role="judge")
    with pytest.raises(EndpointError, match=r"the judge at .* refuses \(401\).*ADDENDA_JUDGE_KEY"):
        answers(judge, ASKS[:1], Store(tmp_path / "said.jsonl"))
    assert seen == ["Bearer k-2"]


def test_odd_answers_are_stored_as_they_are(tmp_path: Path) -> None:
    odd = iter([completion(None), completion(""), completion("half \ud83d"), completion("cut off", "length")])
    lock = threading.Lock()

    def answer(_: httpx2.Request) -> httpx2.Response:
        with lock:
            return httpx2.Response(200, content=json.dumps(next(odd)).encode())

    said = answers(teacher(answer), ASKS[:4], Store(tmp_path / "said.jsonl"))
    assert sorted(one.text for one in said) == ["", "", "cut off", "half ?"]
    assert [one for one in said if one.cut] == [Said("cut off", True)]
    Store(tmp_path / "said.jsonl")


def test_nothing_at_the_address_is_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EndpointError, match=rf"the teacher at http://127.0.0.1:{port}/v1 cannot be reached"):
        Endpoint(f"http://127.0.0.1:{port}/v1", patience=0.1)
    for wrong in ("teacher", "ftp://x/v1", "http://", 7):
        with pytest.raises(EndpointError, match="a teacher is the address of a chat endpoint"):
            Endpoint(wrong)  # type: ignore[arg-type]


def test_a_study_asks_an_address_and_a_signal_stops_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent, over = threading.Event(), threading.Event()

    def answer(asked: str) -> str:
        if silent.is_set():
            over.wait(30)
        words = asked.split()
        return f"Which boat has {words[-1]} and {words[0]}?"

    base = small()
    kinds: dict[str, Any] = {
        "exercises": [Told(), Wanted(), Answered()],
        "chunk_tokens": 128,
        "log": False,
        "gain": False,
    }
    monkeypatch.setattr(
        "addenda.teaching.study_work.reading", lambda *_: __import__("addenda").teaching.reading.Reading(9, 10)
    )
    with served(answer) as there:
        report = study(base, {"club.md": HANDBOOK}, out=tmp_path / "s", teacher=there.address, **kinds)
        assert report.teacher == "local at 127.0.0.1"
        assert {record["kind"] for record in load_study(tmp_path / "s").records} >= {"told", "wanted"}
        silent.set()
        began = time.monotonic()
        with Interrupts() as signals:
            threading.Timer(0.5, lambda: setattr(signals, "seen", "SIGINT")).start()
            with pytest.raises(Stopped):
                answers(Endpoint(there.address, "local"), ASKS, Store(tmp_path / "said.jsonl"))
            signals.seen = None
        assert time.monotonic() - began < 10  # it does not wait for what is under way
        over.set()
