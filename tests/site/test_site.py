"""The site builds without a warning, holds every page, and asks the network for nothing."""

import logging
import re

import pytest
import yaml

from site_pages import ROOT

pytest.importorskip("material", reason="mkdocs-material is not installed: pip install .[docs]")
mkdocs_config = pytest.importorskip("mkdocs.config", reason="mkdocs is not installed: pip install .[docs]")

NOT_IN_THE_NAVIGATION = re.compile(r"^(results|source)/")


class Warnings(logging.Handler):
    """Keeps what mkdocs warns of: what ends a strict build."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.said = []

    def emit(self, record):
        self.said.append(record.getMessage())


def build(folder, **changes):
    """Build the site into a folder; return its configuration, files and warnings."""
    from mkdocs.commands.build import build as build_site

    config = mkdocs_config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), **changes)
    seen = {}
    config.plugins.events["env"].append(lambda env, files, **_: seen.setdefault("files", files) and env)
    warnings = Warnings()
    logging.getLogger("mkdocs").addHandler(warnings)
    try:
        build_site(config)
    finally:
        logging.getLogger("mkdocs").removeHandler(warnings)
    return config, seen["files"], warnings.said


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site's folder, with its files and warnings."""
    folder = tmp_path_factory.mktemp("site")
    _, files, said = build(folder)
    return folder, files, said


def named(entries):
    """Yield the pages of a navigation."""
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, dict):
            for value in entry.values():
                yield from named([value] if isinstance(value, str) else value)


def test_nothing_is_warned_of(site):
    assert site[2] == []


def test_every_page_is_in_the_navigation(site):
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(named(yaml.safe_load(re.sub(r"!!python\S+", "", text))["nav"]))
    pages = {file.src_uri for file in site[1].documentation_pages()}
    generated = {page for page in pages if page.startswith("reference/")}
    left = sorted(page for page in pages - generated - listed if not NOT_IN_THE_NAVIGATION.match(page))
    assert left == [], "add them to nav in mkdocs.yml"


def test_every_package_is_in_the_reference(site):
    folder = site[0]
    packages = {path.parent.name for path in (ROOT / "projects/NPLP/nplp").glob("*/__init__.py")}
    assert {path.stem for path in (folder / "reference").glob("*.html")} == packages | {"index"}
    text = (folder / "reference" / "clustering.html").read_text(encoding="utf-8")
    assert 'id="nplp.clustering.estimate_pseudo_labels"' in text
    assert 'id="nplp.clustering.people.estimate_people"' in text


def test_a_link_to_a_source_leads_to_a_page_that_shows_it(site):
    folder = site[0]
    page = (folder / "start.html").read_text(encoding="utf-8")
    assert 'href="source/projects/NPLP/nplp/config/keys.py.html"' in page
    shown = (folder / "source/projects/NPLP/nplp/config/keys.py.html").read_text(encoding="utf-8")
    assert "STARTUP_ITERATIONS" in shown
    listing = (folder / "source/configs/NPLP/ablations.html").read_text(encoding="utf-8")
    assert 'href="ablations/plus.yml.html"' in listing


def test_no_page_loads_anything_from_elsewhere(site):
    loads = re.compile(r'<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)="(?:https?:)?//[^"]*"')
    for path in site[0].rglob("*.html"):
        assert loads.findall(path.read_text(encoding="utf-8")) == [], path


def test_a_broken_link_and_a_wrong_anchor_are_warned_of(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(
        "# A\n\n[a](none.md) [b](../no_such_file.py) [c](#nowhere) [d](../README.md#no-such-part)\n"
    )
    _, _, said = build(tmp_path / "site", docs_dir=str(docs), nav=["index.md"], plugins=[])
    for link in ("none.md", "no_such_file.py", "#nowhere", "#no-such-part"):
        assert any(link in line for line in said), link
