import io
import re
from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from curvlib.book import figures

RNG = np.random.default_rng(0)
RNG_PLACES = np.random.default_rng(1).uniform(size=(12, 20))
WRONG = np.arange(40) % 4 == 0
IMAGES = RNG.integers(0, 256, size=(12, 8, 8, 3)).astype(np.uint8)
TABLE = pd.DataFrame(
    [
        {"score": score, "noise_rate": rate, "seed": seed, "auroc": mean + step}
        for score, mean in [("loss", 0.8), ("curvature", 0.9), ("random", 0.5)]
        for rate in (0.01, 0.1)
        for seed, step in enumerate((-0.02, 0.0, 0.02))
    ]
)

FIGURES = {
    "gallery": lambda: figures.gallery(
        IMAGES,
        label=["aquarium_fish", "cat"] * 6,
        score=np.linspace(0, 1, 12),
        index=np.arange(12),
        marked=np.arange(12) == 3,
        title="Some images",
    ),
    "distributions": lambda: figures.distributions(
        np.arange(40.0), {"clean": ~WRONG, "mislabelled": WRONG}
    ),
    "epoch_band": lambda: figures.epoch_band(
        [1, 2, 4], {"clean": np.ones((3, 5)), "mislabelled": np.full((3, 2), 2.0)}
    ),
    "score_dots": lambda: figures.score_dots(TABLE[TABLE["noise_rate"] == 0.1]),
    "auroc_by_noise": lambda: figures.auroc_by_noise(TABLE),
    "lines": lambda: figures.lines(
        TABLE, "noise_rate", "auroc", by="score", band="noise_rate", error="noise_rate"
    ),
    "density": lambda: figures.density(np.eye(3), np.arange(4), np.arange(4)),
}
CHECK = pd.DataFrame(
    {
        "space": ["pixels"] * 3,
        "asked": ["any labels"] * 3,
        "similarity": [0.9, 0.5, 0.1],
        "found": [4, 40, 100],
        "decoys": [0, 8, 90],
        "precision": [0.5, 0.75, 0.08],
    }
)
THRESHOLDS = pd.DataFrame(
    [
        {"space": space, "asked": asked, "threshold": threshold}
        for space, asked, threshold in (
            ("pixels", "any labels", 0.4),
            ("pixels", "different labels", np.nan),
            ("network", "any labels", 0.6),
        )
    ]
)
CURVES = pd.DataFrame(
    [
        {"pair": pair, "index": 2 * pair + k, "class": "ab"[k], "epoch": epoch}
        | {"probability": 0.5 + (0.1 - 0.2 * k) * epoch}
        for pair in range(4)
        for k in (0, 1)
        for epoch in (1, 2)
    ]
)
BINS = pd.DataFrame(
    [
        {"quantity": name, "low": 10.0**k, "high": 10.0 ** (k + 1), "images": k + 1}
        for name in ("memorization", "curvature_norm")
        for k in range(3)
    ]
)
WHOLE = {  # these return a figure, not axes
    "note": lambda: figures.note("There are no such pairs."),
    "side_by_side": lambda: figures.side_by_side(
        CURVES[CURVES["pair"] == 0],
        "epoch",
        {"probability": "probability", "index": "index"},
        by="class",
        log=["probability"],
    ),
    "precision_check": lambda: figures.precision_check(CHECK, THRESHOLDS),
    "place_map": lambda: figures.place_map(
        pd.DataFrame(RNG_PLACES, columns=[f"score_{i}" for i in range(20)])
    ),
    "pair_curves": lambda: figures.pair_curves(CURVES),
    "densities": lambda: figures.densities(
        {"rank of curvature_norm": np.eye(3), "loss": 9 * np.eye(3)},
        np.arange(4),
        np.arange(4),
        ylabel="memorization",
    ),
    "histograms": lambda: figures.histograms(BINS, "quantity", log=["curvature_norm"]),
}
each_figure = pytest.mark.parametrize("name", [*FIGURES, *WHOLE])


@pytest.fixture(autouse=True)
def no_window_and_no_figure_left_open():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def figure_of(name):
    drawn = (FIGURES | WHOLE)[name]()
    return drawn if name in ("gallery", *WHOLE) else drawn.figure


def png(figure, **options):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", **options)
    return buffer.getvalue()


def pixels(figure):
    return plt.imread(io.BytesIO(png(figure)))


def texts(figure):
    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


@each_figure
def test_the_same_arguments_give_the_same_bytes(name):
    assert png(figure_of(name)) == png(figure_of(name))


@each_figure
def test_figures_are_as_wide_as_the_page_on_opaque_white(name):
    figure = figure_of(name)
    drawn = pixels(figure)
    assert figure.get_size_inches()[0] == 7
    assert (drawn[..., 3] == 1).all()
    assert (drawn[[0, 0, -1, -1], [0, -1, 0, -1]] == 1).all()


@each_figure
def test_no_text_is_smaller_than_8_points(name):
    figure = figure_of(name)
    figure.canvas.draw()
    assert min(t.get_size() for t in figure.findobj(Text) if t.get_text()) >= 8


