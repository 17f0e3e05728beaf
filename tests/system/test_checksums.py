from __future__ import annotations

import os
import random
import zlib

import pytest

from kerasft.system import checksums
from kerasft.system.checksums import Damaged, crc32, require_whole


@pytest.fixture
def small(monkeypatch):
    """Blocks of 16 bytes, and files of more than 8 of them are sampled."""
    monkeypatch.setattr(checksums, "BLOCK", 16)
    monkeypatch.setattr(checksums, "WHOLE", 128)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 128])
def test_any_flipped_bit_of_a_file_that_is_read_whole_is_found(small, tmp_path, size):
    file, content = tmp_path / "data.bin", os.urandom(size)
    file.write_bytes(content)
    expected = checksums.checksums(file)
    require_whole(file, size, expected)
    for place in range(size):
        harmed = bytearray(content)
        harmed[place] ^= 1 << place % 8
        file.write_bytes(harmed)
        with pytest.raises(Damaged, match=r"the checksum of data\.bin differs"):
            require_whole(file, size, expected)


def test_of_a_large_file_the_ends_are_read_and_others_drawn_anew(small, tmp_path):
    file, content = tmp_path / "data.bin", os.urandom(16 * 40 - 3)
    file.write_bytes(content)
    expected = checksums.checksums(file)

    def found(place: int) -> bool:
        harmed = bytearray(content)
        harmed[place] ^= 1
        file.write_bytes(harmed)
        try:
            require_whole(file, len(content), expected)
        except Damaged:
            return True
        return False

    assert found(0) and found(15) and found(len(content) - 1)
    # Six of the 38 between them each time: 300 times none of them would be one in 10^22.
    assert 0 < sum(found(320) for _ in range(300)) < 300


def test_the_sample_leaves_random_numbers_alone(small, tmp_path):
    (tmp_path / "data.bin").write_bytes(bytes(1000))
    random.seed(1)
    first = random.random()
    random.seed(1)
    require_whole(tmp_path / "data.bin", 1000, checksums.checksums(tmp_path / "data.bin"))
    assert random.random() == first


def test_sizes_and_numbers_of_checksums_are_compared(tmp_path):
    file = tmp_path / "data.bin"
    file.write_bytes(b"four")
    with pytest.raises(Damaged, match="has 4 bytes instead of 5"):
        require_whole(file, 5, checksums.checksums(file))
    with pytest.raises(Damaged, match="another number of checksums"):
        require_whole(file, 4, "")
    with pytest.raises(Damaged, match="no plain file"):
        require_whole(tmp_path, 0, "")
    with pytest.raises(Damaged, match="is missing"):
        require_whole(tmp_path / "none", 0, "")


def test_the_checksum_of_a_part_is_that_of_its_bytes(tmp_path):
    content = os.urandom(3 * 2**20 + 5)
    (tmp_path / "data.bin").write_bytes(content)
    assert crc32(tmp_path / "data.bin") == zlib.crc32(content)
    part = content[7 : 7 + 2**20 + 1]
    assert crc32(tmp_path / "data.bin", 7, 2**20 + 1) == zlib.crc32(part)
