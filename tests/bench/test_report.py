"""The page, as its readers use it: in a real browser."""

import shutil

import numpy as np
import pytest

from pnpkit.bench.report import write
from pnpkit.bench.report.svg import Axis
from pnpkit.bench.store import Store
from pnpkit.errors import DataError

from .toys import run, suite

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report with a method that fails, one that does not fit, and a sampler."""
    folder = tmp_path_factory.mktemp("report")
    told = suite(
        methods__colour={"prior": "photos", "solver": {"name": "hqs"}},
        methods__broken={"prior": {"name": "tv", "weight": 1.0}, "solver": {"name": "pdhg", "n_steps": 3}, "chains": 2},
        methods__sampler={"prior": "photos_gray", "solver": {"name": "ddrm", "n_steps": 3}, "chains": 9},
        tasks__holes={
            "operator": {
                "name": "inpainting", "shape": "$shape",
                "mask": {"make": "random_mask", "shape": "$plane", "fraction": 0.5},
            },
            "noise": {"name": "gaussian", "sigma": 0.05},
        },
        baseline="TV",
    )  # fmt: skip
    store = Store(folder / "store")
    run(told, store)
    size = write(store, None, folder / "report.html")
    return store, folder / "report.html", size


@pytest.fixture
def page(made):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1280, "height": 900})
        heard, fetched = [], []
        view.on("console", lambda m: heard.append(m.text))
        view.on("pageerror", lambda e: heard.append(str(e)))
        view.on("request", lambda r: fetched.append(r.url))
        view.goto(f"file://{made[1]}")
        yield view
        assert heard == [], "console messages"
        assert [u for u in fetched if not u.startswith(("file:", "data:"))] == [], "the page must fetch nothing"
        browser.close()


def rows(page) -> list[str]:
    return page.locator("#leaderboard tbody tr:visible td:nth-child(3)").all_inner_texts()


def test_it_is_one_small_file_with_everything(made):
    _, path, size = made
    text = path.read_text()
    assert size == len(text.encode()) < 1_000_000
    assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text
    for part in (
        "Leaderboard",
        "Trade-offs",
        "Convergence",
        "Calibration",
        "Tuning",
        "Skipped and failed",
        "Reproduce",
    ):
        assert f"<h2>{part}</h2>" in text
    assert "does not sample; every chain would give the same" in text and "Traceback" in text
    assert "it works on images (3, None, None)" in text


def test_sorting(page):
    def psnr() -> list[float]:
        cells = page.locator("#leaderboard tbody tr:visible td:nth-child(5)").all()
        return [float(c.get_attribute("data-value")) for c in cells]

    head = page.locator("#leaderboard th", has_text="psnr").first
    head.locator("button").click()
    assert psnr() == sorted(psnr()) and head.get_attribute("aria-sort") == "ascending"
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert psnr() == sorted(psnr(), reverse=True) and head.get_attribute("aria-sort") == "descending"


def test_filtering(page):
    total = len(rows(page))
    page.locator("select[data-column=task]").select_option("blur")
    assert len(rows(page)) == total // 2 and page.locator("#count").inner_text() == f"{total // 2} of {total} rows"
    page.locator("input[data-column=method]").fill("tv")
    assert rows(page) == ["TV"]
    page.locator("input[data-column=method]").fill("nothing like that")
    assert rows(page) == [] and page.locator("#count").inner_text() == f"0 of {total} rows"


def test_the_slider_and_the_choice_of_pictures(page):
    gallery = page.locator(".gallery").first
    over, slider = gallery.locator(".over"), gallery.locator("input[type=range]")
    whole = gallery.locator(".compare").bounding_box()["width"]
    slider.fill("20")
    assert over.bounding_box()["width"] == pytest.approx(0.2 * whole, abs=3)
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert slider.input_value() == "21" and "21 %" in slider.get_attribute("aria-valuetext")
    before = gallery.locator(".under").get_attribute("src")
    gallery.locator("select").nth(1).select_option("truth")
    assert gallery.locator(".under").get_attribute("src") != before


def test_crops_follow_the_arrow_keys(page):
    crops = page.locator(".gallery .crops").first
    place = "getComputedStyle(document.querySelector('.crop')).backgroundPosition"
    before = page.evaluate(place)
    crops.focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate(place) != before


def test_light_and_dark(page):
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.locator("#theme").click()
    assert page.evaluate(ground) != light
    page.locator("#theme").click()
    assert page.evaluate(ground) == light
    page.emulate_media(color_scheme="dark")
    page.evaluate("delete document.documentElement.dataset.theme")
    assert page.evaluate(ground) != light


def test_everything_that_is_seen_has_a_name_for_screen_readers(page):
    for picture in page.locator("img, svg, .crop").all():
        name = picture.get_attribute("alt") or picture.get_attribute("aria-label")
        assert name, picture.evaluate("e => e.outerHTML.slice(0, 120)")
    for field in page.locator("input, select, button").all():
        label = field.evaluate("e => e.getAttribute('aria-label') || e.textContent || e.closest('label')?.textContent")
        assert label and label.strip()


def test_nothing_sticks_out_on_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 392


def test_axes_hold_their_values_and_have_ticks():
    for low, high in ((20.3, 31.7), (0.0, 1e-9), (5.0, 5.0), (-3.0, 1200.0)):
        axis = Axis.around([low, high])
        assert 0 <= axis.at(low) <= axis.at(high) <= 1
        assert low == high or 1 <= len(axis.ticks()) <= 8
    axis = Axis.around([0.004, 90.0], log=True)
    assert axis.at(0.004) > 0 and axis.at(90.0) < 1 and all(np.diff([axis.at(t) for t in axis.ticks()]) > 0)


def test_stores_without_results_are_refused(tmp_path):
    with pytest.raises(DataError, match="holds no results yet"):
        write(Store(tmp_path / "empty"), None, tmp_path / "report.html")
    store = Store(tmp_path / "store")
    run(suite(), store)
    with pytest.raises(DataError, match="holds nothing of other; it has toy"):
        write(store, "other", tmp_path / "report.html")
    with pytest.raises(DataError, match="does not exist; make it first"):
        write(store, None, tmp_path / "no" / "report.html")
