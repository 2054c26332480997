"""The staging folder takes up its own job and no other, and claims nothing that is not there."""

from pathlib import Path

import pytest
from gptoss_weights.output.staging import Staging

JOB = {"format": "hf", "checkpoint": "a"}


@pytest.fixture
def begun(tmp_path: Path) -> Staging:
    staging = Staging(tmp_path / "staging")
    assert staging.begin(JOB) == {}
    (staging.files / "weights").write_bytes(b"12")
    staging.record("one")
    staging.record("two words", "c0ffee")
    return staging


def test_same_job_goes_on(begun: Staging) -> None:
    assert Staging(begun.folder).begin(JOB) == {"one": None, "two words": "c0ffee"}
    assert (begun.files / "weights").read_bytes() == b"12"


@pytest.mark.parametrize("job", [{**JOB, "checkpoint": "b"}, None])
def test_other_or_unknown_job_starts_anew(begun: Staging, job: dict[str, str] | None) -> None:
    assert begun.begin(job) == {}
    assert list(begun.files.iterdir()) == []


def test_unknown_job_is_not_taken_up_by_itself(tmp_path: Path) -> None:
    staging = Staging(tmp_path / "staging")
    staging.begin(None)
    staging.record("one")
    assert staging.begin(None) == {}


def test_line_that_was_cut_short_does_not_count(begun: Staging) -> None:
    with (begun.folder / "done").open("a") as file:
        file.write("thr")
    assert begun.begin(JOB) == {"one": None, "two words": "c0ffee"}


def test_folder_without_a_job_starts_anew(begun: Staging) -> None:
    (begun.folder / "job.json").unlink()
    assert begun.begin(JOB) == {}
    assert list(begun.files.iterdir()) == []


def test_finished_is_finished_for_its_own_job_only(begun: Staging) -> None:
    assert not begun.is_finished(JOB)
    begun.finish()
    assert begun.is_finished(JOB)
    assert not begun.is_finished({**JOB, "checkpoint": "b"})
    assert not begun.is_finished(None)


def test_discarding_removes_everything_and_may_be_repeated(begun: Staging) -> None:
    begun.discard()
    assert not begun.folder.exists()
    begun.discard()


def test_interrupted_discarding_claims_nothing_as_written(begun: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            begun.discard()
    assert begun.begin(JOB) == {}
