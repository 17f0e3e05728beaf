"""Memory that is freed stays with the process, and is given back when that is asked for."""

from __future__ import annotations

import ctypes
import resource
import sys

import pytest

from kerasft.system import heap, memory

SIZE = 300 * 2**20
needs_glibc = pytest.mark.skipif(heap._library() is None, reason="needs glibc")


def faults() -> int:
    """Take and free a large block, and return how often the system had to clear a page."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    block = library.malloc(SIZE)
    ctypes.memset(block, 1, SIZE)
    library.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@needs_glibc
def test_what_is_freed_is_there_the_next_time_until_it_is_given_back(monkeypatch):
    for name in ("GLIBC_TUNABLES", "MALLOC_ARENA_MAX_"):
        monkeypatch.delenv(name, raising=False)
    assert heap.keep()
    faults()
    assert faults() < SIZE / 4096 / 10
    held = memory.resident()
    heap.give_back()
    assert memory.resident() < held - SIZE / 2


@needs_glibc
@pytest.mark.parametrize(("name", "value"), [
    ("MALLOC_TRIM_THRESHOLD_", "1000000"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_max=5"),
])  # fmt: skip
def test_what_the_environment_says_stays(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    assert not heap.keep()


def test_other_systems_are_left_alone(monkeypatch):
    heap._library.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    try:
        assert not heap.keep()
        heap.give_back()
    finally:
        heap._library.cache_clear()


def test_what_computes_fast_keeps_it(monkeypatch):
    import keras

    from kerasft.model.fast import accelerated

    asked = []
    monkeypatch.setattr(heap, "keep", lambda: asked.append(True))
    with accelerated(keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)]), steps=1):
        assert asked
