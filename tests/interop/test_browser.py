"""fastbp.insight.page in Chromium: it renders, answers clicks and keys, and finds its numbers equal.

With FASTBP_SCREENSHOTS=FOLDER, pictures of the page are left there.
"""

import os
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from rig import DTYPES

from fastbp import Network, Trainer, data
from fastbp.insight import Statistics, page

webdriver = pytest.importorskip("selenium.webdriver")
# Nothing of the browser's own goes out to a network, and nothing needs a screen.
SWITCHES = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    places = [shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")]
    assert all(places), "these tests need a browser: apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = places[0]
    for switch in [*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(places[1]))
    yield driver
    driver.quit()


def shown(browser, path, width=1200, dark=False):
    """Show a page."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500})
    browser.get(path.as_uri())
    assert browser.get_log("browser") == []


def text(browser, selector):
    return browser.find_element("css selector", selector).text


def press(browser, key):
    browser.find_element("css selector", "body").send_keys(key)


def drawn(sizes, hidden, output, dtype, seed):
    """Network and samples whose numbers are of very different size, some too small for the type."""
    draw = np.random.default_rng(seed)
    net = Network(sizes, hidden=hidden, output=output, dtype=dtype, seed=seed, input_scale=0.3)
    net.W[0][:] *= np.exp(4 * draw.normal(size=net.W[0].shape))
    for b in net.b:
        b[:] = draw.normal(size=b.shape)
    t = draw.random((20, sizes[-1]))
    return net, draw.normal(size=(20, sizes[0])) * np.exp(6 * draw.normal(size=(20, sizes[0]))), t / t.sum(1)[:, None]


CASES = [([2, 2, 1], "sigmoid", "sigmoid", "quadratic"), ([3, 4], "relu", "softmax", None),
         ([1, 1, 1], "tanh", "identity", None), ([40, 260, 3], "gelu", "softmax", None),
         ([5, 17, 3, 9, 4], "mish", "softmax", "quadratic"), ([300, 700, 129, 20], "relu", "softmax", None),
         ([9, 600, 600, 8], "tanh", "sigmoid", "huber"), ([70, 33, 31, 29, 5], "elu", "identity", "cosine")]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", range(len(CASES)))
def test_every_sum_is_equal_to_the_cores(browser, tmp_path, case, dtype):
    *layers, loss = CASES[case]
    page(*drawn(*layers, dtype, case), tmp_path / "net.html", row=3, loss=loss)
    shown(browser, tmp_path / "net.html")
    assert text(browser, "#equal").startswith("Equal to the compiled core to the last bit: ")
    assert browser.execute_script("return compared") > 3 * sum(layers[0]) ** 0.5


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_off_by_its_last_bit_is_found(browser, tmp_path, dtype):
    page(*drawn([5, 17, 4], "tanh", "softmax", dtype, 0), tmp_path / "net.html")
    shown(browser, tmp_path / "net.html")
    bits = "Uint32Array" if dtype == "float32" else "BigUint64Array"
    for name in ("z", "sums", "dW", "delta"):
        told = browser.execute_script(f"const bits = new {bits}(D.{name}[0].buffer); bits[D.{name} === D.dW ? 3 : "
                                      "D.shown[1][3]]++; check(); return [difference.length, $('#equal').textContent]")
        assert told[0] >= 1 and "differ from the compiled core" in told[1]
        browser.refresh()


@pytest.mark.parametrize("dtype", DTYPES)
def test_fma_rounds_once(browser, tmp_path, dtype):
    """Against exact fractions: cancellation, halves between two numbers, products far below the sum, and subnormals."""
    page(*drawn([1, 1], "tanh", "identity", dtype, 0), tmp_path / "net.html")
    shown(browser, tmp_path / "net.html")
    draw, bits = np.random.default_rng(0), np.finfo(dtype).nmant
    a, b = (draw.normal(size=4000).astype(dtype) * np.exp2(draw.integers(-30, 30, 4000)).astype(dtype) for _ in "ab")
    c = (-a.astype(np.float64) * b).astype(dtype)  # what is left is what the product's rounding lost
    c[1000:2000] *= np.exp2(draw.integers(-bits - 3, bits + 3, 1000)).astype(dtype)
    a[2000:3000] = np.round(a[2000:3000] * 64) + dtype_of(dtype, 0.5)
    c[2000:3000] = np.ldexp(np.round(draw.normal(size=1000) * 64), bits)
    least = np.finfo(dtype).minexp
    a[3000:], b[3000:] = np.ldexp(a[3000:], least // 2 - 9), np.ldexp(b[3000:], least // 2 - 9)
    c[3000:] = np.ldexp(draw.normal(size=1000), least - 9)
    ours = browser.execute_script("return arguments[0].map(([a, b, c]) => fma(a, b, c))",
                                  np.stack([a, b, c], 1).astype(np.float64).tolist())
    for p, q, r, got in zip(a.tolist(), b.tolist(), c.tolist(), ours, strict=True):
        assert got == nearest(Fraction(p) * Fraction(q) + Fraction(r), bits + 1, bits - least), (p, q, r)


def dtype_of(dtype, value):
    return np.dtype(dtype).type(value)


def nearest(exact, digits, most):
    """Round a fraction to so many binary digits, of which the last is at least 2**-most; halves to even."""
    exponent = 0
    while abs(exact) * Fraction(2) ** exponent < 2 ** (digits - 1) and exponent < most:
        exponent += 1
    while abs(exact) * Fraction(2) ** exponent >= 2**digits:
        exponent -= 1
    return float(round(exact * Fraction(2) ** exponent) / Fraction(2) ** exponent)


def test_steps_answer_clicks_and_keys(browser, tmp_path):
    page(*drawn([2, 3, 2], "tanh", "softmax", "float64", 0), tmp_path / "net.html")
    shown(browser, tmp_path / "net.html")
    titles = [text(browser, "#title")]
    for _ in range(7):
        press(browser, webdriver.Keys.ARROW_RIGHT)
        titles.append(text(browser, "#title"))
    assert [title.split(":")[0] for title in titles] == [
        "Forward pass, layer 1", "Forward pass, layer 2", "Output error", "Backward recurrence, layer 1",
        "Weight gradients", "Update", "Update", "Update"]
    press(browser, webdriver.Keys.ARROW_LEFT)
    assert text(browser, "#title").startswith("Weight gradients")
    browser.find_element("css selector", '[data-kind="backward"]').click()
    assert text(browser, "#title") == titles[3]
    assert browser.find_element("css selector", '[data-kind="backward"]').get_attribute("aria-pressed") == "true"
    browser.find_element("css selector", "#back").click()
    assert text(browser, "#title") == titles[2] and "What this sample asks of output" in text(browser, "#asks")


def test_numbers_open_into_their_sums(browser, tmp_path):
    net, X, t = drawn([2, 3, 2], "tanh", "softmax", "float64", 0)
    page(net, X, t, tmp_path / "net.html")
    shown(browser, tmp_path / "net.html")
    neuron = browser.find_element("css selector", '[data-neuron="1,2"]')
    neuron.find_element("css selector", "circle:nth-of-type(2)").click()
    opened = text(browser, "#opened")
    assert "neuron 2 of layer 1" in opened and "z = b + Σ a W" in opened and "= the core's, to the last bit" in opened
    browser.find_element("css selector", "#opened tbody tr td:nth-child(3) button").click()
    assert "dE/dW = a · delta" in text(browser, "#opened") and "W[1][" in text(browser, "#opened")
    press(browser, webdriver.Keys.ESCAPE)
    assert not browser.find_element("css selector", "#opened").is_displayed()
    browser.find_element("css selector", '[data-neuron="2,1"]').send_keys(webdriver.Keys.ENTER)
    assert "output 1" in text(browser, "#opened")
    browser.execute_script("""document.querySelector('[data-edge="1,0,1"]').dispatchEvent(new Event("click"))""")
    assert text(browser, "#opened").startswith("W[2][0, 1]: from neuron 0 of layer 1 to output 1")


EVIL = '</script><img src=x onerror="window.hit=1"><script>window.hit=1</script>&amp;'


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (360, False), (360, True)])
def test_every_part_on_desktop_and_phone(browser, tmp_path, width, dark):
    """All parts below, names that look like code, nothing wider than the screen, and nothing asked of a network."""
    mnist = data.mnist()
    net = Network([784, 128, 10], input_scale=1 / 255)
    net.classes = [*"012345678", EVIL]
    names = net.classes[mnist.y_test[:2000]]
    statistics = Statistics(every=1)
    history = Trainer(net, batch_size=100).fit(mnist.x_test[:2000], names, 2, (mnist.x_test[:2000], names),
                                               callbacks=[statistics])
    page(net, mnist.x_test[:2000], names, tmp_path / "mnist.html", row=None, history=history, settings=EVIL,
         statistics=statistics)
    shown(browser, tmp_path / "mnist.html", width, dark)
    for _ in range(3):
        press(browser, webdriver.Keys.ARROW_RIGHT)
    browser.find_element("css selector", '[data-neuron="1,0"] circle:nth-of-type(2)').click()
    assert [h2.text for h2 in browser.find_elements("css selector", "#below h2")] == [
        "This sample", "Settings", "Curves", "Layers, over the training", "Share of the FMA peak", "Confusion matrix",
        "Largest errors", "Weights of the first layer", "Layers, over the mini-batch"]
    assert "% of the multiply-adds that" in text(browser, "#below")
    assert text(browser, "#equal").startswith("Equal") and "16 of 784" in text(browser, "#drawing")
    assert len(browser.find_elements("css selector", "canvas")) == 1 + 12 + 16
    assert EVIL in text(browser, "#below") and browser.execute_script("return window.hit") is None
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("""return [...document.querySelectorAll(".card svg")].every(
        svg => svg.getBoundingClientRect().right <= svg.parentElement.getBoundingClientRect().right)""")
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(18, 22, 27)") == dark
    assert browser.get_log("browser") == []
    if "FASTBP_SCREENSHOTS" in os.environ:
        height = browser.execute_script("return document.documentElement.scrollHeight")
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500})
        folder = Path(os.environ["FASTBP_SCREENSHOTS"])
        browser.save_screenshot(str(folder / f"page-{width}-{'dark' if dark else 'light'}.png"))


def test_layers_over_the_training_are_drawn(browser, tmp_path):
    """A line a layer that has a figure, at its numbers: 0 at the bottom of a log scale; none where there is none."""
    net, X, y = Network([2, 3, 4, 2], seed=1), np.random.default_rng(0).normal(size=(12, 2)), np.arange(12) % 2
    statistics = Statistics(every=1)
    Trainer(net, frozen=[0]).fit(X, y, 3, callbacks=[statistics])
    for each, ratio in zip(statistics.records, [0.0, 1e-4, 1e-2] * 3, strict=True):
        each["update_ratio"] = ratio
    page(net, X, y, tmp_path / "net.html", statistics=statistics, frozen=[0])
    shown(browser, tmp_path / "net.html")
    charts = browser.execute_script("""return [...document.querySelectorAll("#below svg")].map(svg => [
        svg.getAttribute("aria-label"), [...svg.querySelectorAll("polyline")].map(line => [
            line.previousSibling.textContent, line.getAttribute("points")])])""")
    assert [title for title, _ in charts] == ["rms of delta", "rms of dW", "rms of update / rms of W",
                                              "share of saturated or dead neurons"]
    assert [[name for name, _ in lines] for _, lines in charts] == [
        ["layer 2 relu", "layer 3 softmax"], ["layer 2 relu", "layer 3 softmax"],
        ["layer 1 relu", "layer 2 relu", "layer 3 softmax"], ["layer 1 relu", "layer 2 relu"]]
    points = [[[float(x) for x in pair.split(",")] for pair in line.split(" ")] for _, line in charts[2][1]]
    assert [[x for x, _ in line] for line in points] == [[8, 152, 296]] * 3
    heights = [26 + 84 * (1 - np.log(v / 5e-5) / np.log(200)) for v in (5e-5, 1e-4, 1e-2)]
    assert [y for line in points for _, y in line] == pytest.approx(np.repeat(heights, 3))
    script = "return speed({training: 3e9, loop: 4e9, threads: 2, ran: arguments[0]})[0].textContent"
    told = [browser.execute_script(script, ran) for ran in (1, 0.5)]
    assert told[0].startswith("75 % of the multiply-adds that 2 threads of") and told[0].endswith("is approximate.")
    assert told[1].endswith("the loop had only 50 % of the time of 2 processors, so the share may be too large.")
    assert "every step" in text(browser, "#below") and browser.get_log("browser") == []


def test_without_numbers_it_still_renders(browser, tmp_path):
    net, X, t = drawn([2, 3, 2], "tanh", "softmax", "float32", 0)
    net.W[0][:] = np.nan
    page(net, X, t, tmp_path / "net.html")
    shown(browser, tmp_path / "net.html")
    for _ in range(6):
        press(browser, webdriver.Keys.ARROW_RIGHT)
    assert text(browser, "#equal").startswith("Equal") and "not finite" in text(browser, "#about")
    assert browser.get_log("browser") == []
