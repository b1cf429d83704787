"""Drawings: parts in their places and colours, later ones on top, and clear words for what is no drawing."""

from __future__ import annotations

import numpy as np
import pytest

from course_utils.drawing import disc, draw, polygon, sketches, without

SQUARE = ((10, 20), (30, 20), (30, 50), (10, 50))


def test_a_part_lies_where_its_places_say_with_x_to_the_right_and_y_downwards():
    sheet = draw({"square": polygon("red", *SQUARE)}, background="white")
    assert (sheet.size, sheet.mode) == ((64, 64), "RGB")
    red = (np.asarray(sheet) == (255, 0, 0)).all(2)
    ys, xs = np.nonzero(red)
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == pytest.approx((10, 29.5, 20, 49.5), abs=1)
    assert sheet.getpixel((5, 5)) == (255, 255, 255)


def test_later_parts_lie_on_top_and_edges_are_smooth():
    red, disc_of_blue = polygon("red", *SQUARE), disc("#0000ff", 20, 35, 5)
    assert draw({"a": red, "b": disc_of_blue}).getpixel((20, 35)) == (0, 0, 255)
    assert draw({"b": disc_of_blue, "a": red}).getpixel((20, 35)) == (255, 0, 0)
    assert len(draw({"b": disc_of_blue}).getcolors()) > 5, "two colours and shades between them"


def test_a_part_left_out():
    boat, house = sketches()
    assert list(without(boat, "mast")) == ["front sail", "back sail", "hull"]
    assert without(house) == house
    assert without(house) is not house
    with pytest.raises(ValueError, match=r"no part 'keel'; it has \['mast', 'front sail', 'back sail', 'hull'\]"):
        without(boat, "mast", "keel")


def test_an_empty_sheet():
    assert draw({}, background="gold").getcolors() == [(64 * 64, (255, 215, 0))]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: polygon("redd", *SQUARE), "there is no colour 'redd'; take a name such as 'red'"),
        (lambda: polygon("red", (1, 2), (3, 4)), "give three or more places"),
        (lambda: polygon("red", 1, 2, 3), "give three or more places"),
        (lambda: polygon("red", (1, 2, 3), (3, 4, 5), (1, 1, 1)), "give three or more places"),
        (lambda: polygon((255, 0, 0), *SQUARE), "there is no colour"),
        (lambda: draw({}, background="blu"), "there is no colour 'blu'"),
    ],
)
def test_words_for_what_is_no_part(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("parts", [[disc("red", 1, 1, 1)], {"a": "red"}, {"a": None}, None, disc("red", 1, 1, 1)])
def test_words_for_what_is_no_drawing(parts):
    with pytest.raises(TypeError, match="draw takes a dictionary of named parts, such as"):
        draw(parts)
