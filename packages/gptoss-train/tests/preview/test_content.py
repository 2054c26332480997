from gptoss_train.preview import gather_preview

NOTHING = {"messages": [{"role": "user", "content": "Nobody answers."}]}
SOMETHING = {"question": "Who?", "answer": "Me."}


def test_it_holds_the_first_samples_and_all_lengths(open_with):
    content = gather_preview(open_with(packing="none"), samples=2, records=100)
    assert [sample.origin[-2:] for sample in content.samples] == [":1", ":2"]
    assert len(content.lengths) == content.statistics.samples == 3
    assert sum(content.lengths) == content.statistics.tokens
    assert content.is_complete


def test_rows_are_those_of_training(open_with):
    dataset = open_with(shuffle=True)
    content = gather_preview(dataset, samples=9, records=100)
    batch = next(iter(dataset))
    lengths = [len(sample) for sample in content.rows[0]]
    assert batch.segments[0].tolist()[: sum(lengths)] == [
        segment for segment, length in enumerate(lengths, 1) for _ in range(length)
    ]


def test_an_endless_dataset_is_read_for_one_epoch(open_with):
    assert gather_preview(open_with(epochs=None), samples=9, records=100).statistics.records == 3


def test_it_stops_after_enough_records(open_with):
    content = gather_preview(open_with([SOMETHING] * 20, packing_window=4), samples=2, records=6)
    assert content.statistics.records == 8
    assert content.statistics.samples == len(content.lengths) == 8
    assert not content.is_complete


def test_samples_that_teach_nothing_are_named(open_with):
    content = gather_preview(open_with(), samples=9, records=100)
    assert [origin[-2:] for origin in content.without_loss] == [":2"]


def test_batches_that_would_stop_training_are_counted(open_with):
    options = {"packing": "none", "batch_size": 2}
    records = [NOTHING, NOTHING, SOMETHING, NOTHING, NOTHING]
    assert gather_preview(open_with(records, **options), samples=0, records=100).empty_batches == 2
    assert gather_preview(open_with(records[2:4], **options), samples=0, records=100).empty_batches == 0
