import pytest
from gptoss_train.preview.tokens import shown_tokens, token_text


@pytest.fixture
def shown(open_with, tokenizer):
    sample = next(open_with(packing="none").rows())[0]
    return list(shown_tokens(sample, tokenizer, most=10_000))


def test_kinds_are_the_channels_of_the_assistant_and_the_roles_of_others(shown):
    assert list(dict.fromkeys(token.kind for token in shown)) == ["system", "user", "analysis", "final"]


def test_learnt_is_what_the_assistant_says(shown):
    learnt = "".join(token.text for token in shown if token.is_learnt)
    assert learnt == (
        "<|channel|>analysis<|message|>I look.<|end|><|start|>assistant<|channel|>final<|message|>Yes."
        "<|end|>⇒<|return|><|channel|>final<|message|>I am.<|return|>"
    )


def test_notes_tell_id_place_and_mask(shown):
    assert shown[0].note.endswith("at 0 · only read")
    assert shown[-1].note.startswith("final · token ")
    assert shown[-1].note.endswith("learnt")


def test_line_ends_tabs_and_what_is_no_character_are_seen(tokenizer):
    def written(text):
        return "".join(token_text(token, tokenizer) for token in tokenizer.encode(text))

    assert written("a\nb\tc") == "a↵\nb→\tc"
    assert token_text(tokenizer.encode("é")[0], tokenizer) in ("\\xc3", "é")
    assert token_text(7, None) == " 7 "


def test_no_more_are_shown_than_asked(open_with, tokenizer):
    sample = next(open_with(packing="none").rows())[0]
    assert len(list(shown_tokens(sample, tokenizer, most=5))) == 5
