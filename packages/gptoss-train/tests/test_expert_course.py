import numpy as np
from gptoss_train.expert_course import MOST_COLUMNS, expert_course


def line(step: int, *layers: list[float]) -> dict[str, object]:
    return {"step": step, "expert_load": list(layers)}


def test_course_of_a_short_run_has_a_column_a_step():
    course = expert_course([line(4, [0.5, 0.2, 0.3], [1, 0, 0]), line(5, [0.4, 0.4, 0.2], [0.3, 0.5, 0.2])])
    assert (course.first, course.last) == (4, 5)
    np.testing.assert_array_equal(course.largest, [[0.5, 0.4], [1, 0.5]])
    np.testing.assert_array_equal(course.smallest, [[0.2, 0.2], [0, 0.2]])


def test_step_without_a_line_has_an_empty_column():
    course = expert_course([line(1, [0.75, 0.25]), line(3, [0.5, 0.5])])
    np.testing.assert_array_equal(course.largest, [[0.75, np.nan, 0.5]])


def test_steps_of_a_long_run_share_columns_as_their_mean():
    steps = 4 * MOST_COLUMNS
    course = expert_course([line(step, [step / steps, 1 - step / steps]) for step in range(1, steps + 1)])
    assert course.largest.shape == course.smallest.shape == (1, MOST_COLUMNS)
    assert (course.first, course.last) == (1, steps)
    np.testing.assert_allclose(course.largest[0, -1], 1 - 1.5 / steps)
    np.testing.assert_allclose(course.smallest[0, 0], 2.5 / steps)
