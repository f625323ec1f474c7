"""How the parameters of a recurrent model begin: by name, each a class and a line in the table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ..arrays import Array
from ..backend.initial import glorot_uniform, uniform
from ..backend.params import Parameter
from ..cells import Cell
from ..config.kinds import Integer, Number, option
from ..errors import ConfigError

Init = Callable[[Array, np.random.Generator], None]


class Initialisation(Protocol):
    """A frozen dataclass whose fields are its options in the config."""

    def __call__(self, name: str, parameter: Parameter, cell: Cell, H: int) -> Parameter:
        """The parameter of a model of H units a layer, with its first values.

        Packed parameters are the recurrent matrices.
        """


def _gain() -> float:
    """The option that all have."""
    factor: float = option(1.0, "factor of the recurrent matrices", Number(above=0, high=100))
    return factor


def _scaled(parameter: Parameter, init: Init, gain: float) -> Parameter:
    """A parameter whose first values are those of `init` times `gain`."""

    def scaled(array: Array, rng: np.random.Generator) -> None:
        init(array, rng)
        np.multiply(array, gain, array)

    return replace(parameter, init=init if gain == 1 else scaled)


def _identity(array: Array, rng: np.random.Generator) -> None:
    array[...] = np.eye(*array.shape[1:])


@dataclass(frozen=True)
class Orthogonal:
    """Recurrent matrices are as the cell declares them: orthogonal (Saxe, McClelland and Ganguli 2014,
    arXiv:1312.6120). The moduli of their eigenvalues, and all their singular values, are `gain`.
    """

    gain: float = _gain()

    def __call__(self, name: str, parameter: Parameter, cell: Cell, H: int) -> Parameter:
        return _scaled(parameter, parameter.init, self.gain) if parameter.packed else parameter


@dataclass(frozen=True)
class Identity:
    """Recurrent matrices are the identity (Le, Jaitly and Hinton 2015, arXiv:1504.00941)."""

    gain: float = _gain()

    def __call__(self, name: str, parameter: Parameter, cell: Cell, H: int) -> Parameter:
        return _scaled(parameter, _identity, self.gain) if parameter.packed else parameter


@dataclass(frozen=True)
class Glorot:
    """Recurrent matrices are as the dense ones (Glorot and Bengio 2010, equation 16)."""

    gain: float = _gain()

    def __call__(self, name: str, parameter: Parameter, cell: Cell, H: int) -> Parameter:
        return _scaled(parameter, glorot_uniform, self.gain) if parameter.packed else parameter


@dataclass(frozen=True)
class Uniform:
    """Everything but an embedding is uniform within ±1 / √H, biases too, as in PyTorch's modules of
    one layer of H units and a Linear layer.
    """

    gain: float = _gain()

    def __call__(self, name: str, parameter: Parameter, cell: Cell, H: int) -> Parameter:
        if name == "embedding":
            return parameter

        def init(array: Array, rng: np.random.Generator) -> None:
            uniform(array, rng, 1 / math.sqrt(H))

        return _scaled(parameter, init, self.gain if parameter.packed else 1)


@dataclass(frozen=True)
class Chrono:
    """Biases of gates that keep the state begin at ln u, those of gates that let something new in at
    -ln u, with u uniform from 1 to `longest` - 1 for each unit: so units keep what they hold for that
    many steps (Tallec and Ollivier 2018, arXiv:1804.11188, section 3). All else is as by default.

    Raises ConfigError for a cell without such gates.
    """

    gain: float = _gain()
    longest: int = option(40, "steps over which something must be kept", Integer(low=3, high=10**6))

    def __call__(self, name: str, parameter: Parameter, cell: Cell, H: int) -> Parameter:
        if not cell.keeping:
            raise ConfigError(
                "model.initialisation: chrono is for cells with gates that keep a state"
            )
        if name.startswith("layers.") and name.endswith(".b"):

            def init(b: Array, rng: np.random.Generator) -> None:
                parameter.init(b, rng)
                kept = np.log(rng.uniform(1, self.longest - 1, b.shape[1]))
                for gate, sign in cell.keeping.items():
                    b[cell.gates.index(gate)] = sign * kept

            return replace(parameter, init=init)
        return _scaled(parameter, parameter.init, self.gain) if parameter.packed else parameter


INITIALISATIONS: dict[str, Callable[..., Initialisation]] = {
    "orthogonal": Orthogonal,
    "identity": Identity,
    "glorot": Glorot,
    "uniform": Uniform,
    "chrono": Chrono,
}
