import pytest
from markdown_it import MarkdownIt

from manyheads.heads import Categorical
from manyheads.reporting import html

HOSTILE = ["<script>alert(1)</script>", "a|b", "[x](http://example.org)", "*a*", "two\nlines", "![i](j)", "\\"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_with_marks_is_shown_in_a_card_as_it_is(name, monkeypatch, tmp_path):
    (tmp_path / "card.md").write_text("| head | class |\n| --- | --- |\n| {{ head }} | {{ own }} |\n")
    monkeypatch.setattr(html, "FOLDER", tmp_path)
    head = Categorical(name="colour", classes=(name, "other"))
    text = html.render("card.md", head=head.stratum_names[0], own=html.Markdown("*ours*"))
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert page.count("<td>") == 2
    assert "<td><em>ours</em></td>" in page
    shown = page.split("<td>")[1].split("</td>")[0]
    assert "<" not in shown
    plain = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")
    assert plain == name.replace("\n", " ")
