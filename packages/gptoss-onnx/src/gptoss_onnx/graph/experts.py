"""The experts: a Loop over those that some token has chosen, each over its own tokens only.

Each turn gathers the rows of one expert's tokens, computes gate, up and down, and adds the
weighted results to the sum that the loop carries. What no token has chosen is neither read nor
decoded; of the others one at a time is in memory. Which rows those are is known only when the graph
runs; for runtimes that want static shapes there is a second form, in which every expert computes
every row, and what was not chosen weighs nothing. What happens inside the experts can be reported:
the loop then carries, for each such probe, one row a token and chosen expert.
"""

import numpy as np
from gptoss_weights import SWIGLU_ALPHA, GptOssConfig

from gptoss_onnx import ir
from gptoss_onnx.graph.builder import INT64_MAX, GraphBuilder
from gptoss_onnx.graph.mxfp4 import int8_linear, packed_linear
from gptoss_onnx.graph.parameters import Int8Experts, PackedExperts, Parameters
from gptoss_onnx.graph.reporting import LayerReport
from gptoss_onnx.graph.routing import Routing

__all__ = ["experts", "swiglu"]


def experts(
    op: GraphBuilder,
    config: GptOssConfig,
    parameters: Parameters,
    x: ir.Value,
    routing: Routing,
    *,
    layer: int,
    is_static: bool = False,
    report: LayerReport,
) -> ir.Value:
    """The weighted sum of each row's experts. x f32 [rows, D] → f32 [rows, D].

    Args:
        op: Where the nodes go.
        config: The geometry.
        parameters: The weights.
        x: Normalised rows.
        routing: Which experts, and how much of each.
        layer: Whose experts.
        is_static: Whether every shape shall be known beforehand: then all experts compute all rows.
        report: Is handed what happens inside.

    Source: openai/gpt-oss torch/model.py, `MLPBlock`.
    """
    name = f"model.layers.{layer}.mlp.experts"
    D, F, k = config.hidden_size, config.intermediate_size, config.experts_per_token
    inside = {"pre_activation": 2 * F, "activated": F, "expert_outputs": D}
    widths = {probe: width for probe, width in inside.items() if report.wants(probe)}
    with op.scope("experts"):
        choices = op.reshape(routing.indices, -1, name="choices")
        weights = op.reshape(routing.weights, -1, 1, name="weights")
        if is_static:
            turns = op.scalar(config.num_experts, np.int64)
        else:
            active = op.Unique(choices, sorted=1, name="active")
            turns = op.Squeeze(op.Shape(active), op.ints(0), name="turns")
        nothing = _zeros(op, op.Shape(x), name="nothing")
        no_rows = [_zeros(op, op.Concat(op.Shape(choices), op.ints(width), axis=0)) for width in widths.values()]

        turn = op.input("turn", ir.DataType.INT64)
        going_on = op.input("going_on", ir.DataType.BOOL)
        partial_sum = op.input("partial_sum", ir.DataType.FLOAT, "rows", D)
        partial = {probe: op.input(probe, ir.DataType.FLOAT, "choices", width) for probe, width in widths.items()}
        with op.body() as nodes:
            expert = turn if is_static else op.Gather(active, turn, axis=0, name="expert")

            def linear(inputs: ir.Value, matrix: str, out: int, columns: int) -> ir.Value:
                weight = parameters.experts(f"{name}.{matrix}")
                with op.scope(matrix):
                    stored_bias = op.Gather(parameters.stored(f"{name}.{matrix}_bias"), expert, axis=0)
                    bias = op.Cast(stored_bias, to=ir.DataType.FLOAT)
                    if isinstance(weight, PackedExperts):
                        return packed_linear(op, inputs, weight, bias, expert=expert, out=out, columns=columns)
                    if isinstance(weight, Int8Experts):
                        return int8_linear(op, inputs, weight, bias, expert=expert, out=out, columns=columns)
                    chosen = op.Cast(op.Gather(weight, expert, axis=0), to=ir.DataType.FLOAT)
                    return op.Gemm(inputs, chosen, bias, transB=1)

            is_chosen = op.Equal(choices, expert)
            if not is_static:
                slots = op.Squeeze(op.NonZero(is_chosen), op.ints(0), name="slots")
                rows = op.Div(slots, op.scalar(k, np.int64), name="rows")
            inputs = x if is_static else op.Gather(x, rows, axis=0)
            gate_up = linear(inputs, "gate_up_proj", 2 * F, D)
            activated = swiglu(op, gate_up, limit=config.swiglu_limit)
            down = linear(activated, "down_proj", D, F)
            computed = {"pre_activation": gate_up, "activated": activated, "expert_outputs": down}
            if is_static:
                column = op.Unsqueeze(is_chosen, op.ints(1))
                share = op.reshape(op.Where(column, weights, op.scalar(0.0)), -1, k)
                weighted = op.Mul(down, op.ReduceSum(share, op.ints(1), keepdims=1), name="weighted")
                added = op.Add(partial_sum, weighted, name="added")
                written = [
                    op.Where(column, _repeated(op, computed[probe], k, widths[probe]), rows_so_far)
                    for probe, rows_so_far in partial.items()
                ]
            else:
                weighted = op.Mul(down, op.Gather(weights, slots, axis=0), name="weighted")
                places = op.Unsqueeze(rows, op.ints(1))
                added = op.ScatterND(partial_sum, places, weighted, reduction="add", name="added")
                written = [
                    op.ScatterND(rows_so_far, op.Unsqueeze(slots, op.ints(1)), computed[probe])
                    for probe, rows_so_far in partial.items()
                ]
            still_going_on = op.Identity(going_on)
        body = ir.Graph(
            name=op.unique_name("body"),
            inputs=[turn, going_on, partial_sum, *partial.values()],
            outputs=[still_going_on, added, *written],
            nodes=nodes,
        )
    start = [turns, op.scalar(True, np.bool_), nothing, *no_rows]
    combined, *inner = op.many("Loop", 1 + len(widths), *start, body=body, name="experts")
    for probe, value in zip(widths, inner, strict=True):
        report(probe, value)
    return combined


def _repeated(op: GraphBuilder, rows: ir.Value, times: int, width: int) -> ir.Value:
    """Each row `times` times, one after the other: f32 [rows, width] → [rows · times, width]."""
    wide = op.Tile(op.Unsqueeze(rows, op.ints(1)), op.ints(1, times, 1))
    return op.reshape(wide, -1, width)


def _zeros(op: GraphBuilder, shape: ir.Value, *, name: str | None = None) -> ir.Value:
    return op.ConstantOfShape(shape, value=ir.ArrayTensor(np.zeros(1, np.float32), "value"), name=name)


def swiglu(op: GraphBuilder, gate_up: ir.Value, *, limit: float) -> ir.Value:
    """gate·sigmoid(α·gate)·(up + 1). gate_up f32 [rows, 2F], gate in the even columns → f32 [rows, F].

    The gate is limited from above only, up on both sides.

    Source: openai/gpt-oss torch/model.py, `swiglu`.
    """
    with op.scope("swiglu"):
        gate = op.Min(op.slice(gate_up, 0, INT64_MAX, axis=1, step=2), op.scalar(limit), name="gate")
        up = op.Clip(op.slice(gate_up, 1, INT64_MAX, axis=1, step=2), op.scalar(-limit), op.scalar(limit), name="up")
        sigmoid = op.Sigmoid(op.Mul(gate, op.scalar(SWIGLU_ALPHA)))
        return op.Mul(op.Mul(gate, sigmoid), op.Add(up, op.scalar(1.0)))
