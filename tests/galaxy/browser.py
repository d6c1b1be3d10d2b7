"""Use Galaxy's web pages as a biologist does, with a picture of every step.

Runs in the environment of Galaxy, which brings playwright, with the Chromium of the system.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Error, Locator, Page, sync_playwright

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WINDOW = {"width": 1440, "height": 1000}
STEP_LIMIT = 60_000
ENDED = {"ok", "error", "empty", "failed_metadata", "discarded", "failed", "paused"}


class PageError(RuntimeError):
    """A page did not do what a user would expect; the message says which."""


@dataclass
class Biologist:
    """One browser window in Galaxy; every step leaves a numbered picture in `screenshots`."""

    page: Page
    url: str
    screenshots: Path
    pictures: list[Path] = field(default_factory=list)

    def picture(self, name: str) -> Path:
        """Save what the window shows."""
        self.screenshots.mkdir(parents=True, exist_ok=True)
        path = self.screenshots / f"{len(self.pictures) + 1:02d}-{re.sub(r'[^a-z0-9]+', '-', name.lower())}.png"
        self.page.screenshot(path=str(path))
        self.pictures.append(path)
        return path

    def open_history(self, history: str) -> None:
        """Make a history the current one and show it."""
        self.page.goto(f"{self.url}history/set_as_current?id={history}")
        self.page.goto(self.url)
        self.page.locator("#current-history-panel").wait_for()

    def open_tool(self, tool_id: str) -> None:
        """Open a tool's form and wait until it can be sent."""
        self.page.goto(f"{self.url}?tool_id={tool_id}")
        self.run_button().wait_for()
        self.page.locator("#current-history-panel").wait_for()
        self.picture(f"{tool_id} form")

    def search_tools(self, query: str) -> list[str]:
        """Type into the search field of the tool panel and return the ids of the tools it then shows, best first."""
        panel = self.page.locator('[data-description="panel toolbox"]')
        panel.locator('input[data-description="filter text input"]').first.fill(query)
        self.page.wait_for_timeout(1500)
        self.picture(f"search {query}")
        return [link.get_attribute("data-tool-id") or "" for link in panel.locator("a[data-tool-id]").all()]

    def run_button(self) -> Locator:
        """Return the first Run button, above the form; it is off while the form loads or misses an input."""
        return self.page.locator('#execute:not([aria-disabled="true"])').first

    def field(self, parameter: str) -> Locator:
        """Return a field of the form by its name, `section|name`."""
        return self.page.locator(f'div.ui-form-element[id="form-element-{parameter}"]')

    def choose(self, parameter: str, text: str) -> None:
        """Choose a dataset, or an option of a list, by a part of its text."""
        self.field(parameter).locator(".multiselect").first.click()
        self.field(parameter).locator(".multiselect__element", has_text=text).first.click()
        self.picture(f"chosen {parameter}")

    def fill(self, parameter: str, text: str) -> None:
        """Type into a text or number field."""
        self.field(parameter).locator("input, textarea").first.fill(text)
        self.picture(f"filled {parameter}")

    def open_section(self, title: str) -> None:
        """Open a closed section of the form."""
        self.page.locator(".ui-portlet-section .portlet-header", has_text=title).first.click()
        self.picture(f"section {title}")

    def run(self) -> list[int]:
        """Press Run, wait until all new datasets are done, and return their numbers in the history."""
        before = set(self.states())
        self.run_button().click()
        self.wait_until(lambda: set(self.states()) - before, "No new dataset appeared in the history after Run")
        self.picture("started")
        self.wait_until(
            lambda: all(state in ENDED for number, state in self.states().items() if number not in before),
            "The job did not end",
            limit=1800,
        )
        self.picture("finished")
        new = {number: state for number, state in self.states().items() if number not in before}
        failed = [number for number, state in new.items() if state not in ("ok", "empty")]
        if failed:
            raise PageError(f"Datasets {failed} ended in an error: {self.screenshots} shows the history.")
        return sorted(new)

    def states(self) -> dict[int, str]:
        """Return the state of every dataset the history panel shows, by its number."""
        items = self.page.locator("#current-history-panel .content-item[data-hid]")
        found = items.evaluate_all("all => all.map(item => [item.dataset.hid, item.dataset.state])")
        return {int(number): state for number, state in found}

    def wait_until(self, condition: Callable[[], object], complaint: str, limit: float = 60) -> None:
        """Wait for a condition of the page; raises PageError if it never comes."""
        end = time.monotonic() + limit
        while not condition():
            if time.monotonic() > end:
                raise PageError(f"{complaint} within {limit:.0f} s.")
            self.page.wait_for_timeout(250)

    def view(self, number: int) -> None:
        """Show a dataset in the middle of the window."""
        item = self.page.locator(f'#current-history-panel .content-item[data-hid="{number}"]')
        item.locator(".display-btn").first.click()
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_timeout(1500)
        self.picture(f"dataset {number}")

    def open_details(self, number: int) -> None:
        """Unfold a dataset in the history panel, where its type, its size and its first lines stand."""
        self.page.locator(f'#current-history-panel .content-item[data-hid="{number}"] .content-title').first.click()
        self.page.wait_for_timeout(1000)
        self.picture(f"details {number}")


@contextlib.contextmanager
def browser(url: str, screenshots: Path) -> Iterator[Biologist]:
    """Open a browser window with nothing remembered, and close it at the end."""
    program = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if program is None:
        raise PageError("There is no Chromium on this machine: install it (Debian: apt-get install chromium).")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, headless=True, args=list(CHROMIUM_OPTIONS))
        try:
            page = chromium.new_page(viewport=WINDOW)
            page.set_default_timeout(STEP_LIMIT)
            biologist = Biologist(page, url.rstrip("/") + "/", screenshots)
            try:
                yield biologist
            except (Error, PageError):
                biologist.picture("problem")
                raise
        finally:
            chromium.close()


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Run a tool in the browser and view its outputs, or search for tools.")
    parser.add_argument("--url", required=True, help="where Galaxy is")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--tool", help="the id of the tool to run")
    what.add_argument("--search", action="append", help="a word to search for; what is found is printed as JSON")
    parser.add_argument("--screenshots", type=Path, required=True, help="the folder for the pictures")
    parser.add_argument("--history", help="the id of the history with the inputs (default: the current one)")
    parser.add_argument(
        "--choose", action="append", default=[], metavar="FIELD=TEXT", help="choose an entry of a list; may be repeated"
    )
    return parser.parse_args()


def main() -> int:
    """Open the form, run the tool, view every output."""
    arguments = parse_arguments()
    try:
        with browser(arguments.url, arguments.screenshots) as biologist:
            if arguments.history:
                biologist.open_history(arguments.history)
            if arguments.search:
                biologist.page.goto(biologist.url)
                print(json.dumps({query: biologist.search_tools(query) for query in arguments.search}))
                return 0
            biologist.open_tool(arguments.tool)
            for parameter, _, text in (choice.partition("=") for choice in arguments.choose):
                biologist.choose(parameter, text)
            numbers = biologist.run()
            for number in numbers:
                biologist.view(number)
                biologist.open_details(number)
            print(f"Outputs {numbers} are ready; {len(biologist.pictures)} pictures in {arguments.screenshots}")
    except (PageError, Error) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
