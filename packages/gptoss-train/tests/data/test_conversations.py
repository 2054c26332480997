import dataclasses
import math

import pytest
from gptoss_train.data import ColumnsConfig, ConversationConfig
from gptoss_train.data.conversations import ConversationReader, is_conversation
from gptoss_train.data.records import Fields
from gptoss_weights import CheckpointError

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
CALL = {"tool_calls": [{"function": {"name": "weather", "arguments": {}}}]}
MARKUP = "<|channel|>final<|message|>Yes."
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Sunny?"},
    {"role": "assistant", "thinking": "I call.", **CALL},
    {"role": "tool", "content": "yes"},
    {"role": "assistant", "thinking": "I saw.", "content": "Yes."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "thinking": "I think.", "content": "I am."},
]


@pytest.fixture(scope="module")
def read(encoding):
    def read_values(values, **options):
        return ConversationReader(encoding, ColumnsConfig(), ConversationConfig(**options)).read(Fields("f:1", values))

    return read_values


@pytest.fixture(scope="module")
def learnt(encoding):
    """The learnt targets as text, one string a run."""

    def texts(sample):
        runs, is_open = [], False
        for target, weight in zip(sample.targets.tolist(), sample.weights.tolist(), strict=True):
            if weight:
                runs = runs if is_open else [*runs, []]
                runs[-1].append(target)
            is_open = bool(weight)
        return [encoding.decode(run) for run in runs]

    return texts


CALLED = (
    "<|channel|>analysis<|message|>I call.<|end|>"
    "<|start|>assistant to=functions.weather<|channel|>commentary <|constrain|>json<|message|>{}<|call|>"
)
SAW = "<|channel|>analysis<|message|>I saw.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>"
THOUGHT = "<|channel|>analysis<|message|>I think.<|end|><|start|>assistant<|channel|>final<|message|>I am.<|return|>"


def test_what_the_assistant_says_is_learnt_with_its_stop_tokens(read, learnt):
    assert learnt(read({"messages": MESSAGES, "tools": TOOLS})) == [CALLED, SAW, THOUGHT]


def test_history_shows_the_end_where_the_model_says_return(read, encoding):
    sample = read({"messages": MESSAGES})
    text = encoding.decode(sample.tokens.tolist())
    assert "Yes.<|end|><|start|>user" in text
    assert text.endswith("I am.<|return|>")


def test_a_conversation_is_rendered_once_with_one_system_message(read, encoding):
    text = encoding.decode(read({"messages": MESSAGES, "tools": TOOLS}).tokens.tolist())
    assert text.count("<|start|>system") == 1
    assert text.count("<|return|>") == 1
    assert "# Instructions\n\nBe brief." in text
    assert "type weather" in text


def test_only_the_last_turn_is_learnt_if_asked(read, learnt):
    assert learnt(read({"messages": MESSAGES}, turns="last")) == [THOUGHT]


def test_only_some_channels_are_learnt_if_asked(read, learnt):
    final = learnt(read({"messages": MESSAGES}, channels=("final",)))
    assert final == [
        "<|start|>assistant<|channel|>final<|message|>" + text + "<|return|>" for text in ("Yes.", "I am.")
    ]
    (call,) = learnt(read({"messages": MESSAGES}, channels=("commentary",)))
    assert call.endswith("<|call|>")


def test_every_token_is_learnt_if_asked(read):
    sample = read({"messages": MESSAGES}, loss_on="all")
    assert sample.trained_tokens == len(sample) - 1


def test_reasoning_of_earlier_turns_is_left_out_if_asked(read, encoding):
    def reasoning(kept):
        text = encoding.decode(read({"messages": MESSAGES}, reasoning_kept=kept).tokens.tolist())
        return [said for said in ("I call.", "I saw.", "I think.") if said in text]

    assert reasoning("all") == ["I call.", "I saw.", "I think."]
    assert reasoning("last_turn") == ["I think."]
    assert reasoning("harmony") == ["I think."]  # all before the first final message


