"""YaRN: the rotary frequencies of GPT-OSS, computed in f32 exactly as the official code does.

They stand here because the JAX model and the ONNX graph both need the same numbers and share no
other ground. Angles in f64 would be "more exact" and yet further from the official logits.
"""

import math

import numpy as np

__all__ = ["inverse_frequencies", "rope_concentration", "yarn_ramp"]


def yarn_ramp(
    *, head_dim: int, rope_theta: float, initial_context_length: int, beta: float, alpha: float
) -> tuple[float, float]:
    """Where the YaRN ramp begins and ends, in frequency indices; not rounded to integers.

    Source: openai/gpt-oss torch/model.py, `_compute_concentration_and_inv_freq`.
    """

    def index_of(rotations: float) -> float:
        wavelength = initial_context_length / (rotations * 2 * math.pi)
        return head_dim / 2 * math.log(wavelength) / math.log(rope_theta)

    return index_of(beta), index_of(alpha)


def rope_concentration(scaling_factor: float) -> float:
    """The factor on cos and sin: 0.1·ln(factor) + 1, and 1 without scaling."""
    return 0.1 * math.log(scaling_factor) + 1.0 if scaling_factor > 1.0 else 1.0


def inverse_frequencies(
    *,
    head_dim: int,
    rope_theta: float,
    initial_context_length: int,
    scaling_factor: float,
    beta: float,
    alpha: float,
) -> np.ndarray:
    """Radians per position of each rotary pair, float32 [head_dim / 2].

    The power is rounded once from f64: within one unit in the last place of torch's `pow`, which
    is itself not the same on every machine. All other steps are the official code's, in f32.

    Source: openai/gpt-oss torch/model.py, `_compute_concentration_and_inv_freq`.
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequencies = (np.float64(rope_theta) ** exponents.astype(np.float64)).astype(np.float32)
    if scaling_factor <= 1.0:
        return np.float32(1.0) / frequencies
    low, high = yarn_ramp(
        head_dim=head_dim,
        rope_theta=rope_theta,
        initial_context_length=initial_context_length,
        beta=beta,
        alpha=alpha,
    )
    interpolated = np.float32(1.0) / (np.float32(scaling_factor) * frequencies)
    extrapolated = np.float32(1.0) / frequencies
    steps = np.arange(head_dim // 2, dtype=np.float32)
    ramp = (steps - np.float32(low)) / np.float32(high - low)
    keep = np.float32(1.0) - np.clip(ramp, np.float32(0.0), np.float32(1.0))
    blended: np.ndarray = interpolated * (np.float32(1.0) - keep) + extrapolated * keep
    return blended
