"""What a stage may train, known before a network is."""

from __future__ import annotations

from kerasft.errors import shown
from kerasft.system.recorded import is_number


def train_problem(train: object, name: str = "NAME") -> str:
    """Say what is wrong with `finetune.NAME.train`, if anything is.

    Args:
        train: Its value.
        name: The name of the stage.

    Example:
        >>> train_problem(["^head_"]), train_problem("heads").split(" must")[0]
        ('', 'finetune.NAME.train')
    """
    wrong_word = isinstance(train, str) and train not in ("all", "head")
    if not wrong_word and not (is_number(train) and not 0 <= train <= 1):
        return ""
    return (
        f"finetune.{name}.train must be all, head, a share of the network's layers from 0 to 1, or "
        f"a list of regular expressions on the paths of variables. Received: {shown(train)}."
    )
