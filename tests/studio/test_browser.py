"""Each page as a person would use it, in a real browser. Screenshots go to $KINEMA_SCREENSHOTS, if set."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinema.evaluate.arena import create_arena
from kinema.evaluate.votes import Vote, VoteStore
from kinema.files import write_text
from kinema.manifest import read_clips
from kinema.studio.jobs import Jobs
from kinema.train.config import TrainConfig
from kinema.video.writer import write_image, write_video

from .browser import Server, Visitor, chromium, serving

EARLIER = "simulated:1"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def model(squares: Path, small_run: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from dataclasses import replace

    from kinema.train.loop import train

    folder = tmp_path_factory.mktemp("trained") / "run"
    preview = replace(small_run.preview, every=3)
    train(replace(small_run, preview=preview), squares, folder)
    return folder


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arena")
    for model, level in (("amber", 200), ("umber", 60)):
        for number in range(8):
            path = folder / model / f"{number}.mp4"
            write_video(path, np.full((8, 72, 128, 3), level + 5 * number, np.uint8), fps=8)
            write_text(path.with_name(path.name + ".json"), f'{{"prompt": "prompt {number}"}}')
    made = create_arena(folder / "arena", "Shades", {name: folder / name for name in ("amber", "umber")})
    for number, outcome in enumerate(("a", "a", "b", "tie", "a", "a")):
        for axis in made.axes:
            earlier = {"vote_id": f"{axis}{number}", "model_a": "amber", "model_b": "umber", "voter": EARLIER}
            made.votes.append(Vote(**earlier, outcome=outcome, axis=axis))
    return folder / "arena"


def test_a_dataset_in_a_browser(browser: Any, dataset: Path, tmp_path: Path) -> None:
    """The quick one: hover, search, a caption, a verdict, a threshold, light and dark and a phone."""
    shutil.copytree(dataset, tmp_path / "dataset")
    with serving(tmp_path, tmp_path / "dataset") as server:
        person = Visitor(browser, server)
        page = person.go("/data")
        page.locator(".card").first.hover()
        page.wait_for_selector(".card video")
        person.until("document.querySelector('.card video').readyState >= 2")
        person.look("dataset")
        page.keyboard.press("/")
        page.keyboard.type("blue")
        person.until("document.querySelectorAll('.card').length === 1")
        assert page.url.endswith("q=blue&kept=all&sort=&column=&sign=%3E%3D&value=")
        page.keyboard.press("Escape")
        page.keyboard.press("j")
        page.evaluate(
            "document.addEventListener('htmx:afterSettle', () => { window.settled = true; });"
            "document.getElementById('q').dispatchEvent(new Event('change', {bubbles: true}))"
        )
        person.until("window.settled === true")  # the cards are new ones
        assert page.evaluate("document.activeElement.className").startswith("card")
        page.keyboard.press("Enter")
        page.wait_for_selector("#caption")
        page.fill("#caption", "a blue square on grey")
        page.click("text=Save")
        page.wait_for_selector(".captions >> text=human")
        page.fill("#reason", "too plain")
        page.locator("h1").click()
        page.keyboard.press("x")
        page.wait_for_selector(".state.no")
        person.look("clip")
        clips = {clip.captions[-1].text: clip for clip in read_clips(tmp_path / "dataset")}
        assert clips["a blue square on grey"].drop_reasons == ("by hand: too plain",)
        drag_a_threshold(person)
        person.close()
        phone = Visitor(browser, server, viewport={"width": 390, "height": 800}, color_scheme="dark")
        page = phone.go("/data")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        phone.look("dataset-phone-dark")
        phone.close()


def drag_a_threshold(person: Visitor) -> None:
    page = person.page
    page.goto(page.url.partition("/clip/")[0] + "/filters")
    chart = page.locator(".chart", has_text="brightness")
    handle = chart.locator(".handle.max")
    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 7, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 7, box["y"] + 40, steps=8)
    page.mouse.up()
    page.wait_for_selector(".border .card")
    assert page.locator(".sum b").first.inner_text() == "0"
    assert float(chart.locator("[name='brightness.max']").input_value()) > 0
    person.look("thresholds")
    page.keyboard.press("End")  # the handle has the focus: back to no bound
    person.until("document.querySelector('.sum b').textContent === '1'")


def make_link(owner: Visitor) -> str:
    page = owner.go("/arena")
    page.click("text=Make a link")
    page.wait_for_selector("#new-link")
    return page.input_value("#new-link").replace(owner.server.url, "")


def shown(voter: Visitor) -> str:
    """What the voter is asked, once its page is whole: a question and an axis; "" at the end."""
    from playwright.sync_api import Error

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            found = voter.page.evaluate(
                "(() => { if (document.readyState !== 'complete') return null;"
                " const form = document.querySelector('#ballot form');"
                " return form ? form.elements.question.value + form.elements.axis.value : ''; })()"
            )
        except Error as error:
            if "navigation" not in str(error):
                raise
        else:
            if found is not None:
                return str(found)
        voter.page.wait_for_timeout(30)
    raise AssertionError("the page never became whole")


def answer(voter: Visitor, key: str) -> None:
    """One answer by key, and wait for the next question."""
    before, deadline = shown(voter), time.monotonic() + 60
    voter.page.keyboard.press(key)
    while shown(voter) == before:
        assert time.monotonic() < deadline, (voter.faults, before)
        voter.page.wait_for_timeout(30)


def test_two_voters_at_once_and_a_server_that_is_killed(browser: Any, arena: Path, tmp_path: Path) -> None:
    with serving(tmp_path, arena) as server:
        owner = Visitor(browser, server)
        link = make_link(owner)
        owner.look("arena-link")
        voters = [Visitor(browser, server) for _ in range(2)]
        voters[1].outage = True
        for voter in voters:
            voter.go(link).wait_for_selector(".ballot")
        voters[0].until("[...document.querySelectorAll('video')].every(video => video.readyState >= 3)")
        voters[0].look("vote")
        for key in "12":
            for voter in voters:
                answer(voter, key)
        asked = voters[0].page.locator(".ballot").get_attribute("data-question")
        killed_in_the_middle_of_a_vote(server, voters[0], arena)
        voters[0].go("/vote").wait_for_selector(".ballot")  # the page was closed and opened again
        assert voters[0].page.locator(".ballot").get_attribute("data-question") == asked
        for voter in voters:
            voter.go(link).wait_for_selector("#ballot")
            for key in "0912" * 8:
                if shown(voter) == "":
                    break
                answer(voter, key)
        everything_counted_once(arena)
        owner.go("/arena").wait_for_selector(".board")
        owner.look("arena")
        for person in voters:
            person.close()


def killed_in_the_middle_of_a_vote(server: Server, voter: Visitor, arena: Path) -> None:
    """An answer is sent while the server dies; the voter presses again until it is there."""
    voter.outage = True
    voter.page.keyboard.press("1")
    server.kill()
    before = len(VoteStore(arena / "votes.jsonl").read())
    server.start()
    assert len(VoteStore(arena / "votes.jsonl").read()) == before


def everything_counted_once(arena: Path) -> None:
    votes = VoteStore(arena / "votes.jsonl").read()
    lines = (arena / "votes.jsonl").read_text().splitlines()
    assert len({vote.vote_id for vote in votes}) == len(lines)
    votes = [vote for vote in votes if vote.voter != EARLIER]
    asked = [json.loads(line) for line in (arena / "asked.jsonl").read_text().splitlines()]
    per_voter = Counter(row["voter"] for row in asked)
    assert len(per_voter) == 2
    checks = sum(not row["second"] for row in asked)
    assert len(votes) == 2 * (len(asked) - checks) + checks  # each question on both axes, each check on one


@pytest.mark.slow
def test_a_run_in_a_browser(browser: Any, model: Path, tmp_path: Path) -> None:
    with serving(tmp_path, model) as server:
        person = Visitor(browser, server, color_scheme="dark")
        page = person.go("/runs")
        page.click("tbody a")
        page.wait_for_selector(".u-over")
        assert page.locator(".previews video").count() >= 2
        person.look("run-dark")
        page.keyboard.press("t")
        assert page.evaluate("document.documentElement.dataset.theme") == "light"
        person.look("run-light")
        person.go("/runs").wait_for_selector(".u-over")
        person.look("runs")
        person.close()


def test_two_clips_are_connected(browser: Any, model: Path, tmp_path: Path) -> None:
    for name, level in (("first", 60), ("second", 190)):
        write_video(tmp_path / f"{name}.mp4", np.full((8, 48, 48, 3), level, np.uint8), fps=6)
    with serving(tmp_path, model) as server:
        person = Visitor(browser, server)
        page = person.go("/generate")
        page.fill("#prompt", "a red square moves")
        page.click("text=Connect")
        page.wait_for_selector("#timeline >> text=Drop two clips or pictures")
        page.set_input_files("#files", [str(tmp_path / f"{name}.mp4") for name in ("first", "second")])
        page.wait_for_selector(".item >> nth=1")
        page.wait_for_selector("[aria-label*='2 given']")
        assert page.locator(".own").all_inner_texts() == ["7 of the clip", "7 of the clip"]
        person.look("connect")
        page.fill("[name='steps']", "3")
        page.click("text=Make it")
        page.wait_for_selector(".gallery video")
        (job,) = Jobs(tmp_path / "made" / "jobs").all()
        assert job.sidecar["task"] == "connect"
        assert job.sidecar["frames_written"] == 7 + 4 + 7
        person.look("connect-made")
        person.close()


def test_every_page_at_night_on_a_phone(
    browser: Any, dataset: Path, model: Path, arena: Path, tmp_path: Path
) -> None:
    """None is wider than the screen, and all are accessible in the dark."""
    shutil.copytree(dataset, tmp_path / "dataset")
    shutil.copytree(arena.parent, tmp_path / "compared")
    with serving(tmp_path, tmp_path / "dataset", model, tmp_path / "compared" / "arena") as server:
        owner = Visitor(browser, server, viewport={"width": 390, "height": 800}, color_scheme="dark")
        link = make_link(owner)
        data = owner.go("/data").url.replace(server.url, "")
        run = owner.go("/runs").locator("tbody a").first.get_attribute("href")
        clip = owner.go(data).locator("a.card").first.get_attribute("href")
        pages = {"data": data, "clip": clip, "thresholds": f"{data}/filters", "runs": "/runs", "run": run}
        pages |= {"generate": "/generate", "arena": "/arena", "vote": link, "keys": "/keys", "home": "/"}
        for name, path in pages.items():
            owner.go(path).wait_for_load_state("load")
            owner.page.wait_for_timeout(300)
            assert owner.page.evaluate("document.documentElement.scrollWidth") <= 390, name
            owner.look(f"phone-{name}", whole=True)
        owner.close()


@pytest.mark.slow
def test_a_video_is_made_and_a_killed_server_goes_on(browser: Any, model: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "photo.png", np.full((48, 48, 3), 120, np.uint8))
    with serving(tmp_path, model) as server:
        person = Visitor(browser, server)
        page = person.go("/generate")
        page.fill("#prompt", "a red square moves")
        page.set_input_files("#files", str(tmp_path / "photo.png"))
        page.wait_for_selector(".item")
        page.wait_for_selector("[aria-label*='1 given']")
        page.fill("[name='steps']", "400")
        page.fill("[name='seed']", "5")
        person.look("generate")
        page.click("text=Make it")
        page.wait_for_selector(".queue img")  # the preview of a step
        person.look("generate-queue")
        (job,) = Jobs(tmp_path / "made" / "jobs").all()
        killed_in_the_middle_of_a_video(server, job, person)
        page = person.go("/generate")
        page.wait_for_selector(".gallery video")
        assert page.locator(".gallery li").count() == 1
        assert len(list((tmp_path / "made" / "jobs").glob("*/video.mp4"))) == 1
        assert job.sidecar["seed"] == 5
        page.click("text=All parameters")
        person.look("generate-gallery")
        page.click("text=Again with")
        page.wait_for_selector(".item")
        assert page.input_value("[name='seed']") == "5"
        cancelled(person)
        person.close()


def killed_in_the_middle_of_a_video(server: Server, job: Any, person: Visitor) -> None:
    assert job.status.state == "running"
    person.outage = True
    server.kill()
    time.sleep(1)
    step = job.status.step
    time.sleep(1)
    assert job.status.step == step  # its process has ended with it
    server.start()


def cancelled(person: Visitor) -> None:
    page = person.page
    page.fill("[name='steps']", "900")
    page.click("text=Make it")
    page.wait_for_selector(".queue progress[value]")
    page.click("text=Cancel")
    page.wait_for_selector(".gallery >> text=Cancelled")
