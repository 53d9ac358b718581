"""The instructions of a plan, layer by layer, from fitted costs."""

from __future__ import annotations

from minikin.ops.work import Work
from minikin.plan.costs import Costs, layer_work
from minikin.plan.plan import Plan, Step

NETWORK = "network"
"""The row of what runs between layers: turns, and the calls of layers."""


def predict_steps(plan: Plan) -> dict[str, float | None]:
    """The instructions of each layer of a plan, by its name; None where nothing was fitted for its kernel."""
    return {step.name: _predict_step(plan, step) for step in plan.steps}


def _predict_step(plan: Plan, step: Step) -> float | None:
    """A kernel of packed weights that was not fitted says itself about how much it takes."""
    kernel, costs = step.layer.kernel, plan.costs or Costs("", {})
    fitted = costs.instructions(kernel.key, step_work(plan, step))
    return kernel.instructions(step.layer.view) if fitted is None and plan.costs and kernel.instructions else fitted


def predict(plan: Plan) -> float | None:
    """The instructions of one inference; None where nothing was fitted for the kernel of a layer."""
    between = plan.costs.instructions(NETWORK, network_work(plan)) if plan.costs else None
    counts = [between, *predict_steps(plan).values()]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def step_work(plan: Plan, step: Step) -> Work:
    """A layer's counts, with the rows that are made, and with the pointers that come from tables of rows."""
    work = layer_work(step.layer.kernel, step.layer.view, step.layer.rows, step.rows_made)
    names = [tensor.name for tensor in step.layer.inputs if not tensor.is_constant]
    scattered = sum(not plan.slot(name).contiguous for name in names) / max(len(names), 1)
    written = not plan.slot(step.layer.view.y.name).contiguous
    calls = len(step.times)
    return work | {
        "constant": 1.0,
        "scattered_call": calls * scattered,
        "scattered_pointer": work.get("pointer", calls) * scattered,
        "scattered_output": calls * written,
    }


def network_work(plan: Plan) -> Work:
    """Counts of what runs between the layers."""
    turns = len(plan.turns)
    interleaved = turns > len(plan.steps)
    calls = sum(turn.calls for turn in plan.turns)
    return {"constant": 1.0, "layer": len(plan.steps), "turn": turns * interleaved, "turn_call": calls * interleaved}
