"""The page of the server in a real browser, and docs/serving.md word for word."""

import base64
import io
import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import real
from conftest import ROOT
from manyheads.inputs import NumbersInput, TextInput
from manyheads.serving.limits import Limits
from serving_models import ask, faces, jpeg, save_untrained, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PAGE = (ROOT / "docs/serving.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.slow
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")


def photograph():
    """Return a picture with two faces, if the archive is here, and without any otherwise."""
    pixels = np.full((500, 800, 3), 128, np.uint8)
    for number, face in enumerate(faces(2) if real.ARCHIVE else ()):
        pixels[100 + 80 * number :][:200, 50 + 350 * number :][:, :200] = face
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def documented():
    """Return the curl commands of the page for models of pictures, each with the answer that stands below it."""
    pairs = re.findall(r"^```sh\n(curl (?:(?!```).)*)```\n\n```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return {command: json.loads(answer) for command, answer in pairs}


def shape(answer):
    """Return what has to be the same in a documented answer: keys, and codes; figures may be others."""
    if isinstance(answer, dict):
        if "code" in answer:
            return answer
        # Figures of heads are shown once on the page, and the tiny model has no notes and not each figure.
        return {key: shape(each) for key, each in answer.items()} if set(answer) != {"name", "digest"} else {}
    return [shape(each) for each in answer] if isinstance(answer, list) else ""


def without_heads(answer):
    return json.loads(json.dumps(answer), object_hook=lambda each: {**each, "heads": {}} if "heads" in each else each)


def test_the_examples_of_the_documentation_are_answered_so(port, tmp_path):
    (tmp_path / "portrait.jpg").write_bytes(jpeg())
    Image.open(io.BytesIO(jpeg(1))).save(tmp_path / "other.png")
    (tmp_path / "holiday.jpg").write_bytes(photograph())
    (tmp_path / "notes.txt").write_text("a text")
    for command, expected in documented().items():
        if "find_faces" in command and real.ARCHIVE is None:
            continue
        command = command.replace("127.0.0.1:8080", f"127.0.0.1:{port}")
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
        answer = json.loads(done.stdout)
        assert shape(without_heads(answer)) == shape(without_heads(expected)), command
        if "heads" in expected:
            assert shape(answer) == shape(expected)
    assert len(documented()) == 5


@pytest.mark.parametrize("name", ["questions", "numbers"])
def test_the_examples_of_texts_and_numbers_are_answered(name, tmp_path, make_config, one_worker):
    (command,) = re.findall(rf"experiment={name}`:?\.?:?\n\n```sh\n(.*?)```", PAGE, re.DOTALL)
    card = save_untrained(tmp_path, make_config(f"experiment={name}"))
    with serving(tmp_path) as port:
        command = command.replace("127.0.0.1:8080", f"127.0.0.1:{port}")
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    for sample in answer.get("samples", [answer]):
        assert set(sample["heads"]) == set(card.heads)


def test_the_limits_and_codes_of_the_documentation_are_those_of_the_code():
    limits = Limits()
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE))
    assert rows["body of a request"] == f"{limits.body // 10**6} MB"
    assert rows["all bodies in memory"] == f"{limits.bodies // 10**6} MB"
    assert rows["samples of a request"] == f"{limits.samples}"
    assert rows["samples that wait"] == f"{limits.waiting:,}"
    assert rows["time for the headers, for the body"] == f"{limits.header_seconds:g} s, {limits.body_seconds:g} s"
    assert rows["time for the decoding of a sample, or for its faces"] == f"{limits.decode_seconds:g} s"
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/manyheads/serving").glob("*.py"))
    raised = set(re.findall(r'(?:Problem\(\s*\d+, |40[45]: )"([A-Z_]+)"', code))
    assert raised - {"STOPPED", "HTTP_ERROR"} <= set(re.findall(r"`([A-Z_]+)`", PAGE))
    assert len(raised) > 15


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


class Watched:
    """A page of the browser that records what must not happen."""

    def __init__(self, browser, port, **settings):
        self.page = browser.new_context(**settings).new_page()
        self.page.set_default_timeout(30_000)
        self.wrong = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self._check(request.url, port))
        # From the beginning, because the browser is told of it without an answer to wait for.
        self.choosers = []
        self.page.on("filechooser", lambda chooser: self.choosers.append(chooser))
        self.page.goto(f"http://127.0.0.1:{port}/")

    def _check(self, url, port):
        if not url.startswith((f"http://127.0.0.1:{port}/", "blob:", "data:")):
            self.wrong.append(url)

    def text(self):
        return self.page.locator("#answers").inner_text()

    def is_wider_than_the_window(self):
        return self.page.evaluate("document.documentElement.scrollWidth > innerWidth")


LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}

DROP = """([name, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""

# The contrast of each text with the nearest background that is opaque: WCAG 2.2, 1.4.3.
CONTRASTS = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
    if (!element.checkVisibility() || element.closest("script, style, .unseen")) continue;
    let behind = element;
    const opaque = (each) => (numbers(getComputedStyle(each).backgroundColor)[3] ?? 1) === 1;
    while (behind.parentElement && !opaque(behind)) behind = behind.parentElement;
    const [one, two] = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor]
      .map((colour) => luminance(numbers(colour))).sort((a, b) => b - a);
    found.push([(one + 0.05) / (two + 0.05), element.textContent.trim().slice(0, 40)]);
  }
  return found;
}"""


