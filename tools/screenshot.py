"""A picture of a web page as Chromium shows it, and what went wrong in it: tools/screenshot.py PAGE OUT.png."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

CHROMIUM = "/usr/bin/chromium"
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
IMAGES = "[...document.images].map(i => [i.naturalWidth, i.naturalHeight])"


def look(page: Path, out: Path, *, width: int = 1200, dark: bool = False, wait: float = 0.5, height: int = 0) -> dict:
    """Open a page, save a picture of all of it (or of its top `height` pixels), and return what was seen.

    {"errors": console errors, "requests": addresses fetched besides the page, "images": natural sizes, "height": px,
    "width": of the content in px}
    """
    from playwright.sync_api import sync_playwright

    seen: dict = {"errors": [], "requests": []}
    address = page.resolve().as_uri()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        try:
            tab = browser.new_page(
                viewport={"width": width, "height": height or 900}, color_scheme="dark" if dark else "light"
            )
            tab.on("console", lambda m: seen["errors"].append(m.text) if m.type in ("error", "warning") else None)
            tab.on("pageerror", lambda e: seen["errors"].append(str(e)))
            tab.on("request", lambda r: seen["requests"].append(r.url[:200]) if _fetched(r.url, address) else None)
            tab.goto(address)
            tab.wait_for_timeout(1000 * wait)
            seen["images"] = tab.evaluate(IMAGES)
            seen["height"] = tab.evaluate("document.documentElement.scrollHeight")
            seen["width"] = tab.evaluate("document.documentElement.scrollWidth")
            tab.screenshot(path=str(out), full_page=not height)
        finally:
            browser.close()
    return seen


def _fetched(url: str, address: str) -> bool:
    return url.split("#")[0] != address and not url.startswith("data:")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=1200, help="of the window in pixels [1200]")
    parser.add_argument("--height", type=int, default=0, help="picture only so many pixels from the top [all]")
    parser.add_argument("--dark", action="store_true", help="as a browser in dark mode shows it")
    parser.add_argument("--wait", type=float, default=0.5, help="seconds before the picture is taken [0.5]")
    args = parser.parse_args()
    if not Path(CHROMIUM).exists():
        print(f"{CHROMIUM} is not there; on Debian: apt-get install --no-install-recommends chromium")
        return 2
    if not args.page.is_file():
        print(f"{args.page} is not there")
        return 2
    seen = look(args.page, args.out, width=args.width, dark=args.dark, wait=args.wait, height=args.height)
    print(json.dumps(seen | {"images": len(seen["images"])}))
    return 1 if seen["errors"] or seen["requests"] else 0


if __name__ == "__main__":
    sys.exit(main())
