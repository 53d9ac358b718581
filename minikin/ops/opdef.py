"""One op in one place: its shape rule, its float meaning, its exact integer meaning, its cost, its C kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minikin.errors import ModelError, UnsupportedError
from minikin.fixedpoint import round_half_away
from minikin.graph import Graph, Node, Quant, Tensor, View
from minikin.ops.channels import Bounds, Channels, Kept

Range = tuple[int, int]
Surround = tuple[tuple[tuple[int, int], ...], int | float]
"""(before, after) of each axis, and the value that fills them."""


EXACT = "_exact.h"
"""What the headers end in that hold the exact form of outputs."""


class Table(np.ndarray):
    """An array of a parameter struct that does not grow with the model (a lookup table): counted as code."""


def table(values: np.ndarray) -> Table:
    return np.ascontiguousarray(values).view(Table)


@dataclass(frozen=True)
class Scratch:
    """A pointer field of a parameter struct that wants the layer's scratch memory from byte `at` on, as `ctype *`."""

    ctype: str = "int8_t"
    at: int = 0


Field = int | float | np.ndarray | Scratch | Mapping[str, Any] | None
"""A field of a parameter struct: a number, a constant array, scratch memory, a struct in it, or None for a null pointer."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One C function: `name` is its symbol, its file in kernels/ and its row of the report.

    A rows kernel computes `rows` consecutive output rows:

        void NAME(const struct STRUCT *p, const T *const *in, [const T *const *in1,] T *out, int rows)

    where in[i] points to the i-th of the input rows that OpDef.rows asks for, or is null outside the frame (padding), and
    the output rows are contiguous. `rows(view)` is how many it likes to compute in one call (narrow images want several, so
    that blocks of pixels stay full), `whole_rows(view)` the same where tensors are kept whole, for speed or flash. `uses` are
    headers that it shares with other kernels, `inner` the fields that are structs of other kernels; one that is `fast` takes
    flash or scratch memory for speed, one that is `roomy` scratch memory alone (see OpDef.roomy). `storage` is the form in
    which it reads its weights (docs/storage.md), `code_bytes` about what it takes beside a dense kernel, `instructions` about
    how many it takes for a node (None: those of dense weights on its instruction set), `work` its counts of loops (view, rows
    a call, rows made, counts of OpDef.work), where
    OpDef.work's alone do not fit. A frame kernel
    (OpDef.rows gives None) computes a whole tensor:

        void NAME(const struct STRUCT *p, const T *in, [const T *in1,] T *out, [T *out1])

    A fold kernel (`folds`) is called once for each input row, in order, keeps what it needs in scratch memory that is its own
    from the first call to the last, and writes its whole output in the last:

        void NAME(const struct STRUCT *p, const T *in, T *out, int row)
    """

    name: str
    isa: str = "c"
    when: Callable[[View], bool]
    pack: Callable[[View, dict[str, Field]], dict[str, Field]] = lambda view, fields: fields
    scratch: Callable[[View, int], int] = lambda view, rows: 0
    rows: Callable[[View], int] = lambda view: 1
    whole_rows: Callable[[View], int] = lambda view: 1
    folds: bool = False
    uses: tuple[str, ...] = ()
    inner: Mapping[str, str] = field(default_factory=dict, hash=False)
    fast: bool = False
    roomy: bool = False
    storage: str = "dense"
    code_bytes: int = 0
    instructions: Callable[[View], float] | None = None
    work: Callable[[View, int, int, dict[str, float]], dict[str, float]] | None = None

    @property
    def struct(self) -> str:
        return self.name

    @property
    def key(self) -> str:
        """Names what runs: the kernel, with the headers that it shares. Its forms of outputs are told apart by counts."""
        shared = [header for header in self.uses if not header.endswith(EXACT)]
        return " ".join((self.name, *(header.removeprefix("mk_").removesuffix(".h") for header in shared)))

    @property
    def is_exact(self) -> bool:
        """Whether outputs have the form that works for any of them, in more instructions (mk_mat_s8.h)."""
        return any(header.endswith(EXACT) for header in self.uses)


