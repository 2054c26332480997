import re
from html.parser import HTMLParser

import pytest
from gptoss_parity import Trace, TraceMetadata, compare
from gptoss_parity.report import Report, write_report
from gptoss_parity.report.page import report_page

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Outline(HTMLParser):
    """Checks that tags nest, and collects tags and ids."""

    def __init__(self):
        super().__init__()
        self.stack, self.tags, self.ids, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def pages(sound, broken):
    """Drawing its figures is what a page costs."""
    return {"sound": report_page(sound), "broken": report_page(broken)}


@pytest.fixture(params=["sound", "broken"])
def page(pages, request):
    return pages[request.param]


def test_tags_nest_and_ids_are_unique(page):
    outline = Outline()
    outline.feed(page)
    assert outline.stack == []
    assert len(outline.ids) == len(set(outline.ids))


def test_page_needs_neither_network_nor_script(page):
    outline = Outline()
    outline.feed(page)
    assert not {"script", "link", "img", "iframe", "object"} & set(outline.tags)
    addresses = set(re.findall(r"https?://[^\"' <)]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, not addresses
    assert not re.findall(r"@import|url\((?!#)", page)


def test_equal_reports_give_equal_pages(pages, sound):
    assert report_page(sound) == pages["sound"]


def test_page_serves_light_dark_and_narrow(page):
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert "var(--ink)" in page


def test_figures_use_the_colours_of_the_page(page):
    assert not re.findall(r"#0[1-6]0[0-9]0[0-9]\b", page), "a stand-in colour was left behind"


def test_verdict_comes_first(pages):
    for kind, words in (("sound", "Parity holds"), ("broken", "Parity fails")):
        outline = Outline()
        outline.feed("".join(pages[kind].partition("<main>")[1:]).partition("</main>")[0])
        assert words in "".join(outline.text)[:200]


def test_text_of_others_is_escaped(pages):
    assert "<script>" not in pages["broken"]
    assert "&lt;script&gt;" in pages["broken"]
    assert "a &lt;b&gt;" in pages["sound"]


def test_first_failure_is_named(pages):
    assert "First failure</b> at <code>embedding</code>" in " ".join(pages["broken"].split())


def test_trace_of_logits_alone_has_a_page(trace):
    only = Trace(trace.tokens, {"logits": trace["logits"]}, TraceMetadata(source="x", dtype="float32"))
    assert "Parity holds" in report_page(Report(title="t", comparisons=[compare(only, only)]))


def test_writing_replaces_its_own_files_only(sound, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "report.html").write_text("old")
    paths = write_report(sound, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir())[1:] == ["notes.txt", "report.html", "report.json"]
    assert paths == (tmp_path / "report.html", tmp_path / "report.json", paths.markdown)
    assert re.fullmatch(r"\d{8}T\d{6}Z_summary\.md", paths.markdown.name)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert "Parity holds" in (tmp_path / "report.html").read_text()


def test_print_loses_nothing(page):
    rules = page.partition("@media print {")[2].partition("</style>")[0]
    assert ".scroll, figure .frame { overflow: visible; }" in rules  # paper cannot be scrolled
    assert "break-inside: avoid" in rules
