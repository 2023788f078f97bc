r"""Slides: Markdown with figures and numbers of drawn pages becomes one HTML file.

Slides are separated by lines of ``---``. Beside Markdown and ``$formulas$`` a slide may
hold a figure of a page, and numbers that a page tells::

    ## Wrong labels are sharp
    ![What one sees](what_is_curvature/fig-points)
    {{what_is_curvature.hits}} of {{what_is_curvature.num_wrong}} are among the highest.
    - first one point {.fragment}

Pages must have been drawn. reveal.js and MathJax lie beside the slides in
``book/_static``, so that they open without a network.
"""

import base64
import html
import re
from pathlib import Path

from curvlib.book import cleanup
from curvlib.book.parameters import PageError
from curvlib.files import write_atomically

FIGURE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<page>\w+)/(?P<name>fig-[\w-]+)\)")
NUMBER = re.compile(r"\{\{(?P<page>\w+)\.(?P<key>\w+)(?::(?P<format>[^}]*))?\}\}")
SLIDE = re.compile(r"^---[ \t]*$", re.MULTILINE)
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="reveal/reset.css">
<link rel="stylesheet" href="reveal/reveal.css">
<link rel="stylesheet" href="slides.css">
</head>
<body>
<div class="reveal"><div class="slides">
{slides}
</div></div>
<script src="reveal/reveal.js"></script>
<script src="mathjax/tex-mml-chtml.js"></script>
<script>
Reveal.initialize({{hash: true, slideNumber: "c/t", width: 1100, height: 700}});
</script>
</body>
</html>
"""


def write(root: Path) -> list[Path]:
    """Write the slides of every ``book/slides/*.md`` to ``book/_static``.

    Returns:
        The files, ``slides-<name>.html``.

    Raises:
        PageError: If a page lacks a figure or a number, or was never drawn.
    """
    written = []
    for source in sorted((root / "book" / "slides").glob("*.md")):
        file = root / "book" / "_static" / f"slides-{source.stem}.html"
        try:
            content = slides(source.read_text("utf-8"), root / "book" / "pages")
        except PageError as error:
            raise PageError(f"{source.name}: {error}") from error
        if not file.exists() or file.read_text("utf-8") != content:
            write_atomically(file, content.encode())
        written.append(file)
    return written


def slides(source: str, pages: Path) -> str:
    """HTML of slides.

    Args:
        source: Markdown, as the module describes it.
        pages: Folder of the drawn pages.

    Raises:
        PageError: If a page lacks a figure or a number, or was never drawn.
    """
    from markdown_it import MarkdownIt
    from mdit_py_plugins.attrs import attrs_block_plugin, attrs_plugin
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    def formula(content: str, options: dict) -> str:
        left, right = (r"\[", r"\]") if options["display_mode"] else (r"\(", r"\)")
        return html.escape(f"{left}{content}{right}")

    reader = MarkdownIt("commonmark", {"html": True}).enable("table")
    reader.use(dollarmath_plugin, renderer=formula, double_inline=True)
    reader.use(attrs_plugin).use(attrs_block_plugin)
    told: dict[str, dict[str, str]] = {}

    def number(match: re.Match) -> str:
        page = match["page"]
        if page not in told:
            told[page] = _told(pages / f"{page}.ipynb")
        if match["key"] not in told[page]:
            raise PageError(f"page {page} tells no {match['key']}")
        return cleanup.formatted(told[page][match["key"]], match["format"] or "")

    source = FIGURE.sub(lambda match: _figure(match, pages), NUMBER.sub(number, source))
    parts = [reader.render(part) for part in SLIDE.split(source)]
    title = re.search(r"^# (.*)$", source, re.MULTILINE)
    return PAGE.format(
        title=html.escape(title[1] if title else "Slides"),
        slides="\n".join(f"<section>\n{part}</section>" for part in parts),
    )


def _told(page: Path) -> dict[str, str]:
    if not page.exists():
        raise PageError(f"page {page.stem} was never drawn: run `curvlib book` first")
    return cleanup.glued(cleanup.read(page)["cells"])


def _figure(match: re.Match, pages: Path) -> str:
    names = match["name"], f"{match['name']}-1"  # the second is that of the first tab
    files = [pages / match["page"] / f"{name}.svg" for name in names]
    file = next((file for file in files if file.exists()), None)
    if file is None:
        raise PageError(
            f"no figure {match['name']} of page {match['page']} (or it was never "
            "drawn: run `curvlib book` first)"
        )
    data = base64.b64encode(file.read_bytes()).decode()
    alt = html.escape(match["alt"])
    # Empty lines around it, or Markdown takes what follows for HTML, too.
    return f'\n\n<img alt="{alt}" src="data:image/svg+xml;base64,{data}">\n\n'
