"""Chromium without a window, driven by selenium; as a command, a picture of a report's page.

python tests/support/chromium.py runs/my-run/report.html surprisal picture.png
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromedriver")  # of Debian's packages chromium and chromium-driver
WIDTH, HEIGHT = 1180, 620  # of a picture


def is_there() -> bool:
    """Whether the browser and its driver are installed."""
    return None not in map(shutil.which, NAMES)


def session() -> Any:
    """A session, whose log of the console and of the network can be read."""
    from selenium import webdriver

    browser, driver = map(shutil.which, NAMES)
    options = webdriver.ChromeOptions()
    options.binary_location = browser or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(driver))


READY = """const done = arguments[0];
const look = () => document.body.dataset.ready ? done(true) : setTimeout(look, 20); look()"""


def picture(page: Path, section: str, out: Path) -> None:
    """A picture of a page from the beginning of a section on, in light."""
    driver = session()
    size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get(page.absolute().as_uri())
    driver.execute_async_script(READY)
    begin = "document.documentElement.style.scrollBehavior = 'auto'; "
    driver.execute_script(begin + "document.getElementById(arguments[0]).scrollIntoView()", section)
    driver.save_screenshot(str(out))
    driver.quit()


if __name__ == "__main__":
    picture(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
