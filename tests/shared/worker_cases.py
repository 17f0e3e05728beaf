"""Trains cases in one worker of several, or alone, and writes the loss of each step as JSON.

`python worker_cases.py FOLDER CASE ...`: TF_CONFIG says which worker it is, if any; what came out
goes to FOLDER/found.json.
"""

import json
import os
import sys
from pathlib import Path

from traced_runs import CASES, make_data, trained

from kerasft.distributed.group import form


def main(folder, names):
    """Train each case, and write what came out."""
    Path(folder).mkdir()
    os.chdir(folder)
    group = form("auto", timeout=120)
    make_data(names)
    found = {}
    for name in names:
        words = [*CASES[name], "epochs=2", "optimizer.learning_rate=1e-3", "distribute=auto"]
        found[name] = trained(name, words)
    told = {"workers": group.workers, "rank": group.rank, "cases": found}
    Path("found.json").write_text(json.dumps(told), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
