"""Recurrent models as ONNX graphs (https://onnx.ai), of its standard operators LSTM, GRU and RNN.

Inputs are `ids` (T, B) int64 and the state before them, `h` (L, B, H) and for the LSTM `c`; outputs
the `logits` (T, B, V) of the symbol after each, and the state after them, `h_out` and `c_out`. T and B
may be any. The state before the first symbol is zeros. Dropout is not in the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array
from ..cells import GRU, LSTM, RNN
from ..errors import DataError
from ..models.recurrent import Recurrent
from ..runs.checkpoint import Checkpoint
from .contract import Files, Format
from .metadata import metadata

OPSET, IR = 17, 8  # of ONNX 1.12 (2022), which every runtime of today reads
MOST_BYTES = (1 << 31) - (1 << 20)  # of the parameters: a file has at most 2 GiB

ACTIVATIONS: dict[str, dict[str, Any]] = {
    "tanh": {"activations": ["Tanh"]},
    "relu": {"activations": ["Relu"]},
    "identity": {"activations": ["Affine"], "activation_alpha": [1.0], "activation_beta": [0.0]},
}


@dataclass(frozen=True)
class Operator:
    """The ONNX operator of a cell."""

    name: str
    gates: tuple[int, ...]  # our number of each of its gates
    attributes: Callable[[Any], dict[str, Any]] = lambda cell: {}


OPERATORS: dict[type, Operator] = {
    LSTM: Operator("LSTM", (0, 2, 1, 3)),  # i, o, f, c
    GRU: Operator(  # z, r, h
        "GRU", (1, 0, 2), lambda cell: {"linear_before_reset": int(cell.reset_after)}
    ),
    RNN: Operator("RNN", (0,), lambda cell: ACTIVATIONS[cell.activation]),
}


def write(checkpoint: Checkpoint) -> Files:
    """A file with the graph; the package onnx is needed."""
    model = checkpoint.model
    assert isinstance(model, Recurrent)
    if type(model.cell) not in OPERATORS:
        raise DataError(f"ONNX has no operator for the cell {type(model.cell).__name__}")
    if 4 * model.num_parameters > MOST_BYTES:
        raise DataError("ONNX files hold at most 2 GB: export to safetensors instead")
    try:
        import onnx
    except ImportError:
        raise DataError("ONNX files need a package: pip install 'rnnlm[export]'") from None
    graph = onnx.helper.make_model(
        _graph(onnx.helper, model, checkpoint.params),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="rnnlm",
    )
    onnx.helper.set_model_props(graph, metadata(checkpoint))
    onnx.checker.check_model(graph)
    return {".onnx": [graph.SerializeToString()]}


def _graph(make: Any, model: Recurrent, params: Any) -> Any:
    """The graph, made by `make`, which is onnx.helper."""
    nodes: list[Any] = []
    constants: list[Any] = []
    types = make.np_dtype_to_tensor_dtype
    L, H, V = model.num_layers, model.hidden_size, model.vocabulary_size

    def constant(name: str, array: Array) -> str:
        raw = np.ascontiguousarray(array).tobytes()
        constants.append(make.make_tensor(name, types(array.dtype), array.shape, raw, raw=True))
        return name

    def node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        nodes.append(make.make_node(kind, inputs, outputs, **attributes))

    def value(name: str, dtype: type, *shape: int | str) -> Any:
        return make.make_tensor_value_info(name, types(np.dtype(dtype)), shape)

    if model.embedding_size is None:
        values = constant("off_on", np.array([0, 1], np.float32))
        node("OneHot", ["ids", constant("V", np.array(V)), values], ["x.0"])
    else:
        node("Gather", [constant("embedding", params["embedding"]), "ids"], ["x.0"])
    states = model.cell.states
    for s in states:
        node("Split", [s], [f"{s}.{k}" for k in range(L)], axis=0)
    direction = constant("direction", np.array([1]))
    operator = OPERATORS[type(model.cell)]
    for k in range(L):
        weights = [
            constant(f"layers.{k}.{name}", array)
            for name, array in _weights(params.group(f"layers.{k}."), operator).items()
        ]
        node(
            operator.name,
            [f"x.{k}", *weights, "", *(f"{s}.{k}" for s in states)],
            [f"y.{k}", *(f"{s}_out.{k}" for s in states)],
            hidden_size=H,
            **operator.attributes(model.cell),
        )
        adds = model.residual and k > 0
        node("Squeeze", [f"y.{k}", direction], [f"without.{k}" if adds else f"x.{k + 1}"])
        if adds:
            node("Add", [f"without.{k}", f"x.{k}"], [f"x.{k + 1}"])
    for s in states:
        node("Concat", [f"{s}_out.{k}" for k in range(L)], [f"{s}_out"], axis=0)
    if model.skip:
        node("Concat", [f"x.{k + 1}" for k in range(L)], ["seen"], axis=2)
    seen = "seen" if model.skip else f"x.{L}"
    node("MatMul", [seen, constant("Wy", model.output_matrix(params))], ["product"])
    node("Add", ["product", constant("by", params["by"])], ["logits"])
    return make.make_graph(
        nodes,
        "rnnlm",
        [
            value("ids", np.int64, "steps", "texts"),
            *(value(s, np.float32, L, "texts", H) for s in states),
        ],
        [
            value("logits", np.float32, "steps", "texts", V),
            *(value(f"{s}_out", np.float32, L, "texts", H) for s in states),
        ],
        constants,
    )


def _weights(p: dict[str, Array], operator: Operator) -> dict[str, Array]:
    """A layer's weights as the operator takes them: gates below each other, applied as W x.

    One direction: W (1, G·H, D), R (1, G·H, H), B (1, 2·G·H), the biases of both.
    """
    gates = list(operator.gates)
    recurrent_bias = np.zeros_like(p["b"])
    if "bh" in p:
        recurrent_bias[-1] = p["bh"]
    W, R = (p[name][gates].swapaxes(1, 2) for name in ("Wx", "Wh"))
    return {
        "W": W.reshape(1, -1, W.shape[2]),
        "R": R.reshape(1, -1, R.shape[2]),
        "B": np.concatenate([p["b"][gates], recurrent_bias[gates]]).reshape(1, -1),
    }


FORMAT = Format(write, kind="recurrent")
