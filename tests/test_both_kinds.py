"""Every function that takes images works with arrays and with photographs in files."""

import ast
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import curvlib
from curvlib import data
from curvlib.book import explorer
from curvlib.data import duplicates, images, noise, released
from curvlib.runs import checkpoints, ensembles, halves, networks, scoring, training
from curvlib.runs.settings import TrainConfig

CLASSES = ("a", "b", "c")
COUNT = 24


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> data.Images:
    """Photographs whose centre crop is all there is, two of them the same."""
    place = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, count in (("train", COUNT), ("val", 6)):
        for k in range(count):
            folder = place / split / CLASSES[k % 3]
            folder.mkdir(parents=True, exist_ok=True)
            small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
            big = small.resize((40, 40), Image.Resampling.BICUBIC)
            big.save(folder / f"{k:02d}.png")
            if split == "train" and k == 3:
                big.save(place / split / "b" / "same.png", compress_level=1)
    return data.load(str(place), image_size=16)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return networks.build(
        "mlp", num_classes=3, input_shape=(3, 16, 16), width=8, seed=0
    ).eval()


HALF = ([0.5] * 3, [0.25] * 3)
QUICK = TrainConfig(model="mlp", width=8, epochs=1, batch_size=8, num_probes=1)
ENSEMBLE = ensembles.EnsembleConfig(num_models=2, model="mlp", width=8, epochs=1)


def released_file(given, folder):
    count = int(given.source.max()) + 1
    labels = np.zeros(count, int)
    labels[given.source] = given.original_labels
    values = np.linspace(0, 1, count)
    np.savez(folder / "r.npz", tr_mem=values, tr_labels=labels, scores=values,
             labels=labels)  # fmt: skip
    return folder / "r.npz"


def human(given, folder):
    worse = (given.labels + 1) % 3
    np.savez(folder / "CIFAR-10_human.npz", clean_label=given.labels, worse_label=worse)
    renamed = replace(given, name="cifar10", index=np.arange(len(given)), source=None)
    return noise.with_human_labels(renamed, "human_worse", folder)


def trained(given, folder):
    return training.fit(QUICK, given, given, runs=folder, device="cpu")


def explored(given, folder):
    frame = pd.DataFrame(
        {"index": given.index, "x": np.arange(len(given)), "y": given.labels}
    )
    explorer.write(folder / "e.html", given, frame, signs={"x": 1, "y": 1})
    return (folder / "e.html").read_bytes()


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()]).numpy()


def scored(given, folder, network):
    torch.save(network.state_dict(), folder / "weights.pt")
    return checkpoints.score_checkpoints(
        [folder / "weights.pt"], given, model="mlp", width=8, num_probes=1,
        runs=folder, device="cpu",
    )  # fmt: skip


# By module and name: a call with images, a folder and a network. What comes back must
# be the same for both kinds, as both have the same pixels here.
SAME = {
    "data.images.rows_of": lambda i, f, n: np.asarray(
        images.rows_of(i.images, np.array([4, 2]))
    ),
    "data.noise.with_symmetric_noise": lambda i, f, n: noise.with_symmetric_noise(
        i, 0.3, seed=0
    ),
    "data.noise.with_pair_flip": lambda i, f, n: noise.with_pair_flip(i, 0.3, seed=0),
    "data.noise.with_planted_duplicates": lambda i, f, n: (
        noise.with_planted_duplicates(i, 3, seed=0)
    ),
    "data.noise.with_human_labels": lambda i, f, n: human(i, f),
    "data.released.memorization": lambda i, f, n: released.memorization(
        released_file(i, f), i
    ),
    "data.released.consistency": lambda i, f, n: released.consistency(
        released_file(i, f), i
    ),
    "data.duplicates.exact": lambda i, f, n: duplicates.exact(i),
    "data.duplicates.joined": lambda i, f, n: duplicates.joined(i, i),
    "data.duplicates.network_descriptors": lambda i, f, n: (
        duplicates.network_descriptors(n, i, *HALF)
    ),
    "data.duplicates.upside_down": lambda i, f, n: duplicates.upside_down(i),
    "runs.training.first": lambda i, f, n: training.first(i, 5, "num_train"),
    "runs.training.splits_of": lambda i, f, n: training.splits_of(QUICK, i, i)["train"],
    "runs.training.passes": lambda i, f, n: weights(
        *training.passes(QUICK, i, scaling=HALF, device="cpu")
    ),
    "runs.training.fit": lambda i, f, n: trained(i, f).read("loss"),
    "runs.scoring.score": lambda i, f, n: scoring.score(
        n, i, scaling=HALF, epoch=1, num_probes=1, step=1e-3
    ),
    "runs.scoring.probabilities": lambda i, f, n: scoring.probabilities(
        n, i, scaling=HALF
    ),
    "runs.halves.train_on_halves": lambda i, f, n: halves.train_on_halves(
        QUICK, i, second_epochs=1, runs=f, device="cpu"
    ).correct,
    "runs.halves.gauss_newton": lambda i, f, n: halves.gauss_newton(trained(i, f), i),
    "runs.ensembles.train": lambda i, f, n: ensembles.train(
        ENSEMBLE, i, i, runs=f, n_jobs=1
    ).correct,
    "runs.checkpoints.score_checkpoints": lambda i, f, n: scored(i, f, n).read("loss"),
    "book.explorer.write": lambda i, f, n: explored(i, f),
}  # fmt: skip
# These look at the whole picture, made small, and not at the crop: tested below. Names
# of runs differ, since a checksum is that of the files.
OTHERS = {
    "data.duplicates.pixel_descriptors",
    "data.duplicates.compare",
    "runs.training.run_name",
    "runs.ensembles.run_name",
}


