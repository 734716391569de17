"""Jobs of several nodes: what is sent to Batch, and how their ends are explained."""

from dataclasses import replace

import pytest
from batch_fakes import MODEL, context, submission, target
from botocore.validate import ParamValidator

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.batch.definitions import definition_of
from snakemake_executor_takeda.backends.batch.multinode import (
    explained_by_nodes,
    refined,
    with_launcher,
)
from snakemake_executor_takeda.backends.batch.outcomes import outcome_of
from snakemake_executor_takeda.backends.batch.shapes import resource_requirements
from snakemake_executor_takeda.backends.batch.submitting import job_request
from snakemake_executor_takeda.values import ANY_LAUNCHER, FailureKind, Shape
from snakemake_executor_takeda.worker.exits import NODE_LOST, NODES_MISSING, NODES_UNFIT

SHAPE = Shape(cpus=2, mem_mb=4000, nodes=3, tasks=7, mpi="mpirun", runtime_min=5)
ROLE = "arn:aws:iam::123456789012:role/r"


def one(shape=SHAPE, capacity="on-demand", resources=None, **options):
    changes = {name: options.pop(name) for name in ("efa", "instances") if name in options}
    to = replace(target(name="hpc", capacity=capacity, **options), **changes)
    made = submission(1, shape=shape, to=to)
    task = made.tasks[0]
    job = replace(task.job, resources={**task.job.resources, **(resources or {})})
    return replace(made, tasks=(replace(task, job=job),))


def test_a_rule_that_names_no_launcher_gets_mpirun():
    made = one(replace(SHAPE, mpi=ANY_LAUNCHER))
    argv = ("python", "--target-jobs", "x", "--cores", "1")
    tasks = tuple(replace(task, argv=argv) for task in made.tasks)
    (task,) = with_launcher(replace(made, tasks=tasks)).tasks
    assert task.argv == (*argv, "--set-resources", f"{task.job.rule}:mpi='mpirun'")
    assert with_launcher(one()) == one()


def valid(call, arguments):
    report = ParamValidator().validate(arguments, MODEL.operation_model(call).input_shape)
    assert not report.has_errors(), report.generate_report()


def test_the_request_overrides_all_nodes_alike():
    made = one()
    request = job_request(made, context())
    valid("SubmitJob", request)
    assert "containerOverrides" not in request
    assert "arrayProperties" not in request
    assert request["timeout"] == {"attemptDurationSeconds": 300}
    nodes = request["nodeOverrides"]
    assert nodes["numNodes"] == 3
    (group,) = nodes["nodePropertyOverrides"]
    assert group["targetNodes"] == "0:"
    assert "instanceTypes" not in group
    asked = {r["type"]: r["value"] for r in group["containerOverrides"]["resourceRequirements"]}
    assert asked == {"VCPU": "6", "MEMORY": "3815"}
    words = " ".join(group["containerOverrides"]["command"])
    assert f"/nodes/{made.submission_id} --node-wait 900" in words
    assert "--ranks 7 --ranks-per-node 3 --cpus-per-rank 2" in words
    assert "efa" not in words


def test_one_definition_for_any_number_of_nodes():
    first = definition_of(one())
    valid("RegisterJobDefinition", first)
    assert first == definition_of(one(replace(SHAPE, nodes=8, tasks=8)))
    assert first["type"] == "multinode"
    assert "containerProperties" not in first
    properties = first["nodeProperties"]
    assert properties["mainNode"] == 0
    (group,) = properties["nodeRangeProperties"]
    assert group["targetNodes"] == "0:"
    assert "instanceTypes" not in group
    assert definition_of(one(replace(SHAPE, nodes=1)))["type"] == "container"


def test_the_instance_type_is_the_targets_first_exact_one_or_the_rules():
    chosen = one(instances=("c7i", "hpc7a.96xlarge", "c7i.large"))
    group = definition_of(chosen)["nodeProperties"]["nodeRangeProperties"][0]
    assert group["instanceTypes"] == ["hpc7a.96xlarge"]
    asked = one(resources={"instance_type": "hpc6a.48xlarge"})
    override = job_request(asked, context())["nodeOverrides"]["nodePropertyOverrides"][0]
    assert override["instanceTypes"] == ["hpc6a.48xlarge"]


