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
from curvlib.data import duplicates, folders
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
    assert main(["check", str(place / "train")]) == 0  # class folders, no train/ above
    assert "10 used, 0 broken, 0 ignored" in capsys.readouterr().out
    assert main(["check", str(place / "train" / "n01")]) == 2
    said = capsys.readouterr().err
    assert "neither a folder train nor val" in said and said.count("\n") == 1


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
    assert "val has classes that train lacks: n03" in capsys.readouterr().out


def test_a_misspelt_folder_is_not_taken_for_another_kind_of_data(place):
    with pytest.raises(ValueError, match="unknown data set 'photoz'"):
        data.load("photoz", place.parent, image_size=16)


def test_the_current_folder_is_not_that_of_the_data_sets(place, tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    for name, source in (("cat", "n01"), ("dog", "n02")):
        shutil.copytree(place / "train" / source, mine / name)
    monkeypatch.chdir(mine)
    for name in (".", "../mine", "./"):
        assert data.load(name, place).classes == ("cat", "dog")
    with pytest.raises(ValueError, match="the data set has no name; expected one of"):
        data.load("", place)


def test_a_folder_written_two_ways_is_one_run():
    one, two = (TrainConfig(dataset=name) for name in ("photos", "photos/"))
    assert training.run_name(one, {}) == training.run_name(two, {})


def test_one_class_is_no_task(place, tmp_path):
    shutil.rmtree(place / "train" / "n02")
    config = TrainConfig(dataset=str(place), image_size=16, model="mlp")
    with pytest.raises(ValueError, match="has one class, n01; a classifier needs two"):
        training.fit(config, runs=tmp_path)


# Files that systems and tools leave behind

LEFT_BEHIND = (
    "n01/.ipynb_checkpoints/x.png",
    "n01/deeper/.ipynb_checkpoints/x-checkpoint.png",
    "n01/._n01_0.JPEG",  # macOS, beside every file of an archive
    "n01/.DS_Store",
    "n01/Thumbs.db",
    "n01/desktop.ini",
    "n01/@eaDir/n01_0.JPEG/SYNOPHOTO_THUMB_M.jpg",
    "n01/__MACOSX/._n01_0.JPEG",
    "n01/.git/objects/aa/00.jpg",
    "n01/n01_0.JPEG~",
    "n01/~$list.jpg",
    "n01/#n01_0.JPEG#",
    "n01/n01_9.JPEG.tmp",
    "n01/n01_9.JPEG.part",
    "n01/n01_9.jpg.crdownload",
    "n01/$RECYCLE.BIN/R1.jpg",
    "n01/System Volume Information/a.png",
    "n01/lost+found/1.jpg",
    "n01/.Trash-1000/files/n01_7.JPEG",
    "n01/.nfs000000012.jpg",
    "n02/THUMBS.DB",
    ".DS_Store",
    ".ipynb_checkpoints/x.png",
    "__MACOSX/n01/._n01_0.JPEG",
    "@eaDir/n01/thumb.jpg",
)


def leave(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(JPEG)  # a real image, so that only its name tells


def test_what_systems_and_tools_leave_behind_is_counted_and_never_data(place, capsys):
    clean = data.load(str(place), image_size=16)
    (place / "curvlib-train.csv").unlink()
    for name in LEFT_BEHIND:
        leave(place / "train", name)
    images = data.load(str(place), image_size=16)
    assert images.checksum == clean.checksum and images.classes == CLASSES
    assert images.index.tolist() == list(range(10))  # the same sample, the same index
    assert duplicates.exact(images).empty
    table = index_of(place / "train")
    ignored = table[table["status"] == "ignored"]
    assert set(ignored["path"]) == set(LEFT_BEHIND)
    assert ignored["remark"].str.contains("left behind by a system or a tool").all()
    assert main(["check", str(place)]) == 0
    said = capsys.readouterr().out
    assert (
        f"35 files in 2 class folders: 10 used, 0 broken, {len(LEFT_BEHIND)} i" in said
    )
    assert f"folder: {len(LEFT_BEHIND)} files, such as" in said


def test_what_is_left_behind_later_changes_nothing(place):
    before = data.load(str(place), image_size=16)
    for name in LEFT_BEHIND:
        leave(place / "train", name)
    assert data.load(str(place), image_size=16).checksum == before.checksum
    assert (index_of(place / "train")["status"] == "ignored").sum() == len(LEFT_BEHIND)
    (place / "train/n01/.DS_Store").unlink()
    ignored = index_of(place / "train")["status"] == "ignored"
    assert ignored.sum() == len(LEFT_BEHIND) - 1


@pytest.mark.parametrize(
    "name",
    ["~draft.jpg", "a.tmp.jpg", "part.jpg", "#7.jpg", "lost+found.jpg", "a~1.jpg",
     "Thumbs.db.jpg", "icon.png", "deeper.tmp/a.jpg", "git/a.jpg", "@home/a.jpg"],
)  # fmt: skip
def test_unusual_names_are_data(place, name):
    leave(place / "train" / "n01", name)
    table = index_of(place / "train").set_index("path")
    assert table.loc[f"n01/{name}", "status"] == "used"


def test_a_class_with_nothing_but_left_behind_files_is_named(place):
    leave(place / "train", "n03/.DS_Store")
    with pytest.raises(ValueError, match="n03 holds no file, or none that may be read"):
        data.load(str(place))


def test_images_beside_the_class_folders_are_counted(place):
    leave(place / "train", "stray.jpg")
    (place / "train" / "README.md").write_text("ten images")
    table = index_of(place / "train").set_index("path")
    assert table.loc["stray.jpg", "remark"] == "in no class folder"
    assert table.loc["README.md", "status"] == "ignored"
    assert len(data.load(str(place), image_size=16)) == 10


def test_an_index_of_an_earlier_version_is_made_again_with_the_same_samples(place):
    # It has no column "pixels", and lists as data what a notebook left behind.
    leave(place / "train", "n01/.ipynb_checkpoints/x.png")
    leave(place / "train", "n01/Thumbs.db")
    table = index_of(place / "train")
    old = pd.concat([table.iloc[[10]], table.iloc[:10], table.iloc[[11]]])
    old = old.assign(index=range(12), status="used").drop(columns="pixels")
    file = place / "curvlib-train.csv"
    old.to_csv(file, index=False)
    pd.testing.assert_frame_equal(index_of(place / "train"), table)
    # What changed since then is a change still.
    old.to_csv(file, index=False)
    put(place, "new.jpg", JPEG)
    with pytest.raises(ValueError, match=r"1 new, such as 'n01/new.jpg'"):
        index_of(place / "train")


# An image is what a viewer shows


def drawing(seed: int, colour=(0, 0, 0), background=0, size=(40, 30)) -> Image.Image:
    """Lines of one colour on a background that is transparent, to a degree."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((size[1], size[0], 4), np.uint8)
    pixels[..., :3] = colour
    pixels[..., 3] = background
    pixels[rng.integers(2, size[1] - 2), 2:-2, 3] = 255
    pixels[2:-2, rng.integers(2, size[0] - 2), 3] = 255
    return Image.fromarray(pixels)


def one(place: Path, content: bytes, name: str = "n01/a.png") -> pd.Series:
    """The row of one file that is put into the training set."""
    (place / "train" / name).write_bytes(content)
    (place / "curvlib-train.csv").unlink(missing_ok=True)
    return index_of(place / "train").set_index("path").loc[name]


def digests(place: Path, *contents: bytes, suffix: str = "png") -> list[str]:
    names = [f"n01/a{k}.{suffix}" for k in range(len(contents))]
    return [
        one(place, content, name)["pixels"]
        for name, content in zip(names, contents, strict=True)
    ]


def test_drawings_on_a_transparent_background_are_seen_on_white(place):
    for k in range(3):
        for name in CLASSES:
            seed = k + 10 * (name == "n02")
            file = place / "train" / name / f"drawing{k}.png"
            file.write_bytes(encoded(drawing(seed), "PNG"))
    images = data.load(str(place), image_size=16)
    drawn = images.select(
        np.array([b"drawing" in name for name in images.images.names])
    )
    pixels = drawn.images[:]
    assert len(drawn) == 6
    assert (pixels.max((1, 2, 3)) == 255).all() and (pixels.min((1, 2, 3)) < 150).all()
    assert duplicates.exact(images).empty  # once six equal black squares
    row = index_of(place / "train").set_index("path").loc["n01/drawing0.png"]
    assert row["status"] == "used" and row["remark"] == "transparency, shown on white"


@pytest.mark.parametrize("kind", ["LA", "palette", "colour key", "half", "WEBP"])
def test_transparency_of_every_kind_is_white(place, kind):
    image, options, container = drawing(0), {}, "PNG"
    shades = np.array(image.getchannel("A"))
    expected = 255 - shades.astype(int)
    if kind == "LA":
        image = image.convert("LA")
    elif kind == "palette":
        image = Image.fromarray((shades // 255).astype(np.uint8)).convert("P")
        image.putpalette([9, 9, 9, 0, 0, 0])
        options = {"transparency": 0}
    elif kind == "colour key":
        image = Image.fromarray(np.where(shades[..., None] > 0, [0, 0, 0], [9, 8, 7])
                                .astype(np.uint8))  # fmt: skip
        options = {"transparency": (9, 8, 7)}
    elif kind == "half":
        image = drawing(0, background=51)  # a fifth opaque, black
        expected = np.where(shades > 0, 0, 204)
    elif kind == "WEBP":
        container, options = "WEBP", {"lossless": True}
    content = encoded(image, container, **options)
    row = one(place, content, "n01/a.webp" if container == "WEBP" else "n01/a.png")
    assert row["status"] == "used" and "shown on white" in row["remark"]
    with Image.open(io.BytesIO(content)) as file:
        picture = folders.shown(file)
    assert picture.mode == "RGB"
    np.testing.assert_allclose(
        np.array(picture), expected[..., None] + [0, 0, 0], atol=1
    )


@pytest.mark.parametrize("alpha", ["drawing", "nothing"])
def test_what_cannot_be_seen_on_white_is_refused_and_said(place, alpha):
    image = drawing(0, colour=(255, 255, 255))
    if alpha == "nothing":
        image = photograph(3).convert("RGBA")
        image.putalpha(0)
    row = one(place, encoded(image, "PNG"))
    assert row["status"] == "broken"
    assert row["remark"] == "shows nothing on white; put it on another background"
    with pytest.raises(ValueError, match=r"a.png': shows nothing on white"):
        data.load(str(place))


def test_images_of_one_colour_that_hide_nothing_are_used(place):
    white = Image.new("RGB", (40, 30), "white")
    assert one(place, encoded(white, "PNG"))["status"] == "used"
    assert one(place, encoded(white.convert("RGBA"), "PNG"))["status"] == "used"


def test_colours_under_full_transparency_do_not_count_and_its_shape_does(place):
    black = np.array(drawing(0))
    hidden = black.copy()
    hidden[black[..., 3] == 0, :3] = [200, 10, 90]
    faint = black.copy()
    faint[..., :3] = 255
    faint[15, 20] = 0, 0, 0, 255
    other = faint.copy()
    other[3:9, 3:9, 3] = 255  # opaque white: no viewer with a white page shows it
    found = digests(
        place,
        *(encoded(Image.fromarray(p), "PNG") for p in (black, hidden, faint, other)),
    )
    assert found[0] == found[1]
    assert len(set(found)) == 3
    shown = []
    for name in ("a2.png", "a3.png"):
        with Image.open(place / "train/n01" / name) as file:
            shown.append(folders.shown(file).tobytes())
    assert shown[0] == shown[1]


TURNS = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, 1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p, -1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", list(TURNS))
def test_exif_turns_an_image_upright(place, kind, orientation):
    upright = np.array(photograph(3))
    stored = np.ascontiguousarray(TURNS[orientation](upright))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(Image.fromarray(stored), kind, exif=exif, **options)
    with Image.open(io.BytesIO(content)) as file:
        np.testing.assert_array_equal(np.array(folders.shown(file)), upright)
    suffix = {"TIFF": "tif"}.get(kind, kind.lower())
    row = one(place, content, f"n01/a.{suffix}")
    assert ("turned by EXIF, read upright" in row["remark"]) == (orientation != 1)
    # A turned file and an upright one that show the same are the same.
    assert row["pixels"] == digests(place, encoded(photograph(3), "PNG"))[0]


def test_damaged_exif_is_ignored_as_by_viewers(place):
    plain = encoded(photograph(3))
    garbage = b"Exif\0\0MM\0\x2a" + b"\xff" * 60
    marker = b"\xff\xe1" + struct.pack(">H", len(garbage) + 2) + garbage
    row = one(place, plain[:2] + marker + plain[2:], "n01/a.jpg")
    assert row["status"] == "used"
    assert row["pixels"] == digests(place, plain, suffix="jpg")[0]


def deep_png(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, which Pillow reads and does not write."""
    height, width, channels = pixels.shape
    kind = {2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bits_of_colour_keep_the_upper_eight(place, channels):
    deep = np.random.default_rng(0).integers(0, 2**16, (20, 30, channels), np.uint16)
    if channels != 3:
        deep[..., -1] = 65535  # opaque
    row = one(place, deep_png(deep))
    assert row["status"] == "used" and "16 bits a channel" in row["remark"]
    with Image.open(place / "train/n01/a.png") as file:
        picture = np.array(folders.shown(file))
    colours = deep[..., :3] if channels != 2 else deep[..., :1].repeat(3, 2)
    np.testing.assert_allclose(picture, colours // 256, atol=1)


def test_what_decoding_drops_keeps_images_apart(place):
    deep = np.random.default_rng(0).integers(0, 2**16, (20, 30, 3), np.uint16)
    lower = deep_png(deep), deep_png(deep ^ 1)
    inks = np.zeros((20, 30, 4), np.uint8)
    inks[5:9, 4:20] = [255, 255, 255, 0]  # black of three inks, or of one
    black = np.zeros((20, 30, 4), np.uint8)
    black[5:9, 4:20] = [0, 0, 0, 255]
    cmyk = [encoded(Image.fromarray(p, mode="CMYK"), "TIFF") for p in (inks, black)]
    frames = [
        encoded(photograph(1), "WEBP", save_all=True, append_images=[photograph(k)])
        for k in (2, 3)
    ]
    for contents, suffix in ((lower, "png"), (cmyk, "tif"), (frames, "webp")):
        shown = []
        for content in contents:
            with Image.open(io.BytesIO(content)) as file:
                shown.append(folders.shown(file).tobytes())
        assert shown[0] == shown[1]
        first, second, again = digests(place, *contents, contents[0], suffix=suffix)
        assert first != second and first == again


def test_the_same_picture_in_another_file_is_a_duplicate(place):
    picture = photograph(3)
    contents = {
        "n01/a.png": encoded(picture, "PNG"),
        "n01/b.bmp": encoded(picture, "BMP"),
        "n01/c.tif": encoded(picture, "TIFF"),
        "n01/d.webp": encoded(picture, "WEBP", lossless=True),
        "n02/e.png": encoded(picture.convert("RGBA"), "PNG", compress_level=1),
    }
    for name, content in contents.items():
        (place / "train" / name).write_bytes(content)
    images = data.load(str(place), image_size=16)
    found = duplicates.exact(images)
    names = images.images.names[np.searchsorted(images.index, found["index"])]
    assert sorted(n.decode() for n in names) == sorted(contents)
    assert found["conflict"].all() and found["group"].nunique() == 1


def test_photographs_that_differ_outside_the_centre_crop_are_no_duplicates(place):
    wide = np.array(photograph(3, (200, 40)))
    for k, name in enumerate(CLASSES):
        pixels = wide.copy()
        pixels[:, :70] = np.array(photograph(20 + k, (70, 40)))
        pixels[:, 130:] = np.array(photograph(30 + k, (70, 40)))
        content = encoded(Image.fromarray(pixels), "PNG")
        (place / "train" / name / "wide.png").write_bytes(content)
    images = data.load(str(place), image_size=16)
    pair = np.flatnonzero([b"wide" in name for name in images.images.names])
    np.testing.assert_array_equal(*images.images[pair])  # what training sees is equal
    assert duplicates.exact(images).empty
    compared = duplicates.compare(images)
    assert compared.similarity[pair].max() < 0.9
    # A copy of the whole picture is one.
    shutil.copy(place / "train/n01/wide.png", place / "train/n02/copy.png")
    (place / "curvlib-train.csv").unlink()
    found = duplicates.exact(data.load(str(place), image_size=16))
    assert len(found) == 2 and found["conflict"].all()


def test_drawings_that_differ_in_what_white_hides_are_no_near_duplicates(place):
    for k, name in enumerate(CLASSES):  # a dot that shows, and strokes that do not
        pixels = np.array(drawing(k, colour=(255, 255, 255), size=(64, 64)))
        pixels[30:33, 30:33] = 0, 0, 0, 255
        content = encoded(Image.fromarray(pixels), "PNG")
        (place / "train" / name / "faint.png").write_bytes(content)
    images = data.load(str(place), image_size=64)
    pair = np.flatnonzero([b"faint" in name for name in images.images.names])
    np.testing.assert_array_equal(*images.images[pair])
    compared = duplicates.compare(images)
    first = compared.places[pair[0]].tolist()
    similarity = dict(zip(first, compared.similarity[pair[0]], strict=True))
    assert similarity.get(pair[1], 0) < 0.9
    assert duplicates.exact(images).empty


# Class folders without train/ above them


def test_a_folder_of_class_folders_is_a_training_set(place, tmp_path):
    flat = place / "train"
    images = data.load(str(flat), image_size=16)
    whole = data.load(str(place), image_size=16)
    assert images.checksum == whole.checksum and images.name == "train"
    assert len(data.load("train", place, image_size=16)) == 10  # by name, in root
    with pytest.raises(
        FileNotFoundError, match=r"has no test split; put its images into .*train/val/"
    ):
        data.load(str(flat), split="test")
    config = TrainConfig(
        dataset=str(flat), image_size=16, model="mlp", width=8, epochs=1, num_probes=1
    )
    trace = training.fit(config, runs=tmp_path / "runs", device="cpu")
    assert trace.read("loss").shape == (1, 10)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_the_test_split_may_be_called_by_any_of_its_names(place, name, capsys):
    (place / "val").rename(place / name)
    assert len(data.load(str(place), split="test", image_size=16)) == 4
    shutil.copytree(place / name / "n01", place / name / "n03")
    (place / f"curvlib-{name}.csv").unlink()
    assert main(["check", str(place)]) == 1
    assert f"{name} has classes that train lacks: n03" in capsys.readouterr().out


def test_a_class_may_be_called_train(place):
    # {car, plane, train}: train holds images, and no class folders.
    vehicles = place / "vehicles"
    for name in ("car", "plane", "train", "test"):
        leave(vehicles, f"{name}/1.jpg")
    images = data.load(str(vehicles), image_size=16)
    assert images.classes == ("car", "plane", "test", "train") and len(images) == 4


def test_a_folder_without_images_in_class_folders_is_not_taken_for_data(place):
    for name in ("src/main.py", "docs/index.html", ".git/x.jpg"):
        leave(place / "project", name)
    with pytest.raises(ValueError, match="no class folder with images there"):
        data.load(str(place / "project"))
    leave(place / "loose", "a.jpg")
    with pytest.raises(ValueError, match="no class folder with images there"):
        data.load(str(place / "loose"))


def test_a_data_set_with_validation_only_has_no_training_set(place):
    shutil.rmtree(place / "train")
    with pytest.raises(FileNotFoundError, match="has no train split; put its images i"):
        data.load(str(place))
    assert len(data.load(str(place), split="test", image_size=16)) == 4


# A CSV of paths and labels


@pytest.fixture
def listed(place) -> Path:
    """Five rows in no order, of images in two folders, beside a CSV."""
    rows = [
        "path,label",
        "train/n02/n02_1.JPEG,dog",
        "train/n01/n01_0.JPEG,cat",
        "./val/n01/n01_1.JPEG, cat ",
        '"train/n01/n01_4.JPEG","eel, grey"',
        f"{place}/train/n02/n02_0.JPEG,dog",
    ]
    file = place / "labels.csv"
    file.write_text("\n".join(rows) + "\n")
    return file


def test_a_csv_of_paths_and_labels_is_a_data_set(listed, place):
    images = data.load(str(listed), image_size=16)
    assert images.classes == ("cat", "dog", "eel, grey") and images.name == "labels"
    assert images.labels.tolist() == [1, 0, 0, 2, 1]
    assert images.index.tolist() == [0, 1, 2, 3, 4]  # its rows, from 0
    folder = data.load(str(place), image_size=16)
    np.testing.assert_array_equal(images.images[1], folder.images[0])
    np.testing.assert_array_equal(images.images[4], folder.images[5])
    assert data.load("labels.csv", place, image_size=16).checksum == images.checksum
    with pytest.raises(FileNotFoundError, match="no test split; a CSV file is a train"):
        data.load(str(listed), split="test")


def test_a_run_on_a_csv_trains_and_finds_its_classes(listed, tmp_path):
    config = TrainConfig(
        dataset=str(listed), image_size=16, model="mlp", width=8, epochs=1, num_probes=1
    )
    trace = training.fit(config, runs=tmp_path / "runs", device="cpu")
    assert trace.info["classes"] == ["cat", "dog", "eel, grey"]
    assert trace.folder.name.startswith("labels-mlp-")


def test_corrected_labels_and_new_rows_of_a_csv_are_taken_up(listed, monkeypatch):
    before = data.load(str(listed), image_size=16)
    text = listed.read_text()
    listed.write_text(text.replace("_1.JPEG,dog", "_1.JPEG,cat"))
    examine = folders._examine
    monkeypatch.setattr(folders, "_examine", None)  # the files are as they were
    after = data.load(str(listed), image_size=16)
    assert after.labels.tolist() == [0, 0, 0, 2, 1] and len(before) == len(after)
    assert after.checksum != before.checksum
    monkeypatch.setattr(folders, "_examine", examine)
    listed.write_text(text + "train/n01/n01_3.JPEG,cat\n")
    assert len(data.load(str(listed), image_size=16)) == 6


def test_numbers_as_labels_of_a_csv_are_in_the_order_of_numbers(listed):
    rows = ["path,label"] + [f"train/n01/n01_{k}.JPEG,{8 + k}" for k in range(4)]
    listed.write_text("\n".join(rows))
    assert data.load(str(listed)).classes == ("8", "9", "10", "11")


@pytest.mark.parametrize(
    "text",
    [
        "label;path\ncat;train/n01/n01_0.JPEG\ndog;train/n02/n02_0.JPEG\n",
        "path\tlabel\ntrain/n01/n01_0.JPEG\tcat\ntrain/n02/n02_0.JPEG\tdog",
        "\ufeffPath, Label\r\ntrain/n01/n01_0.JPEG,cat\r\n"
        "train\\n02\\n02_0.JPEG,dog\r\n",
        "id,path,label,rank\n1,train/n01/n01_0.JPEG,cat,7\n\n"
        "2,train/n02/n02_0.JPEG,dog,8\n , , ,\n",
    ],
    ids=["semicolons", "tabs", "Excel on Windows", "more columns, empty rows"],
)
def test_the_forms_in_which_programs_write_csv_are_read(listed, text):
    listed.write_text(text, encoding="utf-8", newline="")
    images = data.load(str(listed), image_size=16)
    assert images.labels.tolist() == [0, 1] and images.classes == ("cat", "dog")


GOOD = "path,label\ntrain/n01/n01_0.JPEG,cat\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "train/no.jpg,dog\n", r"row 3: there is no file train/no.jpg in .*rel"),
        (GOOD + "a.jpg,dog\nb.jpg,dog\n", r"row 3: .*a.jpg in .*\(first of 2 that are"),
        (GOOD + "train,dog\n", "row 3: there is no file train in"),
        (GOOD + "a" * 300 + ".jpg,dog\n", "row 3: there is no file aaa"),
        (
            GOOD + "train/n01/n01_0.JPEG,dog\n",
            r"row 3 repeats the path of row 2: train",
        ),
        (GOOD + "train/n01/../n01/n01_0.JPEG,cat\n", "row 3 repeats the path of row 2"),
        (GOOD + "link.jpg,cat\n", "row 3 repeats the path of row 2: link.jpg"),
        (GOOD + "train/n02/n02_0.JPEG,\n", r"row 3 has no label \(train/n02/n02_0"),
        (GOOD + 'train/n02/n02_0.JPEG," "\n', "row 3 has no label"),
        (GOOD + ",dog\n", "row 3 has no path"),
        (
            GOOD + "train/n02/n02_0.JPEG,dog,brown\n",
            "row 3 has 3 cells, and the header",
        ),
        (GOOD + "train/n02/n02_0.JPEG\n", "row 3 has 1 cells, and the header has 2"),
        (GOOD + '"train/n02,dog\n', "row 3 cannot be read"),
        ("file,label\na.jpg,cat\n", r"needs one column path .*is: file, label"),
        ("path,label,path\na.jpg,cat,b\n", "needs one column path"),
        ("", "has no rows"),
        ("path,label\n", "has no rows"),
        ("train/n01/n01_0.JPEG,cat\n", "needs one column path and one column label"),
    ],
)
def test_a_csv_that_is_wrong_is_refused_by_its_row(
    listed, place, text, message, capsys
):
    os.symlink(place / "train/n01/n01_0.JPEG", place / "link.jpg")
    listed.write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        data.load(str(listed))
    assert str(caught.value).startswith(str(listed))
    assert main(["check", str(listed)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said == f"curvlib: {caught.value}\n"
    assert not list(place.glob("*curvlib-labels*"))  # nothing half-written


@pytest.mark.parametrize(
    "content", [GOOD.encode("utf-16"), b"path,label\n\xe9.jpg,cat"]
)
def test_a_csv_that_is_not_in_utf8_says_so(listed, content):
    listed.write_bytes(content)
    with pytest.raises(ValueError, match="no text in UTF-8; save it as CSV in UTF-8"):
        data.load(str(listed))


def test_a_csv_that_is_not_there_is_named(place, capsys):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none.csv"):
        data.load(str(place / "none.csv"))
    assert main(["check", str(place / "none.csv")]) == 2
    assert "there is no file" in capsys.readouterr().err
    (place / "folder.csv").mkdir()
    with pytest.raises(ValueError, match=r"folder.csv is a folder"):
        data.load(str(place / "folder.csv"))


def test_broken_files_of_a_csv_are_listed_or_skipped(listed, place, capsys):
    put(place, "n01_0.JPEG", JPEG[:300])
    (place / "hash-without-suffix").write_bytes(PNG)  # its content tells what it is
    (place / "notes.txt").write_text("no image")
    listed.write_text(
        listed.read_text() + "hash-without-suffix,cat\nnotes.txt,dog\n._x.jpg,cat\n"
    )
    (place / "._x.jpg").write_bytes(JPEG)  # named by hand, so it is wanted
    with pytest.raises(
        ValueError, match=r"2 of 8 files in .*labels.csv cannot be used"
    ):
        data.load(str(listed))
    images = data.load(str(listed), broken_files="skip", image_size=16)
    assert images.index.tolist() == [0, 2, 3, 4, 5, 7]
    assert main(["check", str(listed)]) == 1
    said = capsys.readouterr().out
    assert "8 files in 3 classes: 6 used, 2 broken, 0 ignored" in said
    assert "notes.txt': no image by its content" in said
