"""From notebooks to the pages of the book: catalogue, records, drawing, figures.

A notebook needs ``Page`` and ``figures``::

    from curvlib.book import Page, figures
    from curvlib.studies import gallery

    page = Page.begin(In)
    record = page.record(gallery.measure)
"""

from importlib import import_module

__all__ = ["Page"]


def __getattr__(name: str):
    if name == "Page":  # when it is first used: the command line does without
        return import_module("curvlib.book.page").Page
    raise AttributeError(f"module 'curvlib.book' has no attribute {name!r}")
