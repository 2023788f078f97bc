"""The command ``curvlib``: pages of the book, training, scoring, and broken files."""

import argparse
import os
import sys
from pathlib import Path

from curvlib.book.parameters import PageError
from curvlib.studies import suspects_command


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """Build the parser, with all options of the given command.

    The options of ``train`` and ``score`` are fields of ``TrainConfig``. Importing it
    takes seconds, so other commands do not.
    """
    parser = argparse.ArgumentParser(prog="curvlib", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_pages(commands)
    _add_train(commands, complete=command == "train")
    _add_score(commands, complete=command == "score")
    check = commands.add_parser("check", help="list the broken files of a folder")
    check.add_argument(
        "folder",
        help="folder with train/<class>/ and val/<class>/, or with <class>/; or a .csv "
        "file with the columns path and label",
    )
    suspects_command.add(commands)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser(next(iter(arguments), None)).parse_args(arguments)
    if options.command is None:
        parser().print_help()
        return 0
    work = {
        "run": _run,
        "book": _book,
        "list": _list,
        "open": _open,
        "train": _train,
        "score": _score,
        "check": _check,
        "suspects": _suspects,
        "apply": suspects_command.apply,
    }[options.command]
    if options.command in ("train", "score", "check", "suspects", "apply"):
        return _answered(work, options)
    try:
        return work(options)
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
        return 0  # the reader has closed the pipe, as in `curvlib list | head`


def _add_pages(commands) -> None:
    run = commands.add_parser(
        "run",
        help="measure records and draw pages that are out of date",
        description="Measure records that are out of date, which can take hours, and "
        "draw the pages that show them. Without names, all records of digits.",
    )
    run.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a record, such as cpu/gallery_cifar10; or a page, such as gallery, for "
        "all its records of the profile",
    )
    run.add_argument("--profile", help="profile of the records (default: digits)")
    run.add_argument(
        "--force",
        action="store_true",
        help="measure and draw again, even if everything is up to date",
    )
    book = commands.add_parser(
        "book",
        help="measure digits, draw every page that has a record, render the book",
        description="Measure records of digits that are out of date, draw every page "
        "from the records that exist, and render the book. It trains on digits only.",
    )
    book.add_argument(
        "--draw-only", action="store_true", help="draw and render, but measure nothing"
    )
    listing = commands.add_parser(
        "list",
        help="show the state of every page, and records that were never measured",
    )
    listing.add_argument("--profile", help="only records of this profile")
    opening = commands.add_parser(
        "open",
        help="write a page's notebook for Jupyter, with its records filled in",
    )
    opening.add_argument("page", metavar="PAGE", help="page, such as gallery")
    opening.add_argument("out", metavar="OUT.ipynb", help="notebook to write")


def _catalogue():
    from curvlib.book import catalogue

    return catalogue.load(catalogue.project_root() / "experiments.yml")


def _run(options: argparse.Namespace) -> int:
    from curvlib.book import runner

    known = _catalogue()
    chosen = known.choose(options.names, options.profile)
    before = _drawn_when(known)
    status = runner.bring_up_to_date(known, *chosen, force=options.force)
    if _drawn_when(known) != before:
        from curvlib.book import claims  # imports pandas, which takes a second

        claims.write(known.root)
    return status


def _drawn_when(known) -> dict[str, float]:
    files = {name: page.file for name, page in known.pages.items()}
    return {name: f.stat().st_mtime for name, f in files.items() if f.exists()}


def _book(options: argparse.Namespace) -> int:
    import time

    from curvlib.book import claims, readme, rendering, runner

    began = time.monotonic()
    known = _catalogue()
    wanted = [] if options.draw_only else known.of_profile(None)
    status = runner.bring_up_to_date(known, wanted, known.pages.values())
    if status:
        return status
    claims.write(known.root)
    readme.update(known.root)
    first = rendering.render(known.root)
    took = runner.duration(time.monotonic() - began)
    print(f"Open {first}\nAll of it took {took}.")
    return 0


def _list(options: argparse.Namespace) -> int:
    known = _catalogue()
    if options.profile:
        known.of_profile(options.profile)  # or an error that lists those there are
    print("\n".join(_table(known, options.profile)))
    return 0


def _open(options: argparse.Namespace) -> int:
    from curvlib.book import runner

    known = _catalogue()
    runner.open_notebook(known.page(options.page), Path(options.out))
    print(f"jupyter lab {options.out}")
    return 0


def _add_train(commands, *, complete: bool) -> None:
    train = commands.add_parser(
        "train",
        help="train once and score every sample; alone or under torchrun",
        description="Train once, score every sample during training, and store the "
        "trace in a run's folder. With `torchrun --nproc-per-node K -m curvlib train "
        "...`, K processes share the work. To continue a run that was stopped, give "
        "the same command again.",
    )
    if not complete:
        return
    from curvlib.runs import options
    from curvlib.runs.settings import TrainConfig

    options.add(train, TrainConfig)
    _add_places(train)


def _add_score(commands, *, complete: bool) -> None:
    score = commands.add_parser(
        "score",
        help="score every sample at stored weights",
        description="Score every sample at the weights in each file of a folder, such "
        "as the checkpoints of your own training, and store the trace. Ignores files "
        "without weights, and copies with names such as last or best.",
    )
    if not complete:
        return
    from curvlib.runs import options
    from curvlib.runs.settings import TrainConfig

    score.add_argument(
        "--checkpoints",
        required=True,
        metavar="PATH",
        help="A folder with one file for each epoch, or one file. (required)",
    )
    score.add_argument(
        "--split",
        default="train",
        metavar="STR",
        help="Which samples to score. (train or test; default: train)",
    )
    score.add_argument(
        "--num-train",
        type=int,
        metavar="INT",
        help="Number of samples to score, the first ones by index; if left out, all. "
        "(at least 1)",
    )
    names = (
        "dataset",
        "image_size",
        "broken_files",
        "model",
        "width",
        "activation",
        "num_probes",
        "step",
        "seed",
    )
    options.add(
        score,
        TrainConfig,
        names,
        required=("dataset", "model"),
        width=64,
        num_probes=10,
    )
    for name, what in (("mean", "Mean"), ("std", "Standard deviation")):
        score.add_argument(
            f"--{name}",
            type=float,
            nargs="+",
            metavar="FLOAT",
            help=f"{what} of each channel used in training, for pixels in [0, 1]. "
            "(default: torchvision's for its networks, otherwise measured)",
        )
    _add_places(score)


