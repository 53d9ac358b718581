"""What kernels of packed weights ask of the compiler: which nodes they take, and the fields of their structs."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from minikin.fixedpoint import wrap_int32
from minikin.graph import View
from minikin.ops import coded
from minikin.ops.opdef import PER_MAC, Field, Kernel, Scratch
from minikin.ops.packing import is_symmetric
from minikin.ops.requant import quant_of, weights_of
from minikin.ops.storage import FORMS, GROUP, pack_codebook, packed_bytes
from minikin.ops.stored_work import coded_work, packed_work
from minikin.ops.window import conv_window, needs_patch
from minikin.ops.work import Work, patch_work, window_work

Pack = Callable[[View, dict[str, Field]], dict[str, Field]]
When = Callable[[View], bool]
CODE_BYTES = {"codebook": 200, "bitmask": 200, "sparse": 150, "nm": 200, "coded": 550}
"""About what a decoder of a dense layer takes beside the kernel without it, on Cortex-M4 by zig -Os."""
CONV_CODE_BYTES = CODE_BYTES | {"coded": 2400}
"""The same of a convolution, where the network may have convolutions of both kinds."""
GROUPED_CODE_BYTES = {"codebook": 600, "bitmask": 700, "coded": 1000}
"""The same of a depthwise convolution or one with groups, where the dense kernel stays for others."""
REQUANT = ("out_offset", "act_min", "act_max", "per_channel", "mult", "shift")


def rows_of(view: View) -> np.ndarray:
    """[channels, inputs] of a dense layer or a convolution; a depthwise one has a channel's taps for inputs."""
    w = weights_of(view)
    if view.node.op == "depthwise_conv2d":
        return np.ascontiguousarray(np.asarray(w.data).reshape(-1, w.shape[3]).T)
    return np.asarray(w.data).reshape(w.shape[0], -1)


def entries_of(view: View, form: str) -> float:
    """Instructions to multiply one pixel's inputs by weights of a form, measured on Cortex-M4 (docs/storage.md)."""
    rows = rows_of(view)
    nonzero = int(np.count_nonzero(rows))
    if form == "sparse":
        return 10 * packed_bytes(FORMS[form].pack(rows)["entries"])
    if form == "bitmask":
        return 1.1 * rows.size + 30 * nonzero
    if form == "nm":
        return 2.7 * packed_bytes(FORMS[form].pack(rows)["values"]) * 2
    if form == "codebook":
        return (4.8 if form_fields(view, form)["bits"] == 4 else 9) * rows.size
    return decoding_of(view)


def decoding_of(view: View) -> float:
    """Instructions to decode entropy-coded weights: 28 for each bit, of which a decision takes about 0.9."""
    return 40 * 8 * len(coded_of(view).data)


def dense_instructions(form: str) -> Callable[[View], float]:
    def instructions(view: View) -> float:
        frames = view.x.size // rows_of(view).shape[1]
        return frames * (entries_of(view, form) + 40 * len(rows_of(view)))

    return instructions


