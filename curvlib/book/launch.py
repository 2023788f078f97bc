"""Opening a page in Colab or Binder, and the cell that installs the project there.

``repository.url`` in ``_config.yml`` is the one place that says where the project
lives. While it is empty, no button and no such cell is made.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config as SphinxConfig

BOOTSTRAP = """\
# Outside the project, as in Colab: fetch it and install it. Takes a minute, once.
import importlib.util, os, subprocess, sys
if importlib.util.find_spec("curvlib") is None:
    if not os.path.exists("curvlib-project"):
        clone = ["git", "clone", "--quiet", "--depth", "1", "--branch", "{branch}"]
        subprocess.run([*clone, "{url}", "curvlib-project"], check=True)
    os.chdir("curvlib-project")
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--editable", ".[book]"], check=True)
    sys.path.insert(0, os.getcwd())"""


@dataclass(frozen=True)
class Repository:
    """Where the project lives.

    Attributes:
        url: Such as ``"https://github.com/owner/name"``.
        branch: Such as ``"main"``.
    """

    url: str
    branch: str

    def address(self, path: str) -> str:
        """Web address of a file, given by its path from the project's root."""
        return f"{self.url}/blob/{self.branch}/{path}"


def repository(root: Path) -> Repository | None:
    """Read ``repository`` from ``_config.yml``; None while its ``url`` is empty.

    Args:
        root: Root folder of the project.
    """
    import yaml

    file = root / "_config.yml"
    if not file.exists():
        return None
    told = yaml.safe_load(file.read_text(encoding="utf-8")).get("repository") or {}
    url = (told.get("url") or "").rstrip("/").removesuffix(".git")
    return Repository(url, told.get("branch") or "main") if url else None


def bootstrap(root: Path) -> str:
    """Code of a cell that installs the project where it is missing; may be empty.

    Args:
        root: Root folder of the project.
    """
    found = repository(root)
    return BOOTSTRAP.format(url=found.url, branch=found.branch) if found else ""


def set_buttons(app: "Sphinx", config: "SphinxConfig") -> None:
    """Turn on the buttons that need a repository, if one is named; else all off.

    A handler of Sphinx's event ``config-inited``.
    """
    named = repository(Path(app.srcdir)) is not None
    options = config.html_theme_options
    options["use_repository_button"] = options["use_issues_button"] = named
    if not named:
        options["launch_buttons"] = {}
