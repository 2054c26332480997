import pytest
from gptoss_model import bucket_length, generate
from gptoss_model.ops import apply_rope


@pytest.mark.parametrize(
    ("length", "bucket"), [(1, 16), (16, 16), (17, 32), (512, 512), (513, 1024), (1025, 1536), (4200, 4608)]
)
def test_buckets_are_powers_of_two_and_then_multiples_of_512(length, bucket):
    assert bucket_length(length) == bucket


@pytest.fixture
def count_compilations(monkeypatch, make_model):
    """Requests [prompt length, new tokens, further options] → how often attention had been traced after each."""

    def count(*requests) -> list[int]:
        traces = []
        monkeypatch.setattr("gptoss_model.ops.apply_rope", lambda *a, **k: traces.append(1) or apply_rope(*a, **k))
        small = make_model(num_hidden_layers=1, vocab_size=67 + len(requests))
        counts = []
        for length, new, options in requests:
            generate(small, [[1] * length], max_new_tokens=new, **options)
            counts.append(len(traces))
        return counts

    return count


def test_lengths_of_one_bucket_compile_once(count_compilations):
    counts = count_compilations(*((length, 2 + length % 3, {}) for length in (3, 9, 4, 5, 16)))
    assert counts[0] > 0
    assert counts[1:4] == counts[:1] * 3
    assert counts[4] > counts[3], "the cache of 16 + 3 tokens is another bucket"


def test_fixed_lengths_compile_once_for_everything(count_compilations):
    fixed = {"prefill_length": 8, "max_length": 40}
    counts = count_compilations((3, 2, fixed), (20, 3, fixed), (8, 32, fixed), (40 - 17, 17, fixed))
    assert counts == counts[:1] * 4
