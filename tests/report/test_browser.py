"""The page in a real browser: it opens without an error, fetches nothing, and its clips move."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import staged
from PIL import Image

from moving import Moving
from polyclock.data.encode import VideoCodec, encode_video
from polyclock.report import write
from polyclock.report.answers import answers
from polyclock.report.page import page as as_page
from polyclock.report.run import read

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import screenshot  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(run_folder: Path, document: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("playwright")
    if not Path(screenshot.CHROMIUM).exists():
        pytest.skip(f"no browser: {screenshot.CHROMIUM} is not there")
    folder = tmp_path_factory.mktemp("page")
    film = np.random.default_rng(0).integers(0, 255, (6, 32, 64, 3)).astype(np.uint8)
    encode_video(folder / "grid.mp4", film, 10.0, VideoCodec(encoder="h264", group=6, crf=30))
    (folder / "rollout.json").write_text(json.dumps({"tasks": {"press": {"successes": 3, "episodes": 4}}}))
    return write(run_folder, folder / "page.html", document, rollout=folder, dataset=Moving(), seconds=0.4, steps=2)


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (400, True)])
def test_it_opens_without_errors_or_requests_and_fits(page: Path, tmp_path: Path, width: int, dark: bool) -> None:
    seen = screenshot.look(page, tmp_path / "page.png", width=width, dark=dark)
    assert seen["errors"] == [] and seen["requests"] == []
    assert len(seen["images"]) == 33 and all(w > 0 and h > 0 for w, h in seen["images"])
    assert seen["width"] <= width, "nothing may stick out to the right"
    with Image.open(tmp_path / "page.png") as shot:
        corner = shot.convert("L").getpixel((2, 2))
        assert (corner < 80) == dark
        assert len(shot.convert("L").getcolors(256) or ()) > 30


def test_clips_move_by_themselves_and_by_hand(page: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=screenshot.CHROMIUM, args=screenshot.QUIET)
        tab = browser.new_page()
        tab.goto(page.resolve().as_uri())
        tab.locator(".player").nth(3).scroll_into_view_if_needed()
        moved = "[...document.querySelectorAll('.player img')].some(i => i.style.transform.includes('-'))"
        # The page's policy forbids what wait_for_function does.
        seen = False
        for _ in range(100):
            tab.wait_for_timeout(50)
            seen = seen or tab.evaluate(moved)
        assert seen, "clips play by themselves"
        box = tab.locator(".player").nth(3)  # the first stretch of the second question, forward
        box.locator("button").click()
        assert box.locator("button").inner_text() == "Play"
        slider = box.locator("input")
        slider.evaluate("s => { s.value = s.max; s.dispatchEvent(new Event('input')); }")
        assert box.locator("output").inner_text() == "+0.40 s"
        ends = box.locator("img").evaluate_all("all => all.map(i => i.style.transform)")
        assert ends == ["translateX(0%)", "translateX(-50%)", "translateX(-50%)"]
        slider.evaluate("s => { s.value = 0; s.dispatchEvent(new Event('input')); }")
        waiting = box.locator(".strip").evaluate_all("all => all.map(e => e.classList.contains('waiting'))")
        assert waiting == [False, True, True], "what lies ahead is dimmed until its time"
        browser.close()


def test_keys_move_a_clip_and_stop_all(page: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=screenshot.CHROMIUM, args=screenshot.QUIET)
        tab = browser.new_page(reduced_motion="reduce")
        tab.goto(page.resolve().as_uri())
        box = tab.locator(".player").nth(3)
        assert box.locator("button").inner_text() == "Play", "nothing moves by itself where motion is not wanted"
        box.locator("input").focus()
        tab.keyboard.press("Home")
        assert box.locator("output").inner_text() == "+0.00 s"
        tab.keyboard.press("ArrowRight")
        assert box.locator("output").inner_text() == "+0.20 s"
        tab.keyboard.press("Tab")  # out of the player, back to its button
        box.locator("button").focus()
        tab.keyboard.press("Space")
        assert box.locator("button").inner_text() == "Pause"
        tab.keyboard.press("Escape")
        assert box.locator("button").inner_text() == "Play"
        browser.close()


def test_the_film_can_be_played(page: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=screenshot.CHROMIUM, args=screenshot.QUIET)
        tab = browser.new_page()
        tab.goto(page.resolve().as_uri())
        film = tab.locator("video")
        for _ in range(100):
            tab.wait_for_timeout(50)
            if film.evaluate("v => v.readyState") >= 2:
                break
        assert film.evaluate("v => [v.videoWidth, v.videoHeight, v.error]") == [64, 32, None]
        assert film.evaluate("v => v.duration") == pytest.approx(0.6, abs=0.15)
        browser.close()


@pytest.mark.parametrize("width", [1200, 360])
def test_maps_and_skeletons_fit_a_page(run_folder: Path, tmp_path: Path, width: int) -> None:
    if not Path(screenshot.CHROMIUM).exists():
        pytest.skip(f"no browser: {screenshot.CHROMIUM} is not there")
    body = answers(staged.scenes(), {"policy": "polyclock sample " + "x" * 200}, {})
    (tmp_path / "maps.html").write_text(as_page([read(run_folder)], body), encoding="utf-8")
    seen = screenshot.look(tmp_path / "maps.html", tmp_path / "maps.png", width=width)
    assert seen["errors"] == [] and seen["width"] <= width
    assert len(seen["images"]) == 2 + 1 + 12 + 3, "scale and wheel; of two questions what was given, predicted, true"


def test_the_tool_says_what_it_saw(page: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["screenshot", str(page), str(tmp_path / "a.png"), "--height", "600"])
    assert screenshot.main() == 0
    assert '"errors": []' in capsys.readouterr().out
    with Image.open(tmp_path / "a.png") as shot:
        assert shot.size == (1200, 600)
    (tmp_path / "broken.html").write_text("<script>nothing.there</script><img src='missing.png'>")
    monkeypatch.setattr(sys, "argv", ["screenshot", str(tmp_path / "broken.html"), str(tmp_path / "b.png")])
    assert screenshot.main() == 1
