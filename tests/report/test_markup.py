"""Markup that cannot be broken out of."""

from __future__ import annotations

from polyclock.report.markup import Markup, element, join, pairs, table

EVIL = '"><script>alert(1)</script>'


def test_text_and_attributes_are_escaped_and_markup_is_not_escaped_twice() -> None:
    made = element("p", EVIL, element("b", "a & b"), title=EVIL, class_="x", data_times="0 1")
    assert "<script" not in made
    assert made.count("&quot;&gt;&lt;script&gt;") == 2
    assert "<b>a &amp; b</b>" in made and 'class="x"' in made and 'data-times="0 1"' in made


def test_strings_made_from_markup_are_text_again() -> None:
    """Formatting drops the mark, so that what was joined by hand is escaped."""
    assert not isinstance(Markup("<b>") + EVIL, Markup)
    assert "&lt;b&gt;" in element("p", f"{Markup('<b>')}")


def test_lists_are_flat_none_is_nothing_and_numbers_are_written() -> None:
    assert join(["a", [element("i"), None, 3]]) == "a<i></i>3"
    assert element("input", disabled=True, value=None, name="n") == '<input disabled name="n">'


def test_tables_and_lists_escape_their_cells() -> None:
    made = table(("name", EVIL), [(EVIL, 1), ("quiet", EVIL)], [False, True]) + pairs([(EVIL, EVIL)])
    assert "<script" not in made and made.count('class="quiet"') == 1
