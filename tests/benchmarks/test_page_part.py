"""A benchmark writes its own part of a page."""

import pytest

from nplp.errors import UserError
from page_part import END, write_part

BEGIN = "<!-- this -->"


def test_a_part_is_written_between_its_marks_alone(tmp_path):
    page = tmp_path / "page.md"
    other = f"<!-- other -->\nkept\n{END}\n"
    page.write_text(f"before\n{BEGIN}\nold\nwords\n{END}\n{other}after\n")
    for _ in range(2):
        write_part(page, BEGIN, "new")
        assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\n{other}after\n"


@pytest.mark.parametrize(
    "text",
    [
        "no marks\n",
        f"{BEGIN}\nno end\n",
        f"{END}\n{BEGIN}\nin the wrong order\n",
        f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n",
    ],
)
def test_a_page_without_its_marks_stays_as_it_is(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(UserError, match="must have the lines"):
        write_part(page, BEGIN, "new")
    assert page.read_text() == text
