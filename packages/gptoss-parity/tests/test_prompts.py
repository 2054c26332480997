import click
import pytest
from gptoss_parity.prompts import given_prompts
from gptoss_weights import CheckpointError, ConversationError
from gptoss_weights.demo import demo_checkpoint


@pytest.fixture(scope="module")
def checkpoint():
    return demo_checkpoint()


def test_file_holds_texts_ids_and_both_kinds_of_json(checkpoint, tmp_path):
    path = tmp_path / "prompts"
    path.write_text('We the People\n\n{"tokens": [1, 2, 3]}\n{"prompt": "We the People"}\n')
    first, second, third = given_prompts(checkpoint, path=path)
    assert first == third
    assert second.tokens == [1, 2, 3]
    assert first.text == "We the People"


def test_prompts_are_cut(checkpoint):
    [prompt] = given_prompts(checkpoint, tokens=[5, 6, 7], max_tokens=2)
    assert prompt.tokens == [5, 6]


def test_unknown_id_is_a_usage_error(checkpoint):
    with pytest.raises(click.BadParameter, match="not in the vocabulary"):
        given_prompts(checkpoint, tokens=[99999])


def test_bad_message_is_named_with_its_line(checkpoint, tmp_path):
    (tmp_path / "prompts").write_text('hello\n{"messages": [{"role": "king", "content": "x"}]}')
    with pytest.raises(ConversationError, match=r"prompts:2: messages\[0\]: a message has no role"):
        given_prompts(checkpoint, path=tmp_path / "prompts")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no prompt"),
        ("ok\n{broken", "prompts:2: the line begins like JSON and is none"),
        ('{"text": "x"}', "expected tokens or prompt or messages; found text"),
        ('{"tokens": []}', "not a list of ids"),
        ('{"tokens": [1, 99999]}', r"tokens\[1\]: a token is outside"),
        ('{"tokens": [true]}', "outside the vocabulary"),
        ('{"prompt": 3}', "prompt is of another kind; found int"),
    ],
)
def test_bad_file_is_named_with_its_line(checkpoint, tmp_path, content, words):
    path = tmp_path / "prompts"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=words):
        given_prompts(checkpoint, path=path)
