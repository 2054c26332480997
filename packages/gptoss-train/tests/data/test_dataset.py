"""Order, epochs, shards and resuming, over every source that needs no network."""

import dataclasses
import itertools
import json

import grain
import numpy as np
import pytest
from gptoss_train.data import DataConfig, SyntheticConfig
from gptoss_train.data.reading import RecordReader
from gptoss_weights import CheckpointError

SYNTHETIC = DataConfig(
    synthetic=SyntheticConfig(records=23, shortest=3, longest=45), epochs=2, packing_window=8, threads=0
)


def same(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        for name in one._fields:
            assert np.array_equal(getattr(one, name), getattr(other, name)), name


@pytest.fixture
def configs(write_jsonl, tmp_path):
    texts = [{"text": f"{number}: " + "licence " * (number % 7)} for number in range(13)]
    talk = [{"question": f"{number}?", "answer": "Yes. " * (number % 5 + 1)} for number in range(13)]
    (tmp_path / "book.txt").write_text("\n\n".join(text["text"] for text in texts))
    jsonl = {"source": "jsonl", "epochs": 2, "packing_window": 5}
    return {
        "synthetic": SYNTHETIC,
        "text": DataConfig(
            source="text", files=(str(tmp_path / "book.txt"),), document="paragraph", epochs=2, packing_window=5
        ),
        "jsonl": DataConfig(files=(str(write_jsonl(texts, "texts")),), **jsonl),
        "conversations": DataConfig(files=(str(write_jsonl(talk, "talk")),), **jsonl),
        "unpacked": dataclasses.replace(SYNTHETIC, packing="none", threads=2),
        "first fit, in order": dataclasses.replace(SYNTHETIC, packing="first_fit", shuffle=False),
        "dropping": dataclasses.replace(SYNTHETIC, overlong="drop"),
    }


@pytest.fixture
def asked(monkeypatch):
    """What grain is asked to read ahead."""
    options, asked = grain.ReadOptions, []
    monkeypatch.setattr(grain, "ReadOptions", lambda **chosen: asked.append(chosen) or options(**chosen))
    return asked


KINDS = ["synthetic", "text", "jsonl", "conversations", "unpacked", "first fit, in order", "dropping"]


@pytest.mark.parametrize("kind", KINDS)
def test_from_any_position_the_rest_is_the_same(configs, open_with, kind):
    dataset = open_with(configs[kind], sequence_length=250 if kind == "conversations" else 32)
    iterator = iter(dataset)
    batches, states = [], [iterator.get_state()]
    for batch in iterator:
        batches.append(batch)
        states.append(iterator.get_state())
    assert len(batches) > 3
    for place, state in enumerate(states):
        again = iter(dataset)
        again.set_state(json.loads(json.dumps(state)))
        assert again.get_state() == state
        same(list(again), batches[place:])
        assert again.statistics == iterator.statistics


def test_a_used_iterator_goes_back_and_forth(open_with):
    dataset = open_with(SYNTHETIC)
    iterator = iter(dataset)
    start = iterator.get_state()
    batches = list(iterator)
    end = iterator.get_state()
    iterator.set_state(start)
    same(list(iterator), batches)
    iterator.set_state(end)
    assert list(iterator) == []


@pytest.mark.parametrize("kind", KINDS)
def test_shards_together_are_the_batch_of_one(configs, open_with, kind):
    length = 250 if kind == "conversations" else 32
    whole = list(open_with(configs[kind], batch_size=6, sequence_length=length))
    shards = [
        list(open_with(configs[kind], batch_size=6, sequence_length=length, shard_index=index, shard_count=3))
        for index in range(3)
    ]
    joined = [type(parts[0])(*map(np.concatenate, zip(*parts, strict=True))) for parts in zip(*shards, strict=True)]
    same(joined, whole)


def test_a_position_holds_for_another_number_of_shards(open_with):
    one = iter(open_with(SYNTHETIC, batch_size=4))
    next(one)
    second = iter(open_with(SYNTHETIC, batch_size=4, shard_index=1, shard_count=2))
    second.set_state(one.get_state())
    assert np.array_equal(next(second).tokens, next(one).tokens[2:])


def samples_of(batches):
    """The tokens of each segment."""
    return [
        tuple(tokens[segments == segment].tolist())
        for batch in batches
        for tokens, segments in zip(batch.tokens, batch.segments, strict=True)
        for segment in range(1, segments.max() + 1)
    ]


@pytest.mark.parametrize("chosen", [{}, {"skip": 4, "take": 17}])
def test_each_epoch_has_every_sample_once_in_another_order(open_with, chosen):
    unpacked = dataclasses.replace(SYNTHETIC, packing="none", overlong="cut", **chosen)
    count = open_with(unpacked).records_per_epoch
    first, second = itertools.batched(samples_of(open_with(unpacked)), count)
    assert sorted(first) == sorted(second)
    assert len(set(first)) == count
    assert first != second
    in_order = samples_of(open_with(dataclasses.replace(unpacked, shuffle=False)))
    assert in_order[:count] == in_order[count:]
    assert list(first) != in_order[:count]


def test_the_seed_decides_the_order(configs, open_with):
    one, again, other = (list(open_with(configs["jsonl"], seed=seed)) for seed in (1, 1, 2))
    same(one, again)
    assert samples_of(one) != samples_of(other)
    assert sorted(samples_of(one)) == sorted(samples_of(other))


def test_threads_change_nothing(configs, open_with):
    same(*(list(open_with(dataclasses.replace(configs["jsonl"], threads=threads))) for threads in (0, 3)))


@pytest.mark.parametrize("read_before", range(13))
def test_a_batch_that_is_broken_off_is_still_to_come(configs, open_with, monkeypatch, read_before):
    """A signal comes while a record is read; often the batch has rows of the window before."""
    dataset = open_with(dataclasses.replace(configs["jsonl"], threads=0, packing_window=2))
    whole = list(dataset)
    read, count = RecordReader.__call__, itertools.count()

    def broken_off(reader, record):
        if next(count) == read_before:
            raise KeyboardInterrupt
        return read(reader, record)

    iterator, taken = iter(dataset), []
    with monkeypatch.context() as patch:
        patch.setattr(RecordReader, "__call__", broken_off)
        with pytest.raises(KeyboardInterrupt):
            taken.extend(iterator)
    again = iter(dataset)
    again.set_state(json.loads(json.dumps(iterator.get_state_after(len(taken)))))
    same([*taken, *again], whole)


def test_the_position_is_known_behind_the_last_batch_and_behind_the_one_before(open_with):
    """A signal may come with a batch, which then nobody learns from."""
    dataset = open_with(SYNTHETIC)
    whole, iterator = list(dataset), iter(dataset)
    iterator.set_state(dict(iterator.get_state_after(0)))
    for given in range(1, 4):
        next(iterator)
        for learnt in (given - 1, given):
            again = iter(dataset)
            again.set_state(iterator.get_state_after(learnt))
            same(list(again), whole[learnt:])
    with pytest.raises(ValueError, match="position behind batch 1 is not known, when 3 were asked for"):
        iterator.get_state_after(1)


@pytest.mark.parametrize(
    ("threads", "window", "read_ahead"), [(2, 10**9, (2, 13)), (2, 1, (1, 1)), (100, 5, (5, 5)), (0, 5, (0, 0))]
)
def test_no_more_is_read_ahead_than_an_epoch_has(configs, open_with, asked, threads, window, read_ahead):
    """However large a window may be; and by no more threads than records."""
    next(iter(open_with(dataclasses.replace(configs["jsonl"], epochs=None, threads=threads, packing_window=window))))
    assert [(chosen["num_threads"], chosen["prefetch_buffer_size"]) for chosen in asked] == [read_ahead]


@pytest.mark.parametrize(
    ("kind", "threads", "expected"), [("synthetic", None, 0), ("text", None, 2), ("synthetic", 3, 3)]
)
def test_what_is_synthetic_is_made_when_it_is_asked_for(configs, open_with, asked, kind, threads, expected):
    next(iter(open_with(dataclasses.replace(configs[kind], threads=threads))))
    assert [chosen["num_threads"] for chosen in asked] == [expected]
    assert [bool(chosen["prefetch_buffer_size"]) for chosen in asked] == [expected > 0]


def test_without_a_number_of_epochs_there_is_no_end(open_with):
    endless = open_with(dataclasses.replace(SYNTHETIC, epochs=None))
    iterator = iter(endless)
    list(itertools.islice(iterator, 60))
    assert iterator.statistics.records > 4 * 23


def test_packed_and_unpacked_teach_the_same(open_with):
    def predictions(packing):
        config = dataclasses.replace(SYNTHETIC, packing=packing, epochs=1)
        return sorted(
            (int(token), int(target), int(position), float(weight))
            for batch in open_with(config)
            for token, target, position, weight, segment in zip(
                *(getattr(batch, name).ravel() for name in ("tokens", "targets", "positions", "weights", "segments")),
                strict=True,
            )
            if segment
        )

    assert predictions("best_fit") == predictions("none") == predictions("first_fit")


def test_packing_fills_rows(open_with):
    short = SyntheticConfig(records=100, shortest=3, longest=30)

    def efficiency(packing):
        config = dataclasses.replace(SYNTHETIC, synthetic=short, packing=packing, packing_window=64)
        iterator = iter(open_with(config, sequence_length=64))
        assert sum(1 for _ in iterator)
        return iterator.statistics.packing_efficiency

    assert efficiency("best_fit") > 0.9
    assert efficiency("none") < 0.3


def test_segments_count_from_one_and_positions_from_zero_and_padding_is_zero(open_with):
    for batch in open_with(SYNTHETIC):
        for row in range(len(batch.tokens)):
            segments, positions = batch.segments[row], batch.positions[row]
            filled = int(np.count_nonzero(segments))
            assert not segments[filled:].any()
            assert not batch.weights[row, filled:].any()
            assert not batch.tokens[row, filled:].any()
            steps = np.diff(segments[:filled])
            assert set(steps.tolist()) <= {0, 1}
            starts = np.flatnonzero(np.concatenate([[1], steps])) if filled else []
            assert all(positions[start] == 0 for start in starts)
            inside = np.flatnonzero(steps == 0)
            assert np.array_equal(positions[inside + 1], positions[inside] + 1)
            learnt = inside[batch.weights[row, inside] > 0]
            assert np.array_equal(batch.targets[row, learnt], batch.tokens[row, learnt + 1])


def test_arrays_have_the_dtypes_of_a_batch(open_with):
    batch = next(iter(open_with(SYNTHETIC)))
    assert [array.dtype for array in batch] == [np.int32, np.int32, np.float32, np.int32, np.int32]
    assert {array.shape for array in batch} == {(3, 32)}


def test_evaluation_has_every_sample_in_order_and_fills_up_the_last_batch(open_with):
    config = dataclasses.replace(SYNTHETIC, packing="none", overlong="cut").for_evaluation()
    batches = list(open_with(config, batch_size=5))
    assert len(batches) == 5
    assert all(batch.tokens.shape == (5, 32) for batch in batches)
    assert batches[-1].segments.any(axis=1).tolist() == [True, True, True, False, False]
    assert len(samples_of(batches)) == 23


def test_skip_and_take_hold_out_records(write_jsonl, open_with):
    path = write_jsonl([{"text": f"{number}"} for number in range(10)])
    config = DataConfig(source="jsonl", files=(str(path),), epochs=1, packing="none")
    held_out = samples_of(open_with(dataclasses.replace(config, take=3)))
    trained = samples_of(open_with(dataclasses.replace(config, skip=3)))
    assert (len(held_out), len(trained)) == (3, 7)
    assert sorted(held_out + trained) == sorted(samples_of(open_with(config)))
    with pytest.raises(CheckpointError, match="all records are skipped; expected less than 10; found 10"):
        open_with(dataclasses.replace(config, skip=10))


def test_statistics_count_everything(write_jsonl, open_with):
    long, short = "licence " * 40, "licence"
    pairs = [{"question": "Who?", "answer": answer} for answer in (long, short, short)]
    config = DataConfig(source="jsonl", files=(str(write_jsonl(pairs)),), epochs=1)
    iterator = iter(open_with(config, sequence_length=150))
    batches = list(iterator)
    counts = iterator.statistics
    assert (counts.records, counts.samples, counts.cut, counts.dropped) == (3, 3, 1, 0)
    assert counts.tokens == sum(int(np.count_nonzero(batch.segments)) for batch in batches)
    assert counts.trained_tokens == sum(int(np.count_nonzero(batch.weights)) for batch in batches)
    dropping = iter(open_with(dataclasses.replace(config, overlong="drop"), sequence_length=150))
    list(dropping)
    assert (dropping.statistics.samples, dropping.statistics.dropped) == (2, 1)


def test_a_batch_with_nothing_to_learn_names_its_samples(write_jsonl, open_with):
    talk = [{"question": "licence " * 60, "answer": "a"}, {"question": "licence " * 60, "answer": "b"}]
    config = DataConfig(source="jsonl", files=(str(write_jsonl(talk)),), epochs=1)
    with pytest.raises(
        CheckpointError, match=r"records\.jsonl:\d, .*records\.jsonl:\d: there is nothing to learn in a whole"
    ):
        list(open_with(config))


def test_one_sample_that_teaches_is_enough_for_a_batch(write_jsonl, open_with):
    talk = [{"question": "licence " * 60, "answer": "a"}, {"text": "a licence"}]
    config = DataConfig(source="jsonl", files=(str(write_jsonl(talk)),), epochs=1)
    assert len(list(open_with(config))) == 1


@pytest.mark.parametrize("epochs", [1, None])
def test_an_epoch_of_which_all_is_dropped_is_an_error_and_no_endless_search(write_jsonl, open_with, epochs):
    talk = [{"question": "licence " * 60, "answer": "a"}]
    config = DataConfig(source="jsonl", files=(str(write_jsonl(talk)),), overlong="drop", epochs=epochs)
    with pytest.raises(CheckpointError, match=r"no sample is left in a whole epoch; .* 1 samples of them too long"):
        next(iter(open_with(config)))


@pytest.mark.parametrize(
    ("changes", "options"),
    [({"packing": "none"}, {}), ({"skip": 1}, {}), ({}, {"seed": 8}), ({}, {"sequence_length": 33})],
)
def test_a_position_in_other_data_is_refused(open_with, changes, options):
    state = iter(open_with(SYNTHETIC)).get_state()
    other = iter(open_with(dataclasses.replace(SYNTHETIC, **changes), **options))
    with pytest.raises(CheckpointError, match="the position in the data was taken in other data"):
        other.set_state(state)


@pytest.mark.parametrize("source", ["jsonl", "text"])
def test_a_position_in_files_of_other_content_is_refused_whatever_they_are_called(source, tmp_path, open_with):
    def write(name, word):
        lines = [f"licence {number} {word}" for number in range(40)]
        texts = [json.dumps({"text": line}) for line in lines] if source == "jsonl" else lines
        (tmp_path / name).write_text("\n".join(texts))
        return open_with(DataConfig(source=source, files=(str(tmp_path / name),), document="line", epochs=1))

    state = iter(write("a", "one")).get_state()
    iter(write("b", "one")).set_state(state)
    with pytest.raises(CheckpointError, match="taken in other data"):
        iter(write("a", "two")).set_state(state)


@pytest.mark.parametrize("changes", [{"epochs": 5}, {"threads": 2}])
def test_a_position_holds_for_more_epochs_and_other_threads(open_with, changes):
    iterator = iter(open_with(SYNTHETIC))
    next(iterator)
    longer = iter(open_with(dataclasses.replace(SYNTHETIC, **changes)))
    longer.set_state(iterator.get_state())
    same([next(longer)], [next(iterator)])


def test_a_position_behind_the_last_epoch_is_refused(open_with):
    iterator = iter(open_with(dataclasses.replace(SYNTHETIC, epochs=3)))
    states = [iterator.get_state() for _ in iterator]
    for state in (states[-1], states[len(states) * 2 // 3 + 1]):
        with pytest.raises(CheckpointError, match="the position in the data lies behind its end"):
            iter(open_with(dataclasses.replace(SYNTHETIC, epochs=2))).set_state(state)


def test_a_malformed_record_stops_with_its_line(write_jsonl, open_with):
    path = write_jsonl([{"text": "a"}, '{"text": '])
    dataset = open_with(DataConfig(source="jsonl", files=(str(path),), shuffle=False))
    with pytest.raises(CheckpointError, match=r"records\.jsonl:2: the line is no JSON"):
        next(iter(dataset))


@pytest.mark.parametrize(
    "options",
    [{"shard_count": 2}, {"shard_index": 1}, {"batch_size": 0}, {"sequence_length": 1}, {"seed": -1}],
)
def test_numbers_out_of_their_range_are_refused(open_with, options):
    with pytest.raises(ValueError, match="expected"):
        open_with(SYNTHETIC, **options)


def test_grain_and_orbax_can_save_the_iterator(open_with):
    assert isinstance(iter(open_with(SYNTHETIC)), grain.DatasetIterator)
