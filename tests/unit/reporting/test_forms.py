"""The same report as a page, as Markdown and as figures."""

import hashlib
import html
import json
import re
from typing import get_args
from xml.etree import ElementTree as ET

import pytest

from compass.errors import InputError
from compass.reporting.evidence import of_profile
from compass.reporting.figure import LOOKS, Role
from compass.reporting.markdown import markdown
from compass.reporting.page import ASSETS, asset, html_page
from compass.reporting.static import MARKERS, SHADES, check_matplotlib, write_figures
from compass.reporting.view import view_of


def text_of(page):
    return re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)


def test_plotly_is_the_file_that_was_taken(view):
    digest = hashlib.sha256((ASSETS / "plotly-basic.min.js").read_bytes()).hexdigest()
    assert digest in asset("PROVENANCE.md")
    assert "</script" not in asset("plotly-basic.min.js")


def test_the_page_asks_for_nothing(view):
    page = text_of(html_page(view))
    assert "default-src 'none'" in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)


def test_the_page_is_small(view):
    assert len(html_page(view).encode()) < 2 * 1024**2


def test_what_a_profile_says_cannot_break_out_of_the_page(whole):
    bad = '</script><script>alert("x")</script><b>'
    hardware = whole.hardware.model_copy(update={"name": bad})
    rows = (whole.plans["production"].candidates[0], *(
        row.model_copy(update={"reason": bad}) for row in whole.plans["production"].candidates[1:]
    ))  # fmt: skip
    plan = whole.plans["production"].model_copy(update={"candidates": rows, "why": bad})
    profile = whole.model_copy(update={"hardware": hardware, "plans": {**whole.plans, "production": plan}})
    view = view_of(of_profile(profile, "p.json"))
    page = html_page(view)
    assert "<script>alert" not in page
    assert "<b>" not in text_of(page)
    embedded = json.loads(re.search(r'id="evidence">(.*?)</script>', page, re.DOTALL)[1])
    assert bad in embedded["tables"]["production"]["rows"][-2][8]
    assert "<b>" not in markdown(view)


def test_every_plot_has_a_name_a_text_and_a_table(view):
    page = html_page(view)
    for figure in view.figures:
        assert f'id="{figure.key}"' in page
        assert f'aria-label="{html.escape(figure.title)}' in page.replace("&#39;", "&#x27;")
        assert figure.table in view.tables
    for target in re.findall(r'(?:aria-controls|aria-labelledby|href)="#?([\w-]+)"', text_of(page)):
        assert f'id="{target}"' in page, target
    ids = re.findall(r'\bid="([^"]+)"', text_of(page))
    assert len(ids) == len(set(ids))


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def themes():
    style = asset("report.css")
    blocks = re.findall(r"(:root[^{]*)\{([^}]*--page:[^}]*)\}", style)
    found = []
    for _, block in blocks:
        colours = dict(re.findall(r"--([\w]+): (#[0-9a-fA-F]{6})", block))
        if "sheet" in colours and "blue" in colours:
            found.append(colours)
    return found


@pytest.mark.parametrize("theme", themes(), ids=lambda theme: theme["page"])
def test_contrast(theme):
    for ground in ("page", "sheet"):
        for ink in ("ink", "faint", "accent", "vermillion"):  # text
            assert contrast(theme[ink], theme[ground]) >= 4.5, (ink, ground)
        for mark in ("blue", "sky", "green", "orange", "purple", "yellow", "grey"):  # marks
            assert contrast(theme[mark], theme[ground]) >= 3, (mark, ground)


def test_dark_by_choice_and_by_system_are_the_same():
    light, *dark = themes()
    assert len(dark) == 2
    assert dark[0] == dark[1] != light


def test_markdown_tells_every_stage_in_a_line(view):
    text = markdown(view)
    for stage in view.stages:
        assert f"|{stage.name}|{stage.headline}|" in text
    assert text.endswith("\n")
    assert "\n\n\n" not in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {8}


def test_markdown_takes_text_as_it_is(whole):
    odd = whole.plans["prototyping"].model_copy(update={"why": "a_b *c* | <d>\nnext"})
    view = view_of(of_profile(whole.model_copy(update={"plans": {"prototyping": odd}}), "p"))
    assert "a\\_b \\*c\\* | &lt;d> next." in markdown(view)


# ------------------------------------------------------------------------------------------------------- for a paper


def test_every_role_has_a_look(view):
    assert set(LOOKS) == set(get_args(Role))
    assert {series.role for figure in view.figures for series in figure.series} <= set(LOOKS)
    paths = re.search(r"const PATHS = \{.*?\n  \};", asset("report.js"), re.DOTALL)[0]
    for look in LOOKS.values():
        assert look.colour in SHADES
        assert all(look.colour in theme for theme in themes())
        assert look.symbol.removesuffix("-open") in MARKERS
        assert re.search(rf'\b{look.symbol.removesuffix("-open").removesuffix("-thin")}"?: "M', paths)


def test_figures_are_files_with_text_in_them(view, tmp_path):
    pytest.importorskip("matplotlib")
    some = [figure for figure in view.figures if figure.key in {"prototyping-cycle", "time", "search"}]
    written = write_figures(some, tmp_path / "figures", ("svg", "png"))
    assert sorted(path.name for path in written) == [
        "prototyping-cycle.png", "prototyping-cycle.svg", "search.png", "search.svg", "time.png", "time.svg",
    ]  # fmt: skip
    for figure in some:
        svg = (tmp_path / "figures" / f"{figure.key}.svg").read_text()
        said = " ".join(ET.fromstring(svg).itertext())  # noqa: S314 - our own
        assert figure.title in said
        assert figure.y.title in said
        assert (tmp_path / "figures" / f"{figure.key}.png").read_bytes().startswith(b"\x89PNG")


def test_one_figure_gives_one_file(view, tmp_path):
    pytest.importorskip("matplotlib")
    figure = view.predictions[0]
    one, other = (write_figures([figure], tmp_path / name, ("svg",))[0].read_bytes() for name in "ab")
    assert one == other


def test_a_folder_that_cannot_be_written(view, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as error:
        write_figures(view.figures[:1], tmp_path / "file" / "sub")
    assert str(error.value) == (
        f"output {tmp_path}/file/sub/prototyping-throughput.svg: got Not a directory; "
        "expected a file in a writable folder. Choose another --figures."
    )


def test_without_matplotlib(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError) as error:
        check_matplotlib()
    assert str(error.value) == (
        "--figures: got no Matplotlib; expected it installed. pip install 'compass-optimizer[report]'."
    )