@each_figure
def test_nothing_is_cut_off_at_the_edge_of_the_figure(name):
    figure = figure_of(name)
    figure.canvas.draw()
    needed, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(needed.x0, needed.y0) >= -0.01  # inches
    assert needed.x1 <= width + 0.01 and needed.y1 <= height + 0.01


@each_figure
def test_settings_of_matplotlib_are_left_alone(name):
    before = mpl.rcParams.copy()
    figure_of(name)
    assert mpl.rcParams == before


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "gallery"])
def test_plots_draw_into_the_axes_given(name, monkeypatch):
    _, mine = plt.subplots()
    function = getattr(figures, name)
    monkeypatch.setattr(figures, name, lambda *a, **k: function(*a, **k, ax=mine))
    assert FIGURES[name]() is mine
    assert plt.get_fignums() == [mine.figure.number]


def test_gallery_enlarges_pixels_without_mixing_them():
    image = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 0, 0]]], np.uint8)
    drawn = pixels(figures.gallery(image[None], columns=5))[..., :3]
    colours = {tuple(pixel) for pixel in drawn.reshape(-1, 3)}
    assert colours == {(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)}
    areas = [(drawn == np.array(colour)).all(2).sum() for colour in image[0] / 255]
    assert abs(areas[0] - areas[1]) <= 0.03 * areas[0]


def test_gallery_draws_grey_images_as_colour_images_with_equal_channels():
    grey = IMAGES[..., 0]
    expected = png(figures.gallery(np.repeat(grey[..., None], 3, axis=3)))
    assert png(figures.gallery(grey)) == expected
    assert png(figures.gallery(grey[..., None])) == expected


def test_gallery_writes_caption_label_score_and_index_below_each_image():
    figure = figures.gallery(
        IMAGES[:2],
        ["first", "second"],
        label=["aquarium_fish", 3],
        score=[0.123456, 2e-7],
        index=np.array([40, 41]),
        columns=2,
    )
    assert texts(figure) == [
        *("first", "aquarium fish", "0.123", "#40"),
        *("second", "3", "2e-07", "#41"),
    ]


def test_gallery_shows_ranks_and_names_once_what_a_row_has_in_common():
    figure = figures.gallery(
        IMAGES[:4],
        rank=[1, 2, 1, 20_000],
        rows=["curvature_norm", "loss"],
        columns=2,
    )
    shown = texts(figure)
    assert shown[:4] == ["rank 1", "rank 2", "rank 1", "rank 20,000"]
    assert shown[4:] == ["mean curvature (norm)", "loss"]
    with pytest.raises(ValueError, match="rows must be one for each of 2 rows, got 1"):
        figures.gallery(IMAGES[:4], rows=["one"], columns=2)


def test_gallery_never_breaks_within_a_number():
    figure = figures.gallery(IMAGES[:2], score=[116345.0, 1.16e-11], columns=20)
    assert texts(figure) == ["116,345", "1.16e-11"]


def test_gallery_writes_the_error_of_a_score_beside_it():
    figure = figures.gallery(
        IMAGES[:2], score=[0.123456, 2.0], error=[0.02, np.nan], columns=2
    )
    assert texts(figure) == ["0.123 ± 0.020", "2"]
    with pytest.raises(ValueError, match="give score too"):
        figures.gallery(IMAGES, error=np.ones(12))
    with pytest.raises(ValueError, match=r"error must be one for each of 12 .* got 5"):
        figures.gallery(IMAGES, score=np.ones(12), error=np.ones(5))


def test_gallery_breaks_a_caption_that_is_wider_than_its_image():
    figure = figures.gallery(IMAGES[:2], ["a golden retriever", "i" * 60])
    first, second, *name = texts(figure)
    assert (first, second) == ("a golden", "retriever")
    assert len(name) > 1 and "".join(name) == "i" * 60


def test_gallery_marks_by_frame_and_sign_and_says_what_they_mean():
    marked = np.arange(12) % 5 == 0  # 3 of 12
    figure = figures.gallery(IMAGES, marked=marked, marked_as="wrong label")
    frames = [r for r in figure.findobj(Rectangle) if r.get_linewidth() == 2.5]
    assert len(frames) == 3
    assert texts(figure).count("≠") == 3 + 1  # and one that explains
    assert "wrong label" in texts(figure)


def test_gallery_without_a_marked_image_explains_no_sign():
    assert texts(figures.gallery(IMAGES, marked=np.zeros(12, dtype=bool))) == []


def test_gallery_needs_uint8_images_of_a_known_shape():
    with pytest.raises(ValueError, match=r"images must be uint8 .* got float64"):
        figures.gallery(IMAGES / 255)
    with pytest.raises(ValueError, match=r"C of 1 or 3, got \[12, 8, 8, 2\]"):
        figures.gallery(IMAGES[..., :2])
    with pytest.raises(ValueError, match=r"n at least 1 .* got \[0, 8, 8, 3\]"):
        figures.gallery(IMAGES[:0])


def test_gallery_says_in_words_that_there_is_nothing_to_show():
    figure = figures.gallery(IMAGES[:0], [], marked=np.zeros(0, bool), nothing="none")
    assert texts(figure) == ["none"]
    assert "none" not in texts(figures.gallery(IMAGES, nothing="none"))


