"""Messages in the chat shape give the tokens that transformers gives with the published chat template."""

import pytest
from gptoss_weights import ConversationError
from gptoss_weights.text.harmony import GENERATION_PROMPT, ReasoningEffort, render_chat_template, rendered_text
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.oracle

WORDS = ["2 + 2 = 4.", "Grüße, 日本語 🙂\u200d!", " leading", "trailing \n", "", "\n\n", '{"a": 1}', "<|channel|"]
texts = st.one_of(st.sampled_from(WORDS), st.lists(st.sampled_from(WORDS), max_size=4).map("".join))
names = st.sampled_from(["get_weather", "f", "x", "lookup", "items"])
scalars = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(-1, 1), texts)
values = st.one_of(scalars, st.lists(scalars, max_size=2), st.dictionaries(texts, scalars, max_size=2))
KINDS = ["string", "number", "integer", "boolean", "null", "object", "array"]
remarks = {"description": st.one_of(texts, st.none()), "default": values, "nullable": st.booleans()}
scalar_schemas = st.fixed_dictionaries({"type": st.sampled_from(KINDS)}, optional=remarks)
enums = st.fixed_dictionaries(
    {"type": st.just("string"), "enum": st.lists(st.one_of(texts, st.integers()), max_size=3)},
    optional=remarks | {"default": texts},
)
unions = st.fixed_dictionaries(
    {"type": st.sampled_from([["string", "integer"], ["object", "object"], ["null"], []])}, optional=remarks
)


def nested(inner):
    properties = st.dictionaries(names, inner, max_size=3)
    required = {"required": st.one_of(st.lists(names, max_size=2), st.none())}
    objects = st.fixed_dictionaries({"type": st.just("object"), "properties": properties}, optional=remarks | required)
    arrays = st.fixed_dictionaries({"type": st.just("array"), "items": inner}, optional=remarks)
    choices = st.fixed_dictionaries({"oneOf": st.lists(inner, max_size=3)}, optional=remarks | {"default": texts})
    odd = {"type": st.sampled_from(KINDS), "items": st.one_of(inner, st.none()), "oneOf": st.just(None), **required}
    return st.one_of(objects, arrays, choices, st.fixed_dictionaries({}, optional=remarks | odd))


schemas = st.recursive(st.one_of(scalar_schemas, enums, unions), nested, max_leaves=6)
parameters = st.fixed_dictionaries(
    {"type": st.just("object")},
    optional={"properties": st.dictionaries(names, schemas, max_size=3), "required": st.lists(names, max_size=2)},
)
functions = st.fixed_dictionaries({"name": names, "description": texts}, optional={"parameters": parameters})
tools = st.lists(functions.map(lambda function: {"type": "function", "function": function}), max_size=3)

users = st.fixed_dictionaries({"role": st.just("user"), "content": texts})
thinking = st.sampled_from(["thinking", "reasoning_content", "reasoning"])
answers = st.builds(
    lambda text, thought, key: {"role": "assistant", "content": text} | ({} if thought is None else {key: thought}),
    texts,
    st.one_of(st.none(), texts),
    thinking,
)
calls = st.builds(
    lambda call, is_nested, said, key: (
        {"role": "assistant", "tool_calls": [{"function": call} if is_nested else call]}
        | ({} if said is None else {key: said})
    ),
    st.fixed_dictionaries(
        {"name": names, "arguments": values}, optional={"content_type": st.sampled_from(["json", "code"])}
    ),
    st.booleans(),
    st.one_of(st.none(), texts),
    st.one_of(st.just("content"), thinking),
)
results = st.fixed_dictionaries({"role": st.just("tool"), "content": values})
instructions = st.fixed_dictionaries({"role": st.sampled_from(["system", "developer"]), "content": texts})
conversations = st.builds(
    lambda first, rest: [*first, *rest],
    st.lists(instructions, max_size=1),
    st.lists(st.one_of(users, answers, calls, results), min_size=1, max_size=7),
)
options = st.fixed_dictionaries(
    {"add_generation_prompt": st.booleans()},
    optional={
        "tools": tools,
        "builtin_tools": st.lists(st.sampled_from(["browser", "python"]), unique=True),
        "model_identity": texts,
        "reasoning_effort": st.sampled_from(ReasoningEffort),
    },
)


def says_none(messages):
    """Whether a result or a call's arguments are None, which the template writes as `null` and ours asks for."""
    calls = [call.get("function", call) for message in messages for call in message.get("tool_calls", ())]
    return any(call["arguments"] is None for call in calls) or any(
        message["role"] == "tool" and message["content"] is None for message in messages
    )


@settings(max_examples=700)
@given(messages=conversations, options=options)
def test_text_is_that_of_the_published_template(published_template, messages, options):
    date = "2025-08-05"
    their_options = {key: str(value) if key == "reasoning_effort" else value for key, value in options.items()}
    try:
        expected = published_template(messages, date=date, **their_options)
    except published_template.refusals:
        with pytest.raises(ConversationError):
            render_chat_template(messages, current_date=date, **options)
        return
    if says_none(messages):
        with pytest.raises(ConversationError, match=r"has no (content|arguments)"):
            render_chat_template(messages, current_date=date, **options)
        return
    rendered = render_chat_template(messages, current_date=date, **options)
    prompt = "".join(GENERATION_PROMPT) if options["add_generation_prompt"] else ""
    assert rendered_text(rendered) + prompt == expected


@settings(max_examples=300)
@given(messages=conversations, options=options)
def test_tokens_are_those_of_the_published_tokenizer(published_template, encoding, messages, options):
    date = "2025-08-05"
    their_options = {key: str(value) if key == "reasoning_effort" else value for key, value in options.items()}
    try:
        expected = published_template(messages, date=date, **their_options)
        ours = encoding.apply_chat_template(messages, current_date=date, **options)
    except (ConversationError, *published_template.refusals):
        return
    assert ours == encoding.tokenizer.encode(expected)
