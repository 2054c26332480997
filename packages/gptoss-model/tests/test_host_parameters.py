import numpy as np
import pytest
from gptoss_model.host_parameters import read_parameter
from gptoss_model.parameters import ParameterSpec

NAMES = [f"model.layers.{layer}.mlp.experts.down_proj" for layer in (0, 1)]


@pytest.mark.parametrize("columns", [slice(0, 24), slice(24, 48), slice(40, 72), slice(None)])
def test_part_of_a_decoded_matrix_may_begin_and_end_within_a_block(tiny, columns):
    """So experts that are trained can be split over devices that do not divide the blocks."""
    spec = ParameterSpec(tuple(tiny.specs[name] for name in NAMES), is_stacked=True)
    whole = np.stack([tiny.read(name).decode(np.float32) for name in NAMES])
    index = (slice(None), slice(1, 3), slice(None), columns)
    part = read_parameter(tiny, spec, dtype=np.float32, packed=False, index=index)
    np.testing.assert_array_equal(part, whole[index])