@dataclass(frozen=True)
class Case:
    """A small instance of an op, from which the test matrix makes float and int8 graphs.

    `inputs` are the shapes of the activations; `constants` those of the constants, by input index, or ready int32 arrays.
    `ranges` bound the values of each activation (default -1..1). A dtype "a->b" is an op that converts: one input of dtype
    a, one output of dtype b, each with a quantization of its own. A dtype "a*b" has activations of dtype a, weights of b.
    """

    name: str
    attrs: Any
    inputs: tuple[tuple[int, ...], ...]
    constants: Mapping[int, tuple[int, ...] | np.ndarray] = field(default_factory=dict)
    ranges: tuple[float, float] = (-1.0, 1.0)
    dtypes: tuple[str, ...] = ("float32", "int8")


def _no_torch(view: View) -> Any:
    raise UnsupportedError(f"{view.node.op} has no torch lowering")


@dataclass(frozen=True, kw_only=True)
class OpDef:
    """What an op is. Functions take a View: the node and its tensors.

    infer       output shapes from the View's inputs and attrs (outputs are not set yet); raises ModelError
    eval_float  numpy float32 arrays in, a tuple of float32 arrays out: the meaning
    eval_int    the quantized meaning, bit for bit what the C kernels give: arrays of the tensors' dtypes in and out
    to_torch    a callable of torch tensors in the graph's own (NHWC) layout, of any number of batches: an oracle, and
                training's building block
    batched     attrs of the node for so many batches at once
    link        of an op that makes probabilities of scores: "cross_entropy" or "binary", the loss that takes the scores
    arity       how many leading inputs the kernels take as pointers; the others are constants that `emit` folds in
                (None: all of them)
    rows        input rows [lo, hi) of each pointer input that output rows [lo, hi) need; hi may pass the frame's end and
                lo its start (padding). None: the op needs whole tensors
    inplace     index of the input whose memory the output may take over, element by element or row by row, or None
    alias       True where the output is the input's bytes under another shape: no kernel runs
    emit        the C parameter struct: field -> value
    macs        multiply-accumulates of one inference
    work        (view, rows of a call, rows made): counts of what the kernels loop over, from which instructions are
                predicted; None: of an op that goes along its elements. See ops/work.py
    weights     quantization of constants: input index -> channel axis (None: per tensor); biases follow from it
    bias        index of the bias input, quantized to int32 at scale(x) * scale(w), or None
    biases      their indices where the op is several layers
    out_quant   quantization of the int8 output: "calibrate" from data, "same" as the first input, or a fixed Quant
    recast      the node of another op that gives the same bytes and has faster kernels, with its new constants, or None
    kernels     the last is portable C99 and takes every node of its dtype

    What follows serves lossless reduction; an op that leaves it out is left alone.

    channels    how the channels of inputs and output hang together; None: all must stay
    cut         (attrs, {input index: new data}) of the node where only the channels in Kept are left
    interval    int8 bounds of the output's elements from those of the inputs' (a constant's ends are its data, an
                absent input has None); every value that inputs within their bounds can give lies within
    lookup      (input index, int8 table of 256): the output's code by that input's code, for int8; or None
    identity    index of the input that the output equals, element by element, given the inputs' bounds (None: unknown)
    surrounds   (paddings of each axis, code) where the op puts that code around its input and does nothing else
    pad         attrs of the node that reads the input of such an op straight, or None where that would change a byte
    """

    name: str
    attrs: type
    infer: Callable[[View], tuple[tuple[int, ...], ...]]
    eval_float: Callable[..., tuple[np.ndarray, ...]]
    eval_int: Callable[..., tuple[np.ndarray, ...]]
    to_torch: Callable[[View], Any] = _no_torch
    batched: Callable[[View, int], Any] = lambda view, batches: view.attrs
    link: str = ""
    arity: int | None = None
    rows: Callable[[View, int, int], tuple[Range, ...] | None] = lambda view, lo, hi: None
    inplace: Callable[[View], int | None] = lambda view: None
    alias: bool = False
    emit: Callable[[View], dict[str, Field]] = lambda view: {}
    macs: Callable[[View], int] = lambda view: 0
    work: Callable[[View, int, int], dict[str, float]] | None = None
    weights: Mapping[int, int | None] = field(default_factory=dict)
    bias: int | None = None
    biases: tuple[int, ...] = ()
    out_quant: Callable[[View], Quant | str] = lambda view: "calibrate"
    recast: Callable[[View], tuple[Node, tuple[Tensor, ...]] | None] = lambda view: None
    kernels: tuple[Kernel, ...] = ()
    cases: tuple[Case, ...] = ()
    channels: Callable[[View], Channels | None] = lambda view: None
    cut: Callable[[View, Kept], tuple[Any, dict[int, np.ndarray]]] = lambda view, kept: (view.attrs, {})
    interval: Callable[..., Bounds] | None = None
    lookup: Callable[[View], tuple[int, np.ndarray] | None] = lambda view: None
    identity: Callable[[View, Sequence[Bounds | None]], int | None] = lambda view, bounds: None
    surrounds: Callable[[View], Surround | None] = lambda view: None
    pad: Callable[[View, Surround, Bounds | None], Any] = lambda view, surround, bounds: None

    def pointers(self, view: View) -> tuple[Tensor, ...]:
        """The inputs that a kernel takes as pointers."""
        count = len(view.inputs) if self.arity is None else self.arity
        return tuple(tensor for tensor in view.inputs[:count] if tensor is not None)

    def choices(self, view: View, isa: str = "c", *, fast: bool = False) -> list[Kernel]:
        """The kernels for this instruction set that take the node, one for each storage of its weights, dense ones first.

        Fast ones only where `fast` is wanted.
        """
        found: dict[str, Kernel] = {}
        for kernel in self.kernels:
            if kernel.storage not in found and self._takes(kernel, view, isa, fast):
                found[kernel.storage] = kernel
        if "dense" not in found:
            dtypes = ", ".join(t.dtype for t in (*view.inputs, *view.outputs) if t is not None)
            raise UnsupportedError(
                f"{view.node.name} ({self.name} of {dtypes}) has no kernel: quantize the model to int8 or keep it float32"
            )
        return sorted(found.values(), key=lambda kernel: kernel.storage != "dense")

    def candidates(self, view: View, isa: str = "c", *, fast: bool = False) -> list[Kernel]:
        """The choices, and other kernels of dense weights called as the first of them is: portable ones take less memory."""
        chosen = self.choices(view, isa, fast=fast)
        dense = [k for k in self.kernels if k.storage == "dense" and k.folds == chosen[0].folds]
        others = [k for k in dense if k not in chosen and self._takes(k, view, isa, fast)]
        return [*chosen, *others]

    def roomy(self, kernel: Kernel, view: View) -> Kernel | None:
        """The form of a kernel that takes more scratch memory and fewer instructions, or None."""
        own = (other for other in self.kernels if other.roomy and other.name == kernel.name and other.when(view))
        return None if kernel.roomy or kernel.fast else next(own, None)

    def _takes(self, kernel: Kernel, view: View, isa: str, fast: bool) -> bool:
        return kernel.isa in ISAS[isa] and fast >= kernel.fast and not kernel.roomy and kernel.when(view)

    def kernel(self, view: View, isa: str = "c", *, fast: bool = False) -> Kernel:
        """The first kernel for this instruction set that takes the node with its weights stored densely."""
        return self.choices(view, isa, fast=fast)[0]

    def instructions(self, kernel: Kernel, view: View) -> float:
        """About how many a kernel takes for one inference."""
        return kernel.instructions(view) if kernel.instructions else PER_MAC[kernel.isa] * self.macs(view)

    def stored_bytes(self, kernel: Kernel, view: View) -> int:
        """Bytes of flash that grow with the model: weights, indices, codebooks, biases, requantization constants."""
        return _array_bytes(kernel.pack(view, self.emit(view)))


