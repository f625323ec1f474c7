"""Texts that grow as their symbols are drawn: in pieces, until the end of a text or its stop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..arrays import Array
from ..text.format import TextFormat


def grow(texts: Sequence[GrowingText], steps: Iterable[Iterable[int]]) -> Iterator[list[str]]:
    """Yield what each step adds to each text, and at the end what was held back."""
    for ids in steps:
        yield [text.feed(int(i)) for text, i in zip(texts, ids, strict=True)]
        if all(text.ended for text in texts):
            return
    yield [text.rest() for text in texts]


class GrowingText:
    """One text that grows: from ids to text as it completes, until its end or its stop."""

    def __init__(self, text_format: TextFormat, prime_ids: Array, stop: str) -> None:
        self._decoder, self._end = text_format.decoder(prime_ids), text_format.end
        self._gate = (FromText if text_format.rules.reverse else StopText)(stop)
        self.ended = False

    def feed(self, symbol_id: int) -> str:
        """The text that an id adds; nothing after the end."""
        if self.ended:
            return ""
        if symbol_id == self._end:
            return self.rest()
        text = self._gate.feed(self._decoder(symbol_id))
        self.ended = self._gate.stopped
        return text

    def rest(self) -> str:
        """What is still held back, at the end of the text; nothing when it has ended before."""
        if self.ended:
            return ""
        self.ended = True
        return self._gate.feed(self._decoder.flush()) + self._gate.rest()


class FromText:
    """Passes on what follows the last `stop` of a whole text, which was drawn from its end."""

    stopped = False

    def __init__(self, stop: str) -> None:
        self._stop = stop

    def feed(self, text: str) -> str:
        """What follows the last `stop`."""
        return text.rpartition(self._stop)[2] if self._stop else text

    def rest(self) -> str:
        """Nothing is held back."""
        return ""


class StopText:
    """Passes text on until `stop` appears; holds back only what may be the beginning of `stop`."""

    def __init__(self, stop: str) -> None:
        self._stop, self._held, self.stopped = stop, "", False

    def feed(self, text: str) -> str:
        """What can be passed on after `text` was added."""
        if self.stopped or not self._stop:
            return "" if self.stopped else text
        held = self._held + text
        before, found, _ = held.partition(self._stop)
        if found:
            self.stopped, self._held = True, ""
            return before
        for n in range(min(len(held), len(self._stop) - 1), 0, -1):
            if self._stop.startswith(held[-n:]):
                self._held = held[-n:]
                return held[:-n]
        self._held = ""
        return held

    def rest(self) -> str:
        """What is still held back, at the end of the text."""
        held, self._held = self._held, ""
        return held
