"""Recurrent models as a PyTorch `state_dict` (an embedding, nn.LSTM, nn.GRU or nn.RNN, a Linear layer).

It is a safetensors file rather than a .pt: that is a pickle, which runs code when it is read and which
only PyTorch writes. PyTorch's users load a safetensors file in one line, and no PyTorch is needed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..arrays import Array
from ..assembly import read_config
from ..errors import CheckpointError, ConfigError, DataError
from ..models.recurrent import Recurrent
from ..runs.checkpoint import Checkpoint
from ..storage.npz import read_npz
from ..text.format import TextRules
from ..wording import brief
from . import safetensors
from .contract import Files, Format, Imported, Symbols
from .metadata import metadata, text_format


@dataclass(frozen=True)
class Module:
    """PyTorch's module of a cell."""

    name: str
    gates: Sequence[int]  # our number of each of its gates, and its number of each of ours
    options: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # of the cell, that it has
    keyword: str = ""  # for an option of which it has several values
    why: str = ""  # it has no others


MODULES = {  # by the name of the cell
    "lstm": Module("LSTM", (0, 1, 3, 2)),
    "gru": Module(
        "GRU",
        (0, 1, 2),
        {"reset_after": (True,)},
        why="PyTorch's GRU applies its reset gate after the product with the state, and this one "
        "before (model.cell.reset_after: false)",
    ),
    "rnn": Module(
        "RNN",
        (0,),
        {"activation": ("tanh", "relu")},
        "nonlinearity",
        why="PyTorch's RNN has the activations tanh and relu only",
    ),
}

CODE = '''"""{about} (rnnlm {version}). Needs torch and safetensors."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        {embedding}
        self.rnn = nn.{module}({inputs}, {H}, num_layers={L}{options})
        self.out = nn.Linear({H}, {V})

    def forward(self, ids, state=None):
        """ids (T, B) to the logits (T, B, V) of the symbol after each, and the state after them."""
        hidden, state = self.rnn(self.embedding(ids), state)
        return self.out(hidden), state


def load(path=Path(__file__).with_suffix(".safetensors")):
    """The model, and its symbols in the order of their ids."""
    model = Model()
    with safe_open(path, "pt") as file:
        model.load_state_dict({{name: file.get_tensor(name) for name in file.keys()}})
        symbols = json.loads(file.metadata()["text"])["vocabulary"]["symbols"]
    return model.eval(), symbols
'''
ONE_HOT = "self.embedding = lambda ids: nn.functional.one_hot(ids, {V}).float()"
EMBEDDING = "self.embedding = nn.Embedding({V}, {E})"


# Writing


def write(checkpoint: Checkpoint) -> Files:
    """A file with the state dict, and beside it the code of a module that loads it."""
    cell, model = dict(checkpoint.config.model["cell"]), checkpoint.model
    assert isinstance(model, Recurrent)
    name = cell.pop("name")
    if name not in MODULES:
        raise DataError(f"PyTorch has no module for the cell {name}")
    if model.num_layers > 1 and (model.skip or model.residual):
        raise DataError(
            "PyTorch's modules have no ways past their layers (model.skip, model.residual): export to "
            "onnx, safetensors or json instead"
        )
    module = MODULES[name]
    if any(value not in module.options[option] for option, value in cell.items()):
        raise DataError(module.why)
    sizes = {"V": model.vocabulary_size, "E": model.embedding_size, "H": model.hidden_size}
    code = CODE.format(
        about=model.describe(),
        version=__version__,
        module=module.name,
        embedding=(EMBEDDING if model.embedding_size else ONE_HOT).format(**sizes),
        inputs=model.embedding_size or model.vocabulary_size,
        options="".join(f", {module.keyword}={value!r}" for value in cell.values())
        if module.keyword
        else "",
        L=model.num_layers,
        **sizes,
    )
    arrays = dict(_state_dict(model, checkpoint.params, list(module.gates)))
    return {
        "_torch.safetensors": safetensors.pieces(arrays, metadata(checkpoint)),
        "_torch.py": [code.encode()],
    }


