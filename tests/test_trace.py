import json

import numpy as np
import pytest

from curvlib.data import Images
from curvlib.trace import COLUMNS, Trace

CONFIG = {"lr": 0.1, "epochs": 3, "num_train": None}


def images(count: int = 30, seed: int = 0, **changes) -> Images:
    rng = np.random.default_rng(seed)
    fields = {
        "images": rng.integers(0, 256, (count, 2, 2, 1), dtype=np.uint8),
        "labels": rng.integers(0, 3, count),
        "index": 3 * rng.permutation(count),
        "classes": ("a", "b", "c"),
    }
    return Images(**fields | changes)


def columns(count: int = 30, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.random(count) > 0.5 if dtype is np.bool_ else rng.random(count)
        for name, dtype in COLUMNS.items()
    }


def create(folder, *, train=None, heldout=None, config=CONFIG) -> Trace:
    train = train if train is not None else images()
    info = {"mean": [0.5]}
    splits = {"train": train} | ({} if heldout is None else {"heldout": heldout})
    return Trace.create(folder, config=config, info=info, splits=splits)


def written(folder, epochs=(1, 2, 4)) -> Trace:
    trace = create(folder)
    for epoch in epochs:
        trace.write(epoch, images(), columns(seed=epoch), split="train")
    return trace


def test_what_is_written_is_read_as_epochs_by_samples_in_index_order(tmp_path):
    trace = written(tmp_path)
    order = np.argsort(images().index)
    assert trace.epochs.tolist() == [1, 2, 4]
    np.testing.assert_array_equal(trace.index, images().index[order])
    np.testing.assert_array_equal(trace.labels, images().labels[order])
    for name, dtype in COLUMNS.items():
        expected = [columns(seed=e)[name].astype(dtype)[order] for e in (1, 2, 4)]
        got = trace.read(name)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, np.stack(expected))


def test_the_order_of_the_images_leaves_no_mark_in_the_file(tmp_path):
    trace, backwards = written(tmp_path / "a", [1]), create(tmp_path / "b")
    reverse = np.arange(30)[::-1]
    turned = {name: values[reverse] for name, values in columns(seed=1).items()}
    backwards.write(1, images().select(reverse), turned, split="train")
    name = "train/epoch_0001.parquet"
    first, second = (t.folder.joinpath(name).read_bytes() for t in (trace, backwards))
    assert first == second


def test_one_other_value_gives_other_bytes(tmp_path):
    trace = written(tmp_path, [1])
    path = tmp_path / "train/epoch_0001.parquet"
    before = path.read_bytes()
    changed = columns(seed=1)
    changed["loss"][7] += 1e-3
    trace.write(1, images(), changed, split="train")
    assert path.read_bytes() != before


def test_nan_survives_for_a_single_probe_has_no_standard_error(tmp_path):
    trace, values = create(tmp_path), columns()
    values["standard_error"][:] = np.nan
    trace.write(1, images(), values, split="train")
    assert np.isnan(trace.read("standard_error")).all()


def test_held_out_samples_are_a_set_of_their_own(tmp_path):
    heldout = images(7, seed=5)
    trace = create(tmp_path, heldout=heldout)
    trace.write(1, images(), columns(), split="train")
    trace.write(1, heldout, columns(7, seed=5), split="heldout")
    order = np.argsort(heldout.index)
    expected = columns(7, seed=5)["loss"].astype(np.float32)[order]
    np.testing.assert_array_equal(trace.read("loss", "heldout"), expected[None])
    samples = trace.samples("heldout")
    assert samples["index"].tolist() == heldout.index[order].tolist()
    assert samples["label"].tolist() == heldout.labels[order].tolist()
    assert trace.read("loss").shape == (1, 30)


def test_epochs_are_in_the_order_of_numbers_not_of_names(tmp_path):
    trace = written(tmp_path, [2, 10_000, 9_999, 10])
    assert trace.epochs.tolist() == [2, 10, 9_999, 10_000]
    trace.forget_after(9_999)
    assert trace.epochs.tolist() == [2, 10, 9_999]


def test_an_opened_run_knows_its_config_and_info(tmp_path):
    created = written(tmp_path)
    opened = Trace.open(tmp_path)
    assert opened.config == created.config == CONFIG
    assert opened.info == created.info
    assert opened.info["mean"] == [0.5]
    assert opened.info["checksums"] == {"train": images().checksum}
    np.testing.assert_array_equal(opened.read("loss"), created.read("loss"))


def test_creating_a_run_again_finds_its_epochs_and_leaves_its_description(tmp_path):
    written(tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    again = Trace.create(
        tmp_path, config=CONFIG, info={"mean": [9.0]}, splits={"train": images()}
    )
    assert again.epochs.tolist() == [1, 2, 4]
    assert again.info["mean"] == [0.5]
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_run_killed_before_its_description_was_whole_is_begun_anew(tmp_path):
    create(tmp_path)
    (tmp_path / "run.json").unlink()
    (tmp_path / "config.json").write_text("{")
    assert create(tmp_path).config == CONFIG
    assert Trace.open(tmp_path).config == CONFIG


def test_partial_files_of_a_kill_are_ignored_and_removed(tmp_path):
    trace = written(tmp_path, [1, 2])
    left = [
        tmp_path / "train" / "epoch_0003.parquet.partial-4711",
        tmp_path / "train" / "epoch_0001.parquet.partial-4711",
        tmp_path / "checkpoint.pt.partial-12",
        tmp_path / "log.csv.partial-12",
    ]
    for path in left:
        path.write_bytes(b"half")
    assert trace.epochs.tolist() == [1, 2]
    assert trace.read("loss").shape == (2, 30)
    trace.forget_after(1)
    assert trace.epochs.tolist() == [1]
    assert not any(path.exists() for path in left)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "config.json",
        "run.json",
        "samples_train.parquet",
        "train",
    ]


