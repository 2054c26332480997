import re
from html.parser import HTMLParser

import pytest
from gptoss_train.preview import write_preview
from gptoss_weights import CheckpointError

VOID = {"meta"}


class Balance(HTMLParser):
    """Fails at a tag that closes what is not open."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page(dataset, path, tokenizer, **options):
    write_preview(dataset, path, tokenizer=tokenizer, **options)
    return path.read_text()


def test_the_page_is_whole_and_loads_nothing(open_with, tmp_path, tokenizer):
    html = page(open_with(), tmp_path / "p.html", tokenizer, title="Data of <x>")
    balance = Balance()
    balance.feed(html)
    assert balance.open == []
    assert not re.search(r"<script|<link|@import|url\((?!#)|src=", html)
    assert set(re.findall(r"https?://[^\"' >]+", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "prefers-color-scheme: dark" in html
    assert "Data of &lt;x&gt;" in html


def test_what_records_say_is_only_text(open_with, tmp_path, tokenizer):
    html = page(open_with(), tmp_path / "p.html", tokenizer)
    assert "<b>it</b>" not in html
    shown = re.sub(r"<[^>]*>", "", html)
    assert "Is &lt;b&gt;it&lt;/b&gt; sunny?" in shown


def test_tokens_are_marked_by_kind_and_mask(open_with, tmp_path, tokenizer):
    html = page(open_with(), tmp_path / "p.html", tokenizer)
    for kind in ("user", "analysis learnt", "final learnt", "text learnt"):
        assert f'<span class="t {kind}" title=' in html
    assert 'class="t user learnt" title=' not in html


def test_it_says_what_was_counted(open_with, tmp_path, tokenizer):
    html = page(open_with(sequence_length=90), tmp_path / "p.html", tokenizer)
    assert "All 3 records" in html
    assert "1 sample was longer than a row and lost the end." in html
    assert "1 sample teaches nothing" in html


def test_it_warns_of_batches_that_would_stop_training(open_with, tmp_path, tokenizer):
    nothing = [{"messages": [{"role": "user", "content": "Nobody answers."}]}]
    html = page(open_with(nothing), tmp_path / "p.html", tokenizer)
    assert "In 1 batch there is nothing to learn; training stops there with an error." in html


def test_equal_data_gives_equal_bytes(open_with, tmp_path, tokenizer):
    first, second = (page(open_with(), tmp_path / name, tokenizer) for name in ("a.html", "b.html"))
    assert first == second


def test_without_a_tokenizer_tokens_are_numbers(open_with, tmp_path, tokenizer):
    html = page(open_with(), tmp_path / "p.html", None)
    assert "&lt;|start|&gt;" not in html


def test_a_malformed_record_leaves_an_earlier_page_as_it_was(open_with, tmp_path, tokenizer):
    path = tmp_path / "p.html"
    path.write_text("earlier")
    with pytest.raises(CheckpointError, match=r"records.jsonl:2"):
        write_preview(open_with([{"text": "a"}, {"txt": "b"}]), path, tokenizer=tokenizer)
    assert path.read_text() == "earlier"
