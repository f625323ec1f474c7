"""Texts drawn from sources whose entropy rate is known, and so the loss of the best model there can be.

A source is a function `(rng, **options)` that makes an automaton; its keywords are its options. In each
state a symbol is drawn, and state and symbol together determine the next state. So whoever has read the
text from its start knows the state, and what is left to learn is the symbol: the entropy rate is the
mean over states of the entropy of the symbol (Shannon 1948, section 7).
"""

from __future__ import annotations

import io
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, product
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from ..arrays import Array
from ..backend.seeds import Purpose, generator
from ..config.kinds import Integer, RefusedError, options
from ..errors import ConfigError
from ..wording import shown
from .corpus import Corpus, Drawn
from .prepare import prepare

State = Mapping[str, tuple[float, int]]  # symbol -> its probability, and the state that follows
Automaton = Sequence[State]  # a text starts in state 0; "\n" is there where each line is a text

STATES = 4096  # of an automaton, at most: the equations of its stationary distribution are solved
LETTERS = [letter for letter in map(chr, range(0x41, 0x250)) if letter.isalpha()]
BRACKETS = ("()", "[]", "{}", "<>")


def markov(
    rng: np.random.Generator,
    *,
    order: Annotated[int, Integer(low=1, high=11)] = 2,
    symbols: Annotated[int, Integer(low=2, high=26)] = 4,
) -> Automaton:
    """A Markov chain: the last `order` symbols decide on the next, by probabilities that are drawn, for
    each context, from all that there are, evenly. The state is the context as a number.
    """
    contexts = symbols**order
    if contexts > STATES:
        raise ConfigError(f"{contexts:,} contexts: with this many symbols make the order smaller")
    table = rng.dirichlet(np.ones(symbols), contexts).tolist()
    letters = [chr(ord("a") + k) for k in range(symbols)]
    return [
        {
            letter: (p, (context * symbols + k) % contexts)
            for k, (letter, p) in enumerate(zip(letters, row, strict=True))
        }
        for context, row in enumerate(table)
    ]


# The graph of Reber 1967 as in Cleeremans, Servan-Schreiber and McClelland 1989, figure 3, between B
# and E: symbol -> node that follows, either symbol with probability 1/2; 5 is the end
REBER: tuple[Mapping[str, int], ...] = (
    {"T": 1, "P": 2},
    {"S": 1, "X": 3},
    {"T": 2, "V": 4},
    {"X": 2, "S": 5},
    {"P": 3, "V": 5},
)


def _reber(first: int, then: int) -> list[State]:
    """The states of a string from B to E, whose numbers begin at `first`; `then` follows it."""
    places = [*range(first + 1, first + 7)]
    return [
        {"B": (1.0, places[0])},
        *({symbol: (0.5, places[node]) for symbol, node in edges.items()} for edges in REBER),
        {"E": (1.0, then)},
    ]


def reber(rng: np.random.Generator) -> Automaton:
    """Strings of the Reber grammar, one a line (Cleeremans et al. 1989)."""
    string = _reber(0, 7)
    return [*string, {"\n": (1.0, 0)}]


def embedded_reber(rng: np.random.Generator) -> Automaton:
    """Strings of the embedded Reber grammar, one a line: B, T or P, a string of the Reber grammar, the
    same T or P again, E (Hochreiter and Schmidhuber 1997, section 5.1).
    """
    upper, lower, end = 2, 10, 18
    return [
        {"B": (1.0, 1)},
        {"T": (0.5, upper), "P": (0.5, lower)},
        *_reber(upper, upper + 7),
        {"T": (1.0, end)},
        *_reber(lower, lower + 7),
        {"P": (1.0, end)},
        {"E": (1.0, end + 1)},
        {"\n": (1.0, 0)},
    ]


def brackets(
    rng: np.random.Generator,
    *,
    depth: Annotated[int, Integer(low=1, high=10)] = 4,
    kinds: Annotated[int, Integer(low=1, high=4)] = 2,
) -> Automaton:
    """Balanced brackets of several kinds, `depth` deep at most. Where one may be opened or closed, both
    have probability 1/2; each kind is as probable as the others. The state is what is open.
    """
    number = sum(kinds**d for d in range(depth + 1))
    if number > STATES:
        raise ConfigError(f"{number:,} states: make the depth smaller, or take fewer kinds")
    every = [open_ for d in range(depth + 1) for open_ in product(range(kinds), repeat=d)]
    place = {open_: k for k, open_ in enumerate(every)}
    states: list[State] = []
    for open_ in every:
        opens = 0.0 if len(open_) == depth else 0.5 if open_ else 1.0
        state = {
            BRACKETS[kind][0]: (opens / kinds, place[(*open_, kind)])
            for kind in range(kinds)
            if opens
        }
        if open_:
            state[BRACKETS[open_[-1]][1]] = (1 - opens, place[open_[:-1]])
        states.append(state)
    return states


