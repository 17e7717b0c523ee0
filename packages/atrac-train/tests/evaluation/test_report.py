"""The report: numbers, sounds that switch in place, and a blind test that counts correctly."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atrac_train.evaluation.media import ORIGINAL, Media, flac
from atrac_train.evaluation.report import write_report
from atrac_train.evaluation.results import Item, Row, summed_up

_HELPERS = runpy.run_path(str(Path(__file__).with_name("browser.py")))
PROGRAM, Browser = _HELPERS["PROGRAM"], _HELPERS["Browser"]
needs_browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium")
EVIL = "<b>&\"'</script>.wav"
FIRST = "7"
"""A number, as keys of JavaScript objects are not kept in order."""
LEVELS = (0.1, 0.2, 0.4)
SECONDS = 1.5
NOISE = np.random.default_rng(0).uniform(-1, 1, int(SECONDS * 44100)).astype(np.float32)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two recordings by two encoders: each version is the same noise at its own level."""
    rows = []
    for k, name in enumerate((EVIL, "plain.wav")):
        rows.append(Row(name, FIRST, "ffmpeg", {"SNR (dB)": 10.0 + k, "NMR (dB)": -3.0, "Grade": -1.0}))
        scores = {"SNR (dB)": 12.0 - 2 * k, "NMR (dB)": -3.0, "Grade": None}
        rows.append(Row(name, "<two>", "ffmpeg", scores, {"Grade": "no number"}))
    items = [Item(EVIL, SECONDS, 2, "speech"), Item("plain.wav", SECONDS, 1, "transients")]
    evaluation = summed_up({}, {"SNR (dB)": "more", "NMR (dB)": "less", "Grade": "more"}, items, rows)
    names = (ORIGINAL, FIRST, "<two>")
    sounds = {name: flac(np.stack([level * NOISE] * 2)) for name, level in zip(names, LEVELS)}
    folder = tmp_path_factory.mktemp("report")
    write_report(evaluation, [Media(name, sounds, b"") for name in (EVIL, "plain.wav")], folder)
    return folder / "report.html"


@pytest.fixture
def browser(page: Path) -> Iterator[Any]:
    with Browser(page) as browser:
        browser.run("document.querySelector('[data-open]').click()")
        browser.wait("player.playing && player.context.currentTime > player.began")
        yield browser


def test_it_is_one_file_that_fetches_nothing(page: Path):
    text = page.read_text()
    assert not re.search(r"{%|{{", text)
    assert not re.search(r"""<[^>]*\s(?:src|href)=["'](?!data:|#)""", text)
    assert "http" not in re.sub(r"http-equiv", "", text)


def test_names_are_text_and_the_best_is_bold(page: Path):
    text = page.read_text()
    assert "&lt;b&gt;&amp;" in text
    assert EVIL not in text
    assert "<two>" not in text
    assert "<b>12.000</b>" in text
    assert "<b>-3.000" not in text  # both have it
    assert "SNR (dB), 1 of 2: plain.wav" in text
    assert 'title="no number"' in text


@pytest.mark.slow
@needs_browser
def test_a_switch_keeps_the_place(browser: Any):
    assert browser.run("document.getElementById('name').textContent") == EVIL
    assert browser.run("player.names") == [ORIGINAL, FIRST, "<two>"]
    assert browser.run("player.gains.map(({ gain }) => gain.value)") == [1, 0, 0]
    browser.run("window.before = [player.sources, player.position]; 0")
    browser.press("2")
    browser.wait("player.gains[2].gain.value > 0.999 && player.gains[0].gain.value < 1e-3")
    assert browser.run("player.sources === before[0] && player.playing")
    assert browser.run("document.querySelector('#versions [aria-pressed=true]').textContent") == "2 <two>"
    browser.run("document.getElementById('play').focus()")
    browser.press(" ")
    assert browser.run("!player.playing && player.position === player.offset")
    browser.press(" ")
    assert browser.run("player.playing")