def _add_places(command: argparse.ArgumentParser) -> None:
    for name, default, told in (
        ("root", None, "Folder of the data sets. (default: $CURVLIB_DATA, or a cache)"),
        ("runs", "runs", "Folder of all runs. (default: runs)"),
        ("device", None, "Where to compute: cuda, mps or cpu. (default: the fastest)"),
    ):
        command.add_argument(f"--{name}", metavar="STR", default=default, help=told)


def _answered(work, options: argparse.Namespace) -> int:
    """Do the work; an error that the user can fix becomes one line, not a traceback."""
    from curvlib.runs.distributed import ElsewhereError

    try:
        return work(options)
    except ElsewhereError:  # the process that met the error reports it
        return 2
    except RuntimeError as error:
        memory = "alloc" in str(error) and "memory" in str(error)  # torch's own words
        if "LOCAL_RANK" not in os.environ and not memory:
            raise
        # Or else, most likely, another process is gone, which has said why.
        _tell(str(error).splitlines()[0])
        return 2
    except MemoryError as error:
        _tell(f"out of memory ({error}); close other programs, or use fewer images")
        return 2
    except (
        OSError,
        ValueError,
        TypeError,
        FloatingPointError,
        ModuleNotFoundError,
    ) as error:
        _tell(str(error))
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0


def _tell(text: str) -> None:
    """Print an error as one line, whatever characters it contains."""
    line = " ".join(text.splitlines())
    line = line.encode("utf-8", "backslashreplace").decode()
    print(f"curvlib: {line}", file=sys.stderr)


def _train(options: argparse.Namespace) -> int:
    from curvlib.runs import distributed, training
    from curvlib.runs.devices import best_device
    from curvlib.runs.options import chosen
    from curvlib.runs.settings import TrainConfig

    config = chosen(options, TrainConfig)
    with distributed.joined(options.device or best_device()) as device:
        images = training.prepare(config, options.root)
        trace = training.fit(config, *images, runs=options.runs, device=device)
        if distributed.rank() == 0:
            print(trace.folder)
    return 0


def _score(options: argparse.Namespace) -> int:
    from curvlib import data
    from curvlib.runs import checkpoints, distributed, training
    from curvlib.runs.devices import best_device

    if (options.mean is None) != (options.std is None):
        raise ValueError("--mean and --std go together")
    scaling = None if options.mean is None else (options.mean, options.std)
    with distributed.joined(options.device or best_device()) as device:
        files = distributed.on_first(lambda: checkpoints.files_in(options.checkpoints))
        images = data.load(
            options.dataset,
            options.root,
            split=options.split,
            image_size=options.image_size,
            broken_files=options.broken_files,
        )
        if options.num_train is not None:
            images = training.first(images, options.num_train, "num_train")
        trace = checkpoints.score_checkpoints(
            files,
            images,
            model=options.model,
            runs=options.runs,
            width=options.width,
            activation=options.activation,
            num_probes=options.num_probes,
            step=options.step,
            seed=options.seed,
            scaling=scaling,
            device=device,
        )
        if distributed.rank() == 0:
            print(trace.folder)
    return 0


def _suspects(options: argparse.Namespace) -> int:
    def finish(folder, images) -> None:
        from curvlib.book import report

        report.write_for(folder, images)

    return suspects_command.suspects(options, finish)


def _check(options: argparse.Namespace) -> int:
    from curvlib.data import files, folders

    place = Path(options.folder)
    splits = files.splits(place)
    broken = 0
    for source in splits.values():
        index = folders.index_of(source)
        print(f"{source}: {folders.summary(index)}")
        print(f"  all of them: {folders.index_file(source)}")
        broken += int((index["status"] == "broken").sum())
    if len(splits) == 2:
        classes = {s: set(folders.class_names(splits[s])) for s in splits}
        if unknown := sorted(classes["test"] - classes["train"]):
            val = splits["test"].name
            print(f"  broken: {val} has classes that train lacks: {', '.join(unknown)}")
            broken += 1
    return 1 if broken else 0


def _table(known, profile: str | None) -> list[str]:
    """Lines of ``curvlib list``: each page, and its records never measured."""
    from curvlib.book import runner

    rows = [("page", "measuring takes", "state")]
    for page in known.pages.values():
        names = [n for n in page.records if not profile or n.startswith(f"{profile}/")]
        if not names:
            continue
        seconds = {name: known.measurements[name].seconds() for name in names}
        took = sum(seconds[name] for name in names if name in page.measured)
        try:
            state, reasons = runner.state(page, known)
            text = f"{state}: {'; '.join(reasons)}" if reasons else state
        except PageError as error:
            text = f"broken: {error}"
        rows.append((page.name, runner.duration(took) if took else "–", text))
        for name in names:
            if name not in page.measured:
                took = runner.duration(seconds[name])
                rows.append((f"  {name}", took, "never measured"))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [
        f"{name:<{widths[0]}}  {took:>{widths[1]}}  {state}"
        for name, took, state in rows
    ]


if __name__ == "__main__":
    sys.exit(main())
