"""Every public name of the library says what it is; the site leaves out what does not."""

from pathlib import Path

import pytest

griffe = pytest.importorskip("griffe", reason="mkdocstrings is not installed: pip install .[docs]")
ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "projects" / "NPLP"
LATE = {"nplp.evaluation.BoundedReidEvaluator"}
"""Names that a package imports when they are first asked for; their modules explain them."""
PACKAGES = ("nplp", "nplp_commands", "nplp_experiments", "nplp_synthetic")


@pytest.fixture(scope="module")
def library():
    """The packages as griffe reads them from their source."""
    loader = griffe.GriffeLoader(search_paths=[str(LIBRARY)])
    found = {name: loader.load(name, submodules=True) for name in PACKAGES}
    loader.resolve_aliases(external=False)
    return found


def undocumented(module):
    """Yield the public names without a docstring: of packages all, of other modules classes and functions.

    A constant of a module that has none is left out of the site. What is not bound by one plain statement
    cannot be found, and counts as a constant.
    """
    for name in map(str, module.exports or ()):
        member = module.members.get(name)
        try:
            member = member.final_target if member and member.is_alias else member
        except griffe.AliasResolutionError:
            member = None
        needed = module.is_init_module or (member and (member.is_class or member.is_function))
        if needed and not (member and member.has_docstring) and f"{module.path}.{name}" not in LATE:
            yield f"{module.path}.{name}"
    for inner in module.modules.values():
        if not inner.is_alias:
            yield from undocumented(inner)


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_has_a_docstring(library, name):
    assert list(undocumented(library[name])) == []


def test_a_name_without_one_is_found(tmp_path):
    (tmp_path / "some").mkdir()
    names = '"""A package."""\n\n__all__ = ["NUMBER", "count"]\nNUMBER = 1\ndef count(): ...\n'
    (tmp_path / "some" / "__init__.py").write_text(names)
    (tmp_path / "some" / "inner.py").write_text(names)
    package = griffe.GriffeLoader(search_paths=[str(tmp_path)]).load("some", submodules=True)
    assert list(undocumented(package)) == ["some.NUMBER", "some.count", "some.inner.count"]
