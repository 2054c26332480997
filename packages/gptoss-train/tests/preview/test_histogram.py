import re
from xml.etree import ElementTree

from gptoss_train.preview.histogram import length_histogram


def test_it_is_one_element_in_the_pages_colours():
    svg = length_histogram([3, 5, 5, 20], 20)
    ElementTree.fromstring(svg)
    assert "var(--bar)" in svg
    assert "var(--limit)" in svg
    assert not re.search(r"#0[1-5]0[1-5]0[1-5]", svg)


def test_equal_lengths_give_equal_bytes():
    assert length_histogram([3, 5], 20) == length_histogram([3, 5], 20)


def test_no_lengths_give_an_empty_figure():
    ElementTree.fromstring(length_histogram([], 4096))
