from gptoss_train.data import DataStatistics


def test_sums_add_every_count():
    one = DataStatistics(**dict.fromkeys(DataStatistics().counts(), 2))
    assert set((one + one).counts().values()) == {4}


def test_shares_follow_from_the_counts():
    statistics = DataStatistics(tokens=30, trained_tokens=6, capacity=40)
    assert statistics.to_json()["trained_share"] == 0.2
    assert statistics.to_json()["packing_efficiency"] == 0.75


def test_nothing_read_has_shares_of_nothing():
    assert DataStatistics().trained_share == DataStatistics().packing_efficiency == 0


def test_samples_that_are_not_learnt_whole_are_told():
    assert DataStatistics(samples=9).is_whole
    for key in ("cut", "dropped", "without_loss"):
        assert not DataStatistics(**{key: 1}).is_whole
    told = DataStatistics(cut=1, dropped=2, without_loss=3).losses()
    assert told == "1 cut, 2 dropped, 3 with nothing to learn"
