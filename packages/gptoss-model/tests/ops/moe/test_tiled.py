from gptoss_model.ops.moe.tiled import LARGEST_TILE_ROWS, SMALLEST_TILE_ROWS, tile_rows


def test_tile_holds_more_than_the_mean_run_of_an_expert():
    assert tile_rows(127 * 4, 32) == 32
    assert tile_rows(128 * 4, 32) == 32
    assert tile_rows(255 * 4, 32) == 64


def test_tile_of_long_runs_is_shorter_so_that_the_last_ones_waste_less():
    assert tile_rows(1024 * 4, 32) == 128
    assert tile_rows(4096 * 4, 32) == 256


def test_tile_stays_within_its_bounds():
    assert tile_rows(1, 128) == SMALLEST_TILE_ROWS
    assert tile_rows(10**6, 32) == LARGEST_TILE_ROWS