@in_a_browser
@pytest.mark.parametrize("look", LOOKS)
def test_a_dropped_picture_is_answered_on_the_page(look, browser, port, tmp_path):
    watched = Watched(browser, port, **LOOKS[look])
    page = watched.page
    page.evaluate(DROP, ["portrait.jpg", list(jpeg())])
    page.locator(".head").nth(2).wait_for()
    page.get_by_text("Model card", exact=True).click()
    page.screenshot(path=tmp_path / f"{look}.png", full_page=True)
    heads = ask(port, jpeg())[1]["heads"]
    shown = watched.text()
    assert f"{heads['age']['value']} years" in shown
    assert f"90 % interval: {heads['age']['low']} to {heads['age']['high']}" in shown
    assert "Mean absolute error 0.50 years (0.40 to 0.60) over all 60 test samples." in shown
    assert "Right for 50.0 % (40.0 to 60.0) of the 30 test samples answered at least as surely." in shown
    for head in (heads["race"], heads["gender"]):
        for label, share in head["probabilities"].items():
            assert re.search(rf"{label}\s+{100 * share:.1f} %", shown)
    assert page.locator(".picture img").evaluate("image => image.naturalWidth") == 64
    assert "checked by a human annotator" in page.inner_text("body")
    assert "Non-commercial research only" in page.inner_text("body")
    assert page.locator(".card td").inner_text() == "b"
    assert not watched.is_wider_than_the_window()
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 20
    assert not [each for each in contrasts if each[0] < 4.5]
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(22, 24, 27)" if look == "dark" else "rgb(255, 255, 255)")
    assert not watched.wrong
    page.context.close()


@in_a_browser
def test_several_pictures_are_chosen_by_keyboard_and_cleared(browser, port, tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number))
    (tmp_path / "page.jpg").write_text("<html>")
    watched = Watched(browser, port)
    page = watched.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    outline = page.locator("#drop").evaluate("element => getComputedStyle(element).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    while not watched.choosers:
        page.wait_for_timeout(50)
    watched.choosers[0].set_files([tmp_path / name for name in ("0.jpg", "1.jpg", "page.jpg", "2.jpg")])
    page.locator(".head").nth(8).wait_for()
    page.locator(".problem").wait_for()
    assert page.locator("figcaption").all_inner_texts() == ["0.jpg", "1.jpg", "page.jpg", "2.jpg"]
    assert "No answer: no image DECODE_UNIDENTIFIED" in watched.text()
    page.get_by_role("button", name="Clear").press("Enter")
    assert watched.text() == ""
    assert page.evaluate("document.activeElement.id") == "files"
    page.context.close()


@in_a_browser
@pytest.mark.skipif(real.ARCHIVE is None, reason=real.SKIP_REASON)
def test_boxes_of_faces_lie_on_the_picture(browser, port, tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(photograph())
    watched = Watched(browser, port, **LOOKS["phone"])
    page = watched.page
    page.get_by_label("Find faces").check()
    page.set_input_files("#files", tmp_path / "holiday.jpg")
    page.locator(".people section").nth(1).wait_for()
    page.locator(".box").nth(1).wait_for()
    page.screenshot(path=tmp_path / "faces.png", full_page=True)
    found = ask(port, photograph(), query="?find_faces=1")[1]["faces"]
    picture = page.locator(".picture img").bounding_box()
    scale = picture["width"] / 800
    for face, box in zip(found, page.locator(".box").all(), strict=True):
        shown = box.bounding_box()
        assert shown["x"] - picture["x"] == pytest.approx(face["box"]["left"] * scale, abs=1)
        assert shown["y"] - picture["y"] == pytest.approx(face["box"]["top"] * scale, abs=1)
        assert shown["width"] == pytest.approx(face["box"]["width"] * scale, abs=1)
        assert shown["height"] == pytest.approx(face["box"]["height"] * scale, abs=1)
    assert not watched.is_wider_than_the_window()
    assert not watched.wrong
    page.context.close()


@in_a_browser
def test_a_sample_of_several_inputs_has_a_form(browser, tmp_path, tiny_config, make_config, one_worker):
    settings = make_config("data=sample", "model=default")
    settings = SimpleNamespace(
        data=settings.data.model_copy(update={"columns": {"size": ("height", "width"), "text": "what it is"}}),
        loss=settings.loss,
        model=settings.model,
        inputs=tiny_config().inputs | {"text": TextInput(vocabulary=50, length=20), "size": NumbersInput(width=2)},
    )
    save_untrained(tmp_path, settings)
    (tmp_path / "portrait.jpg").write_bytes(jpeg())
    values = {"image": base64.b64encode(jpeg()).decode(), "text": "a small card", "size": [1.5, -2]}
    with serving(tmp_path) as port:
        _, expected = ask(port, json.dumps(values).encode(), "application/json")
        watched = Watched(browser, port, **LOOKS["phone"])
        page = watched.page
        page.get_by_label("image").set_input_files(tmp_path / "portrait.jpg")
        page.get_by_label("what it is").fill("a small card")
        page.get_by_label("height").fill("1.5")
        page.get_by_label("width").fill("-2")
        page.get_by_role("button", name="Answer").press("Enter")
        page.locator(".head").nth(2).wait_for()
        page.screenshot(path=tmp_path / "form.png", full_page=True)
        shown = watched.text()
    for answer in expected["heads"].values():
        assert str(answer["value"]) in shown
    assert "was not evaluated here" in page.inner_text("body")
    assert not watched.is_wider_than_the_window()
    assert not watched.wrong
    page.context.close()
