"""Convolutions of packed weights on DSP instructions: groups of four channels are expanded to what the dense kernels read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minikin.graph import View
from minikin.ops import coded, conv_dsp
from minikin.ops.fitting import once_per_view
from minikin.ops.opdef import PER_MAC, Field, Kernel, Scratch
from minikin.ops.packing import GROUP, grouped_channels, mat_headers
from minikin.ops.storage import FORMS, Packed, pack_codebook
from minikin.ops.stored import (
    CONV_CODE_BYTES,
    GROUPED,
    GROUPED_CODE_BYTES,
    HEADERS,
    When,
    coded_struct,
    most_rows,
    several_rows,
)
from minikin.ops.stored_work import coded_work, packed_work
from minikin.ops.work import Work

FORMS_DSP = {form: () if form == "codebook" else HEADERS[form] for form in ("codebook", "bitmask", "nm", "coded")}
"""The others run on their nonzero weights alone, which is quicker."""
EXTRA = 9
"""Words of a group besides its weights; MK_MAT_EXTRA."""
EXPANDED_BYTES = {True: 2048, False: 640}
"""Of the groups that are expanded together, for speed or not; one group at least."""


@once_per_view
def stream_weights(view: View) -> np.ndarray:
    """int8 [channels, inputs] in the order in which mk_mat_s8.h takes them: channels in whole groups of four."""
    return grouped_channels(view, conv_dsp.span_weights(view)).weights.astype(np.int8)


def takes(form: str, exact: str) -> When:
    """More than two groups of channels, and what the dense kernel asks for."""
    dense = conv_dsp.takes_conv if exact else conv_dsp.takes_conv_fitted

    def when(view: View) -> bool:
        if not dense(view) or view.y.shape[3] <= 2 * GROUP:
            return False
        return form == "coded" or FORMS[form].takes(stream_weights(view))

    return when


def group_words(view: View) -> int:
    return 4 * -(-stream_weights(view).shape[1] // 4) + EXTRA


def groups_together(view: View, fast: bool) -> int:
    """Groups that are expanded together: at most half of the channels."""
    return max(1, min(view.y.shape[3] // (2 * GROUP), EXPANDED_BYTES[fast] // (4 * group_words(view))))


@once_per_view
def coded_weights(view: View) -> coded.Coded:
    return coded.encode(stream_weights(view))


def code_fields(view: View, form: str) -> Packed:
    """A form's weights in its kernel's struct; the probabilities of "coded" come first in scratch memory."""
    weights = stream_weights(view)
    if form == "coded":
        return {"codes": coded_struct(coded_weights(view), 0)}
    return pack_quads(weights) if form == "codebook" else {"codes": FORMS[form].pack(weights)}


def pack_quads(weights: np.ndarray) -> Packed:
    """As pack_codebook, but that inputs are filled up to quads; 32 bits can be read from where any input's indices begin."""
    missing = -weights.shape[1] % 4
    packed = pack_codebook(np.pad(weights, ((0, 0), (0, missing)), mode="edge"), GROUP)
    last = packed["bits"] * (weights.shape[0] * (weights.shape[1] + missing) - GROUP)
    return packed | {"indices": np.pad(packed["indices"], (0, max(0, last // 8 + 4 - packed["indices"].size)))}


def places(view: View, form: str, fast: bool) -> tuple[int, int]:
    """Where the expanded groups and the convolution's own lie in scratch memory."""
    stream = 2 * coded_weights(view).decisions if form == "coded" else 0
    stream += -stream % 4
    return stream, stream + 4 * group_words(view) * groups_together(view, fast)


def pack(form: str, fast: bool) -> Callable[[View, dict[str, Field]], dict[str, Field]]:
    def packed(view: View, fields: dict[str, Field]) -> dict[str, Field]:
        stream, buffer = places(view, form, fast)
        conv, words = conv_dsp.pack_conv(view, fields), group_words(view)
        groups = np.asarray(conv["stream"]).reshape(-1, words)
        expanded: dict[str, Field] = {
            "out_ch": conv["out_ch"],
            "inputs": stream_weights(view).shape[1],
            "words": words,
            "most": groups_together(view, fast),
            "numbers": np.concatenate([groups[:, :4], groups[:, -5:]], axis=1).reshape(-1),
            "stream": Scratch("int32_t", stream),
        }
        conv |= {"whole_words": 0, "stream": Scratch("int32_t", stream), "buffer": Scratch("int32_t", buffer)}
        return {"conv": conv, "expanded": expanded, **code_fields(view, form)}

    return packed


def scratch(form: str, fast: bool) -> Callable[[View, int], int]:
    return lambda view, rows: places(view, form, fast)[1] + conv_dsp.conv_scratch(view, rows)


def conv_dsp_kernels() -> tuple[Kernel, ...]:
    return tuple(
        Kernel(
            name=f"mk_conv2d_s8_{form}_dsp",
            isa="dsp",
            fast=fast,
            storage=form,
            code_bytes=CONV_CODE_BYTES[form],
            instructions=instructions(form, fast),
            work=form_work(form, fast),
            uses=(*mat_headers(fast, exact), "mk_conv2d_s8_dsp.h", "mk_expanded_dsp.h", *headers),
            inner={"conv": "mk_conv2d_s8_dsp"},
            when=takes(form, exact),
            pack=pack(form, fast),
            scratch=scratch(form, fast),
            rows=several_rows,
            whole_rows=most_rows,
        )
        for form, headers in FORMS_DSP.items()
        for fast in (True, False)
        for exact in ("", "mk_mat2_exact.h")
    )


def instructions(form: str, fast: bool) -> Callable[[View], float]:
    """As where tensors are kept whole, or a few rows come at a time."""

    def count(view: View) -> float:
        height, width = view.y.shape[1:3]
        weights = stream_weights(view)
        calls = -(-height // (most_rows(view) if fast else several_rows(view)))
        each = 2.5 if any(view.attrs.padding) else 1.1
        gathering = height * width * (each * weights.shape[1] + 20) * (chunks(view, fast) - 1)
        expanding = calls * (expanding_once(view, form) + 100 * chunks(view, fast))
        return PER_MAC["dsp"] * height * width * weights.size + gathering + expanding

    return count


def expanding_once(view: View, form: str) -> float:
    """Measured on Cortex-M4 (docs/storage.md)."""
    weights = stream_weights(view)
    nonzero = int(np.count_nonzero(weights))
    if form == "coded":
        return 55 * 8 * len(coded_weights(view).data) + weights.size
    if form == "codebook":
        return 6.5 * weights.size
    return 2 * weights.size + 14 * nonzero if form == "nm" else 6 * weights.size + 30 * nonzero


def chunks(view: View, fast: bool) -> int:
    """How many times groups are expanded, and pixels gathered, in a call."""
    return -(-len(stream_weights(view)) // (GROUP * groups_together(view, fast)))


def form_work(form: str, fast: bool) -> Callable[[View, int, int, Work], Work]:
    """Counts of the dense kernel; of gathering again for each chunk but the first; of expanding in each call."""

    def work(view: View, rows_a_call: int, made: int, counts: Work) -> Work:
        weights, more = stream_weights(view), chunks(view, fast) - 1
        quads = len(weights) * -(-weights.shape[1] // 4)
        if form == "coded":
            own = coded_work(coded_weights(view), weights, None)
        elif form == "codebook":
            own = {"quad": quads}
        else:
            own = packed_work(form, FORMS[form].pack(weights), weights)
        own |= {"chunk": more + 1, "group": len(weights) / GROUP, "word": quads}
        again = {f"again_{name}": counts.get(name, 0.0) * more for name in GATHERED}
        return counts | again | {f"stored_{name}": counts["call"] * count for name, count in own.items()}

    return work


GATHERED = (
    *("inner", "inner_span", "inner_quad", "inner_rest", "inner_tail", "pair", "single", "direct_quad"),
    *("border", "border_span", "border_quad", "border_rest", "border_tail", "missing"),
    *("direct_single", "single_span", "single_quad", "single_tail"),
)
"""Counts of the dense kernel that come again with each chunk of channels."""


DW3_WORDS, DW3_TAPS = 18, 9
DW3_NUMBERS = (2, 3, 6, 7, 10, 11, 14, 15)
"""Of a group's words, those that are no weights; in the last two words every other byte is one."""


@once_per_view
def dw3_groups(view: View) -> tuple[np.ndarray, np.ndarray]:
    """(weights int8 [channels, 9], whole groups in the order of the words; the other numbers [groups, 9])."""
    words = conv_dsp.depthwise_stream(view).reshape(-1, DW3_WORDS)
    taps = words.view(np.int8)[:, :64].reshape(-1, GROUP, 16)[..., :8]
    lasts = words.view(np.int8)[:, 64:].reshape(-1, GROUP, 2)
    weights = np.concatenate([taps, lasts[..., :1]], axis=2).reshape(-1, DW3_TAPS)
    numbers = np.concatenate([words[:, DW3_NUMBERS], np.ascontiguousarray(lasts[..., 1]).view(np.int32)], axis=1)
    return weights, numbers


def takes_dw3(form: str, exact: tuple[str, ...]) -> When:
    dense = conv_dsp.takes_depthwise if exact else conv_dsp.takes_depthwise_fitted

    def when(view: View) -> bool:
        return (
            view.y.shape[3] >= 2 * GROUP and dense(view) and (form == "coded" or FORMS[form].takes(dw3_groups(view)[0]))
        )

    return when


@once_per_view
def coded_dw3(view: View) -> coded.Coded:
    return coded.encode(dw3_groups(view)[0])


def dw3_places(view: View, form: str) -> tuple[int, int]:
    """Where the expanded group and the convolution's own lie in scratch memory."""
    stream = 2 * coded_dw3(view).decisions if form == "coded" else 0
    stream += -stream % 4
    return stream, stream + 4 * DW3_WORDS + DW3_TAPS + 3


def pack_dw3(form: str) -> Callable[[View, dict[str, Field]], dict[str, Field]]:
    def packed(view: View, fields: dict[str, Field]) -> dict[str, Field]:
        stream, buffer = dw3_places(view, form)
        weights, numbers = dw3_groups(view)
        conv = conv_dsp.pack_depthwise(view, fields)
        conv |= {"stream": Scratch("int32_t", stream), "buffer": Scratch("int32_t", buffer)}
        expanded = {"out_ch": fields["out_ch"], "numbers": numbers.reshape(-1), "stream": Scratch("int32_t", stream)}
        if form == "coded":
            return {"conv": conv, "expanded": expanded, "codes": coded_struct(coded_dw3(view), 0)}
        codes = pack_codebook(weights, 1) if form == "codebook" else FORMS[form].pack(weights)
        return {"conv": conv, "expanded": expanded, "codes": codes}

    return packed


def dw3_instructions(form: str) -> Callable[[View], float]:
    def count(view: View) -> float:
        height, width, channels = view.y.shape[1:]
        calls = -(-height // conv_dsp.depthwise_rows(view))
        expanding = 55 * 8 * len(coded_dw3(view).data) if form == "coded" else 20 * channels * DW3_TAPS
        return 3 * height * width * channels * DW3_TAPS + calls * expanding

    return count


def dw3_work(form: str) -> Callable[[View, int, int, Work], Work]:
    """Counts of the dense kernel, and those of expanding in each call."""

    def work(view: View, rows_a_call: int, made: int, counts: Work) -> Work:
        weights = dw3_groups(view)[0]
        if form == "coded":
            own = coded_work(coded_dw3(view), weights, None)
        else:
            packed = pack_codebook(weights, 1) if form == "codebook" else FORMS[form].pack(weights)
            own = packed_work(form, packed, weights) | {"weight": weights.size}
        return counts | {f"stored_{name}": counts["call"] * count for name, count in own.items()}

    return work


def depthwise_dsp_kernels() -> tuple[Kernel, ...]:
    return tuple(
        Kernel(
            name=f"mk_depthwise_conv2d_s8_{form}_dsp",
            isa="dsp",
            storage=form,
            code_bytes=2 * GROUPED_CODE_BYTES[form],
            instructions=dw3_instructions(form),
            work=dw3_work(form),
            uses=("mk_dsp.h", *exact, "mk_depthwise_conv2d_s8_dsp.h", *HEADERS[form], "mk_expanded_dw3.h"),
            inner={"conv": "mk_depthwise_conv2d_s8_dsp"},
            when=takes_dw3(form, exact),
            pack=pack_dw3(form),
            scratch=lambda view, rows, form=form: dw3_places(view, form)[1] + conv_dsp.depthwise_scratch(view, rows),
            rows=dw3_rows,
            whole_rows=conv_dsp.depthwise_rows,
        )
        for form in GROUPED
        for exact in ((), ("mk_dw3_exact.h",))
    )


def dw3_rows(view: View) -> int:
    """A pair, where rows are made as they are needed."""
    return min(2, conv_dsp.depthwise_rows(view))