def _array_bytes(field: Field) -> int:
    if isinstance(field, Mapping):
        return sum(map(_array_bytes, field.values()))
    return field.nbytes if isinstance(field, np.ndarray) and not isinstance(field, Table) else 0


ISAS = {"c": ("c",), "v6m": ("c", "v6m"), "rv": ("c", "rv"), "dsp": ("c", "dsp"), "mve": ("c", "dsp", "mve")}
"""The kernels that a core of each instruction set can run: Helium comes with the DSP instructions."""

PER_MAC = {"c": 3.2, "v6m": 3.8, "rv": 3.0, "dsp": 1.1, "mve": 0.2}
"""About how many instructions a multiply-accumulate of dense int8 weights takes on each instruction set."""

OPS: dict[str, OpDef] = {}


def register(*definitions: OpDef) -> None:
    for definition in definitions:
        OPS[definition.name] = definition


def get_op(name: str) -> OpDef:
    if name not in OPS:
        raise UnsupportedError(f"op {name} is not known; the known ones are {', '.join(sorted(OPS))}")
    return OPS[name]


def is_dtype(*dtypes: str) -> Callable[[View], bool]:
    """A Kernel.when: the first input and the first output have one of these dtypes, as pairs "in->out" or alike."""

    def when(view: View) -> bool:
        pair = f"{view.x.dtype}->{view.y.dtype}"
        return pair in dtypes or (view.x.dtype == view.y.dtype and view.x.dtype in dtypes)

    return when