def copy(
    rng: np.random.Generator,
    *,
    lag: Annotated[int, Integer(low=2, high=400)] = 10,
    keys: Annotated[int, Integer(low=2, high=10)] = 2,
) -> Automaton:
    """A key (a digit) at random, letters that are always the same, and `lag` symbols after it the key
    again, and so on (Hochreiter and Schmidhuber 1997, experiment 2a). The letters are all different, so
    that nothing has to be remembered but the key. The entropy rate is ln keys / (lag + 1); who forgets
    the key pays as much again.
    """
    start = [1 + k * lag for k in range(keys)]
    states: list[State] = [{str(k): (1.0 / keys, start[k]) for k in range(keys)}]
    for k in range(keys):
        states += [{LETTERS[t]: (1.0, start[k] + t + 1)} for t in range(lag - 1)]
        states.append({str(k): (1.0, 0)})
    return states


SOURCES: dict[str, Callable[..., Automaton]] = {
    "markov": markov,
    "reber": reber,
    "embedded_reber": embedded_reber,
    "brackets": brackets,
    "copy": copy,
}


def stationary(automaton: Automaton) -> Array:
    """How often each state is visited in the long run; (S,), for an automaton that is irreducible."""
    S = len(automaton)
    flow = -np.eye(S)  # the transposed transition matrix, less 1:  (Pᵀ - 1) π = 0
    for state, edges in enumerate(automaton):
        for p, after in edges.values():
            flow[after, state] += p
    flow[-1] = 1  # one equation follows from the others; Σ π = 1 takes its place
    return np.linalg.solve(flow, np.eye(S)[-1])


def entropy_rate(automaton: Automaton) -> float:
    """Nats per symbol: h = -Σ_s π(s) Σ_x p(x|s) ln p(x|s)."""
    entropies = [-math.fsum(p * math.log(p) for p, _ in edges.values() if p) for edges in automaton]
    return float(stationary(automaton) @ entropies)


def draw(automaton: Automaton, size: int, rng: np.random.Generator) -> Iterator[str]:
    """The symbols of a text: so many or, where each line is a text, as many more as end the last."""
    tables = [
        (list(accumulate(p for p, _ in edges.values()))[:-1], *zip(*_followers(edges), strict=True))
        for edges in automaton
    ]
    of_lines = any("\n" in edges for edges in automaton)
    state, drawn, symbol = 0, 0, ""
    while drawn < size or (of_lines and symbol != "\n"):
        limits, symbols, after = tables[state]
        k = bisect_right(limits, rng.random()) if limits else 0
        symbol, state = symbols[k], after[k]
        drawn += 1
        yield symbol


def _followers(edges: State) -> Iterator[tuple[str, int]]:
    return ((symbol, after) for symbol, (_, after) in edges.items())


def prepare_source(
    name: str, size: int, seed: int, out: Path, given: Mapping[str, str], **settings: Any
) -> Corpus:
    """Draw a text of `size` symbols from a source, and prepare it as `prepare` does with `settings`.

    `given` are options of the source, as text. The prepared folder says what was drawn, and its
    entropy rate. Raises ConfigError for a name or an option that there is not.
    """
    values = _read(name, given)
    automaton = SOURCES[name](generator(seed, Purpose.SOURCE, 0), **values)
    text = "".join(draw(automaton, size, generator(seed, Purpose.SOURCE, 1)))
    unit = "line" if any("\n" in edges for edges in automaton) else "stream"
    drawn = Drawn(name, values, size, seed, entropy_rate(automaton))
    stdin = io.BytesIO(text.encode())
    return prepare("-", out, unit=unit, stdin=stdin, drawn=drawn, **settings)


def _read(name: str, given: Mapping[str, str]) -> dict[str, int]:
    """All options of a source: those that are given, and the defaults of the others."""
    if name not in SOURCES:
        raise ConfigError(f"{shown(name)} is not a source: there are {', '.join(SOURCES)}")
    known = options(SOURCES[name])
    values = {key: option.default for key, option in known.items()}
    for key, text in given.items():
        if key not in known:
            there = f"there are {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"{key} is not an option of {name}: {there}")
        try:
            values[key] = known[key].kind.read(text)
        except RefusedError as error:
            raise ConfigError(f"{key} must be {error.must_be}, not {text}") from None
    return values
