"""The command ``curvlib``: run the pages of the book, list them."""

import argparse
import sys
from pathlib import Path

from curvlib import pages
from curvlib.notebooks import PageError


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog="curvlib", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    run = commands.add_parser("run", help="make pages that are out of date")
    run.add_argument(
        "pages",
        nargs="*",
        metavar="PAGE",
        help="digits/gallery, or gallery with --profile; default: all of the profile",
    )
    run.add_argument("--profile", help="default: digits, which takes minutes")
    run.add_argument("--force", action="store_true", help="make current pages too")
    listing = commands.add_parser("list", help="show every page and its state")
    listing.add_argument("--profile", help="only this one")
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    try:
        known = pages.load_pages(_project() / "experiments.yml")
        if options.command == "list":
            chosen = known.values()
            if options.profile:
                chosen = pages.choose(known, [], options.profile)
            print("\n".join(_table(list(chosen))))
            return 0
        chosen = pages.choose(known, options.pages, options.profile)
        return pages.run_pages(chosen, force=options.force)
    except PageError as error:
        print(f"curvlib: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(
            f"curvlib: {error.name} is missing; pages need `pip install curvlib[book]`",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0  # `curvlib list | head` has seen enough


def _project() -> Path:
    """The nearest folder, from here upwards, that lists pages."""
    for folder in (here := Path.cwd(), *here.parents):
        if (folder / "experiments.yml").exists():
            return folder
    raise PageError(
        f"no experiments.yml in {here} or above: run this inside the project"
    )


def _table(chosen: list[pages.Page]) -> list[str]:
    rows = [("page", "takes, training included", "state")]
    for page in chosen:
        took = pages.duration(pages.expected_seconds(page)) if page.manifest else "-"
        rows.append((page.name, took, _state(page)))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [
        f"{name:<{widths[0]}}  {took:>{widths[1]}}  {state}"
        for name, took, state in rows
    ]


def _state(page: pages.Page) -> str:
    try:
        reasons = pages.why_stale(page)
    except PageError as error:
        return f"broken: {error}"
    if not reasons:
        return "current"
    return reasons[0] if reasons == ["never run"] else f"stale: {'; '.join(reasons)}"


if __name__ == "__main__":
    sys.exit(main())
