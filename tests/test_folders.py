import io
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from curvlib import data
from curvlib.__main__ import main
from curvlib.data import folders
from curvlib.data.folders import Photographs, index_of
from curvlib.runs import training
from curvlib.runs.settings import TrainConfig

CLASSES = ("n01", "n02")


def photograph(seed: int, size=(40, 30)) -> Image.Image:
    """Colours that change slowly: JPEG keeps them nearly as they are."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 3, 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


def huge_png(width: int, height: int) -> bytes:
    """A header that asks for billions of pixels, in 60 bytes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10))
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def place(tmp_path) -> Path:
    """Ten photographs in two classes to train on, four to validate."""
    for split, count in (("train", 5), ("val", 2)):
        for label, name in enumerate(CLASSES):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                seed = 100 * label + i + 50 * (split == "val")
                (folder / f"{name}_{i}.JPEG").write_bytes(encoded(photograph(seed)))
    return tmp_path / "photos"


def put(place: Path, name: str, content: bytes) -> None:
    (place / "train" / "n01" / name).write_bytes(content)


# Kinds of files, the status they must get and a word that the remark must have.
JPEG = encoded(photograph(1, (200, 200)))
PNG = encoded(photograph(1), "PNG")
GREY = photograph(1).convert("L")
TURNED = Image.Exif()
TURNED[0x0112] = 6
KINDS = {
    "empty.jpg": (b"", "broken", "empty file"),
    "truncated.jpg": (JPEG[: len(JPEG) // 2], "broken", "truncated"),
    "header_only.jpg": (JPEG[:200], "broken", "truncated|damaged|no image"),
    "truncated.png": (PNG[: len(PNG) // 2], "broken", "truncated|damaged"),
    "damaged.png": (
        PNG[:60] + b"\0" * 40 + PNG[100:],
        "broken",
        "damaged|truncated",
    ),
    "text.jpg": (b"not a picture at all", "broken", "no image by its content"),
    "page.jpg": (b"<html>404 Not Found</html>", "broken", "no image by its content"),
    "archive.jpg": (b"PK\x03\x04" + b"\0" * 80, "broken", "no image by its content"),
    "pixel.png": (encoded(photograph(1, (1, 1)), "PNG"), "broken", "too small: 1 × 1"),
    "strip.png": (encoded(photograph(1, (3, 90)), "PNG"), "broken", "too small: 3 ×"),
    "huge.png": (huge_png(60_000, 60_000), "broken", "too large"),
    "large.png": (huge_png(12_000, 12_000), "broken", "too large: over 100,000,000"),
    "deep.png": (
        encoded(Image.fromarray(np.full((20, 20), 40_000, np.uint16)), "PNG"),
        "broken",
        "pixels of type I;16",
    ),
    "float.tif": (
        encoded(Image.fromarray(np.ones((20, 20), np.float32)), "TIFF"),
        "broken",
        "pixels of type F",
    ),
    "ribbon.png": (huge_png(9, 120_000), "broken", "too long: 9 × 120000"),
    "old.gif": (encoded(photograph(1), "GIF"), "broken", ".gif is not read"),
    "phone.heic": (b"ftypheic", "broken", ".heic is not read"),
    "notes.txt": (b"two of these are mislabelled", "ignored", "no image by its name"),
    "Thumbs.db": (b"\xd0\xcf\x11\xe0", "ignored", "no image by its name"),
    "grey.jpg": (encoded(GREY), "used", "grey, read as RGB"),
    "bits.png": (encoded(GREY.convert("1"), "PNG"), "used", "black and white"),
    "cmyk.jpg": (encoded(photograph(1).convert("CMYK")), "used", "CMYK, read as RGB"),
    "glass.png": (
        encoded(photograph(1).convert("RGBA"), "PNG"),
        "used",
        "transparency",
    ),
    "palette.png": (encoded(photograph(1).convert("P"), "PNG"), "used", "palette"),
    "moving.webp": (
        encoded(photograph(1), "WEBP", save_all=True, append_images=[photograph(2)]),
        "used",
        "animated, first frame",
    ),
    "turned.jpg": (encoded(photograph(1), exif=TURNED), "used", "turned by EXIF"),
    "misnamed.jpg": (PNG, "used", "PNG by its content, not by its name"),
    "line\nbreak, and comma.jpg": (JPEG, "used", ""),
    "ümläut.jpg": (JPEG, "used", ""),
    "return\rand 'quote\".jpg": (JPEG, "used", ""),
}


def test_a_folder_with_every_kind_of_broken_file_gives_a_complete_report(place, capsys):
    for name, (content, _, _) in KINDS.items():
        put(place, name, content)
    os.symlink("nowhere.jpg", place / "train/n01/lost.jpg")
    latin = b"caf\xe9.jpg"  # as old archives have it
    put(place, os.fsdecode(latin), JPEG)
    os.mkfifo(place / "train/n01/pipe.jpg")  # a reader would wait for ever
    os.mkdir(place / "train/.ipynb_checkpoints")  # no class
    os.mkdir(place / "train/n01/folder.jpg")  # no file: not in the report
    (place / "train/n01/deeper").mkdir()
    (place / "train/n01/deeper/inside.jpg").write_bytes(JPEG)
    index = index_of(place / "train").set_index("path")
    assert len(index) == 10 + len(KINDS) + 4
    assert "not UTF-8: rename" in index.loc["n01/caf\\xe9.jpg", "remark"]
    for name, (_, status, word) in KINDS.items():
        row = index.loc[f"n01/{name}"]
        assert row["status"] == status, (name, row["remark"])
        assert any(part in row["remark"] for part in word.split("|")), (name, row)
        assert (row["remark"] == "") == (word == ""), (name, row["remark"])
    assert "cannot be read" in index.loc["n01/lost.jpg", "remark"]
    assert "no regular file" in index.loc["n01/pipe.jpg", "remark"]
    assert index.loc["n01/deeper/inside.jpg", "status"] == "used"
    counts = index["status"].value_counts()
    assert counts["broken"] == 20 and counts["ignored"] == 2

    # The command says the same, and by its exit code that something is to be done.
    assert main(["check", str(place)]) == 1
    said = capsys.readouterr().out
    assert f"{len(index)} files in 2 class folders" in said and "20 broken" in said
    for path in index.index[index["status"] == "broken"]:
        assert f"broken: {path!r}: {index.loc[path, 'remark']}" in said
    assert str(place / "curvlib-train.csv") in said

    # Stop is the default; skip leaves out what is broken and trains.
    with pytest.raises(
        ValueError,
        match=r"20 of 44 files .*first is .*curvlib check.*delete .*curvlib-train.csv",
    ):
        data.load(str(place))
    images = data.load(str(place), broken_files="skip", image_size=16)
    assert len(images) == counts["used"]
    assert images.classes == CLASSES  # the hidden folder is none
    assert images.images[:].shape == (len(images), 16, 16, 3)
    config = TrainConfig(
        dataset=str(place),
        broken_files="skip",
        image_size=16,
        model="mlp",
        width=8,
        epochs=1,
        num_probes=1,
        augment=True,
    )
    trace = training.fit(config, runs=place / "runs", device="cpu")
    np.testing.assert_array_equal(trace.index, images.index)


def test_a_clean_folder_has_nothing_to_report(place, capsys):
    assert main(["check", str(place)]) == 0
    assert "10 used, 0 broken, 0 ignored" in capsys.readouterr().out
    assert main(["check", str(place / "train")]) == 2
    assert "neither a folder train nor val" in capsys.readouterr().err


# The index


def test_the_index_fixes_order_and_identity_of_the_samples(place):
    images = data.load(str(place), image_size=16)
    assert images.classes == CLASSES and images.name == "photos"
    assert images.labels.tolist() == [0] * 5 + [1] * 5
    assert images.index.tolist() == list(range(10))
    assert images.images.names[0] == b"n01/n01_0.JPEG"
    test = data.load(str(place), split="test", image_size=16)
    assert len(test) == 4 and test.classes == images.classes
    # A sample keeps its index, whatever is left out before it.
    put(place, "a_first.jpg", b"")
    (place / "curvlib-train.csv").unlink()
    again = data.load(str(place), image_size=16, broken_files="skip")
    assert again.index.tolist() == list(range(1, 11))
    assert again.checksum != images.checksum


def test_an_index_is_read_not_made_again(place, monkeypatch):
    first = index_of(place / "train")
    monkeypatch.setattr(folders, "_examine", None)
    pd.testing.assert_frame_equal(index_of(place / "train"), first)


def test_files_that_changed_since_the_index_was_made_are_named(place):
    index_of(place / "train")
    put(place, "new.jpg", JPEG)
    with pytest.raises(ValueError, match=r"1 new, such as 'n01/new.jpg'.*delete"):
        index_of(place / "train")
    (place / "train/n01/new.jpg").unlink()
    (place / "train/n02/n02_3.JPEG").unlink()
    put(place, "n01_1.JPEG", JPEG)
    with pytest.raises(ValueError, match=r"1 gone.*n02_3.*1 of another size.*n01_1"):
        index_of(place / "train")


def test_a_damaged_index_is_refused(place):
    (place / "curvlib-train.csv").write_text("path\nn01/n01_0.JPEG\n")
    with pytest.raises(ValueError, match=r"is no index of images .*delete it"):
        index_of(place / "train")


def test_a_folder_that_cannot_be_written_to_has_its_index_elsewhere(
    place, monkeypatch, tmp_path
):
    monkeypatch.setenv("CURVLIB_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(folders.os, "access", lambda *_: False)
    index_of(place / "train")
    assert not (place / "curvlib-train.csv").exists()
    (made,) = (tmp_path / "cache" / "indices").glob("*.csv")
    assert made.name.startswith("photos-") and "curvlib-train" in made.name


def test_many_files_are_looked_through_by_several_processes(place):
    folder = place / "train" / "n01"
    for i in range(1700):
        shutil.copy(folder / "n01_0.JPEG", folder / f"copy_{i:04d}.JPEG")
    put(place, "copy_9999.JPEG", b"")
    index = index_of(place / "train", workers=2)
    assert len(index) == 1711 and index["path"].is_monotonic_increasing
    assert index.loc[index["status"] == "broken", "path"].tolist() == [
        "n01/copy_9999.JPEG"
    ]


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*/train"):
        index_of(tmp_path / "train")
    (tmp_path / "train").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no folders"):
        index_of(tmp_path / "train")
    (tmp_path / "train" / "n01").mkdir()
    with pytest.raises(FileNotFoundError, match="hold no files"):
        data.load(str(tmp_path))
    (tmp_path / "train" / "n01" / "notes.txt").write_text("nothing here")
    with pytest.raises(ValueError, match="holds no image that can be used"):
        data.load(str(tmp_path))


def test_a_class_that_training_has_not_is_refused(place):
    shutil.copytree(place / "val/n01", place / "val/n03")
    with pytest.raises(ValueError, match=r"has the class n03, which .*train has not"):
        data.load(str(place), split="test")


def test_a_size_is_for_photographs_only(place):
    with pytest.raises(ValueError, match="image_size = 32 is for photographs"):
        data.load("digits", image_size=32)
    with pytest.raises(ValueError, match="image_size must be at least 8, got 4"):
        data.load(str(place), image_size=4)
    with pytest.raises(ValueError, match="broken_files must be one of"):
        data.load(str(place), broken_files="mend")


def test_links_are_followed_but_never_round_a_loop(place, tmp_path_factory):
    # torchvision reads the same files again and again, until the system refuses.
    before = index_of(place / "train")["path"].tolist()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "far.jpg").write_bytes(JPEG)
    (elsewhere / "back").symlink_to(place / "train/n01")
    (place / "train/n01/outside").symlink_to(elsewhere)
    (place / "train/n01/itself").symlink_to(place / "train/n01")
    (place / "train/n01/again").symlink_to(place / "train/n01")  # two: endless
    (place / "train/n01/all").symlink_to(place)
    (place / "train/n01/deeper").mkdir()
    (place / "train/n01/deeper/up").symlink_to("..")
    (place / "curvlib-train.csv").unlink()
    after = index_of(place / "train")["path"].tolist()
    assert sorted(after) == sorted([*before, "n01/outside/far.jpg"])


def test_imagenet_is_found_by_its_name(place):
    assert len(data.load("imagenet", place, image_size=16)) == 10  # root/train
    assert len(data.load("photos", place.parent, image_size=16)) == 10
    (place.parent / "imagenet").symlink_to(place)
    assert len(data.load("imagenet", place.parent, image_size=16)) == 10
    with pytest.raises(ValueError, match=r"there is neither .*nowhere/train"):
        data.load("nowhere", place)


# The pixels


def test_photographs_stand_in_for_an_array(place):
    images = data.load(str(place), image_size=16)
    pixels = images.images
    assert isinstance(pixels, Photographs) and len(pixels) == 10
    everything = pixels[:]
    assert everything.dtype == np.uint8 and everything.shape == pixels.shape
    np.testing.assert_array_equal(pixels[np.array([7, 2])], everything[[7, 2]])
    np.testing.assert_array_equal(pixels[3], everything[3])
    np.testing.assert_array_equal(pixels[images.labels == 1], everything[5:])
    assert pixels[np.array([], int)].shape == (0, 16, 16, 3)
    some = images.select(images.labels == 1)
    assert isinstance(some.images, Photographs)
    np.testing.assert_array_equal(some.tensor().permute(0, 2, 3, 1), everything[5:])


def test_the_middle_is_cut_out_at_the_size_asked_for(place):
    wide = np.zeros((64, 200, 3), np.uint8)
    wide[:, 80:120] = 255
    put(place, "a.png", encoded(Image.fromarray(wide), "PNG"))
    image = data.load(str(place), image_size=28).images[0]
    # 64 becomes 32, so 200 becomes 100; the middle 28 are columns 36 to 64.
    assert (image[:, 6:20] > 200).all() and (image[:, :2] < 55).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_whatever_reads_them(place, workers):
    images = data.load(str(place), image_size=16)
    images.images._workers = workers
    read = images.reader("cpu")
    batches = [torch.tensor([4, 1, 7]), torch.tensor([9, 0])]
    whole = images.tensor()
    for _ in range(2):  # epochs; the workers stay
        for batch, x in zip(batches, read(batches), strict=True):
            assert torch.equal(x, whole[batch])
    # A share of each batch, and crops that depend on epoch and sample alone.
    assert torch.equal(next(read(batches, share=slice(1, None, 2))), whole[[1]])
    seeded = [torch.Generator().manual_seed(5) for _ in range(2)]
    one = list(read(batches, generator=seeded[0]))
    two = [list(read(batches, generator=seeded[1], share=slice(0, None, 2)))]
    assert torch.equal(one[0][::2], two[0][0])
    assert not torch.equal(one[0], whole[batches[0]])
    other = next(read(batches, generator=torch.Generator().manual_seed(6)))
    assert not torch.equal(one[0], other)


def test_crops_are_the_same_for_any_number_of_workers(place):
    images = data.load(str(place), image_size=16)
    found = []
    for workers in (0, 2):
        images.images._workers = workers
        generator = torch.Generator().manual_seed(1)
        state = torch.get_rng_state()
        found.append(
            torch.cat(
                list(images.reader("cpu")([torch.arange(10)], generator=generator))
            )
        )
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(*found)


def test_mean_and_deviation_are_those_of_the_pixels(place, monkeypatch):
    images = data.load(str(place), image_size=16)
    pixels = images.images[:].reshape(-1, 3) / 255
    mean, std = images.statistics()
    np.testing.assert_allclose(mean, pixels.mean(0))
    np.testing.assert_allclose(std, pixels.std(0))
    monkeypatch.setattr("curvlib.data.images.MOST_MEASURED", 4)  # evenly spaced
    some = images.images[np.array([0, 3, 6, 9])].reshape(-1, 3) / 255
    np.testing.assert_allclose(images.statistics()[0], some.mean(0))


def test_planted_copies_and_noise_stay_in_their_files(place):
    images = data.load(str(place), image_size=16)
    noisy = data.with_planted_duplicates(
        data.with_symmetric_noise(images, 0.2, seed=0), 3, seed=0
    )
    assert isinstance(noisy.images, Photographs) and len(noisy) == 13
    np.testing.assert_array_equal(
        noisy.images[:][10:], images.images[noisy.source[10:]]
    )


def test_a_file_that_broke_after_it_was_indexed_is_named(place):
    images = data.load(str(place), image_size=16)
    put(place, "n01_3.JPEG", b"x")
    with pytest.raises(OSError, match=r"n01_3.JPEG could be read when .* indexed"):
        images.tensor()
    for workers in (0, 2):  # never taken for a network that diverged
        images.images._workers = workers
        config = TrainConfig(
            dataset=str(place), image_size=16, model="mlp", width=8, epochs=1
        )
        with pytest.raises(folders.BrokenFileError, match=r"^/.*n01_3.JPEG could be"):
            training.fit(config, images, runs=place.parent / "runs", device="cpu")


def test_a_run_on_photographs_resumes_with_the_same_bytes(place, tmp_path):
    config = TrainConfig(
        dataset=str(place),
        image_size=16,
        model="compact_resnet",
        width=8,
        epochs=3,
        batch_size=4,
        num_heldout=4,
        augment=True,
        num_probes=1,
    )
    whole = training.fit(config, runs=tmp_path / "whole", device="cpu")
    assert whole.read("loss").shape == (3, 10)
    assert whole.read("loss", "heldout").shape == (3, 4)

    def stop(epoch, model):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.fit(config, runs=tmp_path / "broken", device="cpu", on_epoch=stop)
    resumed = training.fit(config, runs=tmp_path / "broken", device="cpu")
    for split in ("train", "heldout"):
        np.testing.assert_array_equal(
            resumed.read("squared_frobenius_norm", split),
            whole.read("squared_frobenius_norm", split),
        )


def test_neither_training_nor_scoring_ever_holds_all_photographs(
    place, tmp_path, monkeypatch
):
    most = []

    def watched(files, key, original=folders._Files.__getitem__):
        most.append(key)
        return original(files, key)

    def never(images):
        raise AssertionError("all images at once")

    monkeypatch.setattr(data.Images, "tensor", never)
    monkeypatch.setattr(folders._Files, "__getitem__", watched)
    monkeypatch.setattr(folders, "usable_cores", lambda: 0)  # here, to be watched
    config = TrainConfig(
        dataset=str(place),
        image_size=16,
        model="mlp",
        width=8,
        epochs=2,
        batch_size=4,
        num_probes=1,
        noise_rate=0.2,
        score_original_labels=True,
    )
    trace = training.fit(config, runs=tmp_path, device="cpu")
    # To measure them all once; then each epoch 10 to train, 10 and 2 to score.
    assert len(most) == 10 + 2 * (10 + 10 + 2)
    assert trace.read("loss", "original_labels").shape == (2, 2)


# What users do


def test_an_index_beside_a_folder_that_may_only_be_read_is_read(place, monkeypatch):
    made = index_of(place / "train")

    def locked(*_):
        raise PermissionError("no lock may be made here")

    monkeypatch.setattr(folders, "FileLock", locked)
    pd.testing.assert_frame_equal(index_of(place / "train"), made)


def test_a_class_folder_without_a_file_is_named(place):
    (place / "train" / "n03").mkdir()
    with pytest.raises(
        ValueError, match=r"n03 holds no file, or none that may be read"
    ):
        data.load(str(place))


def test_check_finds_classes_that_only_val_has(place, capsys):
    shutil.copytree(place / "val/n01", place / "val/n03")
    assert main(["check", str(place)]) == 1
    assert "val has classes that train has not: n03" in capsys.readouterr().out


def test_a_misspelt_folder_is_not_taken_for_another_kind_of_data(place):
    with pytest.raises(ValueError, match="unknown data set 'photoz'"):
        data.load("photoz", place.parent, image_size=16)


def test_a_folder_written_two_ways_is_one_run():
    one, two = (TrainConfig(dataset=name) for name in ("photos", "photos/"))
    assert training.run_name(one, {}) == training.run_name(two, {})


def test_one_class_is_no_task(place, tmp_path):
    shutil.rmtree(place / "train" / "n02")
    config = TrainConfig(dataset=str(place), image_size=16, model="mlp")
    with pytest.raises(ValueError, match="has one class, n01; a classifier needs two"):
        training.fit(config, runs=tmp_path)