def _state_dict(model: Recurrent, p: Any, gates: list[int]) -> Iterator[tuple[str, Array]]:
    """Gates below each other, applied as W x; the recurrent bias is that inside a GRU's reset."""
    if "embedding" in p:
        yield "embedding.weight", p["embedding"]
    for k in range(model.num_layers):
        own = p.group(f"layers.{k}.")
        H = own["b"].shape[1]
        inside = np.zeros_like(own["b"])
        if "bh" in own:
            inside[-1] = own["bh"]
        for name, part in (("ih", "Wx"), ("hh", "Wh")):
            yield f"rnn.weight_{name}_l{k}", _stacked(own[part][gates].swapaxes(1, 2))
        yield f"rnn.bias_ih_l{k}", own["b"][gates].reshape(-1)
        yield f"rnn.bias_hh_l{k}", inside.reshape(len(gates) * H)
    yield "out.weight", np.ascontiguousarray(model.output_matrix(p).T)
    yield "out.bias", p["by"]


def _stacked(a: Array) -> Array:
    """(G, H, D) as (G·H, D)."""
    return np.ascontiguousarray(a).reshape(-1, a.shape[2])


# Reading


RECURRENT = re.compile(r"(?:.*\.)?((?:weight|bias)_(?:ih|hh|hr)_l\d{1,3}(?:_reverse)?)")
BEYOND = {
    "_reverse": "it is bidirectional, and reads the text after a symbol too",
    "_hr_": "it projects its state (proj_size)",
}
PICKLE = (
    "a pickle, which can run any code when it is read, so rnnlm does not: save it in PyTorch with "
    "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
)


def read(path: Path, symbols: Symbols | None, rules: TextRules) -> Imported:
    """A state dict of nn.LSTM, nn.GRU or nn.RNN, a Linear layer and perhaps an embedding, whatever
    their names; its symbols are those given, or those that rnnlm wrote beside it.
    """
    arrays, texts = READERS[path.suffix.lower()](path)
    try:
        return _imported(arrays, texts, symbols)
    except (DataError, KeyError, ValueError) as error:
        what = f"no {error.args[0]}" if isinstance(error, KeyError) else error
        raise DataError(f"{path}: {brief(str(what), 300)}") from None