def test_gallery_marks_with_another_sign():
    marked = np.arange(12) == 3
    assert texts(figures.gallery(IMAGES, marked=marked, sign="+")).count("+") == 2


@pytest.mark.parametrize("name", ["captions", "label", "score", "index", "marked"])
def test_gallery_needs_one_of_each_for_every_image(name):
    values = np.zeros(5, dtype=bool)
    with pytest.raises(ValueError, match=f"{name} must be one for each of 12 .* got 5"):
        figures.gallery(IMAGES, **{name: values})


def test_gallery_needs_a_column_and_bool_marks():
    with pytest.raises(ValueError, match="columns must be at least 1, got 0"):
        figures.gallery(IMAGES, columns=0)
    with pytest.raises(ValueError, match="marked must be bool, got int64"):
        figures.gallery(IMAGES, marked=np.arange(12))


def test_a_precision_check_draws_counts_above_precision_below_and_thresholds():
    figure = figures.precision_check(CHECK, THRESHOLDS)
    upper, other, lower, _ = figure.axes
    found, decoys = upper.get_lines()
    np.testing.assert_array_equal(found.get_ydata(), [4, 40, 100])
    np.testing.assert_array_equal(decoys.get_ydata(), [np.nan, 8, 90])
    precision, *thresholds = lower.get_lines()
    np.testing.assert_array_equal(precision.get_ydata(), [0.5, 0.75, 0.08])
    assert [line.get_xdata()[0] for line in thresholds] == [0.4, 0.6]
    assert [ax.get_title() for ax in (upper, other)] == [
        "any labels",
        "different labels",
    ]
    assert "network" not in texts(figure)  # of it only the threshold is known


def test_columns_are_drawn_side_by_side_with_a_line_for_each_group():
    figure = WHOLE["side_by_side"]()
    left, right = figure.axes
    assert (left.get_yscale(), right.get_yscale()) == ("log", "linear")
    assert [line.get_label() for line in left.get_lines()] == ["a", "b"]
    np.testing.assert_allclose(left.get_lines()[0].get_ydata(), [0.6, 0.7])
    np.testing.assert_allclose(right.get_lines()[1].get_ydata(), [1, 1])
    assert texts(figure).count("a") == 1  # one legend for both
    with pytest.raises(ValueError, match=r"the columns \['epoch', 'class', 'loss'\]"):
        figures.side_by_side(CURVES, "epoch", {"loss": "loss"}, by="class")


def test_a_place_map_has_a_row_for_each_score_the_best_on_top_and_a_dot_an_image():
    places = pd.DataFrame(
        {"curvature_norm": [1.0, 0.999], "random": [0.1, 0.5]}, index=["7 cat", "8 dog"]
    )
    figure = figures.place_map(places)
    (ax,) = figure.axes
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "random",
        "mean curvature (norm)",
    ]
    assert ax.get_xscale() == "log"
    low, _, high, median = ax.get_lines()
    np.testing.assert_allclose(low.get_xdata(), [90, 50])
    np.testing.assert_allclose(high.get_xdata(), [0.01, 0.1])  # a log axis has no 0
    np.testing.assert_allclose(median.get_xdata(), 0.055)
    assert texts(figures.place_map(places[:0], nothing="none")) == ["none"]


def test_pair_curves_have_a_panel_for_each_pair_and_a_line_for_each_label():
    figure = figures.pair_curves(CURVES)
    drawn = [ax for ax in figure.axes if ax.get_lines()]
    assert [ax.get_title() for ax in drawn] == ["a / b"] * 4
    first, second = drawn[0].get_lines()
    np.testing.assert_allclose(first.get_ydata(), [0.6, 0.7])
    np.testing.assert_allclose(second.get_ydata(), [0.4, 0.3])
    assert first.get_linestyle() != second.get_linestyle()
    assert first.get_marker() == "None"
    alone = figures.pair_curves(CURVES[CURVES["epoch"] == 2])
    assert alone.axes[0].get_lines()[0].get_marker() == "o"  # a line needs two epochs
    assert texts(figures.pair_curves(CURVES[:0], nothing="none")) == ["none"]


def test_distributions_are_shares_of_each_group():
    score, rare = np.array([1.0, 1.0, 1.0, 4.0, 4.0]), np.array([0, 0, 0, 1, 0]) == 1
    ax = figures.distributions(score, {"many": ~rare, "few": rare}, bins=2)
    many, few = (patch.get_data() for patch in ax.patches)
    np.testing.assert_allclose(many.edges, [1, 2, 4])  # equal steps of the logarithm
    np.testing.assert_allclose(many.values, [3 / 4, 1 / 4])
    np.testing.assert_allclose(few.values, [0, 1])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "many, n = 4",
        "few, n = 1",
    ]


