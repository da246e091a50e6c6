"""A page opened in a real browser, for the tests: what the console said, and a picture. Skipped where there is none."""

import shutil
import subprocess
import tempfile
from pathlib import Path

QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --enable-logging=stderr"
).split()


def browser() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def open_page(page: Path, *flags: str) -> tuple[str, list[str]]:
    """(what the browser printed, lines of the console). Raises if it does not end well within a minute."""
    found = browser()
    assert found is not None
    with tempfile.TemporaryDirectory() as profile:
        command = [found, *QUIET, f"--user-data-dir={profile}", *flags, page.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def picture(page: Path, target: Path, *, width: int, height: int, dark: bool = False) -> list[str]:
    """A screenshot of `width` x `height` CSS pixels (below 500 through a frame, the window being no narrower)."""
    flags = [f"--screenshot={target}", "--force-device-scale-factor=1"]
    if dark:
        flags.append("--blink-settings=preferredColorScheme=0")
    if width >= 500:
        return open_page(page, *flags, f"--window-size={width},{height}")[1]
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder) / "frame.html"
        frame.write_text(
            f'<body style="margin:0"><iframe src="{page.resolve().as_uri()}" width="{width}" height="{height}" '
            'style="border:0"></iframe></body>'
        )
        return open_page(frame, *flags, f"--window-size={max(width, 500)},{height}")[1]