def test_harmony_leaves_out_reasoning_of_a_single_turn_too(read, learnt):
    single = {"prompt": "Sure?", "completion": "I am.", "thinking": "I think."}
    assert learnt(read(single)) == [THOUGHT]
    assert learnt(read(single, reasoning_kept="harmony")) == ["<|channel|>final<|message|>I am.<|return|>"]
    assert learnt(read(single, reasoning_kept="last_turn")) == [THOUGHT]


@pytest.mark.parametrize("columns", [("prompt", "completion"), ("question", "answer")])
def test_pairs_are_conversations_of_one_turn(read, columns):
    asked, answered = columns
    pair = read({asked: "Sure?", answered: "I am.", "thinking": "I think.", "instructions": "Be brief."})
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "thinking": "I think.", "content": "I am."},
    ]
    whole = read({"messages": messages})
    assert pair.tokens.tolist() == whole.tokens.tolist()
    assert pair.weights.tolist() == whole.weights.tolist()


def test_of_a_completion_of_messages_only_these_are_learnt(read, learnt):
    sample = read({"prompt": MESSAGES[:4], "completion": MESSAGES[4:], "tools": TOOLS})
    assert sample.tokens.tolist() == read({"messages": MESSAGES, "tools": TOOLS}).tokens.tolist()
    assert learnt(sample) == [SAW, THOUGHT]


def test_a_sample_may_say_its_own_effort(read, encoding):
    def text(values, **options):
        return encoding.decode(read({"question": "a", "answer": "b"} | values, **options).tokens.tolist())

    assert "Reasoning: medium" in text({})
    assert "Reasoning: low" in text({}, reasoning_effort="low")
    assert "Reasoning: high" in text({"reasoning_effort": "high"}, reasoning_effort="low")


def test_the_system_message_says_what_the_config_says(read, encoding):
    options = {"model_identity": "You are a test.", "knowledge_cutoff": None, "current_date": "2026-01-02"}
    text = encoding.decode(read({"question": "a", "answer": "b"}, **options).tokens.tolist())
    assert text.startswith("<|start|>system<|message|>You are a test.\nCurrent date: 2026-01-02\n\n")


def test_tools_may_be_given_as_their_json(read):
    import json

    as_text = read({"messages": MESSAGES, "tools": json.dumps(TOOLS)})
    assert as_text.tokens.tolist() == read({"messages": MESSAGES, "tools": TOOLS}).tokens.tolist()


@pytest.mark.parametrize("arguments", ['{ "city":"Bonn" }', "Bonn, please", ""])
def test_arguments_that_are_text_are_learnt_as_they_are(read, learnt, arguments):
    """JSON or not: `openai-harmony` renders any text, and reads it back, behind `<|constrain|>json` too."""
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": arguments}}]}
    (call,) = learnt(read({"messages": [MESSAGES[1], called]}))
    assert call.endswith(f"<|constrain|>json<|message|>{arguments}<|call|>")


def test_columns_may_have_other_names(encoding):
    columns = dataclasses.replace(ColumnsConfig(), question="q", answer="a")
    fields = Fields("f:1", {"q": "Sure?", "a": "I am.", "question": None})
    assert is_conversation(fields, columns)
    sample = ConversationReader(encoding, columns, ConversationConfig()).read(fields)
    assert sample.trained_tokens


