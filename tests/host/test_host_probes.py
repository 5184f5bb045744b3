"""How bridges find defects."""

import functools
import warnings

import pytest

from nplp.host.probes import misbehaves, refers_to


def test_names_attributes_and_strings_are_seen():
    def function():
        import os

        return os.path, "a string"

    assert refers_to(function, "os")
    assert refers_to(function, "path")
    assert refers_to(function, "a string")
    assert not refers_to(function, "string")


def test_inner_functions_and_decorators_are_looked_through():
    def inside():
        return lambda value: value.hidden

    @functools.wraps(inside)
    def outside():
        return None

    assert refers_to(inside, "hidden")
    assert refers_to(outside, "hidden")


def test_builtins_refer_to_nothing():
    assert not refers_to(len, "len")


def _warn():
    warnings.warn("old", DeprecationWarning, stacklevel=1)


def _fail():
    raise TypeError("changed")


@pytest.mark.parametrize(("call", "expected"), [(_warn, True), (_fail, True), (lambda: 1, False)])
def test_warnings_and_errors_are_noticed_and_kept(call, expected, recwarn):
    assert misbehaves(call) is expected
    assert not recwarn.list


def test_other_errors_are_not_hidden():
    with pytest.raises(KeyError):
        misbehaves(lambda: {}["absent"])
