"""The page in a real browser: Chromium, without a window."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcpu.tasks import Classifier, Embedder, MaskFiller, QuestionAnswerer, Reranker, Tagger
from tests.serve.conftest import TASKS
from tests.serve.live import LiveServer, model_directory

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("chromium is not installed (apt-get install chromium)", allow_module_level=True)

PATIENCE = 30_000  # milliseconds; a busy machine is slow
EVIL = "<img src=x onerror=document.title='broken'>"
KEY = "key-of-someone"
MINUS = "\u2212"
LOADING_FAILED = "Failed to load resource"
"""What Chromium writes on its console for every status above 399."""


@pytest.fixture(scope="module")
def live(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """All tiny models; the name of one has a slash."""
    models = {task: {"path": str(model_directory(tiny_models, task)), "task": task} for task in TASKS}
    models["some/rerank"] = {"path": models["rerank"]["path"]}
    config = tmp_path_factory.mktemp("page") / "serve.yaml"
    config.write_text(json.dumps({"models": models, "threads": 1}))  # JSON is YAML
    with LiveServer(["--config", str(config)]) as server:
        yield server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """A page, and what it did that it must not do.

    Attributes:
        page: of playwright.
        complaints: what the browser wrote on its console, and exceptions.
        hosts: to which requests went.
    """

    def __init__(self, context: Any) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(re.sub(r"^(\w+://[^/:]+).*", r"\1", request.url)))

    def open(self, server: LiveServer, model: str = "", path: str = "/") -> Any:
        """The page, with a model chosen."""
        self.page.goto(server.url + path)
        if model:
            self.model(model).check()
            self.form.wait_for()
        return self.page

    def model(self, name: str) -> Any:
        """What chooses a model."""
        return self.page.get_by_role("radio", name=re.compile("^" + name.replace("/", r"\/") + " "))

    @property
    def form(self) -> Any:
        return self.page.locator(".panel:visible form")

    @property
    def state(self) -> Any:
        """The line above the result."""
        return self.page.locator(".panel:visible .state")

    @property
    def result(self) -> Any:
        return self.page.locator(".panel:visible .result")

    def submit(self, button: str) -> None:
        """Presses the button, and waits for the result."""
        self.form.get_by_role("button", name=button).click()
        playwright.expect(self.state).to_contain_text("Answered in")


@pytest.fixture
def tab(chromium: Any, request: pytest.FixtureRequest) -> Iterator[Tab]:
    """A tab with the settings of the parameter, if there is one; at the end, it has made no errors."""
    settings = {"viewport": {"width": 1200, "height": 900}, "color_scheme": "light"} | getattr(request, "param", {})
    context = chromium.new_context(**settings)
    found = Tab(context)
    yield found
    context.close()
    assert [text for text in found.complaints if not text.startswith(LOADING_FAILED)] == []
    assert found.hosts <= {"http://127.0.0.1"}


DARK = {"color_scheme": "dark"}
NARROW = {"viewport": {"width": 360, "height": 740}}


# ---- tasks ----


def test_sentences_are_compared(tab: Tab, live: LiveServer, tiny_models: Path) -> None:
    texts = ["a red house", "Anna lives in London", "the dog", EVIL]
    vectors = Embedder(model_directory(tiny_models, "embed"), threads=1).embed(texts)
    expected = [[f"{value:.2f}".replace("-", MINUS) for value in row] for row in (vectors @ vectors.T).tolist()]
    page = tab.open(live, "embed")
    tab.form.get_by_label("Sentences").fill("\n".join([*texts, "", "  "]))
    tab.submit("Compare")
    rows = tab.result.get_by_role("row").all()[1:]
    assert [row.get_by_role("cell").all_inner_texts() for row in rows] == expected
    assert [row.get_by_role("rowheader").inner_text().split("\n")[-1] for row in rows][3].endswith(EVIL)
    assert tab.result.get_by_role("region", name="Cosine similarity").is_visible()
    assert page.locator("img").count() == 1
    assert page.title() == "fastcpu serve"


def test_a_text_is_classified(tab: Tab, live: LiveServer, tiny_models: Path) -> None:
    model = Classifier(model_directory(tiny_models, "classify"), threads=1)
    tab.open(live, "classify")
    for text, second in (("Anna is a small dog", ""), ("who is Anna?", "Paul lives in London")):
        tab.form.get_by_label("Text", exact=True).fill(text)
        tab.form.get_by_label("Second text").fill(second)
        tab.submit("Classify")
        (found,) = model([(text, second) if second else text])
        pairs = sorted(zip(found.scores, model.labels, strict=True), reverse=True)
        expected = [f"{label} {score:.3f}" for score, label in pairs]
        playwright.expect(tab.state).to_contain_text(f"{found.label}, {found.score:.3f}")
        shown = [re.sub(r"\s+", " ", row.inner_text()) for row in tab.result.get_by_role("row").all()[1:]]
        assert shown == expected


def test_passages_are_sorted(tab: Tab, live: LiveServer, tiny_models: Path) -> None:
    query, passages = "who is Anna?", ["Paul lives in London", "Anna is a cat", "the house", "where is the car"]
    ranks = Reranker(model_directory(tiny_models, "rerank"), threads=1)([(query, passages)])[0]
    tab.open(live, "rerank")
    tab.form.get_by_label("Query").fill(query)
    tab.form.get_by_label("Passages").fill("\n".join(passages))
    tab.submit("Sort")
    items = tab.result.get_by_role("listitem").all()
    assert [item.locator(".text").inner_text() for item in items] == [passages[each.index] for each in ranks]
    assert [item.locator(".score").inner_text() for item in items] == [
        f"{1 / (1 + np.exp(-each.score)):.3f}" for each in ranks
    ]


def test_a_model_with_two_tasks(tab: Tab, live: LiveServer) -> None:
    page = tab.open(live, "some/rerank")
    choice = page.get_by_role("group", name="Task")
    assert choice.get_by_role("button").all_inner_texts() == ["Rerank", "Classify"]
    tab.form.get_by_label("Query").fill("what I typed")
    choice.get_by_role("button", name="Classify").click()
    assert choice.get_by_role("button", name="Classify").get_attribute("aria-pressed") == "true"
    tab.submit("Classify")
    choice.get_by_role("button", name="Rerank").click()
    assert tab.form.get_by_label("Query").input_value() == "what I typed"


def test_an_answer_is_marked(tab: Tab, live: LiveServer, tiny_models: Path) -> None:
    question, passage = "where is Anna?", "\U0001f600 Paul and Anna \U0001f600\U0001f600 in London . The cat is small"
    (answer,) = QuestionAnswerer(model_directory(tiny_models, "qa"), threads=1)([(question, passage)])
    tab.open(live, "qa")
    tab.form.get_by_label("Question").fill(question)
    tab.form.get_by_label("Passage").fill(passage)
    tab.submit("Find the answer")
    assert tab.result.locator("mark").inner_text() == answer.text
    assert tab.result.locator("p.text").inner_text() == passage
    assert tab.result.locator(".found").inner_text() == answer.text
    playwright.expect(tab.state).to_contain_text(f"{answer.score:.3f}")


def test_words_are_tagged(tab: Tab, live: LiveServer, tiny_models: Path) -> None:
    text = "\U0001f600 Anna , Paul - in London \U0001f600 lives"
    (found,) = Tagger(model_directory(tiny_models, "tag"), threads=1)([text])
    assert found.entities
    tab.open(live, "tag")
    tab.form.get_by_label("Text").fill(text)
    tab.submit("Tag")
    rows = tab.result.get_by_role("row").all()[1:]
    assert [re.split(r"\s+", row.inner_text()) for row in rows] == [
        [word.text, word.label, f"{word.score:.3f}"] for word in found.words
    ]
    marks = tab.result.locator("mark").all()
    assert [mark.inner_text() for mark in marks] == [f"{each.text}{each.kind}" for each in found.entities]


def test_gaps_are_filled(tab: Tab, live: LiveServer, tiny_models: Path) -> None:
    text = "the [MASK] lives in [MASK] ."
    (gaps,) = MaskFiller(model_directory(tiny_models, "fill_mask"), threads=1)([text])
    tab.open(live, "fill_mask")
    tab.form.get_by_label("Text with gaps").fill(text)
    tab.submit("Fill")
    tables = tab.result.get_by_role("table").all()
    assert [[re.split(r"\s+", row.inner_text()) for row in table.get_by_role("row").all()[1:]] for table in tables] == [
        [[fill.token, f"{fill.score:.3f}"] for fill in gap] for gap in gaps
    ]


# ---- forms ----


@pytest.mark.parametrize("keys", ["Control+Enter", "Meta+Enter"])
def test_a_form_is_sent_by_keyboard(tab: Tab, live: LiveServer, keys: str) -> None:
    tab.open(live, "embed")
    tab.form.get_by_label("Sentences").press(keys)
    playwright.expect(tab.state).to_contain_text("Answered in")
    assert re.search(r"Answered in [\d.]+ m?s\. Most alike: \d and \d", tab.state.inner_text())


def test_every_form_has_an_example_that_works(tab: Tab, live: LiveServer) -> None:
    for task in TASKS:
        tab.open(live, task)
        tab.form.locator("button[type=submit]").click()
        # The tiny models take 24 tokens, for which a few examples are too long.
        playwright.expect(tab.state).to_contain_text(re.compile("Answered in|tokens"))


def test_errors_are_shown_in_place(tab: Tab, live: LiveServer) -> None:
    page = tab.open(live, "fill_mask")
    tab.form.get_by_label("Text with gaps").fill(f"no gap {EVIL}")
    tab.form.get_by_role("button", name="Fill").click()
    playwright.expect(tab.state).to_contain_text("422")
    playwright.expect(tab.state).to_contain_text("[MASK]")
    tab.model("embed").check()
    tab.form.get_by_label("Sentences").fill(" \n ")
    tab.form.get_by_role("button", name="Compare").click()
    playwright.expect(tab.state).to_contain_text("There is no sentence.")
    message = json.dumps({"error": {"message": EVIL}})
    page.route("**/embed", lambda route: route.fulfill(status=429, headers={"retry-after": "3"}, body=message))
    tab.form.get_by_label("Sentences").fill("the dog")
    tab.form.get_by_role("button", name="Compare").click()
    playwright.expect(tab.state).to_have_text(f"429: {EVIL} (try again in 3 s)")
    page.unroute("**/embed")
    page.route("**/embed", lambda route: route.abort())
    tab.form.get_by_role("button", name="Compare").click()
    playwright.expect(tab.state).to_have_text("The server cannot be reached.")
    assert page.title() == "fastcpu serve"


def arguments(command: str) -> list[str]:
    """What a shell gives curl for a command."""
    script = f'curl() {{ printf "%s\\0" "$@"; }}; {command}'
    printed = subprocess.run(["bash", "-c", script], capture_output=True, check=True, env={"API_KEY": KEY}).stdout
    return printed.decode().split("\0")[:-1]


def test_the_command_does_the_same(tab: Tab, live: LiveServer) -> None:
    page = tab.open(live, "embed")
    text = 'it\'s a "red" $HOME `house` \\ \U0001f600 !'
    tab.form.get_by_label("Sentences").fill(text)
    command = page.locator(".panel:visible pre").inner_text()
    address, *options = arguments(command)
    assert address == f"{live.url}/embed"
    assert options[:2] == ["-H", "Content-Type: application/json"]
    assert json.loads(options[3]) == {"model": "embed", "inputs": [text]}
    assert live.post("/embed", json.loads(options[3])).status == 200
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(".panel:visible").get_by_role("button", name="Copy").click()
    playwright.expect(page.locator(".panel:visible").get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == command
    assert shlex.split(command.replace("\\\n", ""))[0] == "curl"


# ---- the server ----


def test_models_are_listed_with_what_they_are(tab: Tab, live: LiveServer) -> None:
    page = tab.open(live)
    page.get_by_role("radio").first.wait_for()
    assert page.get_by_role("link", name="Metrics", exact=True).is_visible()
    status = live.get("/status").json
    cards = page.locator(".card").all_inner_texts()
    assert len(cards) == len(status["models"])
    for card, model in zip(cards, status["models"], strict=True):
        words = [model["name"], "ready", model["isa"], "1 thread", f"up to {model['max_length']} tokens"]
        assert all(word in card for word in words)
        assert all(task.replace("_", " ") in card for task in model["tasks"])
    assert status["version"] in page.locator("#about").inner_text()


def test_charts_show_what_happens(tab: Tab, live: LiveServer) -> None:
    page = tab.open(live)
    for _ in range(5):
        live.post("/embed", {"inputs": ["the dog"], "model": "embed"})
    for title, least in (("Requests", 1), ("Latency", 0.01), ("Tokens per batch", 4)):
        chart = page.get_by_role("img", name=re.compile(f"^{title}, the last two minutes: now .*, at most [^0]"))
        chart.wait_for()
        label = chart.get_attribute("aria-label")
        assert float(label.rpartition(" ")[2].replace(",", "")) >= least
        assert chart.locator("polyline, circle").count() >= 1
        ticks = chart.locator("text").all_text_contents()
        assert {f"{MINUS}120 s", f"{MINUS}60 s", "now", "0"} <= set(ticks)
    assert page.get_by_role("img", name=re.compile("^Refused requests, ")).locator("polyline").count() == 1
    page.locator(".plot").first.hover()
    playwright.expect(page.locator(".latest").first).to_contain_text(re.compile(r"\d+ s ago: \d"))


@pytest.mark.parametrize("tab", [{}, NARROW], indirect=True, ids=["wide", "narrow"])
def test_large_numbers_fit_beside_the_charts(tab: Tab, live: LiveServer) -> None:
    def fulfill(route: Any) -> None:
        now = int(time.time())
        second = {"requests": 2_000_000, "refused": 0, "p50_ms": 2.21, "p99_ms": 14_800.0, "batch_tokens": 123_456.0}
        seconds = [second | {"time": now - ago} for ago in range(10, -1, -1)]
        route.fulfill(json=status | {"seconds": seconds})

    status = live.get("/status").json
    tab.page.route("**/status", fulfill)
    page = tab.open(live)
    latency = page.get_by_role("img", name=re.compile(r"^Latency, .* now p50 2\.21 ms, p99 14,800 ms, at most 14,800$"))
    latency.wait_for()
    assert "15,000" in latency.locator("text").all_text_contents()
    shown = page.locator("figcaption", has_text="Latency").inner_text()
    assert re.search(r"p50 2\.21 ms\s*p99 14,800 ms", shown)
    edges = page.locator(".plot svg text").evaluate_all(
        "all => all.map((each) =>"
        " each.getBoundingClientRect().left - each.ownerSVGElement.getBoundingClientRect().left)"
    )
    assert min(edges) >= 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_idle_server_and_one_that_was_started_again(tab: Tab, live: LiveServer) -> None:
    status = live.get("/status").json | {"seconds": []}
    tab.page.route("**/status", lambda route: route.fulfill(json=status))
    page = tab.open(live)
    page.get_by_role("img", name=re.compile("^Requests, .* now 0 per second, at most 0$")).wait_for()
    assert page.get_by_text("no requests").count() == 2
    page.unroute("**/status")
    page.route("**/status", lambda route: route.abort())
    banner = page.locator("#banner")
    playwright.expect(banner).to_contain_text("The server cannot be reached")
    page.unroute("**/status")
    again = live.get("/status").json | {"version": "999", "seconds": []}
    page.route("**/status", lambda route: route.fulfill(json=again))
    playwright.expect(banner).to_contain_text("The server is now version 999")
    page.unroute("**/status")
    playwright.expect(banner).to_be_hidden(timeout=PATIENCE)


def test_models_that_do_not_answer(tab: Tab, live: LiveServer) -> None:
    status = live.get("/status").json
    broken = {"name": "broken", "state": "unavailable", "reason": EVIL}
    loading = {"name": "loading", "state": "loading", "reason": "not loaded yet"}
    changed = status | {"models": [broken, loading], "draining": True}
    tab.page.route("**/status", lambda route: route.fulfill(json=changed))
    page = tab.open(live)
    playwright.expect(page.locator(".card").first).to_contain_text(EVIL)
    assert "unavailable" in page.locator(".card").first.inner_text()
    assert page.get_by_text(f"broken: unavailable, {EVIL}.").is_visible()
    playwright.expect(page.locator("#banner")).to_contain_text("about to stop")
    tab.model("loading").check()
    assert page.get_by_text("loading: loading, not loaded yet.").is_visible()
    page.unroute("**/status")  # now they are gone, and others are there
    playwright.expect(page.locator(".card")).to_have_count(len(status["models"]))
    tab.form.wait_for()


def test_a_server_that_stops(tab: Tab, tiny_models: Path) -> None:
    with LiveServer([f"one={model_directory(tiny_models, 'embed')}"]) as server:
        page = tab.open(server, "one")
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)
        banner = page.locator("#banner")
        playwright.expect(banner).to_contain_text(re.compile("cannot be reached|has stopped"))
        tab.form.get_by_role("button", name="Compare").click()
        playwright.expect(tab.state).to_have_text("The server cannot be reached.")


def test_a_hidden_page_asks_nothing(tab: Tab, live: LiveServer) -> None:
    page = tab.open(live, "embed")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    page.evaluate(hide % "true")
    page.wait_for_timeout(1500)
    asked.clear()
    page.wait_for_timeout(2500)
    assert asked == []
    page.evaluate(hide % "false" + "document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_timeout(1500)
    assert asked


def test_where_the_time_goes(tab: Tab, live: LiveServer) -> None:
    page = tab.open(live, "some/rerank")
    page.get_by_role("button", name="Where does the time go?").locator("visible=true").click()
    report = page.locator(".report:visible")
    report.get_by_role("table", name="Kinds of ops").wait_for()
    kinds = report.get_by_role("table", name="Kinds of ops").get_by_role("row").all_inner_texts()
    assert re.split(r"\s*\t\s*", kinds[0])[:4] == ["kind", "ops", "ms", "share"]
    assert any(row.startswith("linear f32") for row in kinds)
    shares = [float(re.search(r"([\d.]+) %", row)[1]) for row in kinds[1:]]  # type: ignore[index]
    assert sum(shares) == pytest.approx(100, abs=3)
    assert shares == sorted(shares, reverse=True)
    slowest = report.get_by_role("table", name=re.compile("^The slowest 12 of")).get_by_role("row")
    assert slowest.count() == 13
    assert "takes" in report.locator(".notes").inner_text()
    assert "ms for 1 sequence of" in report.inner_text()


# ---- keys ----


def test_a_server_with_keys(tab: Tab, tiny_models: Path) -> None:
    model = f"one={model_directory(tiny_models, 'embed')}"
    with LiveServer([model], {"FASTCPU_API_KEYS": f"someone={KEY}"}) as server:
        page = tab.open(server)
        field = page.get_by_label("This server asks for an API key")
        metrics = page.get_by_role("link", name="Metrics", exact=True)
        field.wait_for()
        assert metrics.is_hidden(), "a link cannot carry the key"
        field.fill("not the right one")
        page.get_by_role("button", name="Use this key").click()
        playwright.expect(page.locator("#key-error")).to_contain_text("without spaces")
        field.fill("not-the-right-one")
        field.press("Enter")
        playwright.expect(page.locator("#key-error")).to_have_text("The server does not know this key.")
        field.fill(KEY)
        page.get_by_role("button", name="Use this key").click()
        tab.form.wait_for()
        tab.submit("Compare")
        options = arguments(page.locator(".panel:visible pre").inner_text())
        assert f"Authorization: Bearer {KEY}" in options
        assert KEY not in page.content()
        kept = page.evaluate("[Object.values(sessionStorage), localStorage.length, document.cookie]")
        assert kept == [[KEY], 0, ""]
        page.reload()
        tab.form.wait_for()
        assert metrics.is_hidden()
        page.get_by_role("button", name="Forget it").click()
        field.wait_for()
        assert page.evaluate("sessionStorage.length") == 0
        tab.form.get_by_role("button", name="Compare").click()
        playwright.expect(tab.state).to_contain_text("401")
        refused = [event for event in server.events if event.get("status") == 401]
        assert len(refused) <= 5, "it does not go on asking without a key"


# ---- for everybody ----

_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => colour.slice(0, 3).map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const found = rgb(getComputedStyle(node).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    const colour = node instanceof SVGElement ? style.fill : style.color;
    const pair = [light(rgb(colour)), light(behind(node))].sort((one, other) => other - one);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    seen++;
    if (contrast < 4.5) poor.push(`${walker.currentNode.data.trim()}: ${contrast.toFixed(2)} ${node.className}`);
  }
  return [seen, poor];
}"""


