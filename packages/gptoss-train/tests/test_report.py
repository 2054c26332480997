"""The report shows a run as it went, however long it was."""

import base64
import json
import re

import pytest
from gptoss_train.report import write_report

COURSE = "the busiest and of the idlest expert"


def written(folder, *, steps: int, resumed: tuple[int, ...] = ()) -> dict[str, bytes]:
    """Title → plot of the report of a run whose layers send more and more to one expert."""
    folder.mkdir()
    numbers = {"loss": 2.0, "grad_norm": 1.0, "grad_norms": {"experts": 1.0}, "learning_rate": 1e-3, "tokens": 8}
    numbers |= {"tokens_per_second": 9.0, "skipped_steps": 0, "memory_bytes": 1}
    with (folder / "metrics.jsonl").open("w") as stream:
        for step in range(1, steps + 1):
            share = 0.5 + step / steps / 3
            load = [[share, 1 - share], [0.5, 0.5]]
            stream.write(json.dumps({"step": step, "expert_load": load, **numbers}) + "\n")
    events = [json.dumps({"event": "resume", "step": step}) + "\n" for step in resumed]
    (folder / "events.jsonl").write_text("".join(events))
    page = write_report(folder, title="a run").read_text()
    plots = re.findall(r'<h2>([^<]*)</h2><img [^>]*base64,([^"]*)"', page)
    return {title: base64.b64decode(plot) for title, plot in plots}


def course(plots: dict[str, bytes]) -> bytes:
    (plot,) = [plot for title, plot in plots.items() if COURSE in title]
    return plot


def test_load_of_the_experts_is_shown_at_the_last_step_and_on_the_way_there(tmp_path):
    plots = written(tmp_path / "run", steps=5)
    assert [title for title in plots if "expert" in title] == [
        "Share of the assignments of each expert at the last step, by layer",
        "Share of the assignments of the busiest and of the idlest expert over the steps, by layer",
    ]
    assert course(plots).count(b"<image") == 4, "two plots, each with its scale"


def test_course_of_the_experts_marks_where_the_run_went_on(tmp_path):
    marked, unmarked = (
        course(written(tmp_path / name, steps=6, resumed=steps)) for name, steps in (("a", (2, 4)), ("b", ()))
    )
    assert b"went on" in marked
    assert b"went on" not in unmarked
    assert marked.count(b"stroke-dasharray") > unmarked.count(b"stroke-dasharray")


@pytest.mark.parametrize("steps", [1, 30_000])
def test_course_of_the_experts_takes_no_more_room_the_longer_the_run(tmp_path, steps):
    usual = len(course(written(tmp_path / "usual", steps=300)))
    assert len(course(written(tmp_path / "other", steps=steps))) < 1.5 * usual