def test_efa_gives_devices_pinned_memory_and_the_check_on_every_node():
    made = one(efa=True, efa_interfaces=2)
    definition = definition_of(made)
    valid("RegisterJobDefinition", definition)
    container = definition["nodeProperties"]["nodeRangeProperties"][0]["container"]
    devices = [device["hostPath"] for device in container["linuxParameters"]["devices"]]
    assert devices == ["/dev/infiniband/uverbs0", "/dev/infiniband/uverbs1"]
    assert container["ulimits"] == [{"name": "memlock", "softLimit": -1, "hardLimit": -1}]
    request = job_request(made, context())
    valid("SubmitJob", request)
    overrides = request["nodeOverrides"]["nodePropertyOverrides"][0]["containerOverrides"]
    assert {"name": "FI_PROVIDER", "value": "efa"} in overrides["environment"]
    assert " ".join(overrides["command"]).endswith("--efa-devices 2")
    limited = definition_of(one(efa=True, ulimits={"memlock": 5}))
    container = limited["nodeProperties"]["nodeRangeProperties"][0]["container"]
    assert [limit["hardLimit"] for limit in container["ulimits"]] == [5]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"capacity": "spot"}, "nodes=3 on target 'hpc', .* `capacity: on-demand`"),
        ({"platform": "FARGATE", "execution_role_arn": ROLE}, "Fargate has no jobs of several"),
    ],
)
def test_what_batch_does_not_have_is_refused_with_the_fix(changes, said):
    with pytest.raises(SubmissionError, match=said) as caught:
        job_request(one(**changes), context())
    assert caught.value.kind == FailureKind.CONFIGURATION


def test_on_one_node_the_worker_knows_of_the_launcher():
    def words(shape):
        request = job_request(one(shape), context())
        return request["containerOverrides"]["command"]

    assert "--mpi" in words(replace(SHAPE, nodes=1))
    assert "--mpi" not in words(replace(SHAPE, nodes=1, mpi=None))


@pytest.mark.parametrize("mpi", ["srun --mpi=pmix", "/opt/slurm/bin/srun"])
def test_slurms_launcher_is_refused_with_the_fix(mpi):
    for nodes in (1, 3):
        with pytest.raises(SubmissionError, match=r"srun is Slurm's.*mpirun"):
            job_request(one(replace(SHAPE, mpi=mpi, nodes=nodes)), context())


@pytest.mark.parametrize(
    ("shape", "vcpus", "gpus"),
    [
        (Shape(cpus=4, nodes=2, tasks=2), 4, None),
        (Shape(cpus=1, nodes=2, tasks=5, mpi="mpirun"), 3, None),
        (Shape(cpus=1, nodes=2, tasks=5, tasks_per_node=4, mpi="mpirun"), 4, None),
        (Shape(cpus=2, nodes=4, tasks=4, gpus=6), 2, 2),
        (Shape(cpus=2, nodes=1, tasks=4, mpi="mpirun"), 8, None),
    ],
)
def test_what_each_node_has(shape, vcpus, gpus):
    asked = {r["type"]: r["value"] for r in resource_requirements(shape, "EC2")}
    assert asked["VCPU"] == str(vcpus)
    assert asked.get("GPU") == (str(gpus) if gpus else None)


PARENT = {"jobId": "j", "status": "FAILED", "statusReason": "Essential container in task exited"}


def node(index, code=None, reason=None, status_reason=PARENT["statusReason"]):
    container = {"exitCode": code, "reason": reason, "logStreamName": f"stream{index}"}
    return {
        "jobId": f"j#{index}",
        "status": "FAILED",
        "statusReason": status_reason,
        "startedAt": 1,
        "container": {name: value for name, value in container.items() if value is not None},
    }


STOPPED = node(1, 137, status_reason="whatever Batch says when it stops a node")
OOM = "OutOfMemoryError: Container killed due to memory usage"
HOST = "Host EC2 (instance i-1) terminated."
PULL = "CannotPullContainerError: not there"


@pytest.mark.parametrize(
    ("main", "other", "kind", "said"),
    [
        (node(0, 1), STOPPED, FailureKind.USER, "Essential container"),
        (node(0, 1), node(1, 0, OOM), FailureKind.OUT_OF_MEMORY, "node 1"),
        (node(0, NODE_LOST), STOPPED, FailureKind.NODE_FAILURE, "a node of the job went away"),
        (node(0, NODE_LOST), node(1, 137, OOM), FailureKind.OUT_OF_MEMORY, "node 1"),
        (node(0, NODE_LOST), node(1, status_reason=HOST), FailureKind.NODE_FAILURE, "node 1: Host"),
        (node(0, NODES_MISSING), STOPPED, FailureKind.NODE_FAILURE, "not all nodes"),
        (
            node(0, NODES_MISSING),
            node(1, None, PULL, "Task failed to start"),
            FailureKind.IMAGE,
            "node 1: Task failed to start; CannotPull",
        ),
        (node(0, NODES_UNFIT), STOPPED, FailureKind.CONFIGURATION, "not what the target says"),
        # its own machine went away after the main node had failed by itself
        (node(0, 1), node(1, status_reason=HOST), FailureKind.USER, "Essential container"),
    ],
)
def test_which_nodes_words_explain_the_end(main, other, kind, said):
    nodes = {"j#0": main, "j#1": other}
    detail = explained_by_nodes(PARENT, nodes, "on-demand")
    outcome = refined(outcome_of(detail, capacity="on-demand", log_group="g"))
    assert outcome.kind == kind
    assert said in outcome.reason
    assert outcome.log_location == "g:stream0"
    assert outcome.exit_code == main["container"]["exitCode"]


def test_an_end_that_no_node_explains():
    assert explained_by_nodes(PARENT, {}, "on-demand")["statusReason"] == PARENT["statusReason"]
