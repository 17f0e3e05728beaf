"""What the pages on devices and engines show is sound by itself: YAML, Python, variables."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from kerasft.config.checks import settle
from kerasft.distributed.cluster import Cluster, find

DOCS = Path(__file__).parents[1] / "docs"


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (page.name, text) for page in sorted(DOCS.glob("*.md"))
        for text in re.findall(
            rf"^ *```{language}\n(.*?)^ *```", page.read_text("utf-8"), re.M | re.S
        )
    ]  # fmt: skip


def manifests() -> list[tuple[str, dict]]:
    return [
        (page, one) for page, text in blocks("yaml") for one in yaml.safe_load_all(text)
        if isinstance(one, dict)
    ]  # fmt: skip


def test_every_yaml_is_one():
    assert {"engines.md", "sweeps.md"} <= {page for page, _ in manifests()}


def containers() -> list[tuple[str, dict]]:
    found = []
    for page, one in manifests():
        if one.get("kind") == "Job":
            found += [(page, part) for part in one["spec"]["template"]["spec"]["containers"]]
        found += [(page, pool["containerSpec"]) for pool in one.get("workerPoolSpecs", [])]
    return found


def test_their_commands_have_sound_configs():
    found = containers()
    assert len([page for page, _ in found if page == "engines.md"]) == 3  # Kubernetes, two pools
    assert "sweeps.md" in {page for page, _ in found}
    for _, container in found:
        program, command, *words = container["command"]
        assert program == "kerasft"
        if command == "train":
            cfg = settle(words, (), ())
            assert (cfg.distribute, cfg.resume) == ("auto", "auto")


def test_jobs_of_kubernetes_have_what_they_need():
    jobs = [(page, one) for page, one in manifests() if one.get("kind") == "Job"]
    assert jobs
    for page, job in jobs:
        spec, pod = job["spec"], job["spec"]["template"]["spec"]
        assert spec["completionMode"] == "Indexed", page
        assert spec["completions"] == spec["parallelism"], "all at once"
        (container,) = pod["containers"]
        assert "memory" in container["resources"]["limits"], page
        rules = spec["podFailurePolicy"]["rules"]
        assert [one["values"] for rule in rules if (one := rule.get("onExitCodes"))] == [[2]], page
        assert any(rule["action"] == "Ignore" for rule in rules), page


def test_pods_have_the_names_that_their_service_gives_them():
    ((page, service),) = ((p, one) for p, one in manifests() if one.get("kind") == "Service")
    (job,) = (one for p, one in manifests() if p == page and one.get("kind") == "Job")
    name = job["metadata"]["name"]
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": name}
    given = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
    found = find({**given, "JOB_COMPLETION_INDEX": "1"})
    assert len(found.addresses) == job["spec"]["completions"]
    assert found.addresses[1].partition(":")[0] == f"{name}-1.{service['metadata']['name']}"


def test_python_is_python():
    found = [text for page, text in blocks("python") if page == "engines.md"]
    assert len(found) == 2
    for text in found:
        compile(text, "engines.md", "exec")


def sagemaker(monkeypatch, tmp_path, hosts, current) -> Cluster | None:
    """Run the page's block on a file as SageMaker writes it."""
    (block,) = (text for _, text in blocks("python") if "resourceconfig" in text)
    file = tmp_path / "resourceconfig.json"
    file.write_text(json.dumps({
        "current_host": current, "hosts": hosts, "network_interface_name": "eth0",
        "current_instance_type": "ml.g5.xlarge", "current_group_name": "homogeneousCluster",
    }))  # fmt: skip
    monkeypatch.delenv("TF_CONFIG", raising=False)
    place = "/opt/ml/input/config/resourceconfig.json"
    assert place in block
    exec(block.replace(place, file.as_posix()), {})
    return find()


def test_sagemaker_names_its_hosts_in_any_order(monkeypatch, tmp_path):
    monkeypatch.setenv("TF_CONFIG", "")
    found = sagemaker(monkeypatch, tmp_path, ["algo-2", "algo-1"], "algo-2")
    assert found == Cluster(("algo-1:8890", "algo-2:8890"), 1, "TF_CONFIG")
    assert sagemaker(monkeypatch, tmp_path, ["algo-1"], "algo-1") is None


VERTEX = {
    "cluster": {
        "chief": ["cmle-training-workerpool0-9f1c-0:2222"],
        "worker": [f"cmle-training-workerpool1-9f1c-{number}:2222" for number in (0, 1)],
    },
    "environment": "cloud", "job": '{"python_module": ""}',
}  # fmt: skip
RAY = {"cluster": {"worker": ["10.0.0.4:43211", "10.0.0.5:39877"]}}
TOOLKIT = {
    "cluster": {"worker": ["algo-1:8890", "algo-2:8890"]}, "environment": "cloud",
}  # fmt: skip


@pytest.mark.parametrize(("told", "task", "more", "rank", "processes"), [
    (VERTEX, {"type": "chief", "index": 0, "cloud": "id"}, {"CLUSTER_SPEC": "{}"}, 0, 3),
    (VERTEX, {"type": "worker", "index": 1, "cloud": "id"}, {"CLUSTER_SPEC": "{}"}, 2, 3),
    (RAY, {"type": "worker", "index": 1}, {"TF_USE_LEGACY_KERAS": "1"}, 1, 2),
    (TOOLKIT, {"type": "worker", "index": 0},
     {"SM_HOSTS": '["algo-1","algo-2"]', "SM_CURRENT_HOST": "algo-1"}, 0, 2),
])  # fmt: skip
def test_the_variables_of_engines_are_understood(told, task, more, rank, processes):
    found = find({"TF_CONFIG": json.dumps({**told, "task": task}), **more})
    assert (found.rank, len(found.addresses), found.source) == (rank, processes, "TF_CONFIG")


@pytest.mark.parametrize(("nodes", "counts", "rank", "node", "addresses"), [
    # srun --nodes=2 --ntasks-per-node=1
    ("gpu[07,11]", "1(x2)", 1, "gpu11", ("gpu07:20009", "gpu11:20009")),
    # srun --nodes=2 --ntasks-per-node=2 --gpus-per-task=1
    ("gpu[07,11]", "2(x2)", 2, "gpu11",
     ("gpu07:20009", "gpu07:20010", "gpu11:20009", "gpu11:20010")),
])
def test_the_variables_of_slurm_are_understood(nodes, counts, rank, node, addresses):
    found = find({
        "SLURM_JOB_ID": "1200009", "SLURM_STEP_NODELIST": nodes, "SLURM_PROCID": str(rank),
        "SLURM_STEP_TASKS_PER_NODE": counts, "SLURM_STEP_NUM_TASKS": str(len(addresses)),
        "SLURMD_NODENAME": node, "CUDA_VISIBLE_DEVICES": "0", "SLURM_GPUS_ON_NODE": "4",
    })  # fmt: skip
    assert found == Cluster(addresses, rank, "SLURM")
