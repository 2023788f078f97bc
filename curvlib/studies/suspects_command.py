"""The commands ``curvlib suspects`` and ``curvlib apply``.

Imported when the command line is parsed, so that heavy imports wait until they are
needed.
"""

import argparse
import json
import math
import os
import re
import shutil
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from curvlib.data import Images

REPORT_FILES = ("suspects.csv", "duplicates.csv", "files.csv", "nearest.csv")
MOST_NEAREST = 500  # suspects for which similar images are listed
SMALL_SIZES = (160, 128, 96)  # pixels that small images are enlarged to
FEWEST = 10  # images: each of five folds gets some
PIXELS = 64  # on a side of photographs that a network is trained on


def add(commands) -> None:
    """Add the two commands to a parser's."""
    suspects = commands.add_parser(
        "suspects",
        help="rank the labels of your own images by suspicion",
        description="Rank labels by suspicion, find duplicates, and estimate how many "
        "labels are wrong. SOURCE is a folder of class folders, an .npz, a CSV of "
        "path,label, or a known data set. Work that was stopped goes on when the "
        "command is given again.",
    )
    suspects.add_argument("source", metavar="SOURCE")
    suspects.add_argument("--out", required=True, metavar="REPORT", help="a new folder")
    suspects.add_argument(
        "--features",
        default="lite0",
        help="lite0 (default); torchvision:NAME or timm:NAME, downloaded; a .npy or "
        ".npz file of feature vectors; none, to train a network on the pixels",
    )
    suspects.add_argument("--size", type=int, help="pixels that the extractor sees")
    suspects.add_argument("--minutes", type=float, default=10.0, help="default: 10")
    suspects.add_argument("--seeds", type=int, default=1, help="heads averaged")
    suspects.add_argument("--seed", type=int, default=0, help="the first seed")
    suspects.add_argument(
        "--plant",
        type=float,
        default=0.02,
        metavar="SHARE",
        help="of labels replaced by wrong ones in a second run, to estimate how many "
        "are wrong; default: 0.02; 0: none",
    )
    suspects.add_argument("--decisions", help="a decisions.csv of an earlier round")
    suspects.add_argument(
        "--overwrite", action="store_true", help="replace an earlier report"
    )
    suspects.add_argument("--cache", help="folder of features and stopped work")
    suspects.add_argument("--root", help="folder of the data sets; $CURVLIB_DATA")
    suspects.add_argument("--device", help="cuda, mps or cpu; default: the fastest")

    apply = commands.add_parser(
        "apply",
        help="write corrected labels from decisions about suspects",
        description="Write corrected labels; SOURCE is never changed. The ending of "
        "--out says what is written: .csv or .npz. A CSV keeps its other columns. For "
        "a folder, a list of moves is written beside the .csv.",
    )
    apply.add_argument("decisions", metavar="decisions.csv")
    apply.add_argument("source", metavar="SOURCE")
    apply.add_argument("--out", required=True, help="labels.csv, data.npz, or a folder")
    apply.add_argument(
        "--move",
        action="store_true",
        help="copy SOURCE to the folder --out, with files moved to their new classes",
    )
    apply.add_argument("--overwrite", action="store_true", help="replace --out")
    apply.add_argument("--root", help="folder of the data sets; $CURVLIB_DATA")


# --------------------------------------------------------------------------- suspects


