"""The page in a browser, where there is one."""

import shutil

import numpy as np
import pytest

from tests.serving.clips import sound

pytest.importorskip("starlette", reason="serving is an extra: pip install -r tests/requirements.txt")
playwright = pytest.importorskip("playwright.sync_api", reason="pip install -r tests/requirements.txt")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")

FLAGS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


@pytest.fixture
def shown(browser, tmp_path_factory):
    """The page, as a phone shows it; nothing may be fetched from elsewhere, and no script may fail."""
    from tests.serving.tiny_service import served, tiny_recognizer  # which need the extra, too

    folder, faults = tmp_path_factory.mktemp("uploads"), []
    with served(tiny_recognizer(tmp_path_factory.mktemp("ensemble")), folder) as (client, _):
        context = browser.new_context(viewport={"width": 390, "height": 844}, permissions=["camera", "microphone"])
        page, own = context.new_page(), (str(client.base_url), "data:", "blob:")
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(own) else faults.append(request.url))
        page.goto(str(client.base_url))
        yield page
        context.close()
    assert not faults


def test_a_file_becomes_windows_and_a_chart(shown):
    shown.fill("#text", "hello")
    shown.set_input_files("#file", {"name": "talk.wav", "mimeType": "audio/wav", "buffer": sound(10)})
    shown.wait_for_selector("#scenes li:nth-child(3)")
    shown.wait_for_selector("#cancel", state="hidden")
    assert shown.inner_text("#status") == "3 of 3 windows." and shown.inner_text("#name") == "talk.wav"
    assert "by speech, text" in shown.inner_text("#scenes li:first-child")
    assert shown.locator("#chart polygon").count() == shown.locator("#legend li").count() == 3
    assert shown.is_hidden("#problem") and shown.evaluate("document.documentElement.scrollWidth") == 390


def test_what_is_wrong_with_a_file_is_shown(shown):
    shown.set_input_files("#file", {"name": "<b>.mp4", "mimeType": "video/mp4", "buffer": b"no media"})
    shown.wait_for_selector("#problem:not([hidden])")
    assert shown.inner_text("#problem").startswith("<b>.mp4: cannot decode")
    shown.set_input_files("#file", {"name": "a.mp4", "mimeType": "video/mp4", "buffer": bytes(2**20 + 1)})
    assert "larger than 1 MiB" in shown.inner_text("#problem")
    assert shown.is_hidden("#results") and shown.is_enabled("#file")


def test_the_camera_is_recorded(shown):
    shown.click("#record")
    shown.wait_for_selector("#status:has-text('0:01')")
    shown.click("#record")
    shown.wait_for_selector("#scenes li")
    assert "by speech" in shown.inner_text("#scenes li") and shown.inner_text("#name") == "recording.webm"
    assert np.isfinite(shown.evaluate("player.duration"))