def conv_instructions(form: str) -> Callable[[View], float]:
    """As where a few rows come at a time: a form that is expanded is expanded for each of them."""

    def instructions(view: View) -> float:
        (_, height, width, channels), rows = view.y.shape, rows_of(view)
        pixels, gather = height * width, rows.shape[1]
        if form not in EXPANDED:
            return pixels * (gather + entries_of(view, form) + 40 * channels)
        groups = -(-channels // max(1, expanded_channels(view)))
        expanding = -(-height // several_rows(view)) * entries_of(view, form)
        return expanding + pixels * (groups * gather + PER_MAC["c"] * rows.size + 40 * channels)

    return instructions


def decoder_work(view: View, form: str, group: int = GROUP) -> Work:
    """What a form's decoder does in one reading of all weights; `group` is that of form_fields."""
    rows, bias = rows_of(view), view.input(2)
    if form == "coded":
        return coded_work(coded_of(view), rows, None if bias is None else bias.data)
    return packed_work(form, form_fields(view, form, group), rows)


def form_work(form: str) -> Callable[[View, int, int, Work], Work]:
    """What a kernel of a form counts: its decoder reads all weights once for each frame, call or pixel (see EXPANDED)."""

    def work(view: View, rows_a_call: int, made: int, counts: Work) -> Work:
        channels, inputs = rows_of(view).shape
        own = decoder_work(view, form)
        if "batch" in counts:
            found = {name: counts[name] for name in ("batch", "output", "low", "high")}
            return found | {f"stored_{name}": counts["batch"] * count for name, count in own.items()}
        found = {name: counts[name] for name in ("call", "row", "pixel")} | {"output": counts["pixel"] * channels}
        times, groups = counts["pixel"], 1
        if form in EXPANDED:
            most = max(1, expanded_channels(view))
            fours = channels // GROUP if most == GROUP else 0
            times, groups = counts["call"], -(-channels // most)
            found |= {
                "product": counts["pixel"] * fours * inputs,
                "rest": counts["pixel"] * (channels - GROUP * fours),
                "rest_product": counts["pixel"] * (channels - GROUP * fours) * inputs,
            }
        if needs_patch(view):
            found |= {name: groups * count for name, count in patch_work(view, made).items()}
        return found | {f"stored_{name}": times * count for name, count in own.items()}

    return work


def requant(fields: dict[str, Field]) -> dict[str, Field]:
    """struct mk_requant."""
    return {name: fields[name] for name in REQUANT} | {"round_once": fields.get("round_once", 0)}


@lru_cache(maxsize=256)
def _coded(weights: bytes, shape: tuple[int, int], bias: bytes | None) -> coded.Coded:
    return coded.encode(
        np.frombuffer(weights, np.int8).reshape(shape), None if bias is None else np.frombuffer(bias, np.int32)
    )


def coded_of(view: View) -> coded.Coded:
    """The layer's weights and biases, coded once for all who ask."""
    rows, bias = rows_of(view), view.input(2)
    data = None if bias is None else np.asarray(bias.data, np.int32).tobytes()
    return _coded(rows.tobytes(), rows.shape, data)


def coded_struct(own: coded.Coded, at: int) -> dict[str, Field]:
    """struct mk_coded; its probabilities lie in scratch memory from byte `at` on."""
    return {
        "data": np.frombuffer(own.data, np.uint8),
        "bytes": len(own.data),
        "codebook": own.codebook if own.codebook.size else None,
        "bits": own.bits,
        "gap_bits": own.gap_bits,
        "bias_bits": own.bias_bits,
        "bias_shift": own.bias_shift,
        "biases": own.biases,
        "trees": own.trees,
        "decisions": own.decisions,
        "model": Scratch("uint16_t", at),
    }


def coded_scratch(view: View, rows: int) -> int:
    return 2 * coded_of(view).decisions


def form_fields(view: View, form: str, group: int = GROUP) -> dict[str, Field]:
    """The struct of a form's weights."""
    rows = rows_of(view)
    return pack_codebook(rows, group) if form == "codebook" else FORMS[form].pack(rows)


def folded_bias(view: View) -> np.ndarray:
    """Biases with the input's zero point folded in; what an int32 cannot hold wraps, as the sums do."""
    bias = view.input(2)
    own = 0 if bias is None else np.asarray(bias.data, np.int64)
    return wrap_int32(own - quant_of(view.x).zero_point * rows_of(view).astype(np.int64).sum(1)).astype(np.int32)


def pack_dense(form: str) -> Pack:
    """The fields of mk_dense_s8_<form>."""

    def pack(view: View, fields: dict[str, Field]) -> dict[str, Field]:
        head = {name: fields[name] for name in ("batch", "in_ch", "out_ch")}
        if form == "coded":
            head |= {"in_offset": fields["in_offset"], "requant": requant(fields)}
            return head | {"codes": coded_struct(coded_of(view), 0)}
        return head | {"requant": requant(fields), "bias": folded_bias(view), "codes": form_fields(view, form)}

    return pack


def takes_dense(form: str) -> When:
    def takes(view: View) -> bool:
        return is_symmetric(view) and (form == "coded" or FORMS[form].takes(rows_of(view)))

    return takes


def takes_conv(form: str) -> When:
    """Without groups. A form that is expanded, a few channels at a time, leaves most of them in flash."""

    def takes(view: View) -> bool:
        plain = is_symmetric(view) and weights_of(view).shape[3] == view.x.shape[3]
        if not plain or (form in EXPANDED and expanded_channels(view) == 0):
            return False
        return form == "coded" or FORMS[form].takes(rows_of(view))

    return takes


EXPANDED = ("codebook", "coded")
"""Forms that a convolution expands; it reads the others anew for every pixel."""


def expanded_channels(view: View) -> int:
    """Channels that are expanded together: at most half of them."""
    return min(GROUP, view.y.shape[3] // 2)


PIXELS = 16
"""That go by while a few channels are expanded, where rows are made as they are needed."""
POINTERS = 32
"""To input rows, at most, that one call takes: they lie on the stack."""


def one_row(view: View) -> int:
    return 1


def several_rows(view: View) -> int:
    return min(-(-PIXELS // view.y.shape[2]), most_rows(view))


def most_rows(view: View) -> int:
    geometry = conv_window(view)
    return max(1, (POINTERS - geometry.extent[0]) // geometry.stride[0] + 1)


def patch_fields(view: View, fields: dict[str, Field], patch: Scratch | None) -> dict[str, Field]:
    """struct mk_patch."""
    kept = (
        "in_w",
        "in_ch",
        "out_w",
        "kernel_h",
        "kernel_w",
        "stride_h",
        "stride_w",
        "pad_left",
        "dilation_h",
        "dilation_w",
    )
    return {name: fields[name] for name in kept} | {
        "zero": quant_of(view.x).zero_point,
        "size": rows_of(view).shape[1],
        "buffer": patch,
    }


def scratch_parts(view: View, form: str, patch_bytes: int) -> tuple[int, int, int]:
    """Where scratch memory of a convolution holds the patch and the expanded weights, and where it ends; coded first."""
    patch = coded_scratch(view, 1) if form == "coded" else 0
    weight = patch + patch_bytes
    most = expanded_channels(view) if form in EXPANDED else 0
    return patch, weight, weight + most * rows_of(view).shape[1]


def pack_conv(form: str, patch_bytes: Callable[[View, int], int]) -> Pack:
    """The fields of mk_conv2d_s8_<form>."""

    def pack(view: View, fields: dict[str, Field]) -> dict[str, Field]:
        patch, weight, _ = scratch_parts(view, form, patch_bytes(view, 1))
        own = patch_fields(view, fields, Scratch(at=patch) if patch_bytes(view, 1) else None)
        head: dict[str, Field] = {"patch": own, "out_ch": fields["out_ch"]}
        if form not in EXPANDED:
            tail = {"requant": requant(fields), "bias": folded_bias(view), "codes": form_fields(view, form)}
            return head | tail
        most = expanded_channels(view)
        head |= {"in_offset": fields["in_offset"], "most": most}
        conv = head | {"requant": requant(fields), "weight": Scratch(at=weight)}
        if form == "coded":
            return {"conv": conv, "codes": coded_struct(coded_of(view), 0)}
        bias = fields["bias"] if fields["bias"] is not None else np.zeros(view.y.shape[3], np.int32)
        return {"conv": conv, "bias": bias, "codes": form_fields(view, form, most)}

    return pack


def conv_scratch(form: str, patch_bytes: Callable[[View, int], int]) -> Callable[[View, int], int]:
    return lambda view, rows: scratch_parts(view, form, patch_bytes(view, rows))[2]


HEADERS = {
    "codebook": ("mk_codebook.h",),
    "bitmask": ("mk_codebook.h", "mk_bitmask.h"),
    "sparse": ("mk_sparse.h",),
    "nm": ("mk_blocks.h",),
    "coded": ("mk_coded.h",),
}


STORAGES = ("dense", *HEADERS, "float16")


def dense_kernels() -> tuple[Kernel, ...]:
    return tuple(
        Kernel(
            name=f"mk_dense_s8_{form}",
            storage=form,
            code_bytes=CODE_BYTES[form],
            instructions=dense_instructions(form),
            work=form_work(form),
            uses=("mk_requant.h", *headers),
            when=takes_dense(form),
            pack=pack_dense(form),
            scratch=coded_scratch if form == "coded" else lambda view, rows: 0,
        )
        for form, headers in HEADERS.items()
    )


def conv_kernels(patch_bytes: Callable[[View, int], int]) -> tuple[Kernel, ...]:
    """`patch_bytes`: of the inputs of one pixel, where they have to be gathered."""
    return tuple(
        Kernel(
            name=f"mk_conv2d_s8_{form}",
            storage=form,
            code_bytes=CONV_CODE_BYTES[form],
            instructions=conv_instructions(form),
            work=form_work(form),
            uses=("mk_requant.h", "mk_patch.h", *(("mk_expanded.h",) if form in EXPANDED else ()), *headers),
            when=takes_conv(form),
            pack=pack_conv(form, patch_bytes),
            scratch=conv_scratch(form, patch_bytes),
            rows=several_rows if form in EXPANDED else one_row,
            whole_rows=most_rows if form in EXPANDED else one_row,
        )
        for form, headers in HEADERS.items()
    )


GROUPED = ("codebook", "bitmask", "coded")
"""Forms that depthwise convolutions, and those with groups, expand channel by channel."""


def group_inputs(view: View) -> int:
    """Input channels that an output channel reads."""
    return 1 if view.node.op == "depthwise_conv2d" else weights_of(view).shape[3]


def takes_grouped(form: str) -> When:
    """Several channels, which do not read all input channels."""

    def takes(view: View) -> bool:
        if not is_symmetric(view) or view.y.shape[3] < 2:
            return False
        if view.node.op != "depthwise_conv2d" and group_inputs(view) == view.x.shape[3]:
            return False
        return form == "coded" or FORMS[form].takes(rows_of(view))

    return takes


def pack_grouped(form: str) -> Pack:
    """The fields of mk_grouped_conv2d_s8_<form>."""

    def pack(view: View, fields: dict[str, Field]) -> dict[str, Field]:
        kept = patch_fields(view, fields, None)
        conv = {name: value for name, value in kept.items() if name not in ("zero", "buffer")}
        group_in = group_inputs(view)
        conv |= {
            "out_ch": fields["out_ch"],
            "group_in": group_in,
            "group_out": view.y.shape[3] * group_in // view.x.shape[3],
            "in_offset": fields["in_offset"],
            "requant": requant(fields),
            "weight": Scratch(at=coded_scratch(view, 1) if form == "coded" else 0),
        }
        if form == "coded":
            return {"conv": conv, "codes": coded_struct(coded_of(view), 0)}
        bias = fields["bias"] if fields["bias"] is not None else np.zeros(view.y.shape[3], np.int32)
        return {"conv": conv, "bias": bias, "codes": form_fields(view, form, 1)}

    return pack


def grouped_scratch(form: str) -> Callable[[View, int], int]:
    def scratch(view: View, rows: int) -> int:
        return (coded_scratch(view, rows) if form == "coded" else 0) + rows_of(view).shape[1]

    return scratch


def grouped_instructions(form: str) -> Callable[[View], float]:
    """Measured on Cortex-M4 for a depthwise 3x3."""

    def instructions(view: View) -> float:
        height, width, channels = view.y.shape[1:]
        expanding = entries_of(view, form) if form == "coded" else 15 * rows_of(view).size
        each = 190 + 14 * rows_of(view).shape[1]
        return -(-height // several_rows(view)) * expanding + height * width * channels * each

    return instructions


def grouped_work(form: str) -> Callable[[View, int, int, Work], Work]:
    """All pixels go by for each channel, behind a decoder that reads all weights in each call."""

    def work(view: View, rows_a_call: int, made: int, counts: Work) -> Work:
        rows, (_, kernel_h, kernel_w, _) = rows_of(view), weights_of(view).shape
        own = decoder_work(view, form, 1) | ({} if form == "coded" else {"weight": rows.size})
        outputs, channels = counts["pixel"] * view.y.shape[3], view.y.shape[3]
        _, down, across = window_work(view, made, made, (kernel_h, kernel_w), view.attrs.dilation)
        lines = float(down.inside.sum()) * float((across.inside > 0).sum()) * channels
        taps = float(down.inside.sum() * across.inside.sum()) * channels
        return {
            **{name: counts[name] for name in ("call", "row")},
            "output": outputs,
            "output_row": outputs * kernel_h,
            "line": lines,
            "tap": taps,
            "product": taps * group_inputs(view),
            "channel": counts["call"] * channels,
            "channel_row": counts["row"] * channels,
        } | {f"stored_{name}": counts["call"] * count for name, count in own.items()}

    return work


def grouped_kernels() -> tuple[Kernel, ...]:
    return tuple(
        Kernel(
            name=f"mk_grouped_conv2d_s8_{form}",
            storage=form,
            code_bytes=GROUPED_CODE_BYTES[form],
            instructions=grouped_instructions(form),
            work=grouped_work(form),
            uses=("mk_requant.h", "mk_grouped.h", *HEADERS[form]),
            when=takes_grouped(form),
            pack=pack_grouped(form),
            scratch=grouped_scratch(form),
            rows=several_rows,
            whole_rows=most_rows,
        )
        for form in GROUPED
    )
