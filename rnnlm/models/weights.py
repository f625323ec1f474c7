"""The parameters of recurrent layers as products want them: scaled, cut, transposed, masked copies."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Array, Shape
from ..backend.params import Parameters
from ..backend.tiles import PackedMatrix
from .layers import dropout_mask

if TYPE_CHECKING:
    from .recurrent import Recurrent


class Weights:
    """The parameters, and copies of them that the products use. Every update refreshes the copies.

    The copies of each layer, multiplied by the cell's `scale`: `table` (G, V, H) = Wx + b for one-hot
    input, else `Wx`; `b`; the cell's packed parameters, cut for products of `rows` rows. For the
    backward pass the packed parameters are there transposed too (without `scale`), under their name +
    "T". With `blocks`, the copies are for single steps of `blocks` times `rows` texts: `Wx` is cut for
    `rows` rows too, and `b` is repeated for every text.

    With weight dropout, `masks` has a mask of each layer's packed parameters by name: ones until
    `drops` are called, one for each layer. Then the copies are multiplied by them, up to a refresh.

    `empty` allocates the copies; `number` is different for every object.
    """

    _numbers = itertools.count(1)

    def __init__(
        self,
        model: Recurrent,
        params: Parameters,
        rows: int,
        backward: bool = True,
        blocks: int | None = None,
        empty: Callable[[Shape, np.dtype[Any]], Array] = np.empty,
    ) -> None:
        self.params = params
        self.number = next(self._numbers)
        self.layers: list[dict[str, Any]] = []
        self.tasks: list[Callable[[], None]] = []  # together they refresh the copies, in any order
        self.drops: list[Callable[[np.random.Generator], None]] = []
        self.masks: list[dict[str, Array]] = []

        def new(shape: Shape) -> Array:
            return empty(shape, params.flat.dtype)

        rate = model.weight_dropout if backward else 0
        for layer in range(model.num_layers):
            one_hot = layer == 0 and model.embedding_size is None
            own = params.group(f"layers.{layer}.")
            copies, tasks = layer_copies(
                own, list(model.packed), model.cell.scale, one_hot, rows, blocks, backward, new
            )
            self.layers.append(own | copies)
            self.tasks += tasks
            masks = {name: new(shape) for name, shape in model.packed.items() if rate}
            for mask in masks.values():
                mask.fill(1)
            self.masks.append(masks)
            if masks:
                self.drops.append(partial(_drop, own, copies, masks, model.cell.scale, rate))
        self.refresh()

    @property
    def packed_bytes(self) -> int:
        """Bytes of the copies that are multiplied."""
        copies = (copy for layer in self.layers for copy in layer.values())
        return sum(copy.tiles.nbytes for copy in copies if isinstance(copy, PackedMatrix))

    def refresh(self) -> None:
        """Make all copies anew from the parameters."""
        with np.errstate(all="ignore"):  # an overflow shows in the loss
            for task in self.tasks:
                task()


def layer_copies(
    own: dict[str, Array],
    packed: list[str],
    scale: Sequence[float],
    one_hot: bool,
    rows: int,
    blocks: int | None,
    backward: bool,
    new: Callable[[Shape], Array],
) -> tuple[dict[str, Any], list[Callable[[], None]]]:
    """The copies of a layer's parameters `own`, in memory that `new` allocates, and the calls that
    make them anew; see `Weights`. Those in `packed` are multiplied at every step.
    """
    G, D, H = own["Wx"].shape
    copies: dict[str, Any] = {}
    one_row = rows == 1 and blocks is None
    for name in packed:
        K, N = own[name].shape[1:]
        copies[name] = PackedMatrix.empty((G, K, N), rows, new, joined=one_row)
        if backward:
            copies[name + "T"] = PackedMatrix.empty((G, N, K), rows, new)
    if one_hot:
        # With one row a step, the gates of a symbol are together, as in `_window`
        copies["table"] = new((D, G, H)).swapaxes(0, 1) if one_row else new((G, D, H))
    else:
        copies["Wx"] = PackedMatrix.empty((G, D, H), rows if blocks else None, new)
    copies["b"] = new((G, blocks, rows, H) if blocks else (G, 1, H))
    return copies, [
        partial(_refresh_gate, own, copies, packed, k, f) for k, f in enumerate(scale[:G])
    ]


def _drop(
    own: dict[str, Array],
    copies: dict[str, Any],
    masks: dict[str, Array],
    scale: Sequence[float],
    rate: float,
    rng: np.random.Generator,
) -> None:
    """Draw a layer's `masks` and make the copies of what they multiply."""
    for name, mask in masks.items():
        dropout_mask(rate, rng, mask)
        for k, factor in enumerate(scale):
            kept = own[name][k] * mask[k]
            copies[name].fill(k, kept, factor)
            copies[name + "T"].fill(k, kept.T)


def _refresh_gate(
    own: dict[str, Array], copies: dict[str, Any], packed: list[str], k: int, scale: float
) -> None:
    for name in packed:
        copies[name].fill(k, own[name][k], scale)
        if name + "T" in copies:
            copies[name + "T"].fill(k, own[name][k].T)
    factor = own["b"].dtype.type(scale)
    np.multiply(own["b"][k], factor, copies["b"][k])
    if "table" in copies:
        np.add(own["Wx"][k], own["b"][k], copies["table"][k])
        np.multiply(copies["table"][k], factor, copies["table"][k])
    else:
        copies["Wx"].fill(k, own["Wx"][k], scale)
