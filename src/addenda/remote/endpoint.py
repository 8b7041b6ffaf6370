"""A model at an address: any chat endpoint as OpenAI's; asked several things at a time, tried again when it is busy or away."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from addenda.core.errors import AddendaError
from addenda.exercises.exercise import Ask
from addenda.remote.answerer import Answerer, Keep, Said
from addenda.telling.progress import tick

#: the variable of the environment with the key of an endpoint that wants one, by what it is asked as
KEY = "ADDENDA_{}_KEY"
#: asks under way at a time; seconds before the second try, each further one waits twice as long, and at most so long
AT_A_TIME, FIRST_WAIT, LONGEST_WAIT = 4, 1.0, 30.0
#: seconds for which an address is tried where nobody has answered yet at all
GREETING = 5.0
#: answers that mean: come back later
BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
#: seconds that what is under way has when something else failed
LAST_WAIT = 5.0
#: seconds between two looks at whether a signal came
LOOK = 0.1
#: characters of an endpoint's own words in an error; bytes of an answer, of which more are no answer
SHOWN, MOST = 160, 4 * 2**20
MODELS, CHAT = "models", "chat/completions"


class EndpointError(AddendaError):
    """An endpoint cannot be asked: it is away, busy, refuses, or answers what is no answer."""


@dataclass(frozen=True)
class _Reply:
    """What came back, whole: `after` is what the endpoint says of when to come again."""

    status: int
    after: str | None
    text: str

    def json(self) -> Any:
        """As JSON; a ValueError where it is none."""
        return json.loads(self.text)


class Endpoint(Answerer):
    """A chat endpoint as OpenAI's. Answers are asked for without chance (temperature 0) and with a fixed seed.

    Args:
        address: of the endpoint: `http://localhost:8000/v1`, with or without `/chat/completions`.
        model: that is asked; None: the first that it offers, found out at once.
        patience: seconds that an answer may take, and about those that a failing ask is tried again.
        transport: of `httpx2`, in place of the network.
        role: what it is asked as, `teacher` or `judge`: errors call it so, and its key stands in ADDENDA_TEACHER_KEY or
            ADDENDA_JUDGE_KEY.

    Raises:
        EndpointError: the address is none, or nothing there tells its models.
    """

    def __init__(
        self,
        address: str,
        model: str | None = None,
        patience: float = 60.0,
        transport: Any = None,
        role: str = "teacher",
    ) -> None:
        import httpx2

        parts = urlsplit(address if isinstance(address, str) else "")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise EndpointError(
                f"a {role} is the address of a chat endpoint, such as http://localhost:8000/v1; got {address!r}"
            )
        self.role, self.key_in = role, KEY.format(role.upper())
        self.address = address.rstrip("/").removesuffix(f"/{CHAT}").rstrip("/")
        self.patience = patience
        self._http, self._over, self._reached = httpx2, threading.Event(), False
        key = os.environ.get(self.key_in, "").strip()
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(patience, connect=min(10.0, patience)),
            transport=transport,
            follow_redirects=True,
        )
        self.model = model or self._first_model()
        self.name = f"{self.model} at {parts.hostname}"
        self.identity: Mapping[str, Any] = {"address": self.address, "model": self.model}

    def answer(self, asks: Sequence[Ask], known: Set[int], keep: Keep) -> None:
        """Several at a time; each answer is kept as it comes.

        Raises:
            EndpointError: it is away, busy for too long, refuses, or answers what is no answer.
            Stopped: after a signal, at once: what is under way is not waited for.
        """
        waiting: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        came: queue.SimpleQueue[tuple[int, Said | BaseException]] = queue.SimpleQueue()
        wanted = [at for at in range(len(asks)) if at not in known]
        self._over = over = threading.Event()

        def work() -> None:
            while (at := waiting.get()) is not None and not over.is_set():
                try:
                    came.put((at, self._said(asks[at], over)))
                except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
                    came.put((at, error))

        for at in [*wanted, *[None] * AT_A_TIME]:
            waiting.put(at)
        threads = [
            threading.Thread(target=work, name=f"addenda-{self.role}", daemon=True)
            for _ in range(min(AT_A_TIME, len(wanted)))
        ]
        for thread in threads:  # no pool: its threads would be waited for at the end
            thread.start()
        try:
            for _ in wanted:
                at, said = self._next(came)
                if isinstance(said, BaseException):
                    raise said
                keep({at: said})
        except EndpointError:
            over.set()
            for thread in threads:  # what is under way was paid for
                thread.join(LAST_WAIT)
            raise
        finally:
            over.set()
            self._keep_rest(came, keep)

    def _keep_rest(self, came: queue.SimpleQueue[tuple[int, Said | BaseException]], keep: Keep) -> None:
        """Keep what came by now."""
        while not came.empty():
            at, said = came.get()
            if isinstance(said, Said):
                keep({at: said})

    def _next(self, came: queue.SimpleQueue[tuple[int, Said | BaseException]]) -> tuple[int, Said | BaseException]:
        while True:
            tick()
            try:
                return came.get(timeout=LOOK)
            except queue.Empty:
                continue

    def _said(self, ask: Ask, over: threading.Event) -> Said:
        body = {
            "model": self.model, "messages": list(ask.messages), "max_tokens": ask.tokens, "temperature": 0.0, "seed": 0,
        }  # fmt: skip
        answer = self._tried("POST", CHAT, over, body)
        try:
            choice = answer["choices"][0]
            content = choice["message"].get("content")
            if content is None:
                content = ""
            if not isinstance(content, str):
                raise TypeError
        except (KeyError, IndexError, TypeError, AttributeError):
            raise self._nonsense(json.dumps(answer, ensure_ascii=False)) from None
        text = content.encode("utf-8", "replace").decode()  # half a surrogate pair could not be stored
        return Said(text.strip(), cut=choice.get("finish_reason") == "length")

    def _first_model(self) -> str:
        answer = self._tried("GET", MODELS, self._over)
        try:
            return str(answer["data"][0]["id"])
        except (KeyError, IndexError, TypeError):
            raise EndpointError(
                f"the {self.role} at {self.address} does not tell its models; name one, {self.role}_model"
            ) from None

    # -- one request -----------------------------------------------------------------------------------------------

    def _tried(self, method: str, path: str, over: threading.Event, body: Any = None) -> Any:
        """The JSON of an answer, tried again as long as patience lasts while the endpoint is away or busy."""
        began, wait, tries = time.monotonic(), FIRST_WAIT, 0
        most = 2 * self.patience
        while True:
            tries += 1
            try:
                reply = self._reply(method, path, body)
            except self._http.TimeoutException:
                trouble, later = f"gave no answer within {self.patience:g} seconds", None
            except self._http.TransportError as error:
                trouble, later = f"cannot be reached ({error or type(error).__name__})", None
                most = most if self._reached else min(most, GREETING)
            except (self._http.HTTPError, self._http.InvalidURL) as error:
                raise EndpointError(f"the {self.role} at {self.address} cannot be asked: {error}") from None
            else:
                if reply.status not in BUSY:
                    return self._read(reply)
                trouble = f"answers {reply.status}{_words(reply)}"
                later = _seconds(reply.after)
            pause = min(LONGEST_WAIT, max(wait, later or 0.0))
            if time.monotonic() - began + pause > most:
                raise EndpointError(f"the {self.role} at {self.address} {trouble}, {tries} times in a row")
            if over.wait(pause):
                raise EndpointError("no longer wanted")
            wait *= 2

    def _reply(self, method: str, path: str, body: Any) -> _Reply:
        """One request, and all that came back; what drips for longer than patience lasts has timed out."""
        began, came = time.monotonic(), bytearray()
        with self._client.stream(method, f"{self.address}/{path}", json=body) as response:
            self._reached = True
            for part in response.iter_bytes():
                came += part
                if len(came) > MOST:
                    raise self._nonsense(came.decode("utf-8", "replace"))
                if time.monotonic() - began > self.patience:
                    raise self._http.ReadTimeout("not at its end in time")
        return _Reply(response.status_code, response.headers.get("retry-after"), came.decode("utf-8", "replace"))

    def _read(self, reply: _Reply) -> Any:
        if reply.status in (401, 403):
            raise EndpointError(
                f"the {self.role} at {self.address} refuses ({reply.status}{_words(reply)}): put its key into the "
                f"environment, {self.key_in}"
            )
        if reply.status >= 400:
            raise EndpointError(f"the {self.role} at {self.address} answers {reply.status}{_words(reply)}")
        try:
            return reply.json()
        except (ValueError, RecursionError):
            raise self._nonsense(reply.text) from None

    def _nonsense(self, text: str) -> EndpointError:
        return EndpointError(
            f"the {self.role} at {self.address} answers what is no chat completion: {_short(text)!r}; is it the address of a "
            "chat endpoint as OpenAI's, mostly one that ends in /v1?"
        )


def _words(reply: _Reply) -> str:
    """What an endpoint says of an error, in its own words, if any."""
    try:
        told = reply.json()
    except (ValueError, RecursionError):
        return f" ({_short(reply.text)})" if reply.text.strip() else ""
    error = told.get("error", told) if isinstance(told, dict) else told
    message = error.get("message", error) if isinstance(error, dict) else error
    return f" ({_short(str(message))})" if message else ""


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN else flat[: SHOWN - 1] + "…"


def _seconds(after: str | None) -> float | None:
    try:
        return None if after is None else max(0.0, float(after))
    except ValueError:  # a date
        return None