def test_distributions_keep_zeros_in_the_leftmost_bin_of_a_logarithmic_axis():
    score = np.array([0.0, 0.0, 1.0, 100.0])
    ax = figures.distributions(score, {"all": np.ones(4, dtype=bool)}, bins=2)
    np.testing.assert_allclose(ax.patches[0].get_data().values, [3 / 4, 1 / 4])
    assert ax.get_legend().get_texts()[0].get_text() == "all, n = 4 (2 at zero)"


def test_distributions_on_a_linear_axis_take_negative_scores():
    score = np.array([-2.0, -2.0, -2.0, 2.0])
    ax = figures.distributions(score, {"all": score < 9}, log=False, bins=2)
    np.testing.assert_allclose(ax.patches[0].get_data().values, [3 / 4, 1 / 4])
    assert ax.get_xscale() == "linear"


@pytest.mark.parametrize("log", [True, False])
def test_distributions_of_a_constant_are_one_bin(log):
    ax = figures.distributions(np.full(3, 5.0), {"all": np.ones(3, bool)}, log=log)
    np.testing.assert_array_equal(ax.patches[0].get_data().values, [1.0])


def test_distributions_refuse_what_they_cannot_show():
    every = {"all": np.ones(2, dtype=bool)}
    with pytest.raises(ValueError, match=r"got -1 to 1; use log=False"):
        figures.distributions(np.array([-1.0, 1.0]), every)
    with pytest.raises(ValueError, match=r"got 0 to 0; use log=False"):
        figures.distributions(np.zeros(2), every)
    with pytest.raises(ValueError, match="score must be finite, got nan"):
        figures.distributions(np.array([np.nan, 1.0]), every)
    with pytest.raises(ValueError, match="group 'none' is empty"):
        figures.distributions(np.ones(2), {"none": np.zeros(2, dtype=bool)})
    with pytest.raises(ValueError, match=r"'some' must be a bool mask .* got int64"):
        figures.distributions(np.ones(2), {"some": np.array([0, 1])})
    with pytest.raises(ValueError, match=r"mask of shape \(2,\).* shape \(3,\)"):
        figures.distributions(np.ones(2), {"some": np.ones(3, dtype=bool)})


def test_epoch_band_draws_the_median_between_two_quantiles():
    values = np.array([[0.0, 1, 2, 3, 4], [10, 11, 12, 13, 14]])
    ax = figures.epoch_band([2, 4], values)
    (line,) = ax.get_lines()
    np.testing.assert_array_equal(line.get_xydata(), [[2, 2], [4, 12]])
    corners = {tuple(v) for v in ax.collections[0].get_paths()[0].vertices}
    assert corners == {(2, 1), (2, 3), (4, 11), (4, 13)}
    assert ax.get_legend().get_title().get_text() == "median; band: 25 to 75%"


def test_epoch_band_gives_each_group_its_own_colour_line_and_marker():
    ax = figures.epoch_band(
        [1, 2], {"clean": np.ones((2, 3)), "wrong": np.ones((2, 1))}
    )
    figures.epoch_band([1, 2], {"unseen": np.ones((2, 7))}, ax=ax)
    looks = [(x.get_color(), x.get_linestyle(), x.get_marker()) for x in ax.get_lines()]
    for look in zip(*looks, strict=True):
        assert len(set(look)) == 3
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "clean, n = 3",
        "wrong, n = 1",
        "unseen, n = 7",
    ]


def test_epoch_band_refuses_what_is_not_epochs_by_samples():
    with pytest.raises(
        ValueError, match=r"'a' must have shape \[3, n\].* got \[2, 4\]"
    ):
        figures.epoch_band([1, 2, 3], {"a": np.ones((2, 4))})
    with pytest.raises(ValueError, match=r"at least one sample, got \[3, 0\]"):
        figures.epoch_band([1, 2, 3], np.ones((3, 0)))
    with pytest.raises(ValueError, match="group 'a' must be finite, got inf"):
        figures.epoch_band([1], {"a": np.array([[np.inf]])})
    with pytest.raises(ValueError, match=r"low < high <= 1, got \(0\.9, 0\.1\)"):
        figures.epoch_band([1], np.ones((1, 1)), quantiles=(0.9, 0.1))


def test_score_dots_put_the_best_on_top_with_mean_and_sd():
    ax = FIGURES["score_dots"]()
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "random",
        "loss",
        "curvature",
    ]
    means = [container.lines[0].get_xdata()[0] for container in ax.containers]
    np.testing.assert_allclose(means, [0.5, 0.8, 0.9])
    # Sample standard deviation of -0.02, 0, 0.02 is 0.02.
    ((left, right),) = ax.containers[2].lines[2][0].get_segments()
    np.testing.assert_allclose([left[0], right[0]], [0.88, 0.92])
    assert ax.get_xlabel() == "AUROC, mean ± sd of 3 seeds"


def test_score_dots_draw_random_hollow():
    faces = [
        c.lines[0].get_markerfacecolor() for c in FIGURES["score_dots"]().containers
    ]
    assert [face == "white" for face in faces] == [True, False, False]


def test_score_dots_of_one_seed_have_no_whisker():
    ax = figures.score_dots(TABLE[(TABLE["noise_rate"] == 0.1) & (TABLE["seed"] == 0)])
    for container in ax.containers:
        ((left, right),) = container.lines[2][0].get_segments()
        assert left[0] == right[0]
    assert ax.get_xlabel() == "AUROC, one seed"


