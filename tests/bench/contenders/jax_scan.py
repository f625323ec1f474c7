"""JAX on the CPU: one compiled function a step, lax.scan over time, optax."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.nn import sigmoid

from ..models import GATES, Case
from .repeated import Repeated

jax.config.update("jax_platforms", "cpu")

Tree = Any  # of arrays


def about() -> dict[str, Any]:
    """The versions of JAX and optax."""
    return {"version": jax.__version__, "optax": optax.__version__}


def rnn(p: Tree, state: Tree, z: jax.Array) -> tuple[Tree, jax.Array]:
    """H = tanh(z + H' Wh); z is the projected input."""
    (h,) = state
    h = jnp.tanh(z + h @ p["Wh"])
    return (h,), h


def gru(p: Tree, state: Tree, z: jax.Array) -> tuple[Tree, jax.Array]:
    """The reset is applied after the product, as in PyTorch."""
    (h,) = state
    zr, zu, zn = jnp.split(z, 3, -1)
    hr, hu, hn = jnp.split(h @ p["Wh"], 3, -1)
    n = jnp.tanh(zn + sigmoid(zr + hr) * (hn + p["bh"]))
    h = n + sigmoid(zu + hu) * (h - n)
    return (h,), h


def lstm(p: Tree, state: Tree, z: jax.Array) -> tuple[Tree, jax.Array]:
    """Gates i, f, o, g."""
    h, c = state
    i, f, o, g = jnp.split(z + h @ p["Wh"], 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
    h = sigmoid(o) * jnp.tanh(c)
    return (h, c), h


STEPS = {"rnn": rnn, "gru": gru, "lstm": lstm}


def init(case: Case) -> Tree:
    """Parameters, gates side by side in each matrix."""
    G, H, V = GATES[case.cell], case.hidden, case.vocabulary
    keys = iter(jax.random.split(jax.random.key(0), 2 * case.layers + 1))

    def matrix(rows: int, columns: int) -> jax.Array:
        return jax.random.normal(next(keys), (rows, columns)) * rows**-0.5

    layers = [
        {
            "Wx": matrix(H if layer else V, G * H),
            "Wh": matrix(H, G * H),
            "b": jnp.zeros(G * H),
            "bh": jnp.zeros(H),
        }
        for layer in range(case.layers)
    ]
    return {"layers": layers, "Wy": matrix(H, V), "by": jnp.zeros(V)}


def loss(cell: str, params: Tree, ids: jax.Array, targets: jax.Array, state: Tree) -> Any:
    """The mean loss of a window (T, B), and the final state."""
    x, final = None, []
    for p, initial in zip(params["layers"], state, strict=True):
        # one-hot input is a row of the table
        z = (p["Wx"][ids] if x is None else x @ p["Wx"]) + p["b"]
        last, x = lax.scan(partial(STEPS[cell], p), initial, z)
        final.append(last)
    logits = x @ params["Wy"] + params["by"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean(), final


class Train(Repeated):
    """Whole training steps over random text."""

    def __init__(self, case: dict[str, Any]) -> None:
        c = Case(**case)
        optimizer = optax.chain(optax.clip_by_global_norm(5.0), optax.adam(2e-3))

        @partial(jax.jit, donate_argnums=(0, 1, 2))
        def update(params: Tree, moments: Tree, state: Tree, ids: Any, targets: Any) -> Any:
            gradient = jax.value_and_grad(partial(loss, c.cell), has_aux=True)
            (value, state), d = gradient(params, ids, targets, state)
            changes, moments = optimizer.update(d, moments)
            return optax.apply_updates(params, changes), moments, state, value

        params = init(c)
        parts = 2 if c.cell == "lstm" else 1
        state = [tuple(jnp.zeros((c.batch, c.hidden)) for _ in range(parts))] * c.layers
        state = jax.tree.map(jnp.copy, state)  # what is donated must not be shared
        self._update, self._carried = update, (params, optimizer.init(params), state)
        size = (c.window + 1, c.batch)
        text = jax.random.randint(jax.random.key(1), size, 0, c.vocabulary)
        self._ids, self._targets = text[:-1], text[1:]
        self.amount = c.batch * c.window
        self.warm_up()

    def step(self) -> None:
        *self._carried, value = self._update(*self._carried, self._ids, self._targets)
        jax.block_until_ready((self._carried, value))


TASKS = {"train": Train}
