import numpy as np
import pytest
from gptoss_train.data import SyntheticConfig
from gptoss_train.data.sources.synthetic import SyntheticSource
from gptoss_weights import CheckpointError

CONFIG = SyntheticConfig(records=200, shortest=3, longest=40, symbols=11, branching=3)


def source(seed=5, **options):
    return SyntheticSource(CONFIG, **({"vocabulary_size": 97, "seed": seed} | options))


def test_a_record_is_a_function_of_seed_and_number():
    assert np.array_equal(source()[17].tokens, source()[17].tokens)
    assert not np.array_equal(source()[17].tokens[:3], source(seed=6)[17].tokens[:3])


def test_each_token_is_followed_by_as_many_as_there_are_branches_evenly():
    places = {token: place for place, token in enumerate(source().ring.tolist())}
    walks = [[places[token] for token in record.tokens.tolist()] for record in map(source().__getitem__, range(200))]
    steps = np.concatenate([np.diff(walk) % CONFIG.symbols for walk in walks])
    counts = np.bincount(steps, minlength=CONFIG.symbols)
    assert set(np.flatnonzero(counts)) == {1, 2, 3}
    assert counts[1:4].min() > 0.28 * counts.sum()


def test_lengths_reach_from_shortest_to_longest():
    lengths = {len(source()[index].tokens) for index in range(200)}
    assert (min(lengths), max(lengths)) == (3, 40)


def test_records_differ():
    assert len({source()[index].tokens.tobytes() for index in range(200)}) > 190


def test_a_ring_larger_than_the_vocabulary_is_refused():
    with pytest.raises(
        CheckpointError, match=r"data.synthetic.symbols: .* expected at most the vocabulary's 10; found 11"
    ):
        source(vocabulary_size=10)
