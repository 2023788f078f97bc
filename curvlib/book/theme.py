"""What the book's theme does wrong, put right as Sphinx renders: see ``_config.yml``.

The theme brings live code cells, which this book has not, and writes their script into
each page twice, so that browsers report an error. Some of what it makes also lacks the
names and the order that readers without eyes or mouse need.
"""

from typing import Any


def without_live_code(app: Any, page: str, template: str, context: dict, doctree: Any):
    """Leave the scripts of live code cells out of a page."""
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "THEBE_JS_URL" not in getattr(script, "attributes", {}).get("body", "")
        and "sphinx-thebe" not in str(getattr(script, "filename", script))
    ]


def with_named_toggles(app: Any, page: str, template: str, context: dict, doctree: Any):
    """Say what each arrow of the list of pages opens."""
    make = context.get("generate_toctree_html")
    if make is None:  # a page without a list
        return

    def named(*args: Any, **options: Any):
        soup = make(*args, **options)
        for summary in soup.select("li.has-children > details > summary"):
            if not summary.get_text(strip=True):
                title = summary.find_parent("li").find("a").get_text(strip=True)
                summary["aria-label"] = f"Pages of: {title}"
        return soup

    context["generate_toctree_html"] = named


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx what this module does."""
    app.connect("html-page-context", without_live_code, priority=900)
    app.connect("html-page-context", with_named_toggles, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