def test_score_dots_name_the_column_that_is_missing():
    with pytest.raises(ValueError, match=r"columns \['score', 'ap'\], got 18 rows of"):
        figures.score_dots(TABLE, value="ap")
    with pytest.raises(ValueError, match="got 0 rows"):
        figures.score_dots(TABLE[:0])
    with pytest.raises(ValueError, match="auroc must be finite, got nan"):
        figures.score_dots(TABLE.assign(auroc=np.nan))


def test_auroc_by_noise_draws_a_line_a_score_and_names_it_at_its_end():
    ax = figures.auroc_by_noise(TABLE)
    lines = [line.get_xydata() for line in ax.get_lines()]
    expected = [[[0.01, m], [0.1, m]] for m in (0.8, 0.9, 0.5)]
    np.testing.assert_allclose(lines, expected)
    assert {t.get_text() for t in ax.texts} == {"loss", "curvature", "random"}
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "10"]


def test_auroc_by_noise_keeps_the_names_of_equal_lines_apart():
    names = [f"score_{k:02}" for k in range(15)]
    frame = pd.DataFrame(
        [{"score": n, "noise_rate": r, "auroc": 0.9} for n in names for r in (0.1, 0.2)]
    )
    ax = figures.auroc_by_noise(frame)
    ax.figure.canvas.draw()
    boxes = sorted(Text.get_window_extent(t).extents[[1, 3]].tolist() for t in ax.texts)
    assert all(low[1] <= high[0] for low, high in pairwise(boxes))
    assert len(boxes) == figures.NAMED
    assert ax.get_title(loc="right") == "grey: 9 other scores"


def test_auroc_by_noise_names_the_best_scores_and_the_random_one():
    means = {f"score_{k}": k / 10 for k in range(8)} | {"random": 0.05}
    frame = pd.DataFrame(
        [
            {"score": n, "noise_rate": r, "auroc": mean}
            for n, mean in means.items()
            for r in (0.1, 0.2)
        ]
    )
    named = {t.get_text() for t in figures.auroc_by_noise(frame).texts}
    assert named == {"random", *(f"score {k}" for k in (3, 4, 5, 6, 7))}
    with pytest.raises(ValueError, match="highlight at most 6 scores, got 7"):
        figures.auroc_by_noise(frame, highlight=list(means)[:7])


def test_auroc_by_noise_highlights_in_colour_and_leaves_the_rest_grey():
    ax = figures.auroc_by_noise(TABLE, highlight=["curvature"])
    colours = [line.get_color() for line in ax.get_lines()]
    assert [colour == figures.GREY for colour in colours] == [True, False, True]


def test_auroc_by_noise_names_what_it_lacks():
    with pytest.raises(
        ValueError, match=r"no rows for \['aum'\] .* there are \['loss'"
    ):
        figures.auroc_by_noise(TABLE, highlight=["aum"])
    with pytest.raises(
        ValueError, match=r"the columns \['score', 'noise_rate', 'auroc'\]"
    ):
        figures.auroc_by_noise(TABLE.drop(columns="noise_rate"))


def test_lines_draw_a_line_for_each_group_in_its_order():
    table = TABLE[TABLE["seed"] == 0]
    ax = figures.lines(table, "noise_rate", "auroc", by="score", ylabel="AUROC")
    drawn = ax.get_lines()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "loss",
        "curvature",
        "random",
    ]
    for line, (_, part) in zip(drawn, table.groupby("score", sort=False), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), part["noise_rate"])
        np.testing.assert_array_equal(line.get_ydata(), part["auroc"])
    looks = {(line.get_color(), line.get_linestyle()) for line in drawn}
    assert len(looks) == 3
    assert ax.get_xlabel() == "noise rate" and ax.get_ylabel() == "AUROC"


@pytest.mark.parametrize("band", ["half", ("low", "high")])
def test_a_band_is_given_by_its_half_width_or_by_its_ends(band):
    table = pd.DataFrame({"x": [1, 2], "y": [5.0, 6.0], "half": [1.0, 2.0]})
    table = table.assign(
        low=table["y"] - table["half"], high=table["y"] + table["half"]
    )
    ax = figures.lines(table, "x", "y", band=band)
    (drawn,) = ax.collections
    corners = {tuple(map(float, point)) for point in drawn.get_paths()[0].vertices}
    assert corners == {(1, 4), (1, 6), (2, 4), (2, 8)}


def test_whole_numbers_have_no_ticks_between_them():
    table = pd.DataFrame({"epoch": np.arange(1, 21), "y": np.ones(20)})
    ticks = figures.lines(table, "epoch", "y").get_xticks()
    assert all(float(tick).is_integer() for tick in ticks)


def test_points_that_are_not_joined_have_markers_and_error_bars():
    table = pd.DataFrame({"x": np.arange(40.0), "y": np.ones(40), "e": np.ones(40)})
    ax = figures.lines(table, "x", "y", error="e", joined=False)
    (line,) = ax.get_lines()
    assert line.get_linestyle() == "None" and line.get_marker() == "o"
    assert len(ax.collections[0].get_segments()) == 40
    assert ax.get_legend() is None


