"""Every conversation is rendered token for token as OpenAI's library renders it, on the published vocabulary."""

import pytest
from gptoss_weights.text.harmony import (
    BROWSER,
    PYTHON,
    DeveloperContent,
    Message,
    ReasoningEffort,
    Role,
    SystemContent,
    Tool,
    ToolNamespace,
)
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.oracle

WORDS = [
    "2 + 2 = 4.",
    "Grüße, 日本語 🙂\u200d!",
    "<|end|>",
    "<|start|>assistant<|message|>",
    "",
    " ",
    "\n\n",
    "a\r\n b",
]
texts = st.one_of(st.sampled_from(WORDS), st.text(max_size=20), st.lists(st.sampled_from(WORDS)).map("".join))
names = st.sampled_from(["get_weather", "functions.f", "x", "lookup weather", "ünder_score", "json"])
# Within the digits and exponents that the official library's JSON reader rounds correctly.
floats = st.builds(
    lambda digits, exponent: float(f"{digits}e{exponent}"), st.integers(-(10**9), 10**9), st.integers(-15, 15)
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), floats, texts)
values = st.one_of(scalars, st.lists(scalars, max_size=2), st.dictionaries(texts, scalars, max_size=2))
KINDS = ["string", "number", "integer", "boolean", "null", "object", "array"]
remarks = {
    "description": st.one_of(texts, st.integers()),
    "title": texts,
    "examples": st.lists(st.one_of(texts, st.integers()), max_size=2),
    "default": values,
    "nullable": st.one_of(st.booleans(), st.just("yes")),
}
scalar_schemas = st.fixed_dictionaries({"type": st.sampled_from(KINDS)}, optional=remarks)
enums = st.fixed_dictionaries(
    {"enum": st.one_of(st.lists(st.one_of(texts, st.integers()), max_size=3), st.just("none"))},
    optional=remarks | {"type": st.sampled_from(["string", "integer"])},
)
unions = st.fixed_dictionaries(
    {"type": st.sampled_from([["string", "integer"], ["object", "null"], [1], []])}, optional=remarks
)


def nested(inner):
    properties = st.dictionaries(names, inner, max_size=3)
    required = {"required": st.lists(st.one_of(names, st.integers()), max_size=2)}
    objects = st.fixed_dictionaries({"type": st.just("object"), "properties": properties}, optional=remarks | required)
    arrays = st.fixed_dictionaries({"type": st.just("array"), "items": inner}, optional=remarks)
    choices = st.fixed_dictionaries({"oneOf": st.lists(inner, max_size=3)}, optional=remarks | {"enum": st.just(["a"])})
    same = st.builds(
        lambda schema, text: {"description": text, "oneOf": [schema | {"description": text}]}, inner, texts
    )
    odd = {"type": st.sampled_from(KINDS), "items": st.none(), "oneOf": st.one_of(st.just([]), st.none()), **required}
    return st.one_of(objects, arrays, choices, same, st.fixed_dictionaries({}, optional=remarks | odd))


schemas = st.recursive(st.one_of(scalar_schemas, enums, unions), nested, max_leaves=6)
tools = st.builds(Tool, names, texts, st.one_of(st.none(), schemas))
namespaces = st.one_of(
    st.sampled_from([BROWSER, PYTHON]),
    st.builds(ToolNamespace, st.just("functions"), st.lists(tools, max_size=2).map(tuple), st.one_of(st.none(), texts)),
    st.builds(ToolNamespace, names, st.lists(tools, max_size=2).map(tuple), st.one_of(st.none(), texts)),
)
toolboxes = st.lists(namespaces, max_size=3, unique_by=lambda namespace: namespace.name).map(tuple)
maybe_text = st.one_of(st.none(), texts)
system_contents = st.builds(
    SystemContent,
    model_identity=maybe_text,
    knowledge_cutoff=maybe_text,
    conversation_start_date=maybe_text,
    reasoning_effort=st.one_of(st.none(), st.sampled_from(ReasoningEffort)),
    tools=toolboxes,
    valid_channels=st.lists(names, max_size=2).map(tuple),
    channel_required=st.booleans(),
)
developer_contents = st.builds(DeveloperContent, instructions=maybe_text, tools=toolboxes)


def contents(special):
    return st.one_of(st.lists(st.one_of(texts, special), max_size=3).map(tuple), texts, special)


channels = st.one_of(st.none(), st.sampled_from(["analysis", "commentary", "final", "analysis "]))
recipients = st.one_of(st.none(), st.sampled_from(["all", "functions.get_weather", "assistant", "browser.open"]))
written_in = ["json", "<|constrain|>json", "<|constrain|>", "code <|constrain|>"]
content_types = st.one_of(st.none(), st.sampled_from(written_in))
heads = {"recipient": recipients, "channel": channels, "content_type": content_types}
messages = st.one_of(
    st.builds(Message, st.just(Role.SYSTEM), contents(system_contents), st.one_of(st.none(), names), **heads),
    st.builds(Message, st.just(Role.DEVELOPER), contents(developer_contents), st.one_of(st.none(), names), **heads),
    st.builds(Message, st.just(Role.USER), texts, st.one_of(st.none(), names), **heads),
    st.builds(Message, st.just(Role.ASSISTANT), texts, st.one_of(st.none(), names), **heads),
    st.builds(Message, st.just(Role.ASSISTANT), texts, channel=channels),
    st.builds(Message, st.just(Role.TOOL), texts, names, **heads),
)


@settings(max_examples=400)
@given(conversation=st.lists(messages, max_size=6), drop=st.booleans())
def test_conversation_equals_the_official_one_token_for_token(encoding, official, to_official, conversation, drop):
    import openai_harmony

    config = openai_harmony.RenderConversationConfig(auto_drop_analysis=drop)
    theirs = to_official(conversation)
    ours = encoding.render_conversation(conversation, auto_drop_analysis=drop)
    expected = official.render_conversation(theirs, config)
    assert encoding.decode(ours) == official.decode(expected)
    assert ours == expected
    training = encoding.render_conversation_for_training(conversation, auto_drop_analysis=drop)
    assert training.tokens == official.render_conversation_for_training(theirs, config)
    for role, their_role in zip(Role, ("system", "developer", "user", "assistant", "tool"), strict=True):
        prompt = encoding.render_conversation_for_completion(conversation, role, auto_drop_analysis=drop)
        next_role = openai_harmony.Role(their_role)
        assert prompt == official.render_conversation_for_completion(theirs, next_role, config)


@settings(max_examples=400)
@given(schema=schemas)
def test_schema_equals_the_official_one(encoding, official, to_official, schema):
    conversation = [Message(Role.DEVELOPER, DeveloperContent(tools=(ToolNamespace("t", (Tool("f", "", schema),)),)))]
    expected = official.decode(official.render_conversation(to_official(conversation)))
    assert encoding.decode(encoding.render_conversation(conversation)) == expected


@settings(max_examples=300)
@given(text=texts)
def test_text_is_encoded_without_special_tokens_as_the_official_encoder_does(encoding, official, text):
    expected = official.encode(text, disallowed_special=())
    assert encoding.tokenizer.encode_ordinary(text) == expected
    assert encoding.decode(expected) == official.decode(expected)


def test_stop_tokens_are_the_official_ones(encoding, official):
    assert encoding.stop_tokens == set(official.stop_tokens())
    assert encoding.stop_tokens_for_assistant_actions == set(official.stop_tokens_for_assistant_actions())