def test_spans_tell_roles_and_channels(read):
    spans = read({"messages": MESSAGES, "tools": TOOLS}).spans
    assert [(str(span.role), span.channel) for span in spans[:6]] == [
        ("system", None),
        ("developer", None),
        ("user", None),
        ("assistant", "analysis"),
        ("assistant", "commentary"),
        ("tool", "commentary"),
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"messages": []}, "f:1, messages: these are no messages; expected a list of messages; found an empty list"),
        ({"messages": "hi"}, "f:1, messages: these are no messages; expected a list of messages; found str"),
        (
            {"messages": [{"role": "robot"}]},
            r"f:1, messages\[0\]: a message has no role that there is; expected .*found",
        ),
        ({"messages": [{"role": "user"}]}, r"f:1, messages\[0\]: a message has no content"),
        ({"messages": [{"role": "user", "content": 3}]}, r"messages\[0\].content: .*expected a string; found int"),
        ({"prompt": 3, "completion": "a"}, "f:1, prompt: these are no messages; expected text, or a list of messages"),
        ({"prompt": "a", "completion": "a", "thinking": 3}, "f:1, thinking: this must be text"),
        ({"question": "a", "answer": ["b"]}, r"f:1, answer\[0\]: a message is no JSON object; found str"),
        ({"question": ["a"], "answer": "b"}, r"f:1, question\[0\]: a message is no JSON object"),
        (
            {"prompt": MESSAGES[:2], "completion": [{"role": "assistant"}], "instructions": "c"},
            r"f:1, completion\[0\]: an assistant's message says nothing",
        ),
        ({"prompt": [{"role": "user"}], "completion": "a", "instructions": "c"}, r"f:1, prompt\[0\]: a message has no"),
        ({"prompt": "a", "completion": MARKUP}, "f:1, completion: the text has the format's own markup in it"),
        ({"question": "a", "answer": "b", "thinking": MARKUP}, "f:1, thinking: the text has the format's own markup"),
        ({"prompt": "a", "completion": "b", "instructions": 3}, "f:1, instructions: this must be text"),
        ({"prompt": "a"}, "f:1: the record is no conversation; expected 'messages', or 'prompt'.*; found 'prompt'"),
        (
            {"question": "a", "answer": "b", "reasoning_effort": "huge"},
            "f:1, reasoning_effort: there is no such effort",
        ),
        ({"question": "a", "answer": "b", "tools": "{"}, "f:1, tools: the tools are no JSON"),
        ({"question": "a", "answer": "b", "tools": {}}, "f:1, tools: the tools are no list; found dict"),
        (
            {
                "messages": [
                    MESSAGES[1],
                    {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"a": math.nan}}]},
                ]
            },
            r"f:1, messages\[1\]\.tool_calls\[0\]\.arguments: the arguments of a tool call are no JSON",
        ),
        (
            {"messages": [MESSAGES[1], {"role": "assistant", "content": "Yes.", "channel": "finall"}]},
            r"f:1, messages\[1\]\.channel: there is no such channel; expected analysis, commentary, final; "
            "found 'finall'. The nearest is 'final'",
        ),
        ({"question": "a\ud800", "answer": "b"}, "f:1: the text is no Unicode: .*surrogate pair; found 'a.*ud800'"),
        (
            {"prompt": MESSAGES[:2], "completion": [{"role": "assistant", "content": "a"}], "thinking": "b"},
            "stands in them",
        ),
    ],
)
def test_a_malformed_record_is_named_with_what_was_expected(read, values, words):
    with pytest.raises(CheckpointError, match=words):
        read(values)


def test_errors_call_columns_by_their_names_in_the_record(encoding):
    names = {"messages": "chat", "answer": "a", "question": "q", "instructions": "how", "thinking": "why"}
    names["tools"] = "can"
    columns = dataclasses.replace(ColumnsConfig(), **names)
    for values, place in (
        ({"chat": [{"role": "user"}]}, r"chat\[0\]"),
        ({"q": "Sure?", "a": [3]}, r"a\[0\]"),
        ({"q": "Sure?", "a": MARKUP}, "a"),
        ({"q": "Sure?", "a": "b", "how": 3}, "how"),
        ({"q": "Sure?", "a": "b", "why": MARKUP}, "why"),
        ({"q": "Sure?", "a": "b", "can": {}}, "can"),
        ({"q": "Sure?", "a": "b", "can": [{"function": {"name": 3}}]}, r"can\[0\]\.function\.name"),
        ({"chat": MESSAGES, "can": [TOOLS[0], "weather"]}, r"can\[1\]"),
    ):
        with pytest.raises(CheckpointError, match=f"^f:1, {place}: "):
            ConversationReader(encoding, columns, ConversationConfig()).read(Fields("f:1", values))