def test_several_columns_are_several_lines_on_logarithmic_axes():
    table = pd.DataFrame({"m": [1, 10], "first_one": [1.0, 2.0], "second": [3.0, 4.0]})
    ax = figures.lines(table, "m", ["first_one", "second"], log="xy", ylabel="size")
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["first one", "second"]
    heights = [list(line.get_ydata()) for line in ax.get_lines()]
    assert heights == [[1, 2], [3, 4]]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_lines_refuse_a_column_that_is_missing_or_not_finite():
    table = pd.DataFrame({"x": [1, 2], "y": [1.0, np.nan]})
    with pytest.raises(ValueError, match="needs rows and the columns"):
        figures.lines(table, "x", "z")
    with pytest.raises(ValueError, match="y must be finite"):
        figures.lines(table, "x", "y")


def test_lines_beyond_six_are_grey_and_have_one_name():
    table = pd.DataFrame(
        [{"x": x, "y": g, "group": f"g_{g}"} for g in range(9) for x in (0, 1)]
    )
    ax = figures.lines(table, "x", "y", by="group", highlight=["g_8", "g_0"])
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["7 others", "g 8", "g 0"]
    colours = [line.get_color() for line in ax.get_lines()]
    assert colours.count(figures.GREY) == 7
    ax = figures.lines(table, "x", "y", by="group")
    assert len(ax.get_legend().get_texts()) == figures.NAMED + 1
    with pytest.raises(ValueError, match=r"highlight at most 6 of \['g_0'"):
        figures.lines(table, "x", "y", by="group", highlight=["g_9"])


def test_a_bin_that_squeezes_the_others_makes_the_shares_logarithmic():
    score = np.concatenate([np.ones(1000), np.linspace(2, 10, 40)])
    every = {"all": np.ones(1040, dtype=bool)}
    assert figures.distributions(score, every).get_yscale() == "log"
    linear = figures.distributions(score, every, log_shares=False)
    assert linear.get_yscale() == "linear"
    spread = figures.distributions(score[1000:], {"all": every["all"][:40]}, log=False)
    assert spread.get_yscale() == "linear"


def test_data_sets_have_a_panel_each_and_one_legend():
    def draw(table, ax):
        figures.lines(table, "x", "y", by="group", ylabel="accuracy", ax=ax)

    table = pd.DataFrame({"x": [0, 1] * 2, "y": [1.0, 2, 3, 4], "group": [*"aabb"]})
    data = {"digits": table, "CIFAR-10": table, "MNIST": table}
    figure = figures.by_dataset(data, draw)
    drawn = [ax for ax in figure.axes if ax.get_lines()]
    assert [ax.get_title() for ax in drawn] == list(data)
    assert [ax.get_ylabel() for ax in drawn] == ["accuracy", "", "accuracy"]
    assert [ax.get_xlabel() for ax in drawn] == ["", "x", "x"]
    assert all(ax.get_legend() is None for ax in drawn)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    alone = figures.by_dataset({"digits": table}, draw)
    assert alone.axes[0].get_legend() is not None and not alone.legends
    with pytest.raises(ValueError, match="at least one data set, got none"):
        figures.by_dataset({}, draw)


def test_one_legend_leaves_out_the_numbers_that_differ():
    data = {"digits": np.arange(40.0), "MNIST": np.arange(40.0)}
    groups = {"clean": ~WRONG, "mislabelled": WRONG}
    figure = figures.by_dataset(
        data, lambda score, ax: figures.distributions(score, groups, ax=ax)
    )
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["clean", "mislabelled"]


def test_a_table_has_words_for_names_and_keeps_values_with_their_spread():
    frame = pd.DataFrame(
        {
            "score": ["curvature_norm", "in <b>"],
            "top_overlap": [0.12345, np.nan],
            "auroc": ["0.91 ± 0.02", "–"],
            "n": [1200, 3],
        }
    )
    page = figures.table(frame, formats={"n": "{:,}"}, auroc="AUROC")._repr_html_()
    heads = ["score", "top overlap", "AUROC", "n"]
    assert re.findall(r"<th scope=\S+( class=number)?>([\w ]+)</th>", page) == [
        ("" if head == "score" else " class=number", head) for head in heads
    ]
    first = ["0.123", "0.91 ± 0.02", "1,200"]
    cells = "".join(f'<td class="number">{text}</td>' for text in first)
    assert f"<tr><td>mean curvature (norm)</td>{cells}</tr>" in page
    assert '<td>in &lt;b&gt;</td><td class="number">–</td>' in page
    assert "details" not in page


def test_a_long_table_offers_its_other_rows():
    short, long = (pd.DataFrame({"a": range(n)}) for n in (6, 7))
    assert "<details" not in figures.table(short)._repr_html_()
    page = figures.table(long)._repr_html_()
    assert "<summary>Show all 7 rows</summary>" in page
    assert page.count("<tr>") == 1 + 7


