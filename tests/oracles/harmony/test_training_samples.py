"""Training samples have the tokens of OpenAI's library, and what is learnt of them is what its parser reads back."""

import itertools

import pytest
from gptoss_train.data import ColumnsConfig, ConversationConfig
from gptoss_train.data.conversations import ConversationReader
from gptoss_train.data.records import Fields
from gptoss_weights.text.harmony import ReasoningEffort, SystemContent, conversation_from_json
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.oracle

WORDS = ["2 + 2 = 4.", "Grüße, 日本語 🙂", " leading", "trailing \n", "<|end|>", '{"a": 1}']
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map("".join)
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a place.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
users = texts.map(lambda text: [{"role": "user", "content": text}])
answers = st.builds(
    lambda text, thought: [{"role": "assistant", "content": text} | ({} if thought is None else {"thinking": thought})],
    texts,
    st.one_of(st.none(), texts),
)
calls = st.builds(
    lambda thought, city, result: [
        {
            "role": "assistant",
            "thinking": thought,
            "tool_calls": [{"name": "get_weather", "arguments": {"city": city}}],
        },
        {"role": "tool", "content": result},
    ],
    texts,
    texts,
    texts,
)
turns = st.builds(
    lambda user, steps, answer: [*user, *itertools.chain(*steps), *answer], users, st.lists(calls, max_size=2), answers
)
conversations = st.builds(
    lambda first, rest: [*first, *itertools.chain(*rest)],
    st.one_of(st.just([]), texts.map(lambda text: [{"role": "system", "content": text}])),
    st.lists(turns, min_size=1, max_size=3),
)
records = st.fixed_dictionaries(
    {"messages": conversations},
    optional={"tools": st.just([TOOL]), "reasoning_effort": st.sampled_from(["low", "medium", "high"])},
)


def sample_of(encoding, record, **options):
    return ConversationReader(encoding, ColumnsConfig(), ConversationConfig(**options)).read(Fields("record", record))


def conversation_of(record):
    system = SystemContent(reasoning_effort=ReasoningEffort(record.get("reasoning_effort", "medium")))
    return conversation_from_json(record["messages"], tools=record.get("tools"), system=system)


def learnt_runs(sample):
    runs, is_open = [], False
    for target, weight in zip(sample.targets.tolist(), sample.weights.tolist(), strict=True):
        if weight:
            runs = runs if is_open else [*runs, []]
            runs[-1].append(target)
        is_open = bool(weight)
    return runs


@settings(max_examples=150)
@given(records, st.sampled_from(["all", "harmony"]))
def test_tokens_are_those_of_the_official_renderer(encoding, official, to_official, record, kept):
    import openai_harmony

    config = openai_harmony.RenderConversationConfig(auto_drop_analysis=kept == "harmony")
    expected = official.render_conversation_for_training(to_official(conversation_of(record)), config=config)
    assert sample_of(encoding, record, reasoning_kept=kept).tokens.tolist() == expected


@settings(max_examples=150)
@given(records)
def test_the_official_parser_reads_the_assistants_messages_back_from_what_is_learnt(
    encoding, official, from_official, record
):
    import openai_harmony

    read = [
        from_official(message)
        for run in learnt_runs(sample_of(encoding, record))
        for message in official.parse_messages_from_completion_tokens(run, openai_harmony.Role.ASSISTANT)
    ]
    said = [message for message in conversation_of(record) if str(message.role) == "assistant"]
    assert [(m.channel, m.recipient, m.text) for m in read] == [(m.channel, m.recipient, m.text) for m in said]


@settings(max_examples=100)
@given(records)
def test_what_is_learnt_goes_on_from_the_official_prompt(encoding, official, to_official, record):
    """Before each run stands what a chat would have sent, and it ends with a token that generation stops at."""
    import openai_harmony

    sample, conversation = sample_of(encoding, record), conversation_of(record)
    keep = openai_harmony.RenderConversationConfig(auto_drop_analysis=False)
    starts = [
        place + 1 for place in range(len(sample)) if sample.weights[place] and not (place and sample.weights[place - 1])
    ]
    prompts = [
        official.render_conversation_for_completion(
            to_official(conversation[:place]), openai_harmony.Role.ASSISTANT, config=keep
        )
        for place in range(1, len(conversation))
        if str(conversation[place].role) == "assistant" and str(conversation[place - 1].role) != "assistant"
    ]
    assert [sample.tokens[:start].tolist() for start in starts] == prompts
    stops = set(official.stop_tokens_for_assistant_actions())
    assert all(run[-1] in stops for run in learnt_runs(sample))


def test_plain_columns_give_the_official_example(encoding, official):
    """A prompt and its completion in plain columns are the official example of these two messages."""
    import openai_harmony

    harmony = openai_harmony
    messages = [
        harmony.Message.from_role_and_content(harmony.Role.SYSTEM, harmony.SystemContent.new()),
        harmony.Message.from_role_and_content(harmony.Role.USER, "What is 2 + 2?"),
        harmony.Message.from_role_and_content(harmony.Role.ASSISTANT, "Easy.").with_channel("analysis"),
        harmony.Message.from_role_and_content(harmony.Role.ASSISTANT, "4").with_channel("final"),
    ]
    keep = harmony.RenderConversationConfig(auto_drop_analysis=False)
    expected = official.render_conversation_for_training(harmony.Conversation.from_messages(messages), config=keep)
    sample = sample_of(encoding, {"prompt": "What is 2 + 2?", "completion": "4", "thinking": "Easy."})
    assert sample.tokens.tolist() == expected