@pytest.mark.slow
@needs_browser
def test_versions_run_in_step_to_the_sample(browser: Any):
    """Played without a loudspeaker, what is heard goes from one version to another, and nothing is lost between."""
    began, *heard = browser.run("""(async () => {
      player.stop();
      const offline = new OfflineAudioContext(1, RATE, RATE);
      offline.resume = () => {};
      player.context = offline; player.offset = 0.25; player.heard = 1;
      player.play();
      offline.suspend(0.5).then(() => { player.hear(2); OfflineAudioContext.prototype.resume.call(offline); });
      const samples = (await offline.startRendering()).getChannelData(0);
      return [player.began, ...samples];
    })()""")
    start, switch, settled = round(began * 44100), round(0.49 * 44100), round(0.6 * 44100)
    expected = NOISE[11025 : 11025 + 44100 - start]
    played = np.array(heard[start:])
    assert not np.any(heard[:start])
    quantization = 2**-15
    np.testing.assert_allclose(played[: switch - start], LEVELS[1] * expected[: switch - start], atol=quantization)
    np.testing.assert_allclose(played[settled - start :], LEVELS[2] * expected[settled - start :], atol=quantization)
    between = played[switch - start : settled - start] / expected[switch - start : settled - start]
    assert 0.99 * LEVELS[1] < np.median(between[:400]) < np.median(between[-400:]) < 1.01 * LEVELS[2]


@pytest.mark.slow
@needs_browser
def test_a_part_repeats(browser: Any):
    browser.run("player.limit(0.5, 0.7)")
    browser.run("player.seek(0.6)")
    browser.run("new Promise(done => setTimeout(done, 400))")
    assert browser.run("player.playing && player.position >= 0.5 && player.position <= 0.7")
    assert "repeats 0.5 to 0.7" in browser.run("document.getElementById('time').textContent")
    browser.run("document.getElementById('whole').click()")
    assert browser.run("player.part") == [0, SECONDS]


@pytest.mark.slow
@needs_browser
def test_blind_trials_are_counted(browser: Any):
    browser.press("t")
    assert browser.run("document.getElementById('versions').hidden")
    for _ in range(20):
        browser.press("x")
        browser.press("A")
    found = browser.run("results()")
    drawn = [trial["x"] for trial in found["trials"]]
    assert 2 <= drawn.count("A") <= 18  # fails once in 25,000
    assert all(trial["said"] == "A" and trial["right"] == (trial["x"] == "A") for trial in found["trials"])
    (score,) = found["scores"]
    right = drawn.count("A")
    assert (score["a"], score["b"], score["trials"], score["right"]) == (ORIGINAL, FIRST, 20, right)
    said = browser.run("document.getElementById('scores').textContent")
    assert said.startswith(f"original against {FIRST}: {right} right of 20, p = ")
    saved = browser.run("""(async () => {
      let blob;
      URL.createObjectURL = (given) => { blob = given; return "#"; };
      document.getElementById("download").click();
      return JSON.parse(await blob.text());
    })()""")
    assert saved == found
    browser.run("document.getElementById('reset').click()")
    assert browser.run("results().trials") == []


@pytest.mark.slow
@needs_browser
def test_x_sounds_like_what_the_answer_names(browser: Any):
    browser.press("t")
    for _ in range(6):
        browser.press("x")
        heard = browser.run("player.heard")
        browser.press("B")
        assert browser.run("abx.trials.at(-1).x") == "AB"[heard]
        assert browser.run("document.getElementById('verdict').textContent").endswith(f"X was {'AB'[heard]}")


@pytest.mark.slow
@needs_browser
def test_chance_is_that_of_a_coin(browser: Any):
    assert browser.run("[[0, 0], [0, 5], [5, 5], [8, 10]].map((of) => Abx.chance(...of))") == pytest.approx(
        [1, 1, 1 / 32, 56 / 1024]
    )
