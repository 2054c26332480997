import numpy as np
from gptoss_onnx.graph import PackedExperts
from gptoss_onnx.graph.mxfp4 import packed_linear
from gptoss_weights import MXFP4_BLOCK_SIZE, decode_mxfp4

FINITE_SCALES = 253  # bytes 0 … 252 decode to finite values for every code
BYTES_PER_BLOCK = MXFP4_BLOCK_SIZE // 2


def decoded_in_graph(run_graph, blocks: np.ndarray, scales: np.ndarray, expert: int) -> np.ndarray:
    """One expert's matrix [out, in], read off by multiplying with the identity."""
    _, out, groups = scales.shape
    columns = groups * MXFP4_BLOCK_SIZE

    def build(op, x, blocks, scales, bias, expert):
        return packed_linear(op, x, PackedExperts(blocks, scales), bias, expert=expert, out=out, columns=columns)

    [product] = run_graph(
        build,
        x=np.eye(columns, dtype=np.float32),
        blocks=blocks,
        scales=scales,
        bias=np.zeros(out, np.float32),
        expert=np.array(expert),
    )
    return product.T


def test_every_byte_under_every_finite_scale_decodes_exactly(run_graph):
    every_byte = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, BYTES_PER_BLOCK)
    blocks = np.broadcast_to(every_byte, (1, FINITE_SCALES, 16, BYTES_PER_BLOCK)).copy()
    scales = np.repeat(np.arange(FINITE_SCALES, dtype=np.uint8)[:, None], 16, axis=1)[None]
    found = decoded_in_graph(run_graph, blocks, scales, expert=0)
    assert (found == decode_mxfp4(blocks, scales, dtype=np.float32)[0]).all()


def test_subnormal_values_are_not_flushed_to_zero(run_graph):
    blocks = np.full((1, 1, 1, BYTES_PER_BLOCK), 0x11, np.uint8)  # code 1 is one half
    found = decoded_in_graph(run_graph, blocks, np.zeros((1, 1, 1), np.uint8), expert=0)
    assert (found == np.float32(2.0**-128)).all()


def test_only_the_chosen_expert_counts_and_the_bias_is_added(run_graph):
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 256, (3, 5, 2, BYTES_PER_BLOCK), np.uint8)
    scales = generator.integers(120, 130, (3, 5, 2), np.uint8)
    x, bias = generator.normal(size=(4, 64)).astype(np.float32), generator.normal(size=5).astype(np.float32)

    def build(op, x, bias):
        packed = PackedExperts(op.constant(blocks, np.uint8), op.constant(scales, np.uint8))
        return packed_linear(op, x, packed, bias, expert=op.scalar(1, np.int64), out=5, columns=64)

    [found] = run_graph(build, x=x, bias=bias)
    expected = x.astype(np.float64) @ decode_mxfp4(blocks, scales, dtype=np.float32)[1].T.astype(np.float64) + bias
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
