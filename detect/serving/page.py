"""The web page, and the policy that lets a browser use only its own script and style."""

import base64
import hashlib
import re
from pathlib import Path

FILE = Path(__file__).parent / "page.html"


def page() -> tuple[str, str]:
    """Return the page, and its Content-Security-Policy."""
    text = FILE.read_text(encoding="utf-8")
    return text, (
        f"default-src 'none'; script-src {_hashes(text, 'script')}; style-src {_hashes(text, 'style')}; "
        "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hashes(text: str, element: str) -> str:
    """Return the policy sources that allow the elements of a page, by their digests."""
    inside = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in inside)
