"""One `.tflite` file being read: its tensors, their quantization and their names, and what its operators are made of.

All of it is checked here, so that the functions per op in tflite.py are about the op alone.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minikin.check import MAX_TENSOR_BYTES, check_quant
from minikin.errors import ModelError, UnsupportedError
from minikin.graph import Graph, Node, Quant, Tensor, View
from minikin.importers.flatbuffer import FlatBuffer, Table
from minikin.ops import get_op
from minikin.ops.padding import Padding, same_padding

MAX_OPERATORS = 10_000
MAX_TENSORS = 100_000
MAX_ENDS = 1_000  # inputs or outputs of an operator or of the graph
MAX_RANK = 8
MAX_NAME = 120
DTYPES = {
    "FLOAT32": "float32",
    "FLOAT16": "float16",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "INT8": "int8",
    "INT4": "int8",
}
ACTIVATIONS = {0: "none", 1: "relu", 2: "relu_n1_to_1", 3: "relu6", 4: "TANH", 5: "SIGN_BIT"}
Pair = tuple[int, int]  # (height, width)
Readers = Mapping[str, tuple[Callable[["Source"], None], str]]
"""By TFLite's name of an op: the function that reads one, and the schema type of its options ("" where none matter)."""


class Importer:
    """One file being read: its tensors by index, as they become known, and the nodes so far."""

    def __init__(self, file: FlatBuffer, ops: Readers) -> None:
        model = file.root()
        self.file, self.ops = file, ops
        self.codes = [_operator_code(code) for code in _limited(model.tables(1), MAX_OPERATORS, "operator codes")]
        self.buffers = model.tables(4)
        subgraphs = model.tables(2)
        if not len(subgraphs):
            raise ModelError("the file has no subgraph: export the model again")
        self.subgraph = subgraphs[0]
        self.tables = _limited(self.subgraph.tables(0), MAX_TENSORS, "tensors")
        self.known: dict[int, Tensor] = {}
        self.nodes: list[Node] = []

    def graph(self, name: str) -> Graph:
        inputs = self.subgraph.vector(1, "int32", MAX_ENDS).tolist()
        outputs = self.subgraph.vector(2, "int32", MAX_ENDS).tolist()
        for index in inputs:
            self.define(index, self.activation(index))
        for i, operator in enumerate(_limited(self.subgraph.tables(3), MAX_OPERATORS, "operators")):
            self.read_operator(i, operator)
        for index in outputs:
            if index not in self.known:
                raise ModelError(f"output tensor {index} is made by no operator: export the model again")
        tensors = {tensor.name: tensor for tensor in self.known.values()}
        ends = (tuple(self.known[i].name for i in inputs), tuple(self.known[i].name for i in outputs))
        return _renamed(Graph(name, tensors, tuple(self.nodes), *ends))

    def read_operator(self, index: int, operator: Table) -> None:
        code = operator.number(0, "I")
        if code >= len(self.codes):
            raise ModelError(f"operator {index} has code {code} of {len(self.codes)}: the file is damaged")
        name = self.codes[code]
        if name not in self.ops:
            raise UnsupportedError(f"operator {index} is {name}, which is not taken: export the model without it")
        read, options_name = self.ops[name]
        inputs = operator.vector(1, "int32", MAX_ENDS).tolist()
        outputs = operator.vector(2, "int32", MAX_ENDS).tolist()
        source = Source(self, f"operator {index} ({name})", name, inputs, outputs)
        if len(outputs) != 1:
            raise ModelError(f"{source.label} has {len(outputs)} outputs, and takes one: the file is damaged")
        source.options = _options(operator, options_name, source)
        read(source)

    def table(self, index: int) -> Table:
        if not 0 <= index < len(self.tables):
            raise ModelError(f"tensor {index} does not exist, there are {len(self.tables)}: the file is damaged")
        return self.tables[index]

    def dtype(self, index: int) -> str:
        """As the file names it."""
        return _enum_name("TensorType", self.table(index).number(1, "b"))

    def define(self, index: int, tensor: Tensor) -> None:
        """The tensor with this index is made here, once."""
        if index in self.known:
            raise ModelError(f"{tensor.name} is written twice: the file is damaged")
        self.known[index] = tensor

    def use(self, index: int) -> Tensor:
        """A tensor that an operator reads: known by now, or a constant."""
        if index not in self.known:
            data = self.data(self.table(index))
            if data is None:
                raise ModelError(f"tensor {index} is read before any operator makes it: the file is damaged")
            self.define(index, self.constant(index, data))
        return self.known[index]

    def activation(self, index: int) -> Tensor:
        """A tensor as the file declares it, without data; its dtype is float32 or int8."""
        tensor = self.declared(index)
        if self.dtype(index) == "INT4":
            raise UnsupportedError(f"{tensor.name} is INT4: activations may be FLOAT32, INT8 or UINT8")
        if self.data(self.table(index)) is not None:
            raise ModelError(f"{tensor.name} has constant data, and is an input or written: the file is damaged")
        if tensor.dtype == "uint8":
            tensor = tensor.replace(dtype="int8", quant=_as_int8(tensor))
        if tensor.dtype not in ("float32", "int8"):
            raise UnsupportedError(
                f"{tensor.name} is {tensor.dtype.upper()}: activations may be FLOAT32, INT8 or UINT8"
            )
        return tensor

    def constant(self, index: int, data: memoryview) -> Tensor:
        tensor = self.declared(index)
        nibbles = self.dtype(index) == "INT4"
        needed = -(-tensor.size // 2) if nibbles else tensor.nbytes
        if needed != len(data):
            raise ModelError(
                f"{tensor.name}, {self.dtype(index).lower()}{list(tensor.shape)}, takes {needed} bytes, and "
                f"its buffer has {len(data)}: the file is damaged"
            )
        self.file.spend(tensor.nbytes)
        if nibbles:
            return tensor.replace(data=unpack_nibbles(data, tensor.size).reshape(tensor.shape), storage="int4")
        array = np.frombuffer(data, np.dtype(tensor.dtype).newbyteorder("<")).astype(tensor.dtype).reshape(tensor.shape)
        if tensor.dtype == "uint8":
            return tensor.replace(dtype="int8", quant=_as_int8(tensor), data=np.asarray(array ^ 0x80).view(np.int8))
        return tensor.replace(data=array)

    def declared(self, index: int) -> Tensor:
        """Shape, dtype and quantization as they stand in the file, checked. The name is still "tensor 5 (its name)"."""
        table = self.table(index)
        kind = self.dtype(index)
        shape = tuple(table.vector(0, "int32", MAX_RANK).tolist())
        name = f"tensor {index} ({_safe_name(table.text(3))})"
        if table.number(5, "?"):
            raise UnsupportedError(f"{name} is a variable, which is not taken: export without state")
        if table.find(6) is not None:
            raise UnsupportedError(f"{name} is sparse, which is not taken: export it dense")
        if kind not in DTYPES:
            raise UnsupportedError(f"{name} is {kind}, which is not taken: export it as int8 or float32")
        if min(shape, default=1) < 1:
            raise ModelError(f"{name} has shape {shape}: export with sizes that are fixed and positive")
        tensor = Tensor(name, shape, DTYPES[kind])
        if tensor.nbytes > MAX_TENSOR_BYTES:
            raise ModelError(f"{name} of shape {shape} takes {tensor.nbytes:,} bytes: no board has that")
        return tensor.replace(quant=_quant(table.table(4), tensor))

    def data(self, table: Table) -> memoryview | None:
        """The bytes of a constant, or None for an activation, which has no buffer or an empty one."""
        index = table.number(2, "I")
        if index >= len(self.buffers):
            raise ModelError(f"a tensor has buffer {index} of {len(self.buffers)}: the file is damaged")
        buffer = self.buffers[index]
        if buffer.number(1, "Q") > 1:  # outside the flatbuffer, further on in the file
            return self.file.bytes(buffer.number(1, "Q"), buffer.number(2, "Q"))
        data = buffer.bytes(0)
        return data if len(data) else None


@dataclass
class Source:
    """One operator of the file, as the functions below see it."""

    importer: Importer
    label: str
    code: str
    inputs: list[int]
    outputs: list[int]
    options: Table | None = None

    def number(self, slot: int, form: str = "i", default: float = 0) -> Any:
        """A field of the operator's options; where the file has no options, its default."""
        return default if self.options is None else self.options.number(slot, form, default)

    def flag(self, slot: int) -> bool:
        return bool(self.number(slot, "?", False))

    @property
    def is_uint8(self) -> bool:
        """Whether the first input is uint8 in the file; in the graph it is int8."""
        return bool(self.inputs) and self.importer.dtype(self.inputs[0]) == "UINT8"

    def input(self, position: int) -> Tensor:
        tensor = self.optional(position)
        if tensor is None:
            raise ModelError(f"{self.label} has no input {position}: the file is damaged")
        return tensor

    def optional(self, position: int) -> Tensor | None:
        if position >= len(self.inputs) or self.inputs[position] == -1:
            return None
        return self.importer.use(self.inputs[position])

    def constant(self, position: int, what: str) -> np.ndarray:
        """The values of an input that has to be constant."""
        tensor = self.input(position)
        if tensor.data is None:
            raise UnsupportedError(
                f"{self.label} has {what} that are computed ({tensor.name}): only constants are taken"
            )
        return tensor.data

    def integers(self, position: int, what: str) -> list[int]:
        """A short list in a constant integer tensor: axes, a shape, paddings."""
        data = self.constant(position, what)
        if data.dtype not in (np.int32, np.int64) or data.size > 2 * MAX_RANK:
            raise ModelError(f"{self.label} has {what} of {data.dtype}{list(data.shape)}: the file is damaged")
        return data.ravel().tolist()

    def activation(self, slot: int) -> str:
        """The fused activation in this slot of the options."""
        value = self.number(slot, "b")
        name = ACTIVATIONS.get(value, str(value))
        if name not in ("none", "relu", "relu6", "relu_n1_to_1"):
            raise UnsupportedError(f"{self.label} has the fused activation {name}, which is not taken")
        return name

    def pair(self, height: int, width: int, what: str, default: int = 0) -> Pair:
        """(height, width) of a stride, dilation or window, each positive."""
        pair = (self.number(height, "i", default), self.number(width, "i", default))
        if min(pair) < 1:
            raise ModelError(f"{self.label} has {what} {pair}, which has to be positive: the file is damaged")
        return pair

    def padding(self, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Padding:
        """Slot 0 of the options, SAME or VALID, as rows and columns of padding."""
        x, scheme = self.input(0), self.number(0, "b")
        if len(x.shape) != 4:
            raise ModelError(
                f"{self.label} has an input of shape {x.shape}, which is not [batch, height, width, channels]"
            )
        if scheme not in (0, 1):
            raise ModelError(f"{self.label} has padding scheme {scheme}, which does not exist: the file is damaged")
        if scheme == 1:
            return (0, 0, 0, 0)
        padding = same_padding((x.shape[1], x.shape[2]), kernel, stride, dilation)
        top, bottom, left, right = padding
        padded = x.replace(shape=(x.shape[0], x.shape[1] + top + bottom, x.shape[2] + left + right, x.shape[3]))
        if padded.nbytes > MAX_TENSOR_BYTES:
            raise ModelError(
                f"{self.label} pads its input to {padded.shape}, {padded.nbytes:,} bytes: no board has that"
            )
        return padding

    def emit(self, op: str, attrs: Any, *inputs: Tensor | None) -> None:
        """The node that this operator becomes, with the shape that its op gives."""
        node_name = f"{op}_{len(self.importer.nodes)}"
        out = self.importer.activation(self.outputs[0])
        while inputs and inputs[-1] is None:  # absent ones at the end are left out, as in graphs from elsewhere
            inputs = inputs[:-1]
        node = Node(node_name, op, attrs, tuple(t.name if t else "" for t in inputs), (out.name,))
        self._check_dtypes(op, inputs, out)
        (shape,) = get_op(op).infer(View(node, inputs, ()))
        if out.shape not in ((), shape):  # a writer that knows no shape leaves it empty
            raise ModelError(f"{self.label} makes {shape}, and the file says {out.shape}: the file is damaged")
        self.importer.define(self.outputs[0], out.replace(shape=shape))
        self.importer.nodes.append(node)

    def _check_dtypes(self, op: str, inputs: Sequence[Tensor | None], out: Tensor) -> None:
        definition = get_op(op)
        kinds = [t.dtype for i, t in enumerate(inputs) if t is not None and i != definition.bias]
        if op in ("quantize", "dequantize"):
            wanted = {"quantize": ("float32", "int8"), "dequantize": ("int8",)}[op]
            if kinds[0] not in wanted or out.dtype != {"quantize": "int8", "dequantize": "float32"}[op]:
                raise UnsupportedError(f"{self.label} from {kinds[0]} to {out.dtype} is not taken")
            return
        stored = [self.importer.dtype(i) for i in (*self.inputs[: len(kinds)], self.outputs[0])]
        is_hybrid = bool(definition.weights) and stored == ["FLOAT32", "INT8", "FLOAT32"]
        if (len({*kinds, out.dtype}) > 1 and not is_hybrid) or {"INT8", "UINT8"} <= {*stored}:
            raise UnsupportedError(f"{self.label} mixes {', '.join(stored[:-1])} -> {stored[-1]}: one dtype is taken")
        bias = inputs[definition.bias] if definition.bias is not None and definition.bias < len(inputs) else None
        wanted = "int32" if kinds[0] == "int8" else kinds[0]
        if bias is not None and bias.dtype != wanted:
            raise UnsupportedError(f"{self.label} has a bias of {bias.dtype}: {wanted} is taken")


def unpack_nibbles(data: memoryview, count: int) -> np.ndarray:
    """int8 codes of INT4 elements: two in a byte, the first one low, with sign."""
    pairs = np.frombuffer(data, np.uint8)
    codes = np.stack([pairs & 15, pairs >> 4], axis=1).reshape(-1)[:count]
    return ((codes ^ 8).astype(np.int16) - 8).astype(np.int8)


def _options(operator: Table, name: str, source: Source) -> Table | None:
    """The operator's options, or None where the op has none or the file leaves them out."""
    kind = operator.number(3, "B")
    if not name or kind == 0:
        return None
    if _enum_name("BuiltinOptions", kind) != name:
        raise ModelError(f"{source.label} has {_enum_name('BuiltinOptions', kind)}, not {name}: the file is damaged")
    return operator.table(4)


def _operator_code(table: Table) -> str:
    """An old file has the code in the first field, which holds up to 127; a new one may have it in the fourth."""
    name = _enum_name("BuiltinOperator", max(table.number(0, "b"), table.number(3, "i")))
    return f"the custom op {_safe_name(table.text(1))!r}" if name == "CUSTOM" else name


@functools.cache
def _enum_name(enum: str, value: int) -> str:
    import tflite

    members = vars(getattr(tflite, enum))
    return next((key for key, member in members.items() if member == value and key.isidentifier()), f"{enum} {value}")


def _quant(table: Table | None, tensor: Tensor) -> Quant | None:
    """TFLite's quantization of an integer tensor; a float tensor's, which means nothing, is dropped."""
    if table is None or tensor.dtype.startswith("float"):
        return None
    most = max(tensor.shape, default=1)
    scales = tuple(table.vector(2, "float32", most).tolist())
    zero_points = tuple(table.vector(3, "int64", most).tolist()) or (0,) * len(scales)
    if not scales:
        return None
    if table.number(4, "B"):
        raise UnsupportedError(f"{tensor.name} has a custom quantization, which is not taken: export it as int8")
    if len(zero_points) == 1:
        zero_points *= len(scales)
    quant = Quant(scales, zero_points, table.number(6) if len(scales) > 1 else None)
    check_quant(tensor.name, tensor.shape, tensor.dtype, quant)
    return quant


def _as_int8(tensor: Tensor) -> Quant:
    if tensor.quant is None:
        raise UnsupportedError(f"{tensor.name} is UINT8 without quantization, which is not taken")
    return Quant(tensor.quant.scales, tuple(z - 128 for z in tensor.quant.zero_points), tensor.quant.axis)


def _limited(tables: Any, limit: int, what: str) -> Any:
    if len(tables) > limit:
        raise ModelError(f"the file has {len(tables):,} {what}, and {limit:,} are the most that are read")
    return tables


def _renamed(graph: Graph) -> Graph:
    """Tensors "5 (its name)" under their own names, which need not be unique in a file: activations choose first."""
    activations = [*graph.inputs, *(name for node in graph.nodes for name in node.outputs)]
    names: dict[str, str] = {"": ""}
    taken: set[str] = set()
    counts: Counter[str] = Counter()
    for old in (*activations, *graph.tensors):
        if old not in names:
            names[old] = _free_name(old, taken, counts)
            taken.add(names[old])
    nodes = [
        node.replace(inputs=tuple(names[n] for n in node.inputs), outputs=tuple(names[n] for n in node.outputs))
        for node in graph.nodes
    ]
    return graph.replace(  # which drops the constants that no node reads
        tensors={names[old]: tensor.replace(name=names[old]) for old, tensor in graph.tensors.items()},
        nodes=tuple(nodes),
        inputs=tuple(names[n] for n in graph.inputs),
        outputs=tuple(names[n] for n in graph.outputs),
    )


def _free_name(old: str, taken: set[str], counts: Counter[str]) -> str:
    """The name in the brackets, numbered where it is taken; `counts` keeps many equal names from taking long."""
    index, _, name = old.removeprefix("tensor ").removesuffix(")").partition(" (")
    name = name or f"tensor_{index}"
    stem = name[: MAX_NAME - 8]
    while name in taken:
        counts[stem] += 1
        name = f"{stem}_{counts[stem]}"
    return name


def _safe_name(text: str) -> str:
    """The first of the names that a fused op joins by ";", fit for a C comment and a terminal."""
    name = text.partition(";")[0][:MAX_NAME]
    return "".join(c if c.isalnum() or c in "_-+./:,=@ " else "_" for c in name).strip()