def require(condition: bool, view: View, problem: str) -> None:
    """For `infer`: one sentence that names the node."""
    if not condition:
        raise ModelError(f"{view.node.name} ({view.node.op}): {problem}")


def any_batch(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that a torch tensor is given where the graph has `shape`, for as many batches as there are."""
    return (-1, *shape[1:]) if shape else ()


def activation_range(view: View, activation: str) -> tuple[int, int]:
    """Integer clamp of a fused activation in the output's quantization (TFLite CalculateActivationRangeQuantized)."""
    info = np.iinfo(view.y.dtype)
    lo, hi = FLOAT_RANGES[activation]
    quant = view.y.quant
    assert quant is not None

    def quantized(real: float) -> int:
        return quant.zero_point + int(round_half_away(np.float32(real) / np.float32(quant.scale)))

    return (
        int(info.min) if lo == -np.inf else max(int(info.min), quantized(lo)),
        int(info.max) if hi == np.inf else min(int(info.max), quantized(hi)),
    )


FLOAT_RANGES = {
    "none": (-np.inf, np.inf),
    "relu": (0.0, np.inf),
    "relu6": (0.0, 6.0),
    "relu_n1_to_1": (-1.0, 1.0),
}


def clamp_float(y: np.ndarray, activation: str) -> np.ndarray:
    lo, hi = FLOAT_RANGES[activation]
    return np.clip(y, np.float32(lo), np.float32(hi)).astype(np.float32)


def build_graph(
    name: str, nodes: Sequence[Node], tensors: Sequence[Tensor], inputs: Sequence[str], outputs: Sequence[str]
) -> Graph:
    """A graph from nodes in order, the activations' shapes still unknown: `infer` of each op fills them in.

    Tensors given without a node that makes them are inputs and constants; each output takes its node's first input's dtype.
    """
    table_ = {tensor.name: tensor for tensor in tensors}
    for node in nodes:
        ins = tuple(table_[n] if n else None for n in node.inputs)
        view = View(node, ins, ())
        for out, shape in zip(node.outputs, get_op(node.op).infer(view), strict=True):
            table_[out] = Tensor(out, shape, view.x.dtype)
    return Graph(name, table_, tuple(nodes), tuple(inputs), tuple(outputs))
