import jax
import jax.numpy as jnp
import pytest
from gptoss_train.batch import Batch
from gptoss_train.config import TrainConfig, load_config
from gptoss_train.errors import ConfigError
from gptoss_train.planning import plan_run
from gptoss_train.setup import set_up
from gptoss_weights import GPT_OSS_20B, GptOssWarning, count_parameters

COUNTERS_BYTES = 16  # steps seen and left out, and AdamW's two
READ_ONLY = {"xla_backend_optimization_level": 0}  # programs that never run: the same text and memory, sooner compiled


def test_plan_of_a_run_counts_what_its_state_holds(full_run):
    plan = plan_run(full_run.config, "finetune")
    state = full_run.state
    assert plan.parameter_bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(state.parameters))
    moments = sum(leaf.nbytes for leaf in jax.tree.leaves(state.optimizer))
    assert plan.moment_bytes == moments
    assert plan.trained == count_parameters(full_run.geometry) == plan.parameters
    assert plan.tokens_per_step == full_run.config.batch_size * full_run.config.sequence_length


def test_plan_of_lora_counts_factors_and_packed_experts(lora_run):
    plan = plan_run(lora_run.config, "lora")
    assert plan.trained == sum(leaf.size for leaf in lora_run.state.parameters.values())
    held = sum(leaf.nbytes for leaf in jax.tree.leaves((lora_run.state.parameters, lora_run.frozen)))
    assert plan.parameter_bytes == held


@pytest.mark.parametrize("mesh", ["fsdp=8,expert=8", "data=2,fsdp=4,expert=16", "fsdp=16,expert=4,tensor=2"])
def test_120b_is_planned_on_any_mesh_without_devices(mesh):
    whole = plan_run(load_config("120b", ["run.mesh=null", "batch_size=128"]), "finetune")
    plan = plan_run(load_config("120b", [f"run.mesh={mesh}", "batch_size=128"]), "finetune")
    assert plan.parameters == 116_829_156_672
    assert whole.parameter_bytes == 4 * plan.parameters
    assert whole.parameter_bytes / plan.devices <= plan.parameter_bytes < whole.parameter_bytes / 8
    assert plan.checkpoint_bytes == whole.checkpoint_bytes == 12 * plan.parameters + COUNTERS_BYTES
    assert "each of" in plan.to_text()


def test_axis_is_planned_as_the_mesh_without_it():
    def plan(mesh):
        return plan_run(load_config("20b", [f"run.mesh={mesh}", "batch_size=256"]), "lora")

    whole = plan("data=2,fsdp=2,expert=4")
    assert {name: axis.size for name, axis in whole.axes.items()} == {"data": 2, "fsdp": 2, "expert": 4}
    for name, mesh in {"data": "fsdp=2,expert=4", "fsdp": "data=2,expert=4", "expert": "data=2,fsdp=2"}.items():
        fewer = plan(mesh).to_json()
        assert whole.axes[name].without.to_json().items() <= fewer.items()
    assert plan("data=1").axes == {}


def test_each_axis_divides_what_it_is_for():
    plan = plan_run(load_config("120b", ["run.mesh=data=2,fsdp=4,expert=8", "batch_size=128"]), "finetune")
    data, fsdp, expert = (plan.axes[name].without for name in ("data", "fsdp", "expert"))
    assert data.parameter_bytes == plan.parameter_bytes
    assert data.activation_bytes == 2 * plan.activation_bytes
    assert 3.9 < fsdp.moment_bytes / plan.moment_bytes < 4
    assert 6 < expert.moment_bytes / plan.moment_bytes < 8
    [names] = [line.split() for line in plan.to_text().splitlines() if line.split()[:1] == ["data"]]
    assert names == ["data", "fsdp", "expert"]
    [parameters] = [line for line in plan.to_text().splitlines() if line.startswith("  parameters")]
    assert parameters.split("GiB")[1].split()[:4] == [
        "÷",
        "1.00",
        "÷",
        f"{fsdp.parameter_bytes / plan.parameter_bytes:.2f}",
    ]
    [gathered] = [line for line in plan.to_text().splitlines() if line.startswith("  gathered")]
    assert gathered.split("GiB")[1].split()[2] == "-", "without fsdp nothing is gathered"


