"""The processes of a run are found in what started them, and contradictions are told."""

import json
import re

import pytest

from kerasft.distributed.cluster import Cluster, counts_of, find, hosts_of, named, overlooked
from kerasft.errors import UserError


def tf_config(cluster, kind="worker", index=0):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


SLURM = {
    "SLURM_JOB_ID": "100001", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_TASKS_PER_NODE": "2,1",
    "SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3", "SLURMD_NODENAME": "n2",
}  # fmt: skip
JOB = {"JOB_COMPLETION_INDEX": "1", "KERASFT_WORKERS": "run-{index}.run:12345,2"}


def test_tf_config_names_workers_by_their_index():
    found = find(tf_config({"worker": ["a:1", "b:2"]}, index=1))
    assert found == Cluster(("a:1", "b:2"), 1, "TF_CONFIG")


@pytest.mark.parametrize(("kind", "index", "rank"), [("chief", 0, 0), ("worker", 0, 1)])
def test_a_chief_comes_before_the_worker_of_the_same_index(kind, index, rank):
    found = find(tf_config({"chief": ["c:1"], "worker": ["w:1", "w:2"]}, kind, index))
    assert found.addresses == ("c:1", "w:1", "w:2")
    assert found.rank == rank


def test_a_cluster_of_one_is_none():
    assert find(tf_config({"chief": ["c:1"]}, "chief")) is None
    assert find({"TF_CONFIG": ""}) is None
    assert find({}) is None


def test_slurm_lists_are_unfolded():
    assert hosts_of("a[08-10,2]x,b,c[1-2]-[3,4]") == [
        "a08x", "a09x", "a10x", "a2x", "b", "c1-3", "c1-4", "c2-3", "c2-4",
    ]  # fmt: skip
    assert counts_of("4(x2),1") == [4, 4, 1]


def test_a_slurm_step_has_ports_of_its_job():
    assert find(SLURM) == Cluster(("n1:20001", "n1:20002", "n2:20001"), 2, "SLURM")
    assert find({**SLURM, "KERASFT_PORT": "5000"}).addresses[0] == "n1:5000"


def test_what_runs_in_a_batch_script_outside_of_a_step_is_alone():
    assert find({"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NTASKS": "2"}) is None


def test_an_indexed_job_of_kubernetes():
    assert find(JOB) == Cluster(("run-0.run:12345", "run-1.run:12345"), 1, "Kubernetes")
    assert find({"JOB_COMPLETION_INDEX": "1"}) is None


def test_tf_config_comes_before_slurm():
    assert find({**SLURM, **tf_config({"worker": ["a:1", "b:2"]})}).source == "TF_CONFIG"
    assert find({**SLURM, **tf_config({"worker": ["a:1"]})}).source == "SLURM"


