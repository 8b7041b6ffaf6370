"""Reports and plots: escaped, self-contained, in the page's colours, with names that cover nothing."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from addenda import AddendaError
from addenda.measuring.drawing.heat import gate_picture
from addenda.measuring.drawing.plots import LIGHT, Curve, learning_forgetting, save_picture, to_svg
from addenda.measuring.drawing.report import Report
from addenda.measuring.looking.activity import Activity

EVIL = '<script>alert("1")</script> & more'


def curve(label: str, end: tuple[float, float], role: str = "first") -> Curve:
    points = tuple((end[0] * share, end[1] * share**0.5) for share in (0.25, 0.5, 0.75, 1.0))
    return Curve(label, points, (end[0] - 0.01, end[0] + 0.01), (end[1] - 0.05, end[1] + 0.05), role)


def draw(*curves: Curve, size: tuple[float, float] = (8.0, 5.0)):
    return learning_forgetting(curves, x_label="forgetting", y_label="learning", size=size, palette=LIGHT)


def test_whatever_a_page_is_given_is_escaped() -> None:
    page = Report(EVIL, EVIL)
    page.heading(EVIL)
    page.text(EVIL)
    page.note(EVIL)
    page.bullets([EVIL])
    page.keys([(EVIL, EVIL)])
    page.checks([(True, EVIL), (False, EVIL)])
    page.facts({EVIL: EVIL})
    page.table([EVIL], [[EVIL], [(EVIL, EVIL)]], ["first"])
    page.samples(EVIL, EVIL, {EVIL: EVIL}, {})
    seen = Activity("m", "K", "gate", (EVIL, "b"), (EVIL,), np.array([[0.5, 0.0]]))
    page.activity(seen, [(EVIL, 2)])
    text = page.html(EVIL)
    assert "<script>alert" not in text
    assert text.count("<script") == 2  # the reading's data, and the page's own
    assert text.count("alert(") >= 20


@pytest.mark.parametrize("size", [(8.6, 4.8), (4.1, 4.6)])
@pytest.mark.parametrize(
    "ends",
    [
        ((0.05, 0.5), (0.3, 0.6)),
        ((0.300, 0.60), (0.302, 0.602)),  # as good as equal
        ((-0.2, 0.1), (0.001, 0.002)),  # one goes backwards, one has hardly left the base
        ((0.0, 0.0), (0.0, 0.0)),
    ],
)
def test_names_cover_neither_points_nor_each_other(ends: tuple, size: tuple[float, float]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = draw(curve("module", ends[0]), curve("LoRA", ends[1], "second"), size=size)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    axes = figure.axes[0]
    boxes = [text.get_window_extent(renderer) for text in axes.texts]
    assert sorted(text.get_text() for text in axes.texts) == ["LoRA", "base", "module"]
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:number])
        for point in axes.transData.transform([(0.0, 0.0), *ends]):
            assert not (box.x0 < point[0] < box.x1 and box.y0 < point[1] < box.y1)
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1


def test_a_name_is_nearer_to_its_own_point_than_to_another() -> None:
    """Two points close above one another: each name stands on its own side."""
    curve = Curve("module", ((0.0, 0.013),), (-0.001, 0.001), (0.01, 0.016))
    other = Curve("rival", ((0.3, 0.4),), (0.29, 0.31), (0.39, 0.41))
    figure = learning_forgetting([curve, other], x_label="x", y_label="y")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    (axes,), renderer = figure.axes, FigureCanvasAgg(figure).get_renderer()
    at = {"base": (0.0, 0.0), "module": (0.0, 0.013), "rival": (0.3, 0.4)}
    pixels = {name: axes.transData.transform(point) for name, point in at.items()}
    for label in axes.texts:
        box, own = label.get_window_extent(renderer), label.get_text()
        apart = {
            name: max(box.x0 - x, 0, x - box.x1) ** 2 + max(box.y0 - y, 0, y - box.y1) ** 2
            for name, (x, y) in pixels.items()
        }
        assert apart[own] <= min(apart.values()), own


def test_an_svg_takes_the_pages_colours_and_keeps_its_ids_to_itself() -> None:
    plot = learning_forgetting([curve("m", (0.1, 0.5))], x_label="x", y_label="y")
    one, two = to_svg(plot, "one", "what it shows"), to_svg(plot, "two", "what it shows")
    assert one.startswith("<svg")
    assert 'aria-label="what it shows"' in one
    assert "var(--first)" in one
    assert "var(--ink)" in one
    assert not re.search(r"#0[1-7]0[1-7]0[1-7]", one)
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg, own in zip((one, two), ids, strict=True):
        assert set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", svg)) <= own
    assert "learning" in draw(curve("m", (0.1, 0.5))).axes[0].get_ylabel()


def test_pictures_are_the_same_bytes_again(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "a.svg", "b.svg"):
        save_picture(draw(curve("m", (0.1, 0.5))), tmp_path / name)
    for suffix in ("png", "svg"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    with pytest.raises(AddendaError, match=r"\.png or \.svg"):
        save_picture(draw(curve("m", (0.1, 0.5))), tmp_path / "a.gif")


def test_the_gates_picture_holds_every_token_and_value() -> None:
    values = np.array([[0.0, 0.2, 0.4], [0.0, 0.0, 0.8]])
    seen = Activity("m", "K", "gate", ("", "one", "\n\n"), ("layer 0", "layer 1"), values)
    text = gate_picture(seen, [("general", 2), ("medical", 1)])
    assert text.count("<rect ") == 3
    assert re.findall(r'data-n="(\d)"', text) == ["1", "2"]
    assert 'title="layer 0: 0.400&#10;layer 1: 0.800"' in text
    assert "¶" in text
    assert text.index("general") < text.index(">one<") < text.index("medical")


def test_silence_and_slots_are_shown_as_such() -> None:
    silent = Activity("m", "K", "gate", ("one",), ("layer 0",), np.zeros((1, 1)))
    assert "<rect" not in gate_picture(silent)
    slots = Activity("m", "K", "slots", ("one",), ("layer 0",), np.zeros((1, 1)))
    assert "no gate" in gate_picture(slots)
