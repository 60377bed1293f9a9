"""Which pages the site has: those in docs/, and some from outside it. A hook of MkDocs.

The documents link to each other by their paths in the repository, so that they can be read there. In the site
README.md becomes the front page, and the links are changed to match.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = {  # path in the repository -> path in the site
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "SECURITY.md": "SECURITY.md",
    "benchmarks/LOG.md": "benchmarks/LOG.md",
    "LICENSE": "LICENSE.txt",
    "CITATION.cff": "CITATION.cff",
}
INSIDE_OUT = {there: here for here, there in OUTSIDE.items()}
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are outside docs/."""
    for here, there in OUTSIDE.items():
        files.append(File.generated(config, there, abs_src_path=str(ROOT / here)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between paths in the repository into links between pages."""
    here = page.file.src_uri
    return LINK.sub(lambda link: link[1] + in_site(link[2], here) + link[3], markdown)


def in_site(target: str, page: str) -> str:
    """Return a link on a page of the site, given the link in the repository.

    >>> in_site("../README.md", "results.md"), in_site("docs/results.md", "index.md")
    ('index.md', 'results.md')
    >>> in_site("https://arxiv.org", "index.md")
    'https://arxiv.org'
    """
    if "://" in target:
        return target
    folder = posixpath.dirname(INSIDE_OUT.get(page, f"docs/{page}"))
    place = posixpath.normpath(posixpath.join(folder, target))
    return posixpath.relpath(OUTSIDE.get(place, place.removeprefix("docs/")), posixpath.dirname(page) or ".")
