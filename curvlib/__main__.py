"""The command ``curvlib``: pages of the book, training, scoring, and broken files."""

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import get_args

from curvlib.book import pages
from curvlib.book.source import PageError
from curvlib.studies import suspects_command


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """What the command line understands, with all options of the command named.

    The options of ``train`` are the fields of ``TrainConfig``, and importing that takes
    seconds, which no other command should.
    """
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
    _add_train(commands, complete=command == "train")
    _add_score(commands)
    check = commands.add_parser("check", help="name the files of a folder to be mended")
    check.add_argument("folder", help="with train/<class>/ and val/<class>/ in it")
    suspects_command.add(commands)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser(next(iter(arguments), None)).parse_args(arguments)
    if options.command is None:
        parser().print_help()
        return 0
    works = {
        "train": _train,
        "score": _score,
        "check": _check,
        "suspects": suspects_command.suspects,
        "apply": suspects_command.apply,
    }
    if options.command in works:
        return _answered(works[options.command], options)
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


def _add_train(commands, *, complete: bool) -> None:
    train = commands.add_parser(
        "train",
        help="train once and score every sample; alone or under torchrun",
        description="Train once, score every sample as training goes, and keep the "
        "trace in a run's folder. Started by `torchrun --nproc-per-node K -m curvlib "
        "train ...`, K processes share the work. A run that was stopped goes on when "
        "the command is given again.",
    )
    if not complete:
        return
    from curvlib.runs.settings import TrainConfig

    for field in fields(TrainConfig):
        flag = "--" + field.name.replace("_", "-")
        told = f"default: {field.default}"
        if field.type is bool:
            action = argparse.BooleanOptionalAction
            train.add_argument(flag, action=action, default=field.default)
            continue
        optional = isinstance(field.type, UnionType)
        kind = get_args(field.type)[0] if optional else field.type
        train.add_argument(flag, type=kind, default=field.default, help=told)
    _add_places(train)


def _add_score(commands) -> None:
    score = commands.add_parser(
        "score",
        help="score every sample at stored weights",
        description="Score every sample at the weights of each file of a folder, such "
        "as the checkpoints of a training elsewhere, and keep the trace.",
    )
    score.add_argument("--checkpoints", required=True, help="a folder, or one file")
    score.add_argument("--dataset", required=True, help="as for train")
    score.add_argument("--split", default="train", help="train or test")
    score.add_argument("--model", required=True, help="such as torchvision/resnet18")
    score.add_argument("--width", type=int, default=64, help="of the network")
    score.add_argument("--activation", default="relu", help="of the network")
    score.add_argument("--image-size", type=int, help="of photographs; default: 224")
    score.add_argument("--broken-files", default="stop", help="stop or skip")
    score.add_argument("--num-train", type=int, help="the first so many samples only")
    score.add_argument("--num-probes", type=int, default=10)
    score.add_argument("--step", type=float, default=1e-3)
    score.add_argument("--seed", type=int, default=0, help="of the probes")
    for name in ("mean", "std"):
        score.add_argument(
            f"--{name}",
            type=float,
            nargs="+",
            help="of each channel, of pixels in [0, 1], as in training; default: "
            "torchvision's for its networks, else measured",
        )
    _add_places(score)


def _add_places(command: argparse.ArgumentParser) -> None:
    command.add_argument("--root", help="folder of the data sets; $CURVLIB_DATA")
    command.add_argument("--runs", default="runs", help="folder of all runs")
    command.add_argument("--device", help="cuda, mps or cpu; default: the fastest")


def _answered(work, options: argparse.Namespace) -> int:
    """Do the work; what its user can put right becomes one line, not a traceback."""
    from curvlib.runs.distributed import ElsewhereError

    try:
        return work(options)
    except ElsewhereError:  # the process that met the error tells it
        return 2
    except RuntimeError as error:
        if "LOCAL_RANK" not in os.environ:
            raise
        # Most likely another process is gone, which has said why.
        print(f"curvlib: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    except (OSError, ValueError, TypeError, FloatingPointError) as error:
        print(f"curvlib: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0


def _train(options: argparse.Namespace) -> int:
    from curvlib.runs import distributed, training
    from curvlib.runs.devices import best_device
    from curvlib.runs.settings import TrainConfig

    names = [field.name for field in fields(TrainConfig)]
    config = TrainConfig(**{name: getattr(options, name) for name in names})
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
    files = checkpoints.files_in(options.checkpoints)
    with distributed.joined(options.device or best_device()) as device:
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


def _check(options: argparse.Namespace) -> int:
    from curvlib.data import folders

    place = Path(options.folder)
    splits = [name for name in ("train", "val") if (place / name).is_dir()]
    if not splits:
        raise FileNotFoundError(
            f"there is neither a folder train nor val in {place}; each should hold one "
            "folder of images a class"
        )
    broken = 0
    for split in splits:
        index = folders.index_of(place / split)
        print(f"{place / split}: {folders.summary(index)}")
        print(f"  all of them: {folders.index_file(place / split)}")
        broken += int((index["status"] == "broken").sum())
    if len(splits) == 2:
        classes = [set(folders.class_names(place / split)) for split in splits]
        if unknown := sorted(classes[1] - classes[0]):
            print(f"  broken: val has classes that train has not: {', '.join(unknown)}")
            broken += 1
    return 1 if broken else 0


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
