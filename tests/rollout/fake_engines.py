"""Engines without Ray: they draw when they are told to, and break when they are told to."""

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rollout.calls import Answer
from rollout.types import FinishReason, GenerationRequest, Key, Prompt, Response, VersionSpan


def prompt(uid: str) -> Prompt:
    return Prompt(uid, "", np.array([1, 2], np.int32), "p", "none", None, {}, "")


def response(request: GenerationRequest, spans: tuple[VersionSpan, ...], engine: int, tokens: int = 2) -> Response:
    """Its first token tells the seed."""
    ids = np.full(tokens, request.seed % 1000, np.int32)
    logprobs = np.full(tokens, -0.5, np.float32)
    return Response(request.uid, request.sample, ids, logprobs, "", FinishReason.STOP, spans, engine)


class FakeEngines:
    """`Engines` that end what they have by `draw`, at once with `eager`.

    said         what was asked of it besides requests, in order
    submitted    every request that an engine has been given, with its engine and incarnation
    called_off   every key that an engine has been told to give up, with its engine
    """

    def __init__(self, count: int, eager: bool = True):
        self.count, self.eager = count, eager
        self.version = 0
        self.said: list[str] = []
        self.submitted: list[tuple[int, int, Key, GenerationRequest]] = []
        self.called_off: list[tuple[int, Key]] = []
        self.broken: dict[int, str] = {}
        self.spoil: Callable[[Response], Response] = lambda drawn: drawn
        self._incarnations = [0] * count
        self._has: list[dict[Key, tuple[GenerationRequest, int]]] = [{} for _ in range(count)]
        self._ended: list[list[tuple[Key, Response | None]]] = [[] for _ in range(count)]
        self._news = threading.Condition()

    def __len__(self) -> int:
        return self.count

    def incarnation(self, engine: int) -> int:
        return self._incarnations[engine]

    def submit(self, engine: int, incarnation: int, requests: Mapping[Key, GenerationRequest]) -> None:
        with self._news:
            if incarnation != self._incarnations[engine]:
                return
            for key, request in requests.items():
                self.submitted.append((engine, incarnation, key, request))
                self._has[engine][key] = request, self.version
            if self.eager and engine not in self.broken:
                self._draw(engine)
            self._news.notify_all()

    def call_off(self, engine: int, incarnation: int, keys: Sequence[Key]) -> None:
        with self._news:
            if incarnation != self._incarnations[engine]:
                return
            self.called_off += [(engine, key) for key in keys]
            if engine not in self.broken:
                left = [key for key in keys if self._has[engine].pop(key, None)]
                self._ended[engine] += [(key, None) for key in left]
            self._news.notify_all()

    def draw(self, engine: int, keep: int = 0) -> None:
        """Let the engine end all but the last `keep` of what it has."""
        with self._news:
            self._draw(engine, keep)
            self._news.notify_all()

    def lose(self, engine: int, why: str) -> None:
        """It dies or hangs with what it has."""
        with self._news:
            self.broken[engine] = why
            self._has[engine].clear()
            self._ended[engine].clear()
            self._news.notify_all()

    def has(self, engine: int) -> int:
        with self._news:
            return len(self._has[engine])

    def collect(self, busy, wait_s: float, watched: bool) -> list[Answer]:
        with self._news:
            self._news.wait_for(lambda: any(self._ended) or any(e in self.broken for e in busy), wait_s)
            answers = []
            for engine in busy:
                ended, self._ended[engine] = self._ended[engine], []
                why = self.broken.get(engine)
                if ended or why:
                    answers.append(Answer(engine, self._incarnations[engine], ended, why))
            return answers

    def replace(self, lost: Mapping[int, str]) -> None:
        with self._news:
            self.said.append(f"replace {sorted(lost)}")
            for engine in lost:
                self._incarnations[engine] += 1
                self._has[engine].clear()
                self._ended[engine].clear()
                self.broken.pop(engine, None)

    def refresh(self) -> None:
        self.said.append(f"refresh with {sum(map(len, self._has))} under way")

    def connect(self) -> None:
        self.said.append("connect")

    def whole_rollout(self) -> None:
        self.said.append("whole rollout")

    def update(self, version: int) -> None:
        """New weights, in the middle of what is under way."""
        with self._news:
            self.version = version

    def _draw(self, engine: int, keep: int = 0) -> None:
        keys = list(self._has[engine])
        for key in keys[: len(keys) - keep]:
            request, began = self._has[engine].pop(key)
            spans = (VersionSpan(0, began),)
            if began != self.version:
                spans += (VersionSpan(1, self.version),)
            self._ended[engine].append((key, self.spoil(response(request, spans, engine))))