def _read_npz(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    arrays = read_npz(path)
    if "meta" in arrays:
        raise CheckpointError(f"{path}: is a checkpoint of rnnlm already")
    return arrays, {}


READERS: dict[str, Callable[[Path], tuple[dict[str, Array], dict[str, str]]]] = {
    ".safetensors": safetensors.read,
    ".npz": _read_npz,
}


def _imported(
    arrays: Mapping[str, Array], texts: Mapping[str, str], symbols: Symbols | None
) -> Imported:
    """Raises DataError, KeyError for a missing array, ValueError for one of another shape."""
    own = {m[1]: arrays[n] for n in arrays if (m := RECURRENT.fullmatch(n))}
    rest = {n: a for n, a in arrays.items() if not RECURRENT.fullmatch(n)}
    if len(own) + len(rest) < len(arrays):
        raise DataError("more than one recurrent module")
    for part, why in BEYOND.items():
        if any(part in name for name in own):
            raise DataError(f"no model of rnnlm: {why}")
    if "weight_hh_l0" not in own:
        raise DataError("no weight_hh_l0: not a state dict of nn.LSTM, nn.GRU or nn.RNN")
    shape = own["weight_hh_l0"].shape
    H = shape[-1] if shape else 0
    cells = {(len(module.gates) * H, H): name for name, module in MODULES.items() if H}
    if shape not in cells:
        raise DataError(f"weight_hh_l0 is {shape}: of no LSTM, GRU or RNN")
    name = cells[shape]
    L = sum("weight_hh" in n for n in own)
    embedding, out = _outer(rest)
    V = len(rest[out])
    params = {"Wy": rest[out].T, "by": rest.get(_bias(out), np.zeros(V))}
    if embedding:
        params["embedding"] = rest[embedding]
    for k in range(L):
        params |= {f"layers.{k}.{n}": a for n, a in _layer(own, k, H, MODULES[name]).items()}
    if own:
        raise DataError(f"{min(own)} is of no layer")

    symbols = symbols or _own_symbols(texts)
    if len(symbols.ids) != V:
        raise DataError(f"has {V:,} symbols, and {len(symbols.ids):,} are named")
    by_id = [("Wy", 1), ("by", 0), ("embedding", 0) if embedding else ("layers.0.Wx", 1)]
    for array, axis in by_id:
        if params[array].shape[axis] != V:
            raise DataError(f"{array} is {params[array].shape}, and there are {V:,} symbols")
        params[array] = params[array].take(np.argsort(symbols.ids), axis)
    return Imported(
        {
            "kind": "recurrent",
            "cell": _cell(name, texts),
            "hidden_size": H,
            "num_layers": L,
            "embedding_size": params["embedding"].shape[1] if embedding else None,
        },
        symbols.format,
        {n: np.ascontiguousarray(a, np.float32) for n, a in params.items()},
    )


def _own_symbols(texts: Mapping[str, str]) -> Symbols:
    """The symbols that rnnlm wrote beside a model."""
    text = text_format(texts)
    if text is None:
        raise DataError(
            "does not tell its symbols: name a checkpoint, run or prepared folder that has them, or a "
            "text of them in the order of their ids (--vocab)"
        )
    return Symbols(text, np.arange(len(text.vocabulary)))


def _cell(name: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """The cell with what is known of its options: all, in a file that rnnlm wrote."""
    if "config" in texts:
        try:
            cell: Mapping[str, Any] = read_config(texts["config"], "config").model["cell"]
        except (ConfigError, KeyError) as error:
            raise DataError(f"its metadata: {error}") from None
        if cell["name"] == name:
            return dict(cell)
    options = MODULES[name].options
    return {"name": name, **{n: values[0] for n, values in options.items() if len(values) == 1}}


def _bias(weight: str) -> str:
    return weight.removesuffix("weight") + "bias"


def _outer(rest: Mapping[str, Array]) -> tuple[str | None, str]:
    """The names of the embedding's weight, if there is one, and of the output's."""
    weights = [n for n, a in rest.items() if n.endswith("weight") and a.ndim == 2]
    outs = [n for n in weights if _bias(n) in rest] or [n for n in weights if "emb" not in n]
    embeddings = [n for n in weights if n not in outs]
    known = {*weights, *map(_bias, outs)}
    if len(outs) != 1 or len(embeddings) > 1 or not rest.keys() <= known:
        raise DataError(
            f"beside a recurrent module there must be one Linear layer, and perhaps an embedding, not "
            f"{', '.join(rest) or 'nothing'}"
        )
    return embeddings[0] if embeddings else None, outs[0]


def _layer(own: dict[str, Array], k: int, H: int, module: Module) -> dict[str, Array]:
    """Our arrays of layer k, which are taken out of `own`; two biases that add up become one."""
    gates = list(module.gates)
    G = len(gates)
    Wx, Wh = (
        own.pop(f"weight_{part}_l{k}").reshape(G, H, -1).swapaxes(1, 2)[gates]
        for part in ("ih", "hh")
    )
    b, inside = (
        own.pop(f"bias_{part}_l{k}", np.zeros(G * H)).reshape(G, H)[gates] for part in ("ih", "hh")
    )
    layer = {"Wx": Wx, "Wh": Wh}
    if module.options.get("reset_after"):
        layer["bh"], inside = inside[-1], inside * (np.arange(G) < G - 1)[:, None]
    return {**layer, "b": b + inside}


FORMAT = Format(
    write,
    kind="recurrent",
    read=read,
    reads=tuple(READERS),
    refuses=dict.fromkeys((".pt", ".pth", ".bin", ".ckpt"), PICKLE),
)