def suspects(
    options: argparse.Namespace, finish: "Callable[[Path, Images], object]"
) -> int:
    """Run ``curvlib suspects``; return its exit status.

    Args:
        options: As ``add`` describes them.
        finish: Called with the folder of the report, still under another name, and the
            images, when all tables are in it: writes the page to look at.
    """
    from curvlib.runs import distributed

    started = time.perf_counter()
    _check_options(options)
    out = _named(options.out)
    first = os.environ.get("RANK", "0") == "0"
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    made = []
    if first:
        _check_out(out, options.overwrite)
        _check_apart(out, options.source, options.root)
        _remove_leftovers(out)
        made = [place for place in partial.parents if not place.exists()]
        partial.mkdir(parents=True)  # now: a place for it is missing, or read-only
    try:
        images, checked = _load(options)
        decisions = _decisions(options, images)
        plan = None
        if first:  # alone: measuring would wait for the others
            plan = _plan(options, images)
            _print_plan(options, images, plan)
        with distributed.joined(options.device or _best_device()) as device:
            plan = distributed.on_first(lambda: plan) | {"device": device}
            features = _features(options, images, plan, device)
        if not first:
            return 0  # the heads take one process
        found = _rank(options, images, features, plan, decisions, started)
        _write(partial, options, images, checked, features, plan, found, started)
        finish(partial, images)
        replaced = out.with_name(f".{out.name}.replaced-{os.getpid()}")
        if out.exists():
            os.replace(out, replaced)
        os.replace(partial, out)
        shutil.rmtree(replaced, ignore_errors=True)
        _plan_file(options, images).unlink(missing_ok=True)
    except KeyboardInterrupt:
        print("curvlib: stopped; the same command goes on from here", flush=True)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):  # not empty: the report, or files of others
            for place in made:
                place.rmdir()
    print(_summary(out))
    return 0


def _named(out: str) -> Path:
    """A path with a name in it: that of ``.`` and ``..`` is looked up."""
    path = Path(out)
    return path if path.name not in ("", os.pardir) else Path(os.path.abspath(path))


def _best_device() -> str:
    from curvlib.runs.devices import best_device

    return best_device()


def _check_options(options) -> None:
    from curvlib.runs import devices, features

    for name, valid, meaning in (
        ("minutes", 0 < options.minutes < math.inf, "positive and finite"),
        ("seeds", options.seeds >= 1, "at least 1"),
        ("seed", 0 <= options.seed < 2**32, "from 0 to 4294967295"),
        ("plant", 0 <= options.plant <= 0.5, "a share in [0, 0.5]"),
        ("size", options.size is None or 32 <= options.size <= 1024, "32 to 1024"),
    ):
        if not valid:
            raise ValueError(
                f"--{name} must be {meaning}, got {getattr(options, name)}"
            )
    name = options.features
    if name.endswith((".npy", ".npz")):
        if not Path(name).is_file():
            raise FileNotFoundError(f"there is no file {name} of feature vectors")
    elif name != "none":
        features.check_name(name)
    if options.device:
        devices.usable(options.device)
    if name == "none" and options.decisions:
        raise ValueError("--decisions needs feature vectors; leave out --features none")