def taking_images(layer: str) -> set[str]:
    """Public functions of a layer with a parameter that is Images."""
    found = set()
    root = Path(curvlib.__file__).parent
    for file in (root / layer).rglob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            named += [node.args.vararg] if node.args.vararg else []
            kinds = [ast.unparse(a.annotation) for a in named if a.annotation]
            if any("Images" in kind or "Photographs" in kind for kind in kinds):
                module = file.parent if file.stem == "__init__" else file
                found.add(f"{layer}.{module.stem}.{node.name}")
    return found


def test_no_function_that_takes_images_is_left_out():
    assert taking_images("data") <= SAME.keys() | OTHERS
    everywhere = taking_images("data") | taking_images("runs") | taking_images("book")
    assert SAME.keys() | OTHERS <= everywhere  # each test is of something there is


def plain(value):
    """What a function gave, as arrays that can be compared."""
    if isinstance(value, data.Images):
        fields = ("images", "labels", "index", "original_labels", "source", "classes")
        return {f: np.asarray(getattr(value, f)) for f in fields}
    if isinstance(value, pd.DataFrame):
        return {name: value[name].to_numpy() for name in value}
    if is_dataclass(value):
        return {k: np.asarray(v) for k, v in asdict(value).items()}
    if isinstance(value, dict):
        return value
    return {"value": np.asarray(value)}


@pytest.mark.parametrize("name", SAME)
def test_a_function_gives_the_same_for_both_kinds(name, photographs, network, tmp_path):
    memory = replace(photographs, images=photographs.images[:])
    results = []
    for kind, given in (("files", photographs), ("memory", memory)):
        (tmp_path / kind).mkdir()
        torch.manual_seed(0)
        results.append(plain(SAME[name](given, tmp_path / kind, network)))
    assert results[0].keys() == results[1].keys()
    for key, value in results[0].items():
        np.testing.assert_array_equal(value, results[1][key], err_msg=f"{name} {key}")


def test_functions_of_one_kind_keep_photographs_in_their_files(photographs):
    kept = [
        noise.with_symmetric_noise(photographs, 0.3, seed=0),
        noise.with_pair_flip(photographs, 0.3, seed=0),
        noise.with_planted_duplicates(photographs, 3, seed=0),
        duplicates.upside_down(photographs),
        duplicates.joined(photographs, photographs),
        training.first(photographs, 5, "num_train"),
        photographs.select(np.array([1, 2])),
    ]
    assert all(isinstance(k.images, data.folders.Photographs) for k in kept)


def test_run_names_are_those_of_the_data(photographs):
    memory = replace(photographs, images=photographs.images[:])
    for name in (
        lambda i: training.run_name(QUICK, {"train": i}),
        lambda i: ensembles.run_name(ENSEMBLE, i, i),
    ):
        assert name(photographs) == name(photographs) != name(memory)


