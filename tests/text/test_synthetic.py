"""Sources of texts: their entropy rates against enumerations and closed forms, and what they draw."""

from __future__ import annotations

import math
import re
from itertools import product

import numpy as np
import pytest

from rnnlm import ConfigError
from rnnlm.text.synthetic import SOURCES, Automaton, draw, entropy_rate, markov

# The Reber grammar between B and E, once more: node -> the nodes after its two symbols; 5 is the end
AFTER = {0: (1, 2), 1: (1, 3), 2: (2, 4), 3: (2, 5), 4: (3, 5)}


def text_of(automaton: Automaton, size: int, seed: int = 1) -> str:
    return "".join(draw(automaton, size, np.random.default_rng(seed)))


def made(name: str, **options: int) -> Automaton:
    return SOURCES[name](np.random.default_rng(3), **options)


def test_reber_grammars_have_the_entropy_of_their_choices() -> None:
    """ln 2 for each node on the way from B to E, counted step by step; an embedded string has one more
    choice, and four more symbols; each line ends with a newline.
    """
    choices, at = 0.0, {0: 1.0}
    for _ in range(2_000):
        choices += sum(p for node, p in at.items() if node != 5)
        then = dict.fromkeys(range(6), 0.0)
        for node, p in at.items():
            for after in AFTER.get(node, ()):
                then[after] += p / 2
        at = then
    ln2 = math.log(2)
    assert entropy_rate(made("reber")) == pytest.approx(choices * ln2 / (choices + 3), rel=1e-12)
    embedded = (choices + 1) * ln2 / (choices + 7)
    assert entropy_rate(made("embedded_reber")) == pytest.approx(embedded, rel=1e-12)


def test_every_line_that_is_drawn_is_of_the_grammar_and_whole() -> None:
    """By the grammar as a regular expression."""
    inner = "B(TS*X(?:XT*VP)*(?:S|XT*VV)|PT*V(?:PXT*V)*(?:V|PS))E"
    for name, pattern in (("reber", inner), ("embedded_reber", f"B(?:T{inner}T|P{inner}P)E")):
        text = text_of(made(name), 5_000)
        assert len(text) >= 5_000
        assert text.endswith("\n")
        for line in text.splitlines():
            assert re.fullmatch(pattern, line), line


def test_a_markov_chain_has_the_entropy_of_its_blocks() -> None:
    """The entropy of k symbols less that of k - 1, over all texts of k symbols, once the start is
    forgotten; the table is read off the automaton's own rows of probabilities only.
    """
    rng = np.random.default_rng(3)
    automaton = markov(rng, order=2, symbols=3)
    table = {
        context: {x: automaton[k][x][0] for x in "abc"}
        for k, context in enumerate(map("".join, product("abc", repeat=2)))
    }
    shares = dict.fromkeys(table, 1 / 9)
    for _ in range(200):
        then = dict.fromkeys(table, 0.0)
        for context, share in shares.items():
            for x, p in table[context].items():
                then[context[1] + x] += share * p
        shares = then

    def block(k: int) -> float:
        blocks = dict(shares)
        for _ in range(k - 2):
            blocks = {t + x: p * table[t[-2:]][x] for t, p in blocks.items() for x in "abc"}
        return -sum(p * math.log(p) for p in blocks.values())

    assert entropy_rate(automaton) == pytest.approx(block(6) - block(5), rel=1e-9)


@pytest.mark.parametrize("lag", [2, 30])
def test_a_copy_comes_after_the_lag_and_costs_nothing(lag: int) -> None:
    """One draw of a key in every lag + 1 symbols."""
    automaton = made("copy", lag=lag, keys=3)
    assert entropy_rate(automaton) == pytest.approx(math.log(3) / (lag + 1), rel=1e-12)
    text = text_of(automaton, 50 * (lag + 1))
    keys = text[:: lag + 1]
    assert text[lag :: lag + 1] == keys
    assert set(keys) == set("012")
    assert len(set(text)) == lag + 2


def test_brackets_balance_and_their_entropy_is_what_the_best_predictor_pays() -> None:
    """The mean of -ln p on a long text, by a predictor that counts what is open, is within four
    standard errors.
    """
    depth, kinds = 3, 2
    automaton = made("brackets", depth=depth, kinds=kinds)
    pairs, opened, costs = {")": "(", "]": "["}, [], []
    for symbol in text_of(automaton, 40_000):
        closes = 1.0 if len(opened) == depth else 0.5 if opened else 0.0
        if symbol in pairs:
            assert opened.pop() == pairs[symbol]
            costs.append(-math.log(closes))
        else:
            opened.append(symbol)
            costs.append(-math.log((1 - closes) / kinds))
    error = np.std(costs) / math.sqrt(len(costs))
    assert np.mean(costs) == pytest.approx(entropy_rate(automaton), abs=4 * error)


def test_an_option_is_checked_in_scripts_too() -> None:
    """Where two options are too large together."""
    with pytest.raises(ConfigError, match="fewer kinds"):
        made("brackets", depth=10, kinds=4)
