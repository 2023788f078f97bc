"""Corrects what the theme and Sphinx render: see ``_config.yml``.

The theme adds scripts for live code cells, which this book does not have, to each page
twice, so that browsers report an error. Tables that are read from files get words in
place of column names. Works in the bibliography are items of its list.
"""

import re
from typing import Any

from docutils import nodes

HEADS = {  # column names of files that underscores alone do not explain
    "above_start_mib": "above the start (MiB)",
    "accuracy_inside": "accuracy on images trained on",
    "accuracy_outside": "accuracy on other images",
    "contestant": "variant",
    "dtype": "precision",
    "forward_over_reverse_takes_times": "time, relative",
    "gemm_giga_multiply_adds_per_second": "fastest matrix product (10⁹ per second)",
    "giga_multiply_adds_per_second": "scoring (10⁹ per second)",
    "images_mib": "images (MiB)",
    "max": "highest",
    "min": "lowest",
    "models_per_minute": "networks per minute",
    "num_probes": "probes",
    "peak_mib": "peak (MiB)",
    "scoring_over_training": "scoring / training",
    "spearman": "Spearman",
}


def with_words(app: Any, doctree: nodes.document) -> None:
    """Put words in place of column names in tables of the class columns-of-a-file."""
    for table in doctree.findall(nodes.table):
        if "columns-of-a-file" not in table["classes"]:
            continue
        for head in table.findall(nodes.thead):
            for text in list(head.findall(nodes.Text)):
                words = HEADS.get(str(text), re.sub("_", " ", text))
                text.parent.replace(text, nodes.Text(words))


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


def with_a_list_of_works(app: Any, page: str, template: str, context: dict, doctree):
    """Give the works in the bibliography the role that their list asks for."""
    if "body" in context:
        context["body"] = context["body"].replace(
            'role="doc-biblioentry"', 'role="listitem"'
        )


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx what this module does."""
    app.connect("doctree-read", with_words)
    app.connect("html-page-context", without_live_code, priority=900)
    app.connect("html-page-context", with_named_toggles, priority=900)
    app.connect("html-page-context", with_a_list_of_works)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
