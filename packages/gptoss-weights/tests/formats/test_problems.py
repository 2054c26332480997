"""All problems of a checkpoint come in one error, the first few of them in full."""

from pathlib import Path

from gptoss_weights.formats.problems import gathered_problems

FILE = Path("weights/tree.msgpack")


def test_a_single_problem_is_said_as_it_is() -> None:
    error = gathered_problems(FILE, [f"{FILE}: a is missing"], fix="Fetch it.")
    assert str(error) == "weights/tree.msgpack: a is missing. Fetch it."


def test_several_problems_name_their_file_or_folder_once() -> None:
    assert str(gathered_problems(FILE, [f"{FILE}: a is missing", f"{FILE}: b is large"], fix="Fetch them.")) == (
        "weights/tree.msgpack: 2 problems: a is missing; b is large. Fetch them."
    )
    assert str(gathered_problems(FILE.parent, [f"{FILE}: a is missing", f"{FILE}: b is large"], fix="Fetch them.")) == (
        "weights: 2 problems: tree.msgpack: a is missing; tree.msgpack: b is large. Fetch them."
    )


def test_hundreds_of_problems_do_not_hide_the_first() -> None:
    message = str(gathered_problems(FILE, [f"{FILE}: {number} is missing" for number in range(300)], fix="Fetch them."))
    assert message.startswith("weights/tree.msgpack: 300 problems: 0 is missing; 1 is missing; ")
    assert "4 is missing; and 295 more. Fetch them." in message
    assert "5 is missing" not in message
