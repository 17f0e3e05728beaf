"""tf.data as it is used here."""

import re
from pathlib import Path

import pytest
import tensorflow as tf

import kerasft
from kerasft.system.tf_data import mapped


def branching(number):
    if number > 1:
        return number
    return -number


def test_functions_are_traced_as_they_are_written():
    data = tf.data.Dataset.range(3)
    assert list(data.map(branching).as_numpy_iterator()) == [0, -1, 2]
    with pytest.raises(tf.errors.OperatorNotAllowedInGraphError):
        mapped(data, branching)
    doubled = mapped(data, lambda number: 2 * number, num_parallel_calls=2)
    assert list(doubled.as_numpy_iterator()) == [0, 2, 4]


def test_no_dataset_is_mapped_otherwise():
    """AutoGraph is only noticed by the seconds that it takes."""
    code = Path(kerasft.__file__).parent
    found = {
        f"{file.relative_to(code)}: {line.strip()}"
        for file in code.rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.search(r"\.map\(", line)
    }
    ours = [line for line in found if "pool.map" not in line and "beside.map" not in line]
    assert [line.split(":")[0] for line in ours] == ["system/tf_data.py"]
