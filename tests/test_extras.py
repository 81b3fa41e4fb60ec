"""Packages of the extras: each is named with the extra that brings it, and nothing else is hidden by that sentence."""

import configparser
import sys

import pytest

from inception import extras


def test_every_package_stands_in_the_extra_that_is_named(repository):
    settings = configparser.ConfigParser()
    settings.read(repository / "setup.cfg")
    called = {"sklearn": "scikit-learn"}
    for module, extra in extras.EXTRAS.items():
        assert called.get(module, module) in settings["options.extras_require"][extra], module


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "no_such_package", "features")
    sentence = r"no_such_package is not installed; pip install 'inception-v3\[features\]' brings it"
    for module in ("no_such_package", "no_such_package.part"):
        with pytest.raises(extras.MissingPackage, match=sentence) as caught:
            extras.load(module)
        assert caught.value.name == "no_such_package"
    assert not extras.installed("no_such_package")


def test_what_is_missing_inside_a_package_keeps_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import its_own_need")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="its_own_need") as caught:
        extras.load("half_installed")
    assert not isinstance(caught.value, extras.MissingPackage)


def test_installed_imports_nothing(tmp_path, monkeypatch):
    (tmp_path / "never_imported.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)
    assert extras.installed("never_imported") and "never_imported" not in sys.modules
