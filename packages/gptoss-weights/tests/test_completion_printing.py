from gptoss_weights.completion_printing import logprobs_document, logprobs_table, print_stream
from gptoss_weights.completions import Completion, NewToken
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH
from gptoss_weights.text import load_tokenizer

TOKENIZER = load_tokenizer(DEMO_CHECKPOINT_PATH)
PLAIN = Completion(tokens=[5, 7], finish_reason="length")
SCORED = Completion(tokens=[5, 7], finish_reason="stop", logprobs=[-0.5, -12.25])
RANKED = Completion(
    tokens=[5, 7], finish_reason="stop", logprobs=[-0.5, -1.0], top_logprobs=[{5: -0.5, 9: -1.5}, {2: -0.25, 7: -1.0}]
)


def news(tokens):
    return [NewToken(sequence=0, token=token, finish_reason=None) for token in tokens]


def test_a_stream_prints_its_ids_where_there_is_no_tokenizer(capsys):
    coming = news([5, 7, 300])
    assert print_stream(iter(coming), None) == coming
    assert capsys.readouterr().out == "5,7,300\n"


def test_a_stream_prints_the_text_that_its_tokens_make_together(capsys):
    text = "Und es ward Licht — ✨."
    coming = news(TOKENIZER.encode(text))
    assert print_stream(iter(coming), TOKENIZER) == coming
    assert capsys.readouterr().out == f"{text}\n"


def test_the_document_has_what_was_asked_for():
    assert logprobs_document(PLAIN) == {}
    assert logprobs_document(SCORED) == {"logprobs": [-0.5, -12.25]}
    assert logprobs_document(RANKED)["top_logprobs"][1] == [
        {"token": 2, "logprob": -0.25},
        {"token": 7, "logprob": -1.0},
    ]


def test_the_table_has_a_line_for_each_token_and_the_likeliest_below():
    assert list(logprobs_table(PLAIN, None)) == []
    assert list(logprobs_table(SCORED, None)) == ["      5    -0.5000", "      7   -12.2500"]
    lines = list(logprobs_table(RANKED, TOKENIZER))
    assert [line.split()[0] for line in lines] == ["5", "5", "9", "7", "2", "7"]
    assert lines[2] == f"          9    -1.5000  {TOKENIZER.decode([9])!r}"