@pytest.mark.parametrize("tab", [{}, DARK], indirect=True, ids=["light", "dark"])
def test_all_text_can_be_read(tab: Tab, live: LiveServer) -> None:
    page = tab.open(live, "tag")
    tab.submit("Tag")
    tab.model("embed").check()
    page.get_by_role("button", name="Where does the time go?").locator("visible=true").click()
    page.locator(".report:visible table").first.wait_for()
    # Vectors with every cosine from 0 to 1 in steps of 0.1.
    angles = [np.arccos(step / 10) for step in range(11)]
    vectors = [[float(np.cos(angle)), float(np.sin(angle))] for angle in angles]
    page.route("**/embed", lambda route: route.fulfill(json=vectors))
    tab.form.get_by_label("Sentences").fill("\n".join("the dog" for _ in angles))
    tab.submit("Compare")
    colours = tab.result.locator("td[class]").evaluate_all("all => new Set(all.map((each) => each.className)).size")
    assert colours == 11
    for model in ("embed", "tag"):
        tab.model(model).check()
        seen, poor = page.evaluate(_CONTRAST)
        assert seen > 60
        assert poor == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (background == "rgb(255, 255, 255)") != dark


@pytest.mark.parametrize("tab", [NARROW, NARROW | DARK], indirect=True, ids=["light", "dark"])
def test_a_narrow_window_scrolls_down_alone(tab: Tab, live: LiveServer) -> None:
    page = tab.open(live, "embed")
    page.get_by_role("button", name="Where does the time go?").locator("visible=true").click()
    page.locator(".report:visible table").first.wait_for()
    for task, text in (("embed", "Sentences"), ("tag", "Text"), ("rerank", "Passages"), ("classify", "Text")):
        tab.model(task).check()
        tab.form.get_by_label(text, exact=True).fill("the-dog-lives-in-" * 20 + "\nAnna")
        tab.form.locator("button[type=submit]").click()
        playwright.expect(tab.state).to_contain_text("Answered in")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    sizes = page.locator("button:visible, input[type=text]:visible, textarea:visible").evaluate_all(
        "all => all.map((each) => each.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 24, "large enough for a finger"


def test_everything_can_be_reached_by_keyboard(tab: Tab, live: LiveServer) -> None:
    page = tab.open(live, "embed")
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "() => { const e = document.activeElement, s = getComputedStyle(e);"
                " return [e.tagName, e.textContent.trim().slice(0, 30), s.outlineStyle, parseFloat(s.outlineWidth)]; }"
            )
        )
    assert all(style == "solid" and width >= 2 for tag, _, style, width in reached if tag != "BODY"), reached
    texts = [text for _, text, _, _ in reached]
    assert texts[0] == "Skip to the form"
    assert [text for text in texts if text in ("Compare", "Copy", "Where does the time go?")] == [
        "Compare",
        "Copy",
        "Where does the time go?",
    ]
    assert "INPUT" in [tag for tag, *_ in reached]
    assert "TEXTAREA" in [tag for tag, *_ in reached]
    tab.model("embed").press("ArrowDown")
    assert tab.model("classify").is_checked()