@pytest.mark.parametrize("describe", ["pixels", "network"])
def test_near_duplicates_are_found_in_both_kinds(photographs, network, describe):
    def by_network(given):
        return duplicates.network_descriptors(network, given, *HALF)

    how = duplicates.pixel_descriptors if describe == "pixels" else by_network
    memory = replace(photographs, images=photographs.images[:])
    copies = [photographs.images.names.tolist().index(n) for n in (b"a/03.png",
              b"b/same.png")]  # fmt: skip
    for given in (photographs, memory):
        compared = duplicates.compare(given, how)
        assert compared.similarity.shape == (COUNT + 1, 5)
        pair = duplicates.near(compared).pairs.iloc[0]
        assert [pair["first"], pair["second"]] == copies and pair["conflict"]
        assert pair["similarity"] == pytest.approx(1, abs=1e-4)


def test_the_decoys_of_photographs_are_their_mirror_images(photographs):
    turned = duplicates.upside_down(photographs)
    np.testing.assert_array_equal(turned.images[:], photographs.images[:][:, ::-1])
    np.testing.assert_array_equal(
        turned.images.thumbnails(), photographs.images.thumbnails()[:, ::-1]
    )
    some = turned.select(np.array([3, 1]))
    fresh = duplicates.upside_down(photographs.select(np.array([3, 1])))
    np.testing.assert_array_equal(some.images.thumbnails(), fresh.images.thumbnails())
    assert turned.checksum != photographs.checksum
    batch = next(turned.reader("cpu")([torch.tensor([4])]))
    np.testing.assert_array_equal(batch[0].permute(1, 2, 0), turned.images[4])
    vectors = duplicates.pixel_descriptors(turned)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


KEYS = {
    "one": 3,
    "last": -1,
    "rows": slice(2, 9, 3),
    "all": Ellipsis,
    "list": [4, 1],
    "mask": np.arange(COUNT + 1) % 2 == 0,
    "numpy integer": np.int64(2),
    "upside down": (slice(None), slice(None, None, -1)),
    "a pixel of one": (3, 1, 2),
    "a channel of rows": (slice(1, 3), ..., 0),
    "a channel of all": (..., 1),
    "pairs": (np.array([1, 2]), np.array([3, 4])),
    "some rows of some": ([1, 2], slice(2, 5)),
    "new axis": (None, 2),
    "empty": (),
}


@pytest.mark.parametrize("key", KEYS)
def test_photographs_are_indexed_as_an_array_is(photographs, key):
    whole = photographs.images[:]
    np.testing.assert_array_equal(photographs.images[KEYS[key]], whole[KEYS[key]])


def test_photographs_are_read_by_functions_of_numpy(photographs):
    whole = photographs.images[:]
    np.testing.assert_array_equal(np.asarray(photographs.images), whole)
    twice = np.concatenate([photographs.images, photographs.images])
    np.testing.assert_array_equal(twice[len(whole) :], whole)
    np.testing.assert_array_equal([p for p in photographs.images], whole)
    for key in (len(whole), -len(whole) - 1, [len(whole)]):
        with pytest.raises(IndexError):
            photographs.images[key]
    found = duplicates.detail_correlation(photographs.images, whole)
    np.testing.assert_allclose(found, 1, atol=1e-4)


def test_photographs_of_two_folders_are_one_data_set(photographs):
    place = photographs.images.folder.parent
    val = data.load(str(place), split="test", image_size=16)
    both = duplicates.joined(photographs, val)
    np.testing.assert_array_equal(
        both.images[:], np.concatenate([photographs.images, val.images])
    )
    assert duplicates.exact(both)["index"].tolist() == duplicates.exact(
        photographs
    )["index"].map(photographs.index.tolist().index).tolist()  # fmt: skip
    split = duplicates.exact(photographs, val)
    assert set(split["split"]) == {0}


def test_photographs_without_an_index_have_the_digests_of_one(photographs, tmp_path):
    known = photographs.images
    bare = data.folders.Photographs(known.folder, known.names, known._checksums, 16)
    np.testing.assert_array_equal(bare.digests, known.digests)
    (tmp_path / "broken.png").write_bytes(b"")
    broken = data.folders.Photographs(
        tmp_path, np.array([b"broken.png"]), np.zeros(1, np.uint32), 16
    )
    with pytest.raises(OSError, match=r"broken.png cannot be used: empty file"):
        _ = broken.digests