def _check_out(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise FileExistsError(f"{out} exists; give --overwrite to replace it")
    if not out.is_dir() or not (out / "run.json").exists():
        raise FileExistsError(
            f"{out} is no report of curvlib suspects, so it is not replaced; choose "
            "another --out"
        )


def _check_apart(out: Path, source: str, root: str | None) -> None:
    """Refuse a report among the images, where it would be taken for a class."""
    place = _place(source, root)
    if place.is_dir() and out.resolve().is_relative_to(place.resolve()):
        raise ValueError(f"--out {out} lies in SOURCE, which is never changed")


def _place(source: str, root: str | None) -> Path:
    """The file or folder that ``data.load`` finds under a name."""
    from curvlib.data import folders, loading

    given = Path(source).expanduser()
    below = Path(root).expanduser() if root else folders.default_root()
    if loading.is_relative(source) or (given.suffix and given.exists()):
        return given
    return below / source if (below / source).exists() else given


def _remove_leftovers(out: Path) -> None:
    """Folders of commands that were killed before they could remove them."""
    import psutil

    if not out.parent.is_dir():
        return
    of_this = re.compile(rf"\.{re.escape(out.name)}\.(?:partial|replaced)-(\d+)")
    for left in out.parent.iterdir():
        found = of_this.fullmatch(left.name)
        if found and not psutil.pid_exists(int(found[1])):
            shutil.rmtree(left, ignore_errors=True)


def _load(options):
    """The images, broken files skipped, and the table of all files or None."""
    from curvlib import data
    from curvlib.data import folders
    from curvlib.data.folders import Photographs

    how = {"broken_files": "skip"}
    images = data.load(options.source, options.root, **how)
    checked = None
    if isinstance(images.images, Photographs):
        size = options.size
        if options.features == "none":
            size = PIXELS
        if size and size != images.images.shape[1]:
            images = data.load(options.source, options.root, image_size=size, **how)
        source = _place(options.source, options.root)
        listed = source if source.suffix.lower() == ".csv" else images.images.folder
        checked = folders.index_of(listed)
    import numpy as np

    _check_classes(images)
    if len(images) < FEWEST:
        raise ValueError(
            f"{images.name} has {len(images)} images; a ranking needs {FEWEST} or more"
        )
    counts = np.bincount(images.labels, minlength=len(images.classes))
    present = np.flatnonzero(counts)
    if len(present) < 2:
        raise ValueError(
            f"{images.name} has one class, {images.classes[present[0]]!r}; a wrong "
            "label needs two"
        )
    if (counts[present] == 1).any():
        alone = images.classes[int(present[(counts[present] == 1).argmax()])]
        raise ValueError(
            f"{images.name}: the class {alone!r} has one image, which nothing can be "
            "compared with; add images, or leave the class out"
        )
    return images, checked


def _check_classes(images) -> None:
    """Refuse classes that decisions, which name them, could not tell apart."""
    name, times = Counter(images.classes).most_common(1)[0]
    if times > 1:
        raise ValueError(
            f"{images.name} has {times} classes that are called {name!r}; give each a "
            "name of its own"
        )


def _decisions(options, images):
    from curvlib.studies import corrections

    if options.decisions is None:
        return None
    return corrections.read_decisions(options.decisions, images)


def _cache(options) -> Path:
    from curvlib.runs import features

    return Path(options.cache) if options.cache else features.default_cache().parent


def _plan(options, images) -> dict:
    """What will be done, and how long it takes; kept, since stopped work goes on so."""
    from curvlib.runs import features

    name = options.features
    plan = {"features": name, "size": options.size}
    if name == "none":
        _check_memory(images, 4 * images.images[:1].nbytes * 512)
        return plan | {"expected_minutes": options.minutes}
    _check_memory(images, 2**30)
    if name.endswith((".npy", ".npz")):
        inputs = features.from_file(name, images).vectors.shape[1]
        return _kept_plan(
            options, images, lambda: plan | _expected(options, images, inputs, 0.0)
        )

    def made() -> dict:
        size = options.size or features.input_size(images, name)
        small = size in SMALL_SIZES and not options.size
        sizes, cache = SMALL_SIZES if small else (size,), _cache(options) / "features"
        seconds = 0.0
        for wanted in sizes:
            if features.is_cached(images, name, cache=cache, size=wanted):
                size = wanted
                break
        else:
            for size in sizes:
                pace = features.seconds_per_image(images, name, size=size)
                processes = int(os.environ.get("WORLD_SIZE", "1"))
                seconds = pace * len(images) / processes
                if seconds < 0.5 * 60 * options.minutes:
                    break
        return plan | {"size": size} | _expected(options, images, 1280, seconds)

    return _kept_plan(options, images, made)


def _features(options, images, plan: dict, device: str):
    """The feature vectors, computed by all processes or found; None without."""
    from curvlib.runs import features

    name = options.features
    if name == "none":
        return None
    if name.endswith((".npy", ".npz")):
        return features.from_file(name, images)
    return features.extract(
        images,
        name,
        cache=_cache(options) / "features",
        size=plan["size"],
        device=device,
    )


def _plan_file(options, images) -> Path:
    from curvlib.runs import provenance

    names = ("features", "size", "minutes", "seeds", "seed", "plant", "device")
    settings = {name: getattr(options, name) for name in names}
    digest = provenance.digest(
        settings, {"train": images.checksum}, ["features", "head", "studies.suspects"]
    )
    return _cache(options) / "plans" / f"{digest}.json"


def _kept_plan(options, images, make) -> dict:
    from curvlib.trace import write_atomically

    file = _plan_file(options, images)
    if not file.exists():
        write_atomically(file, json.dumps(make()).encode())
    return json.loads(file.read_text())


def _expected(options, images, inputs: int, extraction: float) -> dict:
    """What can be done in the time given: seconds of each part, and which are left."""
    train, score = _paces(inputs, len(images.classes))
    n, pairs = len(images), len(images) * min(len(images), 50_000)
    passes = max(1.0, 12_000 / n)  # a small data set takes more epochs
    folds = n * train * 0.15 * 5 * 15 * passes + pairs * 2e-9
    trace = n * train * 10 * passes + 6 * n * (train + score)
    planting = folds + 6 * n * train * 1.5
    budget = 60 * options.minutes - extraction
    plant = options.plant > 0 and folds + options.seeds * trace + planting <= budget
    epochs = None
    if folds + options.seeds * trace > budget:
        left = max(budget - folds - n * train * 10, 0.0) / options.seeds
        epochs = max(3, int(left / (n * (train + score))))
    total = extraction + folds + options.seeds * trace + plant * planting
    if epochs is not None:
        total = extraction + folds + n * train * 10
        total += options.seeds * epochs * n * (train + score)
    if total > 3 * 60 * options.minutes:  # timed on few images, so it may be wrong
        raise ValueError(
            f"{n} images take about {math.ceil(total / 60)} minutes here; give "
            f"--minutes {math.ceil(total / 60)}, or fewer seeds, or a file of features"
        )
    return {
        "expected_minutes": round(total / 60, 1),
        "extraction_minutes": round(extraction / 60, 1),
        "most_epochs": epochs,
        "planting": plant,
    }


def _paces(inputs: int, classes: int) -> tuple[float, float]:
    """Seconds a sample to train on and to score, measured on random vectors."""
    import numpy as np

    from curvlib.runs import head
    from curvlib.runs.scoring import score
    from curvlib.studies.suspects import HIDDEN

    rng = np.random.default_rng(0)
    vectors = head.Vectors(
        features=rng.random((512, inputs), np.float32).astype(np.float16),
        labels=rng.integers(0, classes, 512),
        index=np.arange(512),
        classes=tuple(map(str, range(classes))),
    )
    scaling = head.statistics(vectors)
    training = head.Training(HIDDEN, vectors, scaling)
    training.train_epoch()
    times = [time.perf_counter()]
    training.train_epoch()
    times.append(time.perf_counter())
    score(training.model, vectors, scaling=scaling, epoch=1, num_probes=2, step=1e-2)
    times.append(time.perf_counter())
    return (times[1] - times[0]) / 512, (times[2] - times[1]) / 512


def _check_memory(images, more: int) -> None:
    """Refuse what will not fit, before hours of work."""
    import psutil

    needed = more + 2000 * len(images)  # columns of 8 bytes, and copies of some
    free = psutil.virtual_memory().available
    limit = Path("/sys/fs/cgroup/memory.max")  # of a container
    if limit.exists() and (most := limit.read_text().strip()).isdigit():
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        free = min(free, max(int(most) - used, 0))
    if needed > free:
        raise ValueError(
            f"{images.name} needs about {needed / 2**30:.1f} GiB of memory, and "
            f"{free / 2**30:.1f} GiB are free; close other programs"
        )


def _print_plan(options, images, plan: dict) -> None:
    import psutil

    here = psutil.Process().memory_info().rss / 2**30
    seen = f" at {plan['size']} pixels" if plan["size"] else ""
    lines = [
        f"{len(images)} images of {len(images.classes)} classes in {options.source}",
        f"features: {plan['features']}{seen}",
        f"expected: {plan['expected_minutes']:.0f} min, of which features take "
        f"{plan.get('extraction_minutes', 0):.0f}; memory {here + 1:.1f} GiB",
    ]
    if plan.get("most_epochs"):
        lines.append(
            f"at most {plan['most_epochs']} epochs, to end in {options.minutes:g} "
            "min; more --minutes allow more"
        )
    if options.plant and not plan.get("planting"):
        lines.append("no labels are planted, so how many are wrong is not estimated")
    print("\n".join(lines), flush=True)


def _rank(options, images, features, plan, decisions, started) -> dict:
    """Rank, and estimate if there is time; what ``_write`` needs."""
    import numpy as np

    from curvlib.runs import head
    from curvlib.studies import corrections, counting
    from curvlib.studies import suspects as study

    if features is None:
        return _rank_pixels(options, images)
    runs = _cache(options) / "heads"
    vectors = head.Vectors.of(features, images)
    settled = np.zeros(len(images), bool)
    if decisions is not None:
        labels = corrections.corrected(images, decisions)
        settled[decisions.positions[decisions.settled]] = True
        kept = labels != corrections.LEFT_OUT
        vectors = vectors.relabelled(np.where(kept, labels, 0)).select(
            np.flatnonzero(kept)
        )
        settled = settled[kept]
        if settled.all():
            raise ValueError(
                f"{options.decisions} settles every image; nothing is left to rank"
            )
    device = plan["device"]
    ranked = study.rank(
        vectors,
        runs=runs,
        seeds=options.seeds,
        seed=options.seed,
        most_epochs=plan["most_epochs"],
        device=device,
    )
    estimate = None
    spent = time.perf_counter() - started
    limit = 60 * options.minutes
    if plan["planting"] and spent < limit:
        planted = study.planted_runs(
            ranked,
            vectors,
            share=options.plant,
            runs=runs,
            seed=options.seed,
            device=device,
            fixed=settled,
            enough=lambda: time.perf_counter() - started > limit * 0.8,
        )
        estimate = counting.estimate(
            planted,
            confident=study.confident_count(ranked.table[~settled]),
            seed=options.seed,
        )
    return {
        "ranked": ranked,
        "vectors": vectors,
        "settled": settled,
        "estimate": estimate,
        "decisions": None if decisions is None else decisions.counts(),
    }


def _rank_pixels(options, images) -> dict:
    """Without features: a network trained on the pixels, as long as there is time."""
    from curvlib.studies import suspects as study

    ranked = study.rank_pixels(
        _in_memory(images),
        runs=_cache(options) / "networks",
        minutes=options.minutes,
        seeds=options.seeds,
        seed=options.seed,
        device=options.device,
    )
    return {"ranked": ranked, "vectors": None, "estimate": None, "decisions": None}


def _in_memory(images):
    """Photographs as one array, where it is small: decoding takes longer than training.

    They are kept at ``PIXELS`` on a side.
    """
    from dataclasses import replace

    import numpy as np
    import psutil
    import torch

    from curvlib.data import progress
    from curvlib.data.folders import Photographs

    photographs = images.images
    size = int(np.prod(photographs.shape))
    if not isinstance(photographs, Photographs):
        return images
    if size > psutil.virtual_memory().available / 8:
        return images
    read = photographs.reader(torch.device("cpu"))
    pixels, begun = np.empty(photographs.shape, np.uint8), time.perf_counter()
    batches = torch.arange(len(images)).split(100)
    for number, x in enumerate(read(batches)):
        pixels[batches[number].numpy()] = x.permute(0, 2, 3, 1).numpy()
        if number % 10 == 9:
            pace = (time.perf_counter() - begun) / (number + 1)
            left = pace * (len(batches) - number - 1)
            progress.report(
                f"read {number + 1}00 photographs, {left / 60:.1f} min left"
            )
    return replace(images, images=pixels)


def _write(partial, options, images, checked, features, plan, found, started) -> None:
    """All files of the report, into a folder that is renamed when it is whole."""
    from dataclasses import asdict

    import pandas as pd

    import curvlib
    from curvlib.runs import provenance
    from curvlib.studies import calibration, corrections
    from curvlib.studies import suspects as study

    ranked, vectors = found["ranked"], found["vectors"]
    paths = corrections.paths_of(images)
    place = {int(index): row for row, index in enumerate(images.index)}

    def named(indices) -> dict:
        columns = {"index": list(indices)}
        if paths is not None:
            columns["path"] = [paths[place[int(i)]] for i in columns["index"]]
        return columns

    table = ranked.table
    if vectors is not None and found["settled"].any():
        table = study.with_ranks(table[~found["settled"]].reset_index(drop=True))
    table = table.sort_values("rank", ignore_index=True)
    classes = images.classes
    suggested = [classes[c] if c >= 0 else "" for c in table["suggested"]]
    columns = named(table["index"]) | {
        "label": [classes[c] for c in table["label"]],
        "suggested_label": suggested,
        "rank": table["rank"],
        "rank_in_class": table["rank_in_class"],
        "consensus": table["consensus"].round(6),
        "consensus_error": table["consensus_error"],
    }
    skipped = {*columns, "original_label", "suggested"}
    columns |= {name: table[name] for name in table.columns if name not in skipped}
    corrections.write_table(partial / "suspects.csv", pd.DataFrame(columns))

    nearest = []
    if vectors is not None:
        nearest = study.similar(ranked, vectors, table["index"].head(MOST_NEAREST))
    rows = pd.DataFrame(nearest, columns=["index", "neighbour", "place"])
    shown = pd.DataFrame(named(rows["index"])) if len(rows) else rows[["index"]]
    others = named(rows["neighbour"])
    shown["place"] = rows["place"]
    for name, values in others.items():
        shown[f"neighbour_{name}"] = values
    shown["neighbour_label"] = [
        classes[images.labels[place[int(i)]]] for i in rows["neighbour"]
    ]
    corrections.write_table(partial / "nearest.csv", shown)

    twins = study.find_duplicates(images, ranked)
    for name, values in named(twins["index"]).items():
        twins[name] = values
    twins["label"] = [classes[c] for c in twins["label"]]
    corrections.write_table(partial / "duplicates.csv", twins)

    unusual = pd.DataFrame(columns=["path", "class", "status", "remark"])
    if checked is not None:
        rows = (checked["status"] != "used") | (checked["remark"] != "")
        unusual = checked.loc[rows, list(unusual.columns)]
    corrections.write_table(partial / "files.csv", unusual)

    estimate = found["estimate"]
    if estimate is not None:
        estimate = asdict(estimate)
        estimate["curve"] = estimate["curve"].round(5).to_dict("list")
    run = {
        "command": "suspects",
        "version": curvlib.__version__,
        "source": str(options.source),
        "checksum": images.checksum,
        "folder": None if paths is None else str(images.images.folder),
        "name": images.name,
        "classes": list(classes),
        "counts": {
            "images": len(images),
            "ranked": len(table),
            "classes": {
                name: int((images.labels == i).sum()) for i, name in enumerate(classes)
            },
            "broken": 0
            if checked is None
            else int((checked["status"] == "broken").sum()),
            "duplicates": len(twins),
            "conflicting_duplicates": int(twins["conflict"].sum()),
        },
        "order": {
            "scores": list(ranked.order),
            "how": "mean relative rank; " + study.WHY,
        },
        "estimate": estimate,
        "decisions": found["decisions"],
        "settings": {
            name: getattr(options, name)
            for name in ("features", "minutes", "seeds", "seed", "plant")
        }
        | {
            "size": PIXELS if features is None else features.size,
            "epochs": ranked.epochs,
        },
        "features_file": None if features is None else str(features.file),
        "traces": [str(trace.folder) for trace in ranked.traces],
        "seconds": {
            "all": round(time.perf_counter() - started, 1),
            "features": None if features is None else features.seconds,
        },
        "plan": {k: v for k, v in plan.items() if k != "device"},
        "recipes": provenance.recipes(calibration.PARTS),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(plan["device"]),
    }
    text = json.dumps(run, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (partial / "run.json").write_text(text, encoding="utf-8")


def _summary(out: Path) -> str:
    import pandas as pd

    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    table = pd.read_csv(out / "suspects.csv", keep_default_na=False, nrows=5)
    key = "path" if "path" in table else "index"
    lines = [
        f"{row[key]}: {row['label']}, perhaps {row['suggested_label']}"
        for _, row in table.iterrows()
    ]
    found = run["estimate"]
    if found:
        lines.append(
            f"about {found['wrong']:.0f} labels are wrong if errors are random, "
            f"{found['confident']} by confident learning "
            f"(interval {found['low']:.0f} to {found['high']:.0f})"
        )
    counts = run["counts"]
    lines.append(
        f"{counts['duplicates']} images occur more than once, "
        f"{counts['conflicting_duplicates']} of them under different labels; "
        f"{counts['broken']} files are broken"
    )
    lines.append(f"{run['seconds']['all'] / 60:.1f} min; all of it: {out}")
    return "\n".join(lines)


# ------------------------------------------------------------------------------ apply


def apply(options: argparse.Namespace) -> int:
    """Run ``curvlib apply``; return its exit status."""
    from curvlib import data
    from curvlib.data.folders import Photographs
    from curvlib.studies import corrections

    out = _named(options.out)
    if not options.move and out.suffix.lower() not in (".csv", ".npz"):
        raise ValueError(
            f"--out must end in .csv or .npz, got {out}; or give --move to copy a "
            "folder"
        )
    place = _place(options.source, options.root)
    for taken in (place, Path(options.decisions)):
        if taken.exists() and out.resolve() == taken.resolve():
            raise ValueError(f"--out is {taken} itself, which is never changed")
    images = data.load(options.source, options.root, broken_files="skip")
    in_files = isinstance(images.images, Photographs)
    in_csv = in_files and place.suffix.lower() == ".csv" and place.is_file()
    if options.move and (not in_files or in_csv):
        raise ValueError(f"--move is for a folder; {options.source} is none")
    _check_classes(images)
    decisions = corrections.read_decisions(options.decisions, images)
    if options.move and Path(images.images.folder).resolve().is_relative_to(
        out.resolve()
    ):
        raise ValueError(f"--out {out} contains SOURCE, which is never changed")
    beside = None  # the list of moves
    if options.move:
        beside = out.with_name(f"{out.name}-moves.csv")
    elif in_files and not in_csv and out.suffix.lower() == ".csv":
        beside = out.with_name(f"{out.stem}-moves.csv")
    for there in (out, beside) if beside else (out,):
        if there.exists() and not (options.overwrite and there.is_file()):
            hint = "choose another name" if there.is_dir() else "give --overwrite"
            raise FileExistsError(f"{there} exists; {hint}")
    labels = corrections.corrected(images, decisions)
    if options.move:
        folder = Path(images.images.folder)
        source = folder.parent if folder.name == "train" else folder
        if out.resolve().is_relative_to(source.resolve()):
            raise ValueError(f"--out {out} lies in SOURCE, which is never changed")
        moved = corrections.moves(images, labels)
        corrections.write_table(beside, moved)
        try:
            corrections.copy_moved(source, images, moved, out)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    elif out.suffix.lower() == ".npz":
        test = None
        if not in_files:
            try:
                test = data.load(options.source, options.root, split="test")
            except (ValueError, FileNotFoundError):
                test = None  # it has none
        corrections.write_npz(images, labels, out, test)
    elif in_csv:
        corrections.write_csv(place, images, labels, out)
    else:
        corrections.write_labels(images, labels, out)
        if beside:
            corrections.write_table(beside, corrections.moves(images, labels))
    counts = decisions.counts()
    changed = int((labels != images.labels).sum()) - counts["left_out"]
    print(
        f"{changed} labels corrected, {counts['left_out']} images left out, "
        f"{counts['unsure']} unsure: {out}"
    )
    return 0
