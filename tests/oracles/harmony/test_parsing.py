"""Completions are read as OpenAI's library reads them: state by state, message by message, refusal by refusal."""

import pytest
from gptoss_weights import ConversationError
from gptoss_weights.text.harmony import Role, StreamableParser, parse_completion
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.oracle

SPECIAL = ["<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>"]
HEADERS = [
    *("assistant", "user", "tool", "functions.f", "robot", " to=functions.f", "to=x", " to=", "analysis", "final"),
    *("commentary", " ", "\t", "json", "\u00a0", "\x1f", "\x0b", "<", "é", "commentary to=browser.open code", ""),
]
TEXTS = ["Hello", " world 🙂", "日本語", '{"a": 1}', "\n\n", "<|end|>", "naïve 👩\u200d🔬"]
PIECES = st.one_of(st.sampled_from(SPECIAL), st.sampled_from(HEADERS), st.sampled_from(TEXTS))
HEADER = st.lists(st.one_of(st.sampled_from(["<|channel|>", "<|constrain|>"]), st.sampled_from(HEADERS)), max_size=5)
roles = st.one_of(st.none(), st.sampled_from(Role))


@st.composite
def well_formed(draw):
    """Pieces of messages that mostly are in order."""
    pieces = []
    for _ in range(draw(st.integers(1, 3))):
        pieces += ["<|start|>", draw(st.sampled_from(["assistant", "functions.f to=assistant", "user"]))]
        pieces += [*draw(HEADER), "<|message|>", *draw(st.lists(st.sampled_from(TEXTS), max_size=3))]
        pieces.append(draw(st.sampled_from(["<|end|>", "<|call|>", "<|return|>"])))
    return pieces[draw(st.sampled_from([0, 0, 1, 2])) :]


@st.composite
def completions(draw, encoding, extra):
    """Token ids: pieces in some order, here and there a token of half a character."""
    tokens = []
    for piece in draw(st.one_of(well_formed(), st.lists(PIECES, max_size=12))):
        if piece in SPECIAL and draw(st.integers(0, 9)):
            tokens.append(encoding.tokenizer.token_id(piece))
        else:
            tokens += encoding.tokenizer.encode_ordinary(piece)
        if draw(st.integers(0, 5)) == 0:
            tokens += draw(extra)
    return tokens


def their_view(parser):
    role = parser.current_role
    return (
        parser.state.name,
        None if role is None else role.value,
        parser.current_channel,
        parser.current_recipient,
        parser.current_content_type,
        parser.current_content,
        parser.last_content_delta,
    )


def our_view(parser):
    return (
        parser.state.name,
        parser.current_role,
        parser.current_channel,
        parser.current_recipient,
        parser.current_content_type,
        parser.current_content,
        parser.last_content_delta,
    )


@settings(max_examples=700)
@given(data=st.data(), role=roles, strict=st.booleans())
def test_every_token_leaves_the_state_that_the_official_parser_has(
    encoding, official, from_official, data, role, strict
):
    import openai_harmony

    tokens = data.draw(completions(encoding, st.just(encoding.tokenizer.encode_ordinary("💖"))))
    theirs = openai_harmony.StreamableParser(
        official, None if role is None else openai_harmony.Role(role.value), strict=strict
    )
    ours = StreamableParser(encoding, role, strict=strict)
    for token in [*tokens, None]:
        try:
            theirs.process_eos() if token is None else theirs.process(token)
        except openai_harmony.HarmonyError:
            with pytest.raises(ConversationError):
                ours.process_eos() if token is None else ours.process(token)
            return
        if token is None:
            ours.process_eos()
        else:
            assert ours.process(token) == theirs.last_content_delta
        assert our_view(ours) == their_view(theirs)
        assert list(ours.messages) == [from_official(message) for message in theirs.messages]
        assert list(ours.tokens) == theirs.tokens


@settings(max_examples=400)
@given(data=st.data(), role=roles, strict=st.booleans())
def test_messages_of_broken_text_are_the_official_ones(encoding, official, from_official, data, role, strict):
    """Any tokens at all: what is no UTF-8 may come out at another token, but the messages are the same."""
    import openai_harmony

    tokens = data.draw(completions(encoding, st.lists(st.integers(0, 200018), max_size=4)))
    their_role = None if role is None else openai_harmony.Role(role.value)
    try:
        expected = official.parse_messages_from_completion_tokens(tokens, their_role, strict=strict)
    except openai_harmony.HarmonyError:
        with pytest.raises(ConversationError):
            parse_completion(encoding, tokens, role, strict=strict)
    else:
        ours = parse_completion(encoding, tokens, role, strict=strict)
        assert ours == [from_official(message) for message in expected]
