import numpy as np
from gptoss_onnx.graph.rope import Rotation, apply_rope, rope_rotation
from gptoss_weights import inverse_frequencies, rope_concentration
from gptoss_weights.testing import tiny_config

LAST_POSITION = 131071


def test_angles_are_f32_products_up_to_the_last_position(run_graph):
    config = tiny_config()
    positions = np.array([[0, 1, 4200, LAST_POSITION]])

    def build(op, positions):
        rotation = rope_rotation(op, config, positions)
        return rotation.cos, rotation.sin

    cos, sin = run_graph(build, positions=positions)
    frequencies = inverse_frequencies(
        head_dim=config.head_dim,
        rope_theta=config.rope_theta,
        initial_context_length=config.initial_context_length,
        scaling_factor=config.rope_scaling_factor,
        beta=config.rope_ntk_beta,
        alpha=config.rope_ntk_alpha,
    )
    angles = (positions.astype(np.float32)[..., None] * frequencies).astype(np.float64)
    concentration = rope_concentration(config.rope_scaling_factor)
    np.testing.assert_allclose(cos[:, 0], np.cos(angles) * concentration, atol=3e-7)
    np.testing.assert_allclose(sin[:, 0], np.sin(angles) * concentration, atol=3e-7)


def test_halves_are_turned_against_each_other(run_graph):
    def build(op, x, cos, sin):
        return apply_rope(op, x, Rotation(cos, sin))

    x = np.float32([1, 2, 10, 20]).reshape(1, 1, 1, 4)
    quarter_turn = {"cos": np.zeros((1, 1, 1, 2), np.float32), "sin": np.ones((1, 1, 1, 2), np.float32)}
    [found] = run_graph(build, x=x, **quarter_turn)
    assert found.reshape(-1).tolist() == [-10, -20, 1, 2]
