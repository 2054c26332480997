import numpy as np
from gptoss_onnx.graph.rms_norm import rms_norm
from gptoss_weights import RMS_NORM_EPS


def test_rows_are_divided_by_their_root_mean_square(run_graph):
    generator = np.random.default_rng(0)
    x, scale = generator.normal(size=(3, 96)).astype(np.float32), generator.normal(size=96).astype(np.float32)
    [found] = run_graph(rms_norm, x=x, scale=scale)
    exact = x.astype(np.float64) / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + RMS_NORM_EPS) * scale
    np.testing.assert_allclose(found, exact, rtol=1e-6)


def test_a_row_of_zeros_stays_zero(run_graph):
    [found] = run_graph(rms_norm, x=np.zeros((1, 8), np.float32), scale=np.ones(8, np.float32))
    assert (found == 0).all()