def test_forgetting_takes_the_held_out_epochs_along(tmp_path):
    trace = create(tmp_path, heldout=images(7))
    for epoch in (1, 2):
        trace.write(epoch, images(), columns(), split="train")
        trace.write(epoch, images(7), columns(7), split="heldout")
    trace.forget_after(1)
    assert [p.name for p in (tmp_path / "heldout").iterdir()] == ["epoch_0001.parquet"]


def test_another_config_is_refused_with_what_differs(tmp_path):
    written(tmp_path)
    other = CONFIG | {"lr": 0.2, "more": True}
    with pytest.raises(ValueError, match="run with other settings") as caught:
        create(tmp_path, config=other)
    message = str(caught.value)
    assert "lr: 0.1 there, 0.2 requested" in message
    assert "more: None there, True requested" in message
    assert "epochs" not in message
    assert "choose another folder, or delete it" in message


def test_other_labels_or_held_out_samples_are_refused(tmp_path):
    written(tmp_path)
    relabelled = images(labels=(images().labels + 1) % 3)
    for other in ({"train": relabelled}, {"heldout": images(7)}):
        with pytest.raises(ValueError, match="run on other images or labels"):
            create(tmp_path, **other)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"holds no run: config.json is missing"
    ):
        Trace.open(tmp_path / "nowhere")
    create(tmp_path)
    (tmp_path / "run.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no run: run.json is missing"):
        Trace.open(tmp_path)


def test_a_damaged_description_is_refused_by_its_name(tmp_path):
    create(tmp_path)
    path = tmp_path / "config.json"
    path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(ValueError, match=r"config.json is damaged .*; delete .* again"):
        Trace.open(tmp_path)


DAMAGE = (
    r"epoch_0002.parquet is damaged or missing \(.*\); .* delete .* and train again"
)


@pytest.mark.parametrize("kept", [0, 3, 1000, -1])
def test_a_truncated_epoch_is_refused_by_its_name(tmp_path, kept):
    trace = written(tmp_path)
    path = tmp_path / "train/epoch_0002.parquet"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=DAMAGE):
        trace.read("loss")


def test_a_missing_held_out_epoch_is_refused_by_its_name(tmp_path):
    trace = create(tmp_path, heldout=images(7))
    trace.write(2, images(), columns(), split="train")
    with pytest.raises(ValueError, match=r"heldout.epoch_0002.parquet is damaged"):
        trace.read("loss", "heldout")


def test_a_flipped_byte_never_changes_a_number_unnoticed(tmp_path):
    trace = written(tmp_path, [2])
    path = tmp_path / "train/epoch_0002.parquet"
    whole, expected = path.read_bytes(), trace.read("loss")
    noticed = 0
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(trace.read("loss"), expected)
        except ValueError as error:
            assert "epoch_0002.parquet is damaged" in str(error)
            noticed += 1
    assert noticed > len(whole) / 7 / 10  # else nothing was damaged that is read


def test_epochs_of_two_runs_in_one_folder_are_refused(tmp_path):
    trace = written(tmp_path, [1])
    relabelled = images(labels=(images().labels + 1) % 3)
    trace.write(2, relabelled, columns(), split="train")
    with pytest.raises(ValueError, match="about other samples or labels than"):
        trace.read("loss")


def test_unknown_columns_and_splits_are_refused_with_the_known_ones(tmp_path):
    trace = written(tmp_path)
    with pytest.raises(
        ValueError, match=r"unknown column 'curvature': .*mean_hvp_norm"
    ):
        trace.read("curvature")
    with pytest.raises(ValueError, match=r"split must be one of .*'heldout'.* 'test'"):
        trace.read("loss", split="test")


def test_a_run_without_epochs_or_held_out_samples_says_so(tmp_path):
    trace = create(tmp_path)
    with pytest.raises(FileNotFoundError, match="has no scored epoch yet"):
        trace.read("loss")
    with pytest.raises(
        FileNotFoundError, match="scored no split 'heldout'; set num_heldout"
    ):
        trace.read("loss", "heldout")
    with pytest.raises(FileNotFoundError, match="has no finished epoch yet"):
        trace.log()


def test_the_log_is_a_table_with_one_row_an_epoch(tmp_path):
    trace = create(tmp_path)
    (tmp_path / "log.csv").write_text("epoch,lr\n1,0.1\n2,0.05\n")
    assert trace.log()["lr"].tolist() == [0.1, 0.05]


def test_an_epoch_with_missing_unknown_or_short_columns_is_refused(tmp_path):
    trace, values = create(tmp_path), columns()
    del values["loss"]
    with pytest.raises(ValueError, match=r"missing: \['loss'\], unknown: \['more'\]"):
        trace.write(1, images(), values | {"more": np.zeros(30)}, split="train")
    short = columns() | {"margin": np.zeros(29)}
    with pytest.raises(ValueError, match="margin has 29 values for 30 samples"):
        trace.write(1, images(), short, split="train")
    assert not (tmp_path / "train").exists()


def test_a_config_that_json_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        create(tmp_path / "run", config={"lr": {0.1}})
    assert not (tmp_path / "run").exists()


def test_the_description_can_be_read_by_people(tmp_path):
    create(tmp_path)
    text = (tmp_path / "config.json").read_text()
    assert json.loads(text) == CONFIG
    assert text.count("\n") == len(CONFIG) + 2