@pytest.mark.parametrize(("given", "message"), [
    ({"TF_CONFIG": "{"}, r"must be JSON such as .* Received: '\{'"),
    ({"TF_CONFIG": "[1]"}, r"must be JSON"),
    (tf_config({"worker": ["a:1", "b:2"]}, index=2), r"from 0 to below the 2 of its type.*index 2"),
    (tf_config({"worker": ["a:1", "b:2"]}, index="one"), r"must hold a whole number"),
    (tf_config({"worker": ["a", "b:2"]}), r'must be a list of "host:port"'),
    (tf_config({"worker": ["a:1", "b:2"], "ps": ["c:3"]}), r"has no use for ps"),
    (tf_config({"worker": ["a:1", "b:2"], "evaluator": ["c:3"]}, "evaluator"), r"'evaluator'"),
    ({**SLURM, "SLURM_PROCID": "3"}, r"do not fit together.*SLURM_PROCID=3"),
    ({**SLURM, "SLURMD_NODENAME": "n1"}, r"task 2 should run on n2, and is on n1.*=block"),
    ({**JOB, "JOB_COMPLETION_INDEX": "2"}, r"below the 2 workers.*Received: 2"),
    ({**JOB, "KERASFT_WORKERS": "run:1,2"}, r"with \{index\} for its number"),
    (tf_config({"worker": ["a:1", "b:99999"]}), r"TF_CONFIG: .*from 1 to 65535.*Received: b:99999"),
    (tf_config({"worker": ["a:1", "b:0"]}), r"from 1 to 65535.*Received: b:0"),
    (tf_config({"worker": ["a:1", "b:²"]}), r'must be a list of "host:port"'),
    (tf_config({"worker": ["a:1", "a..b:1"]}), r"TF_CONFIG: .*name of a machine.*: a\.\.b:1"),
    (tf_config({"worker": ["a:1", ":1"]}), r"name of a machine.*Received: :1"),
    (tf_config({"worker": ["a:1", "::1:2"]}), r"in brackets: \[::1\]:2\. Received: ::1:2"),
    (tf_config({"worker": ["a:1", "fe80::g:2"]}), r"name of a machine.*Received: fe80::g:2"),
    (tf_config({"worker": ["a:1", "[:::]:2"]}), r"no address of IPv6\. Received: \[:::\]:2"),
    (tf_config({"worker": ["a:1", "[1.2.3.4]:2"]}), r"no address of IPv6"),
    (tf_config({"worker": ["[::1]:2", "[0:0:0::1]:2"]}), r"its own.*\[0:0:0::1\]:2 and \[::1\]:2"),
    (tf_config({"worker": ["a:1", "A:1"]}), r"its own address\. Received: A:1 and a:1"),
    (tf_config({"worker": ["a:1", "b:2", "a:1"]}), r"its own address\. Received: a:1 twice"),
    (tf_config({"chief": ["a:1"], "master": ["b:1"], "worker": ["c:1"]}), r"chief and master"),
    ({"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:2"]}}'}, r"which of the 2 it is.*\"task\""),
    ({"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker"}}'},
     r"which of the 2 it is"),
    ({**SLURM, "KERASFT_PORT": "70000"}, r"SLURM: .*65535.*70000\. KERASFT_PORT sets the first"),
    ({**SLURM, "KERASFT_PORT": "²"}, r"KERASFT_PORT must hold a whole number"),
    ({**SLURM, "SLURM_PROCID": "-1"}, r"do not fit together.*SLURM_PROCID=-1"),
    ({**SLURM, "SLURM_STEP_NODELIST": "n[a-b]"}, r"SLURM_STEP_NODELIST .*Received: 'n\[a-b\]'"),
    ({**JOB, "KERASFT_WORKERS": "run-{index}.run:²,2"}, r"KERASFT_WORKERS must be the address"),
    ({**JOB, "KERASFT_WORKERS": "run-{index}.run:1,²"}, r"KERASFT_WORKERS must be the address"),
    ({**JOB, "KERASFT_WORKERS": "run-{index}.run:99999,2"}, r"Kubernetes: .*from 1 to 65535"),
])
def test_contradictions_are_told(given, message):
    with pytest.raises(UserError, match=message):
        find(given)


def test_a_cluster_of_one_is_named_where_nothing_names_several():
    one = tf_config({"worker": ["a:1"]})
    assert named(one).addresses == ("a:1",)
    assert named({**SLURM, **one}).source == "SLURM"
    assert named({}) is None


@pytest.mark.parametrize(("kind", "given", "said"), [
    (None, tf_config({"worker": ["a:1", "b:2"]}), r"TF_CONFIG names 2 .*=null trains each"),
    ("mirrored", SLURM, r"SLURM names 3 processes, and distribute=mirrored"),
    ("auto", {"JOB_COMPLETION_INDEX": "1"}, r"pod 1 of an indexed Job.*KERASFT_WORKERS"),
    ("auto", JOB, r"^$"), ("auto", tf_config({"worker": ["a:1", "b:2"]}), r"^$"),
    (None, {"JOB_COMPLETION_INDEX": "1"}, r"^$"), (None, {"TF_CONFIG": "{"}, r"^$"),
])  # fmt: skip
def test_what_tells_of_others_and_is_not_heeded_is_told(kind, given, said):
    assert re.search(said, overlooked(kind, given))