def test_plan_knows_what_each_strategy_of_the_experts_keeps():
    def activations(method="finetune", **run):
        overrides = [f"run.{name}={value}" for name, value in run.items()]
        return plan_run(load_config("20b", ["run.mesh=null", *overrides]), method).activation_bytes

    assert activations(moe="tiled") < activations() == activations(moe="ragged") < activations(moe="dense")
    assert activations("lora") == activations(moe="tiled"), "packed experts go in tiles everywhere"


def test_devices_that_share_experts_bring_their_tokens_together():
    def activations(mesh):
        config = load_config("20b", [f"run.mesh={mesh}", "batch_size=8", "gradient_accumulation=1", "run.moe=tiled"])
        return plan_run(config, "finetune").activation_bytes

    assert activations("fsdp=8") < activations("expert=8")


def test_flops_are_six_a_parameter_and_token_and_attention():
    config = TrainConfig(model="gpt-oss-20b", batch_size=1, sequence_length=128)
    plan = plan_run(config, "pretrain")
    assert plan.flops_per_step == pytest.approx(6 * 128 * plan.active, rel=0.02)
    assert plan.flops_per_step > 6 * 128 * (plan.active - GPT_OSS_20B.hidden_size)


def test_mesh_that_does_not_divide_is_a_sentence():
    with pytest.raises(ConfigError, match="kv heads over tensor=3"):
        plan_run(TrainConfig(model="gpt-oss-20b", run=load_config("20b", ["run.mesh=tensor=3"]).run), "finetune")


@pytest.mark.parametrize(
    ("method", "frozen", "words"),
    [
        ("pretrain", ("model.embed.*",), "no parameter has such a name"),
        ("pretrain", ("*",), "nothing is left to train"),
        ("lora", ("lm_head.weight",), "LoRA trains no matrix"),
    ],
)
def test_what_is_frozen_is_checked_before_anything_is_loaded(method, frozen, words):
    with pytest.raises(ConfigError, match=words):
        plan_run(TrainConfig(model="gpt-oss-120b", frozen=frozen), method)


def test_rows_that_data_does_not_divide_are_refused_and_others_named():
    with pytest.raises(ConfigError, match="a part of a step has 4 rows, which data=8 do not divide"):
        plan_run(load_config("20b", ["run.mesh=data=8", "batch_size=64"]), "lora")
    with pytest.warns(GptOssWarning, match="the devices along expert go over the same ones"):
        plan = plan_run(load_config("20b", ["run.mesh=fsdp=4,expert=8", "batch_size=64"]), "lora")
    assert plan.rows_per_device == 1


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_activations_grow_with_the_tokens_as_those_of_the_compiled_step_do(remat):
    sizes = {"num_hidden_layers": 4, "num_experts": 6, "experts_per_token": 2, "vocab_size": 320, "hidden_size": 192}
    sizes |= {"intermediate_size": 128, "head_dim": 32, "num_attention_heads": 8, "num_key_value_heads": 2}
    rows, lengths, planned, compiled = 4, (512, 1024), [], []
    for length in lengths:
        overrides = [f"batch_size={rows}", f"sequence_length={length}", "run.moe=tiled", f"run.remat={remat}"]
        overrides += [f"geometry.{name}={size}" for name, size in sizes.items()]
        config = load_config("tiny", [*overrides, "checkpoint.mode=off"])
        run, plan = set_up(config, "pretrain"), plan_run(config, "pretrain")
        shapes = {name: jnp.float32 if name == "weights" else jnp.int32 for name in Batch._fields}
        batch = Batch(**{name: jax.ShapeDtypeStruct((1, rows, length), dtype) for name, dtype in shapes.items()})
        step = run.step.lower(run.state, run.frozen, batch).compile(compiler_options=READ_ONLY)
        planned.append(plan.activation_bytes + plan.logit_bytes)
        compiled.append(step.memory_analysis().temp_size_in_bytes)
    # Logits and a layer's work are counted together, though not both are there at once.
    assert 0.8 < (planned[1] - planned[0]) / (compiled[1] - compiled[0]) < 1.5