def test_density_leaves_empty_cells_white_and_darkens_with_the_count():
    counts = np.array([[0, 1], [10, 100]])
    ax = figures.density(counts, [0, 1, 2], [0, 1, 2], bar=None)
    ax.figure.canvas.draw()
    (mesh,) = ax.collections
    shown = mesh.get_array()  # a row for each cell of y
    np.testing.assert_array_equal(shown.filled(0).reshape(2, 2), counts.T)
    assert shown.mask.sum() == 1
    darkness = [-sum(mesh.to_rgba(value)[:3]) for value in (1, 10, 100)]
    assert darkness == sorted(darkness)


def test_densities_share_one_scale_of_colours():
    first, second = WHOLE["densities"]().axes[:2]
    norms = [ax.collections[0].norm for ax in (first, second)]
    assert [norm.vmax for norm in norms] == [9, 9]
    assert first.get_xlabel() == "rank of mean curvature (norm)"


def test_histograms_have_the_bins_given_and_one_logarithmic_axis():
    first, second = WHOLE["histograms"]().axes
    assert (first.get_xscale(), second.get_xscale()) == ("linear", "log")
    steps = first.patches[0].get_data()
    assert steps.values.tolist() == [1, 2, 3]
    assert steps.edges.tolist() == [1, 10, 100, 1000]


def test_values_are_listed_with_the_words_of_their_scores():
    values = pd.Series({"curvature_norm": 0.5, "random": 0.00123})
    assert figures.listed(values) == "mean curvature (norm) 0.500, random 0.001"


def test_density_refuses_edges_that_do_not_fit():
    with pytest.raises(ValueError, match=r"counts must have shape \[2, 3\]"):
        figures.density(np.ones((3, 3)), np.arange(3), np.arange(4))
    with pytest.raises(ValueError, match="at least one sample"):
        figures.density(np.zeros((1, 1)), np.arange(2), np.arange(2))


def test_panels_share_the_width_of_the_page():
    figure, axes = figures.panels(3, height=2.0)
    assert list(figure.get_size_inches()) == [7, 2]
    assert len(axes) == 3


def test_a_sortable_table_sorts_by_values_and_shows_texts():
    values = pd.DataFrame(
        {"a & b": [0.5, np.nan]}, index=pd.Index(["loss", "aum"], name="score")
    )
    texts = pd.DataFrame({"a & b": ["0.500 ± 0.100", "not run"]}, index=values.index)
    page = figures.sortable_table(values, texts, caption="AUROC < 1.").data
    assert '<table class="dataframe sortable">' in page
    assert '<th scope="col">score</th><th scope="col" class=number>a &amp; b' in page
    row = '<th scope="row">{}</th><td class="number" data-value="{}">{}</td>'
    assert row.format("loss", 0.5, "0.500 <small>± 0.100</small>") in page
    assert row.format("area under the margin (AUM)", "nan", "not run") in page
    assert '<p class="table-caption">AUROC &lt; 1. Click a head to sort.</p>' in page
    empty = figures.sortable_table(values, texts.map(lambda _: None), caption="").data
    assert empty.count(">–</td>") == 2
    with pytest.raises(ValueError, match="need the same rows and columns"):
        figures.sortable_table(values, texts.rename(columns=str.upper), caption="")


def test_settings_lie_at_their_accuracy_in_the_panel_of_their_score():
    points = pd.DataFrame(
        {
            "dataset": ["digits", "digits", "CIFAR-10"],
            "kind": ["network", "head on pretrained features", "network"],
            "noise": ["symmetric", "symmetric", "pair"],
            "score": ["aum", "aum", "aum"],
            "auroc": [0.9, 0.8, 0.7],
            "right on unseen": [0.95, 0.85, 0.5],
            "wrong labels learned": 1.0,
        }
    )
    few = points[:1].assign(**{"right on unseen": 0.9, "wrong labels learned": 0.1})
    points = pd.concat([points, few], ignore_index=True)
    figure = figures.against_accuracy(
        points,
        ["aum", "random"],
        reference={"aum": [0.98]},
        curves={"aum": (np.array([0.2, 0.8]), np.array([0.6, 0.9]))},
    )
    first, second = figure.axes
    drawn = {
        (float(x), float(y)): line.get_marker()
        for line in first.get_lines()
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=False)
    }
    assert (
        drawn[0.95, 0.9] == "o" and drawn[0.5, 0.7] == "x" and drawn[1.02, 0.98] == "<"
    )
    assert drawn[0.9, 0.9] == "."
    hollow = [a for a in first.get_lines() if list(a.get_xdata()) == [0.85]]
    assert hollow[0].get_markerfacecolor() == "white"
    assert (0.2, 0.6) in drawn and first.get_title() == figures.words("aum")
    assert second.get_title() == "random"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "digits",
        "CIFAR-10",
    ]


def test_a_run_has_shares_above_and_auroc_below():
    found = {
        "right": pd.Series([0.1, 0.5], index=[2, 4]),
        "alone": pd.Series([0.6, 0.7], index=[2, 4]),
    }
    above, below = figures.along_run(found, shares=["right"], turn=3).axes
    assert [list(a.get_lines()[0].get_ydata()) for a in (above, below)] == [
        [0.1, 0.5],
        [0.6, 0.7],
    ]
    assert above.get_lines()[-1].get_xdata()[0] == 3


