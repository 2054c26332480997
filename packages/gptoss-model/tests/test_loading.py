import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model import abstract_model, canonical_names, load_model
from gptoss_weights import Checkpoint, CheckpointError, Mxfp4Tensor, random_checkpoint
from gptoss_weights.testing import tiny_config


class Unpacked(Checkpoint):
    """A checkpoint whose experts are arrays, as in a bf16 release."""

    format = "unpacked"

    def __init__(self, packed: Checkpoint) -> None:
        self._packed, self.config, self.side_files = packed, packed.config, {}

    def read(self, name, index=()):
        value = self._packed.read(name, index)
        return value.decode() if isinstance(value, Mxfp4Tensor) else value


@pytest.fixture(scope="module")
def four_layers() -> Checkpoint:
    return random_checkpoint(tiny_config(num_hidden_layers=4), seed=3)


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_every_parameter_has_the_value_of_the_checkpoint(four_layers, dtype, scan_layers):
    for name, view in canonical_names(load_model(four_layers, dtype=dtype, scan_layers=scan_layers)).items():
        stored, value = four_layers.read(name), view.value
        if isinstance(stored, Mxfp4Tensor):
            np.testing.assert_array_equal(value.blocks, stored.blocks)
            np.testing.assert_array_equal(value.scales, stored.scales)
        else:
            np.testing.assert_array_equal(np.asarray(value, np.float32), np.asarray(stored, np.float32))


def test_norm_scales_are_f32_and_all_else_has_the_dtype_of_the_activations(tiny):
    model = load_model(tiny, dtype=jnp.bfloat16, experts="decoded")
    assert model.dtype == jnp.bfloat16
    for name, view in canonical_names(model).items():
        assert view.value.dtype == (jnp.float32 if "norm" in name else jnp.bfloat16), name


def test_decoded_experts_hold_the_values_of_packed_ones(tiny):
    name = "model.layers.1.mlp.experts.down_proj"
    decoded = canonical_names(load_model(tiny, dtype=jnp.float32, experts="decoded"))[name].value
    np.testing.assert_array_equal(decoded, tiny.read(name).decode(np.float32))


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("experts", ["mxfp4", "decoded"])
def test_abstract_model_has_the_structure_of_the_loaded_one(four_layers, experts, scan_layers):
    real = load_model(four_layers, experts=experts, scan_layers=scan_layers)
    abstract = abstract_model(four_layers.config, experts=experts, scan_layers=scan_layers)
    assert jax.tree.structure(real) == jax.tree.structure(abstract)
    for value, shape in zip(jax.tree.leaves(real), jax.tree.leaves(abstract), strict=True):
        assert (value.shape, value.dtype) == (shape.shape, shape.dtype)


def test_unpacked_checkpoint_loads_as_stored_and_decoded_but_not_as_mxfp4(tiny):
    checkpoint = Unpacked(tiny)
    for experts in ("stored", "decoded"):
        views = canonical_names(load_model(checkpoint, experts=experts)).values()
        assert not any(view.is_packed for view in views)
    with pytest.raises(CheckpointError, match=r"gate_up_proj: .* does not hold its experts as MXFP4; found bfloat16"):
        load_model(checkpoint, experts="mxfp4")


def test_arguments_out_of_range_are_refused(tiny):
    with pytest.raises(ValueError, match="bfloat16 or float32, not float16"):
        load_model(tiny, dtype=jnp.float16)
    with pytest.raises(ValueError, match="the parameters are bfloat16 or float32, not int8"):
        load_model(tiny, param_dtype=jnp.int8)
    with pytest.raises(ValueError, match="'stored', 'mxfp4' or 'decoded', not 'int8'"):
        load_model(tiny, experts="int8")
    with pytest.raises(ValueError, match="no MoE strategy is called 'dropping'"):
        load_model(tiny, moe="dropping")
    with pytest.raises(ValueError, match="'mxfp4' or 'decoded', not 'stored'"):
        abstract_model(tiny.config, experts="stored")


def test_capacity_factor_is_refused_before_anything_is_read(tiny):
    with pytest.raises(ValueError, match="every strategy here is dropless"):
        load_model(tiny, capacity_factor=1.25)


class HalfUnpacked(Unpacked):
    """One layer's experts are arrays, the others' are packed."""

    def read(self, name, index=()):
        return super().read(name, index) if ".layers.2." in name else self._packed.read(name, index)

    def array_dtype(self, name):
        return super().array_dtype(name) if ".layers.2." in name else self._packed.array_dtype(name)


def test_layers_are_scanned_where_they_can_be_if_nobody_says(four_layers):
    three = random_checkpoint(tiny_config(num_hidden_layers=3), seed=3)
    assert load_model(four_layers, scan_layers=None).scan_layers
    assert not load_model(three, scan_layers=None).scan_layers
    mixed = HalfUnpacked(four_layers)
    assert not load_model(mixed, scan_layers=None).scan_layers
    assert load_model(mixed, scan_layers=None, experts="decoded").scan_layers
    with pytest.raises(CheckpointError, match="hold their experts in different forms"):
        load_model(mixed, scan_layers=True)
