"""The report as its readers use it: in a browser, from a file, with keys and mouse."""

import csv

import pytest
from playwright.sync_api import expect
from test_report import CLASSES, some_nearest, some_run, some_suspects, written

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
COLUMNS = ["path", "given_label", "decision", "label", "source"]


@pytest.fixture(scope="module")
def table():
    return some_suspects()


@pytest.fixture(scope="module")
def file(tmp_path_factory, table):
    """A report whose seventh suspect has no suggested label."""
    file = tmp_path_factory.mktemp("report") / "report.html"
    changed = table.copy()
    changed.loc[6, "suggested_label"] = ""
    written(file, changed, nearest=some_nearest(table))
    return file


@pytest.fixture
def open_page(browser, file):
    """Opens the report, or another, as a reader whose browser remembers nothing."""
    contexts, faults = [], []

    def opened(path=file, context=None, **options):
        if context is None:
            context = browser.new_context(**({"viewport": WIDE} | options))
            contexts.append(context)
        page = context.new_page()
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("file:", "data:", "blob:"))
                or faults.append(f"asked for {request.url}")
            ),
        )
        page.on("console", lambda m: m.type != "error" or faults.append(m.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(path.as_uri())
        page.locator("html[data-ready]").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def current(page):
    """The name of the image in the panel."""
    return page.locator("#current code").inner_text()


def fact(page, name):
    return page.locator(f"#current dt:text-is('{name}') + dd").inner_text()


def shown(page):
    """Names of the images in the grid, in their order."""
    return page.locator("#grid .thumb").evaluate_all("all => all.map(i => i.title)")


def exported(page, tmp_path):
    """The rows of decisions.csv, the header left out."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    assert download.value.suggested_filename == "decisions.csv"
    file = tmp_path / "decisions.csv"
    download.value.save_as(file)
    with file.open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == COLUMNS
    return rows


def safe(text):
    return f"'{text}" if text.startswith(("=", "@")) else text


def row(table, i, decision, label=""):
    path, given = table["path"][i], table["label"][i]
    return [safe(path), safe(given), decision, safe(label), "0123abcd"]


def load(page, text, tmp_path, name="loaded.csv"):
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    page.locator("#file").set_input_files(file)
    message = page.locator("#message")
    expect(message).to_contain_text("oaded")
    return message.inner_text()


def test_an_image_is_marked_and_the_next_one_takes_its_place(
    open_page, table, tmp_path
):
    page = open_page()
    assert shown(page)[:3] == table["path"][:3].tolist()
    assert current(page) == table["path"][0]
    assert fact(page, "given") == table["label"][0]
    assert fact(page, "suggested") == table["suggested_label"][0]
    page.keyboard.press("w")
    assert current(page) == table["path"][1]
    page.get_by_role("button", name="Right R").click()
    page.keyboard.press("u")
    page.keyboard.press("n")
    assert shown(page)[0] == current(page) == table["path"][4]
    expect(page.locator("#progress")).to_have_text(
        "4 decided: 2 wrong, 1 right, 1 unsure"
    )
    assert exported(page, tmp_path) == [
        row(table, 0, "wrong", table["suggested_label"][0]),
        row(table, 1, "right"),
        row(table, 2, "unsure"),
        row(table, 3, "wrong"),
    ]


def test_a_label_is_chosen_by_keyboard(open_page, table, tmp_path):
    page = open_page()
    page.keyboard.press("5")
    page.keyboard.press("c")
    page.keyboard.type("käf")
    expect(page.locator("#labels li")).to_have_text(["Käfer ☃"])
    page.keyboard.press("Enter")
    page.keyboard.press("c")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.press("c")
    page.keyboard.type("cat")
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    labels = [CLASSES[4], CLASSES[4], CLASSES[2]]
    rows = [row(table, i, "wrong", label) for i, label in enumerate(labels)]
    assert exported(page, tmp_path) == [*rows, row(table, 3, "right")]


def test_the_label_that_is_given_means_right(open_page, table, tmp_path):
    page = open_page()
    page.keyboard.press("2")  # the label given
    assert exported(page, tmp_path) == [row(table, 0, "right")]


def test_without_a_suggestion_a_label_must_be_chosen(open_page, table, tmp_path):
    page = open_page()
    page.locator("#grid li").nth(6).click()
    page.keyboard.press("w")
    expect(page.locator("#choose")).to_be_focused()
    expect(page.locator("#message")).to_contain_text("No label is suggested")
    page.keyboard.type("cat")
    page.keyboard.press("Enter")
    assert exported(page, tmp_path) == [row(table, 6, "wrong", "cat")]


def test_steps_are_undone_and_done_again_even_after_a_reload(
    open_page, table, tmp_path
):
    page = open_page()
    for key in "wru":
        page.keyboard.press(key)
    page.keyboard.press("z")
    assert current(page) == table["path"][2]
    page.keyboard.press("Control+z")
    assert current(page) == table["path"][1] == shown(page)[0]
    page.keyboard.press("y")
    rows = [row(table, 0, "wrong", table["suggested_label"][0]), row(table, 1, "right")]
    assert exported(page, tmp_path) == rows
    page.reload()
    page.locator("html[data-ready]").wait_for()
    assert exported(page, tmp_path) == rows
    page.keyboard.press("z")
    assert exported(page, tmp_path) == rows[:1]
    page.keyboard.press("z")
    page.keyboard.press("z")
    expect(page.locator("#message")).to_have_text("There is nothing to undo.")
    expect(page.get_by_role("button", name="Export")).to_be_disabled()
    assert len(shown(page)) == 60


def test_an_image_put_off_comes_again_at_the_end(open_page, table):
    page = open_page()
    page.locator("#name").fill("cat/")
    names = table["path"][table["path"].str.startswith("cat/")].tolist()
    assert shown(page) == names
    page.locator("#grid li").first.click()
    page.keyboard.press("l")
    assert shown(page) == [*names[1:], names[0]]
    assert current(page) == names[1]
    expect(page.locator("#progress")).to_contain_text("0 decided")
    expect(page.locator("#progress")).to_contain_text("1 put off")
    page.locator("#state").select_option("later")
    assert shown(page) == [names[0]]


def test_several_are_marked_at_once_and_undone_at_once(open_page, table, tmp_path):
    page = open_page()
    page.locator("#grid li").first.click()
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("#selection")).to_have_text("3 selected")
    page.keyboard.press("w")
    chosen = (0, 2, 3)
    rows = [row(table, i, "wrong", table["suggested_label"][i]) for i in chosen]
    assert exported(page, tmp_path) == rows
    page.keyboard.press("z")
    assert shown(page)[:4] == table["path"][:4].tolist()
    page.locator("#grid li").nth(4).click()
    page.locator("#grid li").nth(6).click(modifiers=["Shift"])
    page.locator("#grid li").nth(8).click(modifiers=["Control"])
    expect(page.locator("#selection")).to_have_text("4 selected")
    page.keyboard.press("w")  # one of them has no suggested label
    expect(page.locator("#message")).to_contain_text("1 have no suggested label")
    chosen = (4, 5, 8)
    rows = [row(table, i, "wrong", table["suggested_label"][i]) for i in chosen]
    assert exported(page, tmp_path) == rows
    page.keyboard.press("z")
    page.get_by_role("button", name="Select all shown").click()
    page.get_by_role("button", name="Select none").click()
    page.get_by_role("button", name="Select all shown").click()
    page.keyboard.press("r")
    assert exported(page, tmp_path) == [row(table, i, "right") for i in range(60)]
    assert shown(page) == table["path"][60:].tolist()


def test_on_a_phone_several_are_selected_by_touch_and_one_is_shown(
    open_page, table, tmp_path
):
    page = open_page(viewport=PHONE, has_touch=True, is_mobile=True)
    page.locator("#grid li").nth(7).tap()
    assert current(page) == table["path"][7]
    expect(page.locator("#current code")).to_be_in_viewport()
    page.get_by_role("button", name="Select several").tap()
    for i in (1, 4, 7, 1):
        page.locator("#grid li").nth(i).tap()
    expect(page.locator("#selection")).to_have_text("2 selected")
    page.get_by_role("button", name="Right").tap()
    assert exported(page, tmp_path) == [row(table, i, "right") for i in (4, 7)]


def test_what_was_found_so_far_stands_beside_what_was_expected(open_page, table):
    page = open_page()
    expect(page.locator("#sofar")).to_be_hidden()
    for key in "wwwnwru":
        page.keyboard.press(key)
    page.locator("#grid li").nth(3).click()  # does not count: others are left open
    page.keyboard.press("r")
    # The curve says 100% at rank 1 and 95% at rank 10.
    expect(page.locator("#sofar")).to_have_text(
        "So far you have decided about the first 7 suspects: 5 of their labels are "
        "wrong, 71%. 97% were expected (90% to 100%)."
    )


def test_the_filter_keeps_what_is_asked_for(open_page, table):
    page = open_page()
    page.keyboard.press("w")
    page.keyboard.press("r")
    page.locator("#state").select_option("wrong")
    assert shown(page) == [table["path"][0]]
    page.locator("#state").select_option("all")
    page.locator("#given").select_option(CLASSES[3])
    of_class = table[table["label"] == CLASSES[3]]
    assert shown(page) == of_class["path"].tolist()
    page.locator("#suggested").select_option(CLASSES[2])
    pair = of_class[of_class["suggested_label"] == CLASSES[2]]
    assert shown(page) == pair["path"].tolist()
    expect(page.locator("#found")).to_have_text(f"{len(pair)} of 90")
    page.locator("#given").select_option("any label")
    page.locator("#suggested").select_option("any label")
    page.locator("#order").select_option("by rank in its class")
    ordered = table.sort_values(["rank_in_class", "rank"])["path"]
    assert shown(page) == ordered.head(60).tolist()
    page.get_by_role("button", name="Show more").click()
    assert shown(page) == ordered.tolist()
    page.locator("#name").fill("IMG, 77.")
    assert shown(page) == [table["path"][77]]
    page.locator("#name").fill("no such name")
    expect(page.locator("#empty")).to_be_visible()
    page.keyboard.press("Escape")


def test_classes_and_pairs_are_counted_and_lead_to_their_images(open_page, table):
    page = open_page()
    page.keyboard.press("w")
    first = table.head(30)  # as many as labels are estimated to be wrong
    cells = page.locator("#byclass tbody tr").evaluate_all(
        "all => all.map(row => [...row.cells].map(cell => cell.innerText))"
    )
    wrong = table["label"][0]
    assert {row[0]: row[1:] for row in cells} == {
        name: [
            str((table["label"] == name).sum()),
            str((first["label"] == name).sum()),
            str(int(name == wrong)),
        ]
        for name in CLASSES
    }
    name = f"{table['label'][1]} → {table['suggested_label'][1]}"
    page.locator("#bypair").get_by_role("button", name=name, exact=True).click()
    pair = table[
        (table["label"] == table["label"][1])
        & (table["suggested_label"] == table["suggested_label"][1])
    ]
    assert shown(page) == pair["path"].tolist()


def test_decisions_are_kept_by_the_browser_and_by_the_source(
    open_page, table, tmp_path, file
):
    page = open_page()
    page.keyboard.press("w")
    page.reload()
    page.locator("html[data-ready]").wait_for()
    assert shown(page)[0] == table["path"][1]
    rows = [row(table, 0, "wrong", table["suggested_label"][0])]
    assert exported(page, tmp_path) == rows
    # A second report of the same source, in which that image is settled.
    second = tmp_path / "second.html"
    rest = table.iloc[3:].assign(rank=range(1, len(table) - 2))
    written(second, rest, duplicates=None)
    again = open_page(second, page.context)
    again.keyboard.press("r")
    rows = [row(table, 3, "right"), *rows]
    assert exported(again, tmp_path) == rows
    # The first page hears of it.
    expect(page.locator("#progress")).to_contain_text("2 decided")
    # Another source knows nothing of it.
    other = tmp_path / "other.html"
    written(other, table, run=some_run(table, checksum="another"))
    expect(open_page(other, page.context).locator("#progress")).to_contain_text(
        "0 decided"
    )


def test_what_was_exported_can_be_loaded_again_elsewhere(open_page, table, tmp_path):
    page = open_page()
    page.keyboard.press("a")
    page.keyboard.press("u")
    for key in "wrn":
        page.keyboard.press(key)
    page.keyboard.press("4")
    rows = exported(page, tmp_path)
    text = (tmp_path / "decisions.csv").read_bytes()
    other = open_page()
    assert "Loaded 64 decisions, 64 of them new" in load(other, text, tmp_path)
    assert exported(other, tmp_path) == rows
    assert (tmp_path / "decisions.csv").read_bytes() == text
    other.keyboard.press("z")
    expect(other.locator("#progress")).to_contain_text("0 decided")
    # As a spreadsheet writes it: a mark at the start, and other line ends.
    changed = b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n")
    load(other, changed, tmp_path)
    assert exported(other, tmp_path) == rows


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("no/such.png,cat,right,,other", "it is about another source"),
        ("no/such.png,,right,,", "it is about another source"),
        ("{path},{given},maybe,,0123abcd", "must be wrong, right or unsure"),
        ("{path},cow,right,,0123abcd", "the label was “cow” then"),
        ("{path},{given},wrong,cow,0123abcd", "unknown label “cow”"),
        ("{path},{given},wrong,{given},0123abcd", "the label stays the same"),
        ("{path},{given},right,,0123abcd\n" * 2, "a second decision"),
        ("{path},{given},right", "3 values"),
        ('"open', "quotation mark"),
    ],
)
def test_a_wrong_file_is_refused_as_a_whole(open_page, table, tmp_path, line, why):
    page = open_page()
    quoted = {
        key: '"' + str(table[name][5]).replace('"', '""') + '"'
        for key, name in (("{path}", "path"), ("{given}", "label"))
    }
    for name, text in quoted.items():
        line = line.replace(name, text)
    good = ",".join(f'"{cell}"' for cell in row(table, 0, "right")).replace("'", "")
    said = load(page, "\n".join([",".join(COLUMNS), good, line]), tmp_path)
    assert why in said and "Nothing was loaded from loaded.csv" in said
    expect(page.locator("#progress")).to_contain_text("0 decided")


def test_a_file_without_the_columns_says_which_is_missing(open_page, tmp_path):
    page = open_page()
    said = load(page, "path,decision\na,right\n", tmp_path)
    assert "lacks the column label; it has path, decision" in said
    said = load(page, b"", tmp_path, "empty.csv")
    assert "Nothing was loaded from empty.csv. The file is empty" in said


def test_what_looks_like_a_formula_is_made_text_and_read_back(open_page, tmp_path):
    file, table = tmp_path / "a.html", some_suspects()
    names = ["=cmd|' /C calc'!A0.png", "'+1 a.png", "-2", "@sum.png", "a\nb.png", " a"]
    table.loc[: len(names) - 1, "path"] = names
    written(file, table)
    page = open_page(file)
    for _ in names:
        page.keyboard.press("r")
    found = [row[0] for row in exported(page, tmp_path)]
    assert found == [f"'{n}" for n in names[:2]] + ["-2", "'@sum.png", "a\nb.png", " a"]
    text = (tmp_path / "decisions.csv").read_bytes()
    other = open_page(file)
    assert "Loaded 6 decisions, 6 of them new" in load(other, text, tmp_path)
    assert shown(other)[0] == table["path"][6]


def test_a_file_name_that_is_no_text_is_exported_and_loaded(open_page, tmp_path):
    file, table = tmp_path / "a.html", some_suspects().astype({"path": object})
    table.loc[0, "path"] = "cat/ü\udcff\udcfe☃.png"
    written(file, table)
    page = open_page(file)
    page.keyboard.press("r")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    text = download.value.path().read_bytes()
    assert text.splitlines()[1].startswith(
        "cat/ü".encode() + b"\xff\xfe" + "☃".encode()
    )
    other = open_page(file)
    assert "Loaded 1 decisions, 1 of them new" in load(other, text, tmp_path)
    assert shown(other)[0] == table["path"][1]


def test_images_of_the_suggested_class_and_of_the_given_one_stand_beside(
    open_page, table
):
    page = open_page()
    strips = page.locator("#beside .strip")
    heads = page.locator("#beside h3").all_inner_texts()
    assert heads[:2] == [
        f"Nearest images labelled {table['suggested_label'][0]}",
        f"Typical images labelled {table['label'][0]}",
    ]
    nearest = some_nearest(table)
    wanted = nearest[nearest["index"] == table["index"][0]]["neighbour_path"]
    titles = strips.first.locator(".thumb").evaluate_all("all => all.map(i => i.title)")
    label = table["suggested_label"][0]
    assert titles == [f"{path}: {label}" for path in wanted]
    page.keyboard.press("ArrowRight")
    assert current(page) == table["path"][1]
    same = f"The same image, labelled {table['label'][2]}"
    assert same in page.locator("#beside h3").all_inner_texts()


def test_a_duplicate_can_be_decided_about(open_page, table, tmp_path):
    page = open_page()
    note = "2 images occur more than once, 1 of them under different labels"
    expect(page.locator("#groupnote")).to_contain_text(note)
    page.locator("#groups button").nth(2).click()
    assert current(page) == table["path"][50]
    page.get_by_role("button", name="No label fits").click()
    expect(page.locator("#groups li").nth(2)).to_contain_text("wrong: no label fits")
    assert exported(page, tmp_path) == [row(table, 50, "wrong")]


def test_keys_typed_into_a_field_decide_nothing(open_page):
    page = open_page()
    page.locator("#name").press_sequentially("wrunz1")
    page.locator("#given").focus()
    page.keyboard.press("w")
    expect(page.locator("#progress")).to_contain_text("0 decided")
    page.get_by_role("button", name="Keys").click()
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("w")
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()
    expect(page.locator("#progress")).to_contain_text("0 decided")


def test_all_of_it_works_with_the_tab_key_alone(open_page, table):
    page = open_page()
    for _ in range(60):
        page.keyboard.press("Tab")
        focus = page.evaluate("document.activeElement.id")
        if focus == "item-0":
            break
    assert focus == "item-0"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "item-1"
    page.keyboard.press("w")
    assert page.evaluate("document.activeElement.id") == "item-2"
    assert current(page) == table["path"][2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_page_fits_and_can_be_read(open_page, scheme, viewport):
    page = open_page(viewport=viewport, color_scheme=scheme)
    page.keyboard.press("w")
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= viewport["width"]
    back, text = page.evaluate(
        "(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))"
    )
    light = [sum(map(int, c[4:-1].split(","))) for c in (back, text)]
    assert (light[0] > 600 > 200 > light[1]) == (scheme == "light")
    assert (light[0] < 200 < 500 < light[1]) == (scheme == "dark")
    for name in ("precision", "distribution"):
        box = page.locator(f"#{name} svg").bounding_box()
        assert box["width"] > 300 and box["x"] + box["width"] <= viewport["width"]


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_thumbnails_show_their_image_and_no_part_of_another(open_page, viewport):
    page = open_page(viewport=viewport)
    sizes = page.locator(".thumb").evaluate_all(
        "all => all.map(i => [i.clientWidth, i.clientHeight])"
    )
    assert len(sizes) > 70
    assert all(width == height > 30 for width, height in sizes)
    loaded = page.locator("#grid .thumb").first.evaluate(
        """async image => {
            const picture = new Image();
            picture.src = getComputedStyle(image).backgroundImage.slice(5, -2);
            await picture.decode();
            return picture.naturalWidth;
        }"""
    )
    assert loaded == 80  # ten of eight pixels
    positions = page.locator("#grid .thumb").evaluate_all(
        "all => all.slice(0, 12).map(i => i.style.backgroundPosition)"
    )
    assert len(set(positions)) == 12 and positions[0] == "0% 0%"
    assert positions[11].startswith("11.1111% 11.1111%")