def test_a_map_of_the_plane_covers_its_corners_and_points_lie_on_it():
    corners = pd.DataFrame({"low": [-1.0, -2.0], "high": [1.0, 2.0]})
    values = np.linspace(0, 1, 25).reshape(5, 5)
    levels = np.linspace(0, 1, 6)
    ax = figures.plane(corners, values, levels=levels, label="p", boundary=0.5)
    assert ax.get_xlim() == (-1, 1) and ax.get_ylim() == (-2, 2)
    frame = pd.DataFrame({"x": [0.0, 0.5], "y": [1.0, -1.0], "label": [0, 1]})
    before = len(ax.collections)
    figures.points(frame.assign(wrong=[False, True]), ax=ax)
    (dots,) = ax.collections[before:]
    np.testing.assert_array_equal(dots.get_offsets(), frame[["x", "y"]])
    assert [(text.get_text(), text.xy) for text in ax.texts] == [("≠", (0.5, -1.0))]


def test_ranked_values_go_from_high_to_low_and_keep_their_group():
    values = pd.Series([1.0, 100.0, 10.0])
    mask = np.array([False, True, False])
    _, (ax,) = figures.panels(1)
    figures.ranked(values, {"right": ~mask, "wrong": mask}, ylabel="score", ax=ax)
    right, wrong = (dots.get_offsets().tolist() for dots in ax.collections)
    assert right == [[2, 10], [3, 1]] and wrong == [[1, 100]]
    assert ax.get_yscale() == "log"


def test_settings_are_sorted_by_the_accuracy_of_their_networks():
    settings = pd.DataFrame(
        {
            "setting": ["low"] * 4 + ["high"] * 4,
            "score": ["aum", "aum", "random", "random"] * 2,
            "seed": [0, 1] * 4,
            "auroc": [0.6, 0.7, 0.5, 0.5, 0.9, 0.95, 0.5, 0.5],
            "unseen": [0.2] * 4 + [0.9] * 4,
        }
    )
    ax = figures.auroc_by_setting(settings, {"aum": "the margin", "random": "chance"})
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == [
        "low\n20% right on unseen images",
        "high\n90% right on unseen images",
    ]
    assert ax.figure.legends[0].get_texts()[0].get_text() == "the margin"
    with pytest.raises(ValueError, match="no rows for"):
        figures.auroc_by_setting(settings, {"el2n": "norm"})


def test_accuracy_after_removal_has_a_panel_for_each_group_and_one_legend():
    curves = pd.DataFrame(
        {
            "way": ["at random", "at random", "highest", "highest"] * 2,
            "group": ["all"] * 4 + ["rare"] * 4,
            "removed (%)": [0.0, 10.0] * 4,
            "accuracy (%)": [90.0, 89.0, 90.0, 70.0, 80.0, 79.0, 80.0, 40.0],
            "sd": 1.0,
        }
    )
    figure = figures.by_group(curves)
    assert [ax.get_title() for ax in figure.axes] == ["all classes", "rare"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "at random",
        "highest",
    ]
    with pytest.raises(ValueError, match="needs rows and the columns"):
        figures.by_group(curves.drop(columns="sd"))


def test_the_expected_precision_stands_beside_the_truth_where_it_is_known():
    curve = pd.DataFrame({"rank": [1, 10, 100], "precision": [0.9, 0.8, 0.3]})
    curve = curve.assign(low=curve["precision"] - 0.1, high=curve["precision"] + 0.1)
    ax = figures.expected_precision(curve)
    assert len(ax.get_lines()) == 1 and ax.get_xscale() == "log"
    ax = figures.expected_precision(curve.assign(truth=[1.0, 0.7, 0.4]))
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["estimate, 90% interval", "truth"]
    assert ax.get_lines()[1].get_ydata().tolist() == [1.0, 0.7, 0.4]


def test_estimates_stand_against_the_truth_with_their_intervals():
    counts = pd.DataFrame(
        {
            "data": ["a", "a", "b"],
            "wrong": [10, 100, 50],
            "estimate": [12.0, 90.0, 0.0],
            "low": [8.0, 80.0, 0.0],
            "high": [20.0, 130.0, 70.0],
        }
    )
    ax = figures.against_truth(counts)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["a", "b"] and ax.get_xlim() == ax.get_ylim()
    with pytest.raises(ValueError, match="needs rows and the columns"):
        figures.against_truth(counts.drop(columns="low"))


def test_dots_take_errors_that_are_given():
    frame = pd.DataFrame(
        {"score": ["x", "y"], "tool": "t", "auroc": [0.1, 0.2], "sd": [0.01, 0.02]}
    )
    ax = figures.dots(frame, group="tool", order=["y", "x"], error="sd", chance=0)
    (bars,) = ax.containers
    ends = [segment[:, 0] for segment in bars[2][0].get_segments()]
    np.testing.assert_allclose(ends, [[0.18, 0.22], [0.09, 0.11]])
