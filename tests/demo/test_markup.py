"""Prose survives, markup and code do not."""

from __future__ import annotations

from textwrap import dedent

import pytest

from fastcpu.demo.markup import plain_text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("Uses :func:`~numpy.mean` and ``axis`` of `x`.", "Uses numpy.mean and axis of x ."),
        ("See [the guide](https://example.org/a) or https://example.org/b now", "See the guide or now"),
        ("See `a page <https://example.org>`__.", "See a page."),
        ("As shown in [1]_ and **here**.", "As shown in and here ."),
        (":param size: the size\n:returns: a list", "size the size a list"),
        ("<Tip> Text </Tip>", "Text"),
    ],
)
def test_inline(markup: str, text: str) -> None:
    assert plain_text(markup) == text


def test_blocks() -> None:
    docstring = dedent(
        """
        Intro text.

        .. note:: dropped title
           A note stays.

        .. code-block:: python

           dropped()

        Parameters
        ----------
        x : int
            The number.

        >>> dropped(1)
        dropped output

        An example follows::

            dropped = 1

        Back again.

        See Also
        --------
        other : dropped.

        Notes
        -----
        Notes stay.

        References
        ----------
        .. [1] dropped
        """
    )
    expected = "Intro text. A note stays. x : int The number. An example follows: Back again. Notes stay."
    assert plain_text(docstring) == expected


def test_google_style() -> None:
    docstring = (
        "Args:\n    x: The number.\n\nExample:\n    dropped(x)\n\nReturns:\n    A list.\n```python\ndropped\n```\nEnd."
    )
    assert plain_text(docstring) == "x: The number. A list. End."
