import dataclasses

import pytest
from gptoss_train.config import TrainConfig, load_config, recipe_names
from gptoss_train.errors import ConfigError
from gptoss_train.reading import config_as_yaml, parse_config


def parse(text: str, *overrides: str) -> TrainConfig:
    return parse_config(TrainConfig, text, overrides, where="test.yaml")


@pytest.mark.parametrize("recipe", ["120b", "20b", "demo", "demo-sft", "tiny"])
def test_recipe_says_all_of_a_run_and_reads_back_as_itself(recipe):
    config = load_config(recipe)
    assert parse(config_as_yaml(config)) == config


def test_recipes_are_those_that_the_errors_name():
    assert recipe_names() == ["120b", "20b", "demo", "demo-sft", "tiny"]
    with pytest.raises(ConfigError, match="120b, 20b, demo, demo-sft, tiny"):
        load_config("no-such-recipe")


def test_folder_of_a_recipes_name_does_not_hide_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert load_config("tiny").run_name == "tiny"


@pytest.mark.parametrize(
    "text", ["model: m\nsteps: 5\nsteps: 7", "model: m\noptimizer: {b1: 0.8}\noptimizer: {b2: 0.9}"]
)
def test_key_that_is_given_twice_is_refused(text):
    with pytest.raises(ConfigError, match=r"(steps|optimizer) is given twice.*line 3"):
        parse(text)


def test_anchors_may_be_merged_and_overruled():
    columns = "data: {columns: &c {text: t, prompt: p}}\nevaluation: {data: {columns: {<<: *c, text: u}}}"
    found = parse(f"model: m\n{columns}").evaluation.data.columns
    assert (found.text, found.prompt) == ("u", "p")


@pytest.mark.parametrize("value", ["!!int x", "!!timestamp x", "!!python/name:os.system", "!!binary x"])
def test_tag_is_refused_and_its_key_named(value):
    with pytest.raises(ConfigError, match="steps"):
        parse("model: m", f"steps={value}")
    with pytest.raises(ConfigError, match="tag"):
        parse(f"model: m\nsteps: {value}")


def test_section_within_another_is_named_in_full():
    with pytest.raises(ConfigError, match=r"[ ;]evaluation\.data\.files"):
        parse("model: m", "evaluation.data.source=text")
    with pytest.raises(ConfigError, match=r"[ ;]evaluation\.data\.conversation\.channels"):
        parse("model: m", "evaluation.data.conversation.channels=[]")
    with pytest.raises(ConfigError, match=r": data\.files"):
        parse("model: m", "data.source=text")


def test_override_counts_more_than_the_file_at_any_depth():
    config = parse(
        "model: m\noptimizer: {learning_rate: 1e-3}",
        "optimizer.learning_rate=3e-4",
        "data.synthetic.symbols=9",
        "run.scan_layers=false",
        "data.files=[]",
        "run_name=07",
        "optimizer.clip_norm=null",
    )
    assert config.optimizer.learning_rate == 3e-4
    assert config.data.synthetic.symbols == 9
    assert config.run.scan_layers is False
    assert config.run_name == "07"  # a text as it is spelled
    assert config.optimizer.clip_norm is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: m\nlerning_rate: 1", "lerning_rate: there is no such key"),
        ("model: m\noptimizer: {learnig_rate: 1}", "the nearest is 'learning_rate'"),
        ("steps: 3", "model: it must be given"),
        ("model: m\nsteps: many", "steps: expected a whole number, found 'many'"),
        ("model: m\nsteps: true", "steps: expected a whole number"),
        ("model: m\noptimizer: {name: adamv}", "the nearest is 'adamw'"),
        ("model: m\ndata: [1]", "data: expected keys and values"),
        ("model: m\nlora: {targets: [q_porj]}", "lora.targets.0.: expected q_proj"),
        ("model: m\nbatch_size: 6\ngradient_accumulation: 4", "a divisor of batch_size=6"),
        ("model: m\ncheckpoint: {every: 10, keep_every: 15}", "multiple of every=10"),
        ("model: m\nrun: {moe: tiledd}", "run.moe: expected one of"),
        ("model: m\noptimizer: {b1: 1.0}", "optimizer.b1: expected 0 or more and less than 1, found 1.0"),
        ("model: m\noptimizer: {weight_decay: -0.1}", "optimizer.weight_decay: expected 0 or more, found -0.1"),
        ("model: m\nsteps: 1.5", "steps: expected a whole number, found '1.5'"),
        ("model: m\noptimizer: {learning_rate: .inf}", "learning_rate: expected a finite number"),
        ("model: m\noptimizer: {learning_rate: 1" + 400 * "0" + "}", "learning_rate: expected a finite number"),
        ("model: m\nlora: {alpha: -3}", "lora.alpha: expected more than 0"),
        ("model: m\noutput: ''", "output: expected a folder or a URL"),
        ("model: [", "no YAML"),
        ("- 1", "no mapping"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(text, words):
    with pytest.raises(ConfigError, match=words):
        parse(text)


def test_type_of_a_key_says_what_its_digits_mean():
    """YAML 1.1 would make 8 of 010, 1000 of 1_000, and a text of 1e3."""
    config = parse("model: 1_000\nsteps: 1e3\nrun_name: 010\ntokenizer: 2024-01-02\nfrozen: [07]")
    assert (config.model, config.steps, config.run_name) == ("1_000", 1000, "010")
    assert (config.tokenizer, config.frozen) == ("2024-01-02", ("07",))
    assert parse_config(TrainConfig, config_as_yaml(config), where="again") == config


def test_all_problems_are_said_at_once():
    with pytest.raises(ConfigError) as caught:
        parse("steps: x\nfoo: 1\ndata: {source: paper}")
    assert all(word in str(caught.value) for word in ("steps", "foo", "data.source", "model"))


def test_every_key_is_explained():
    """Each section's docstring names each of its fields, for `--print-config` shows the keys alone."""

    def sections(kind):
        yield kind
        for field in dataclasses.fields(kind):
            if dataclasses.is_dataclass(field.default):
                yield from sections(type(field.default))

    for kind in sections(TrainConfig):
        if kind.__name__ != "GeometryConfig":  # its keys are those of the model's config.json
            missing = [field.name for field in dataclasses.fields(kind) if f"{field.name}:" not in kind.__doc__]
            assert missing == [], kind


def test_off_is_a_word_though_yaml_takes_it_for_false():
    assert parse("model: demo\ncheckpoint: {mode: off}").checkpoint.mode == "off"
