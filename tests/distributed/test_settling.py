"""What a config leaves open is settled by the first worker; what is a machine's own stays so."""

import pytest
from omegaconf import OmegaConf

from kerasft.config.composition import to_yaml
from kerasft.distributed import group
from kerasft.distributed.cluster import Cluster
from kerasft.errors import UserError
from kerasft.steps.preparing import devices


def config(**changed):
    cfg = OmegaConf.create({
        "batch_size": "auto", "optimizer": {"learning_rate": 1e-3}, "memory_gb": None,
        "progress": None, "distribute": "mirrored", "batch_tokens": None,
        "cache": {"directory": "/first", "limit_gb": 20, "views": 1},
    })  # fmt: skip
    return OmegaConf.merge(cfg, changed)


@pytest.fixture
def second(monkeypatch):
    """Be the second of two workers, told what the first one has settled."""
    told = []
    monkeypatch.setattr(group.Group, "texts", lambda self, text: [told[-1], text])

    def settled(first, mine):
        told.append(to_yaml(first))
        with group.working(group.Group(None, Cluster(("a:1", "b:2"), 1, "a test"), 2)):
            devices.settle(mine, lambda cfg: pytest.fail("the first worker settles"))
        return mine

    return settled


def test_others_take_over_what_the_first_worker_settled(second):
    first = config(batch_size=16, optimizer={"gradient_accumulation_steps": 2})
    mine = second(first, config())
    assert mine.batch_size == 16
    assert mine.optimizer.gradient_accumulation_steps == 2


def test_others_keep_what_is_of_their_own_machine(second):
    first = config(batch_size=16, memory_gb=8.0, progress=True, cache={"views": 3})
    mine = second(first, config(cache={"directory": "/second", "limit_gb": 5}))
    assert mine.cache == {"directory": "/second", "limit_gb": 5, "views": 3}
    assert (mine.memory_gb, mine.progress, mine.batch_size) == (None, None, 16)


def test_a_batch_smaller_than_the_devices_is_told_before_the_data_is_read(monkeypatch):
    monkeypatch.setattr(devices.groups, "form", lambda *_, **__: group.Group(replicas=4))
    with pytest.raises(UserError, match=r"some would never have.*3 for 4 devices\. Set batch_s"), \
            devices.forming(config(batch_size=3, distribute_timeout=1)):  # fmt: skip
        pass
    with devices.forming(config(batch_size=4, distribute_timeout=1)) as formed:
        assert formed.replicas == 4
    with devices.forming(config(batch_size=3, batch_tokens=512, distribute_timeout=1)):
        pass
