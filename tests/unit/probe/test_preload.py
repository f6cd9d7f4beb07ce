"""The allocators that this machine offers are those that the loader finds; one that is missing is named with its package."""

import sys
from pathlib import Path

import pytest

from compass.errors import InputError
from compass.probe import preload
from compass.records import ALLOCATORS

LISTED = """2 libs found in cache `/etc/ld.so.cache'
\tlibtcmalloc_minimal_debug.so.4 (libc6,x86-64) => {folder}/libtcmalloc_minimal_debug.so.4
\tlibtcmalloc_minimal.so.4 (libc6,x86-64) => {folder}/libtcmalloc_minimal.so.4
"""


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch):
    monkeypatch.setattr(preload, "PREFIXES", ())
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    preload._find.cache_clear()
    preload._known_to_loader.cache_clear()
    yield
    preload._find.cache_clear()
    preload._known_to_loader.cache_clear()


@pytest.fixture
def loader(tmp_path, monkeypatch):
    """A loader that knows tcmalloc, by a link, and its debugging twin."""
    (tmp_path / "libtcmalloc_minimal.so.4.5.10").write_bytes(b"")
    (tmp_path / "libtcmalloc_minimal.so.4").symlink_to("libtcmalloc_minimal.so.4.5.10")
    (tmp_path / "libtcmalloc_minimal_debug.so.4").write_bytes(b"")
    ldconfig = tmp_path / "ldconfig"
    ldconfig.write_text("#!/bin/sh\ncat <<'END'\n" + LISTED.format(folder=tmp_path) + "END\n", encoding="utf-8")
    ldconfig.chmod(0o755)
    monkeypatch.setattr(preload.shutil, "which", lambda _: str(ldconfig))
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="libraries are preloaded on Linux only")
def test_a_library_is_the_file_behind_the_loaders_link(loader):
    assert preload.is_offered("tcmalloc")
    assert preload.library_file("tcmalloc") == loader.resolve() / "libtcmalloc_minimal.so.4.5.10"
    assert preload.library_name("tcmalloc") == "libtcmalloc_minimal.so.4.5.10"
    assert not preload.is_offered("jemalloc")


@pytest.mark.skipif(sys.platform != "linux", reason="libraries are preloaded on Linux only")
def test_an_environments_own_library_goes_first(loader, tmp_path, monkeypatch):
    own = tmp_path / "lib"
    own.mkdir()
    (own / "libtcmalloc_minimal.so").write_bytes(b"")
    monkeypatch.setattr(preload, "PREFIXES", (own,))
    assert preload.library_file("tcmalloc") == own.resolve() / "libtcmalloc_minimal.so"


def test_a_missing_library_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr(preload.shutil, "which", lambda _: "/nowhere/ldconfig")
    with pytest.raises(InputError) as caught:
        preload.library_file("tcmalloc")
    assert str(caught.value) == (
        "allocator tcmalloc: got no library tcmalloc_minimal; expected one that the system's loader finds. "
        "Install it (Debian: apt install libtcmalloc-minimal4), or optimize again without it."
    )
    assert preload.library_name("tcmalloc") == ""


@pytest.mark.parametrize(("platform", "libc", "offered"), [
    ("linux", "glibc", {"fast", "tight", "tight_huge", "system"}),
    ("linux", "", {"fast", "system"}),
    ("darwin", "", {"fast", "system"}),
])  # fmt: skip
def test_glibcs_settings_need_glibc(monkeypatch, platform, libc, offered):
    monkeypatch.setattr(preload.shutil, "which", lambda _: "/nowhere/ldconfig")
    monkeypatch.setattr(preload.sys, "platform", platform)
    monkeypatch.setattr(preload.platform, "libc_ver", lambda: (libc, "2.36"))
    assert {name for name in ALLOCATORS if preload.is_offered(name)} == offered


def test_every_library_has_a_package():
    assert all(bool(kind.library) == bool(kind.package) for kind in ALLOCATORS.values())
    assert all(Path(kind.library).name == kind.library for kind in ALLOCATORS.values())
