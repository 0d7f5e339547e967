from __future__ import annotations

import hashlib

import pytest

from restore.files import sha256_of


@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 1])
def test_the_checksum_of_a_file_larger_than_one_read(size, tmp_path):
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "file").write_bytes(content[:size])
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content[:size]).hexdigest()