def test_nothing_jumps(tab: Tab, live: LiveServer) -> None:
    page = tab.page
    page.add_init_script(
        "window.jumps = []; new PerformanceObserver((list) => { for (const e of list.getEntries())"
        " if (!e.hadRecentInput) window.jumps.push(e.value); }).observe({type: 'layout-shift', buffered: true});"
    )
    tab.open(live)
    tab.form.wait_for()
    tab.form.locator("button[type=submit]").click()
    playwright.expect(tab.state).to_contain_text("Answered in")
    page.wait_for_timeout(2500)
    assert page.evaluate("window.jumps.reduce((sum, value) => sum + value, 0)") < 0.1, "the usual limit of a good page"


def test_results_are_told_to_screen_readers(tab: Tab, live: LiveServer) -> None:
    page = tab.open(live, "embed")
    assert tab.state.get_attribute("role") == "status"
    assert page.locator("#banner").get_attribute("role") == "alert"
    nameless = page.locator("input, textarea, button, [role=region], [role=img], fieldset").evaluate_all(
        "all => all.filter((each) => !(each.labels?.length || each.textContent.trim() ||"
        " each.getAttribute('aria-label') || each.getAttribute('aria-labelledby'))).map((each) => each.outerHTML)"
    )
    assert nameless == []
    levels = page.locator("h1, h2, h3").evaluate_all("all => all.map((each) => each.tagName)")
    assert levels == ["H1", "H2", "H2", "H2", "H2"]
    assert page.locator("html").get_attribute("lang") == "en"
