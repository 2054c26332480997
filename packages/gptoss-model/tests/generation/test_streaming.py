from collections import defaultdict

import pytest
from gptoss_model import Sampling, complete, generate, stream
from gptoss_model.generation.run import Run


def gathered(news) -> dict[int, list]:
    by_sequence = defaultdict(list)
    for new in news:
        by_sequence[new.sequence].append(new)
    return by_sequence


def test_stream_gives_what_complete_gives(model, prompts):
    sampling = Sampling(temperature=1.5, top_k=60, top_p=0.97, min_p=0.001)
    eos = complete(model, prompts, max_new_tokens=20, sampling=sampling, seed=7)[1].tokens[4]
    options = {"max_new_tokens": 20, "eos_token_ids": [eos], "sampling": sampling, "seed": 7, "top_logprobs": 3}
    streamed = gathered(stream(model, prompts, **options))
    for row, completion in enumerate(complete(model, prompts, **options)):
        assert [new.token for new in streamed[row]] == completion.tokens
        assert [new.logprob for new in streamed[row]] == pytest.approx(completion.logprobs, abs=1e-5)
        assert [list(new.top_logprobs) for new in streamed[row]] == [list(top) for top in completion.top_logprobs]
        assert [new.finish_reason for new in streamed[row]][-1] == completion.finish_reason
        assert {new.finish_reason for new in streamed[row][:-1]} <= {None}


def test_tokens_come_step_by_step(model, prompts):
    news = list(stream(model, prompts, max_new_tokens=20))
    assert [new.sequence for new in news] == [0, 1, 2] * 20
    assert [[new.token for new in mine] for mine in gathered(news).values()] == generate(
        model, prompts, max_new_tokens=20
    )


@pytest.mark.parametrize("count", [0, 1, 2])
def test_short_answers_end_where_they_should(model, prompts, count):
    news = list(stream(model, prompts, max_new_tokens=count))
    assert len(news) == 3 * count
    assert [new.finish_reason for new in news[-3:]] == ["length"] * min(3, len(news))


def test_who_stops_iterating_stops_the_generation(model, prompts, monkeypatch):
    steps = []
    decode, wait = Run.decode, Run.wait
    monkeypatch.setattr(Run, "decode", lambda run, room: steps.append("step") or decode(run, room))
    monkeypatch.setattr(Run, "wait", lambda run: steps.append("waited") or wait(run))
    news = stream(model, prompts, max_new_tokens=1000)
    for _ in range(4):  # a token of the second step
        next(news)
    news.close()
    assert steps == ["step", "step", "waited"]


def test_nothing_is_computed_before_the_first_token_is_wanted(model, prompts, monkeypatch):
    monkeypatch.setattr("gptoss_model.generation.streaming.Run", lambda *_: pytest.fail("it runs"))
    stream(model, prompts, max_new_tokens=3).close()
