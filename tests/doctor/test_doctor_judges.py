"""What the doctor makes of answers: pure, without any service."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from aws_stand_in import StandIn

from snakemake_executor_takeda.backends.batch import BatchOptions
from snakemake_executor_takeda.backends.slurm import SlurmOptions
from snakemake_executor_takeda.backends.slurm.clients.base import SlurmSilent, SlurmUnauthorized
from snakemake_executor_takeda.backends.slurm.clients.token import HOW_TO_GET_ONE
from snakemake_executor_takeda.backends.slurm.cluster import cluster_of
from snakemake_executor_takeda.backends.slurm.facts import NodeFacts, PartitionFacts
from snakemake_executor_takeda.doctor import batch, images, quotas, rights, slurm
from snakemake_executor_takeda.doctor.asked import alike
from snakemake_executor_takeda.doctor.cloud import Once
from snakemake_executor_takeda.doctor.findings import NotTold, Severity, halves
from snakemake_executor_takeda.doctor.identity import judged_clock, skew_of
from snakemake_executor_takeda.doctor.largest import Largest, Wanted
from snakemake_executor_takeda.doctor.places_here import Mount, is_exported, mount_of, read_mounts
from snakemake_executor_takeda.doctor.software import judged_versions
from snakemake_executor_takeda.doctor.storage import Head, judged_bucket
from snakemake_executor_takeda.routing.instances import packaged
from snakemake_executor_takeda.values import Target


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        (
            "r.yaml:4: target 'a': the job queue 'q' is DISABLED: enable it with `aws batch …`",
            "r.yaml:4: target 'a': the job queue 'q' is DISABLED",
            "enable it with `aws batch …`",
        ),
        (
            "the job queue 'q' is INVALID (CE: no such role): wait until it is VALID, or mend it",
            "the job queue 'q' is INVALID (CE: no such role)",
            "wait until it is VALID, or mend it",
        ),
        (
            "'q' does not exist in this account and region; did you mean 'p'? Correct `queue`",
            "'q' does not exist in this account and region",
            "did you mean 'p'? Correct `queue`",
        ),
        ("it is of type EKS: write `platform: EC2`", "it is of type EKS", "write `platform: EC2`"),
        ("something odd.", "something odd", "mend what the message names"),
    ],
)
def test_a_message_is_what_is_wrong_and_what_mends_it(text: str, what: str, fix: str) -> None:
    assert halves(text) == (what, fix)


# Clock.


def dated(date: str) -> dict[str, object]:
    return {"ResponseMetadata": {"HTTPHeaders": {"date": date}}}


def test_a_clock_by_the_date_of_an_answer() -> None:
    # 2026-11-22T06:00:00Z
    answer = dated("Sun, 22 Nov 2026 06:00:00 GMT")
    assert skew_of(answer, 1795327200 + 7) == 7
    assert skew_of(dated("yesterday"), 0) is None
    assert skew_of({}, 0) is None


@pytest.mark.parametrize(
    ("skew", "severity"),
    [(None, None), (0.0, None), (-59.0, None), (-61.0, Severity.WARNING), (301.0, Severity.FAULT)],
)
def test_how_wrong_a_clock_may_be(skew: float | None, severity: Severity | None) -> None:
    found = list(judged_clock(skew))
    assert [one.severity for one in found] == ([severity] if severity else [])


# Versions.


@pytest.mark.parametrize(
    ("needed", "there", "said"),
    [
        ({}, {}, "Snakemake is not installed"),
        (
            {"plugin": ["interface>=9.4,<10"]},
            {"snakemake": "8.1", "plugin": "1", "interface": "8.0"},
            "plugin 1 needs interface<10,>=9.4, here is 8.0",
        ),
        ({"plugin": ["interface>=9.4"]}, {"snakemake": "9", "interface": "9.4.0"}, None),
        ({"plugin": ["moto>=5; extra == 'x'"]}, {"snakemake": "9", "moto": "1"}, None),
        ({"plugin": ["nowhere>=5"]}, {"snakemake": "9"}, None),
    ],
)
def test_versions_that_do_not_go_together(
    needed: dict[str, list[str]], there: dict[str, str], said: str | None
) -> None:
    found = list(judged_versions(needed, there))
    assert [one.what for one in found] == ([said] if said and "needs" in said else []) or (
        said is not None and said in found[0].what
    )
    assert all("pip install" in one.fix for one in found)


# Buckets.


def test_a_bucket_of_another_region() -> None:
    (far,) = judged_bucket(Head(200, "eu-west-1"), "lab", "p/config.yaml", "us-east-1")
    assert far.severity is Severity.WARNING
    (strict,) = judged_bucket(
        Head(200, "eu-west-1"), "lab", "p/config.yaml", "us-east-1", "HealthOmics"
    )
    assert strict.severity is Severity.FAULT
    assert "HealthOmics takes no bucket of another Region" in strict.why
    assert not list(judged_bucket(Head(200, "us-east-1"), "lab", "p", "us-east-1"))
    assert not list(judged_bucket(Head(200, None), "lab", "p", "us-east-1"))


def test_a_bucket_that_may_not_be_looked_at() -> None:
    (found,) = judged_bucket(Head(403, None), "lab", "p/config.yaml", "us-east-1")
    assert "s3:ListBucket on arn:aws:s3:::lab" in found.fix


# Batch.


def on_batch(**words: object) -> Target:
    options = BatchOptions(queue="q", **words)  # type: ignore[arg-type]
    return Target("spot", "batch", options=options, source="r.yaml:3")


def environment(name: str = "ce", **words: object) -> dict[str, object]:
    resources = {"type": "EC2", "maxvCpus": 256, "instanceTypes": ["c7i"]}
    known = {k: words.pop(k) for k in ("state", "status", "statusReason") if k in words}
    return {"computeEnvironmentName": name, **known, "computeResources": resources | words}


def largest(model: str | None = None, **numbers: int) -> Largest:
    return Largest({word: Wanted(value, "--largest") for word, value in numbers.items()}, model)


def test_one_of_two_compute_environments_is_invalid() -> None:
    bad = environment("bad", status="INVALID", statusReason="CLIENT_ERROR - no such subnet")
    (found,) = batch.judged_environments(on_batch(), [bad, environment()])
    assert found.severity is Severity.WARNING
    assert "bad is INVALID (CLIENT_ERROR - no such subnet)" in found.what
    (found,) = batch.judged_environments(on_batch(), [bad])
    assert found.severity is Severity.FAULT
    assert "describe-compute-environments --compute-environments bad" in found.fix


@pytest.mark.parametrize(
    ("asks", "there", "said", "fix"),
    [
        (largest(threads=16), [environment()], None, ""),
        (
            largest(threads=16),
            [environment(maxvCpus=8)],
            "ce: maxvCpus is 8, and it takes 16",
            "maxvCpus=16",
        ),
        (largest(threads=16), [environment("a", maxvCpus=8), environment("b")], None, ""),
        (
            largest(threads=4, nodes=4),
            [environment(maxvCpus=8)],
            "maxvCpus is 8, and it takes 16",
            "maxvCpus=16",
        ),
        (
            largest(mem_mb=1_500_000),
            [environment()],
            "of memory on a node: the largest, c7i.48xlarge",
            "instanceTypes=c7i,r",
        ),
        (largest(gpu=1), [environment()], "1 GPU: c7i have none", "instanceTypes=c7i,g"),
        (largest("T4", gpu=1), [environment(instanceTypes=["g6"])], "there is L4", "g4dn"),
        (largest(gpu=1), [environment(instanceTypes=["of-tomorrow"])], None, ""),
        (largest(gpu=1), [environment(type="FARGATE")], "Fargate has no GPUs", "target on EC2"),
        (largest(threads=2), [{"computeEnvironmentName": "unmanaged"}], None, ""),
    ],
)
def test_room_for_the_largest_job(
    asks: Largest, there: list[dict[str, object]], said: str | None, fix: str
) -> None:
    found = list(batch.judged_largest(on_batch(), asks, there, "us-east-1"))
    assert len(found) == (said is not None)
    for one in found:
        assert said is not None and said in one.what
        assert fix in one.fix


def test_a_job_that_asks_for_all_of_an_instance_gets_what_it_can_give() -> None:
    whole = largest(mem_mb=16 * 1024 * 2**20 // 10**6)
    there = [environment(instanceTypes=["m7i.xlarge"])]
    family = on_batch()
    (found,) = batch.judged_largest(family, whole, there, "us-east-1")
    assert "16,384 MiB is all that the largest has, and it gives jobs 15,532 of it" in found.what
    assert "name these types in the target's `instances`" in found.fix
    exact = replace(family, instances=("m7i.xlarge",))
    assert not list(batch.judged_largest(exact, whole, there, "us-east-1"))


def test_efa_is_a_need_of_its_own() -> None:
    target = Target("efa", "batch", efa=True, options=BatchOptions(queue="q"))
    small = [environment(instanceTypes=["c7i.large"])]
    (found,) = batch.judged_largest(target, Largest(), small, "us-east-1")
    assert "EFA" in found.what
    there = [environment(instanceTypes=["hpc7a.96xlarge"])]
    assert not list(batch.judged_largest(target, Largest(), there, "us-east-1"))


def test_what_targets_have_in_common_is_looked_at_once() -> None:
    def named(name: str, image: str) -> Target:
        return Target(name, "batch", options=BatchOptions(queue=name, image=image))

    targets = [named("a", "x:1"), named("b", "y:1"), named("c", "x:1")]
    found = [(names, first.name) for names, first in alike(targets, "image")]
    assert found == [("a, c", "a"), ("b", "b")]
    assert not list(alike(targets, "job_role_arn"))


# Quotas.


@pytest.mark.parametrize(
    ("kind", "types", "codes"),
    [
        ("EC2", ["c7i.large", "m7i.large", "g6.xlarge"], ["L-1216C47A", "L-DB2E81BA"]),
        ("SPOT", ["p5.48xlarge"], ["L-7212CCBC"]),
        ("EC2", ["hpc7a.96xlarge"], []),
        ("FARGATE_SPOT", [], ["L-36FBB829"]),
    ],
)
def test_which_quotas_bound_an_environment(kind: str, types: list[str], codes: list[str]) -> None:
    instances = packaged().meant(types).instances
    assert [one.code for one in quotas.vcpu_quotas(kind, instances)] == codes


@pytest.mark.parametrize(
    ("value", "severity"),
    [(8, Severity.FAULT), (64, Severity.WARNING), (250, None), (1000, None)],
)
def test_a_quota_of_vcpus(value: int, severity: Severity | None) -> None:
    quota = quotas.Quota("ec2", "L-1", "Running")
    found = list(
        quotas.judged_vcpus(quota, value, about="ce", most_vcpus=256, largest=16, told="threads=16")
    )
    assert [one.severity for one in found] == ([severity] if severity else [])
    assert all("--desired-value 256" in one.fix for one in found)


def test_quotas_near_their_end() -> None:
    quota = quotas.Quota("omics", "L-2", "runs")
    assert not list(quotas.judged_use(quota, 10, 7, "why"))
    (found,) = quotas.judged_use(quota, 10, 8, "why")
    assert "8 of 10" in found.what and "--desired-value 20" in found.fix
    assert not list(quotas.judged_job_queues(44))
    (found,) = quotas.judged_job_queues(45)
    assert "45 of 50 job queues" in found.what


# Roles.


@pytest.mark.parametrize(
    ("statement", "does"),
    [
        ({"Effect": "Allow", "Principal": {"Service": "omics.amazonaws.com"}}, True),
        ({"Effect": "Allow", "Principal": {"Service": ["x", "omics.amazonaws.com"]}}, True),
        ({"Effect": "Allow", "Principal": "*"}, True),
        ({"Effect": "Deny", "Principal": {"Service": "omics.amazonaws.com"}}, False),
        ({"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::1:root"}}, False),
    ],
)
def test_whom_a_role_trusts(statement: dict[str, object], does: bool) -> None:
    document = {"Statement": [statement | {"Action": "sts:AssumeRole"}]}
    assert rights.trusts(document, "omics.amazonaws.com") is does
    assert not rights.trusts({"Statement": statement | {"Action": "s3:Get"}}, "omics.amazonaws.com")


PLACES = {
    "Partition": ["aws"],
    "Account": ["1"],
    "Region": ["us-east-1"],
    "Bucket": ["lab"],
    "Prefix": ["p/"],
    "JobQueues": ["a", "b"],
}


def test_rights_of_a_project() -> None:
    found = {
        right.actions: right for right in rights.rights_of("controller", ["s3", "batch"], PLACES)
    }
    submit = found[("batch:SubmitJob",)]
    queues = "arn:aws:batch:us-east-1:1:job-queue"
    assert submit.named == (f"{queues}/a", f"{queues}/b")
    assert "arn:aws:batch:us-east-1:1:job-definition/takeda-doctor" in submit.samples
    places = [place for one in found.values() for place in (*one.named, *one.samples)]
    assert all("${" not in place for place in places)
    # no role is named, so there is none to pass
    assert not any("iam:PassRole" in actions for actions in found)
    assert not any(one.startswith("omics:") for actions in found for one in actions)
    with_role = rights.rights_of("controller", ["batch"], PLACES | {"JobRole": ["takeda-job"]})
    (passing,) = [one for one in with_role if one.actions == ("iam:PassRole",)]
    assert passing.named == ("arn:aws:iam::1:role/takeda-job",)
    assert "ecs-tasks.amazonaws.com" in passing.context["iam:PassedToService"]


def test_what_counts_as_denied() -> None:
    def no(action: str, place: str) -> rights.Denied:
        return rights.Denied(action, place, "implicitDeny")

    run = rights.Right(("GetRun", "GetRunTask"), (), ("run/x", "task/x"), {})
    # GetRun is about runs only: on a task it is denied by every policy.
    assert not list(rights.denied_of(run, [[no("GetRun", "task/x")]]))
    both = [no("GetRun", "task/x"), no("GetRun", "run/x")]
    assert list(rights.denied_of(run, [both])) == [no("GetRun", "run/x")]
    submit = rights.Right(("SubmitJob",), ("queue/a", "queue/b"), ("job/x",), {})
    one = [no("SubmitJob", "queue/b")]
    assert list(rights.denied_of(submit, [one])) == one
    # Of two values of a condition one is enough.
    assert not list(rights.denied_of(submit, [one, []]))


def test_what_is_denied_is_one_finding() -> None:
    denied = [
        rights.Denied("s3:PutObject", "arn:aws:s3:::lab/x", "implicitDeny"),
        rights.Denied("s3:GetObject", "arn:aws:s3:::lab/x", "explicitDeny"),
        *(rights.Denied("batch:SubmitJob", f"arn:{n}", "implicitDeny") for n in range(9)),
    ]
    (found,) = rights.judged_rights(denied, "ada", "why", "fix")
    assert "s3:PutObject, s3:GetObject (forbidden) on arn:aws:s3:::lab/x" in found.what
    assert "and 4 more" in found.what
    assert not list(rights.judged_rights([], "ada", "why", "fix"))


# Images.


@pytest.mark.parametrize(
    ("reference", "host", "repository", "tag"),
    [
        ("takeda-worker:1.0", images.HUB, "library/takeda-worker", "1.0"),
        ("lab/tool", images.HUB, "lab/tool", "latest"),
        ("docker.io/lab/tool:2", images.HUB, "lab/tool", "2"),
        ("quay.io/a/b/c@sha256:12", "quay.io", "a/b/c", "sha256:12"),
        ("localhost:5000/x:1", "localhost:5000", "x", "1"),
    ],
)
def test_references_of_images(reference: str, host: str, repository: str, tag: str) -> None:
    image = images.parsed(reference)
    assert (image.host, image.repository, image.tag) == (host, repository, tag)


@pytest.mark.parametrize(
    ("reference", "status", "what", "fix"),
    [
        ("takeda-worker:1", 401, "names no registry", "image: ACCOUNT.dkr.ecr.REGION"),
        ("quay.io/lab/x:1", 404, "quay.io has no image lab/x:1", "docker push quay.io/lab/x:1"),
    ],
)
def test_what_a_registry_answers(reference: str, status: int, what: str, fix: str) -> None:
    (found,) = images.judged_registry(status, images.parsed(reference), reference, "`image`")
    assert what in found.what and fix in found.fix


@pytest.mark.parametrize(
    ("reference", "status", "said"),
    [
        ("quay.io/x:1", 503, "answered 503"),
        ("quay.io/x:1", 401, "to everybody, or has none"),
        ("lab/private:1", 401, "to everybody, or has none"),
    ],
)
def test_a_registry_that_does_not_tell(reference: str, status: int, said: str) -> None:
    with pytest.raises(NotTold, match=said):
        list(images.judged_registry(status, images.parsed(reference), reference, "`image`"))


def test_a_registry_that_wants_a_token_first(stand_in: StandIn) -> None:
    """As Docker Hub and Quay do, for public images too."""
    stand_in.needs_token = True
    stand_in.images["/v2/lab/x/manifests/1"] = 200
    image = f"{stand_in.host}/lab/x:1"
    assert not list(images.look_at_image(image, "`image`", _no_cloud, is_emulated=True))
    (found,) = images.look_at_image(f"{image}1", "`image`", _no_cloud, is_emulated=True)
    assert "has no image lab/x:11" in found.what


def test_a_registry_that_does_not_answer() -> None:
    with pytest.raises(NotTold, match="does not answer from here"):
        list(images.look_at_image("127.0.0.1:1/x:1", "`image`", _no_cloud, is_emulated=False))


def _no_cloud(region: str) -> object:
    raise AssertionError("ECR is not asked")


# Slurm.


def on_slurm(efa: bool = False, **words: object) -> Target:
    options = SlurmOptions(**words)  # type: ignore[arg-type]
    return Target("hpc", "slurm", efa=efa, options=options, source="r.yaml:3")


def node(name: str, *states: str, features: tuple[str, ...] = (), reason: str = "") -> NodeFacts:
    return NodeFacts(name, states or ("IDLE",), 8, 32000, features, (), ("cpu",), reason)


@pytest.mark.parametrize(
    ("error", "what", "fix"),
    [
        (
            SlurmUnauthorized(f"slurmrestd at http://x refuses: expired. {HOW_TO_GET_ONE}"),
            "r.yaml:3: target 'hpc': slurmrestd at http://x refuses: expired",
            "Get a token on a node of the cluster",
        ),
        (SlurmSilent("connect failure"), "does not answer: connect failure", "curl http://x:6820/"),
    ],
)
def test_a_controller_that_does_not_answer(error: Exception, what: str, fix: str) -> None:
    def look() -> slurm.Seen:
        raise error

    target = on_slurm(client="rest", rest_url="http://x:6820")
    (found,) = slurm._controller(Once(look), [target])
    assert what in found.what and fix in found.fix


def test_cloud_nodes_that_sleep_are_up() -> None:
    asleep = node("cpu-dy-c7i-1", "IDLE", "CLOUD", "POWERED_DOWN")
    cluster = cluster_of([asleep], [PartitionFacts("cpu")], {})
    assert not list(slurm.judged_nodes(on_slurm(partition="cpu"), cluster, [asleep]))
    lost = node("cpu-dy-c7i-1", "DOWN", reason="(Code:InsufficientInstanceCapacity)")
    (found,) = slurm.judged_nodes(on_slurm(partition="cpu"), cluster, [lost])
    assert "InsufficientInstanceCapacity" in found.what
    assert not list(slurm.judged_nodes(on_slurm(partition="cpu"), cluster, [lost, asleep]))


def test_one_partition_of_several_is_not_there() -> None:
    cluster = cluster_of([node("a")], [PartitionFacts("cpu"), PartitionFacts("gpu")], {})
    (found,) = slurm.judged_partitions(on_slurm(partition=["cpu", "gup"]), cluster)
    assert "did you mean gpu?" in found.fix
    (found,) = slurm.judged_partitions(on_slurm(partition="default"), cluster)
    assert "`partition: cpu`" in found.fix
    assert not list(slurm.judged_partitions(on_slurm(), cluster))


def test_the_largest_job_goes_to_any_partition_that_fits(tmp_path: Path) -> None:
    cluster = cluster_of([node("a")], [PartitionFacts("cpu", max_time_min=60)], {})
    judged = slurm.judged_largest
    assert not list(judged(on_slurm(), largest(threads=8), cluster, tmp_path))
    (found,) = judged(on_slurm(), largest(threads=9), cluster, tmp_path)
    assert "threads=9 (--largest)" in found.what
    (found,) = judged(on_slurm(partition="cpu"), largest(runtime=90), cluster, tmp_path)
    assert "at most 1 h, and it asks runtime=90 min" in found.what


@pytest.mark.parametrize(
    ("mount", "exported", "told"),
    [
        (Mount(Path("/fsx"), "lustre"), False, "well"),
        (Mount(Path("/home"), "ext4"), True, "well"),
        (Mount(Path("/"), "overlay"), False, Severity.WARNING),
        (Mount(Path("/home"), "ext4"), False, "not told"),
        (None, False, "well"),
    ],
)
def test_whether_the_nodes_see_a_folder(
    mount: Mount | None, exported: bool, told: Severity | str
) -> None:
    target = on_slurm(partition="cpu")
    judged = slurm.judged_mount(target, Path("/home/ada"), "`scratch`", mount, exported=exported)
    if told == "not told":
        with pytest.raises(NotTold) as caught:
            list(judged)
        assert caught.value.fix == "srun -p cpu ls -d /home/ada"
    else:
        assert [one.severity for one in judged] == ([] if told == "well" else [told])


def test_the_file_system_of_a_folder(tmp_path: Path) -> None:
    mounts = read_mounts(
        "fs:/x /fsx\\040a lustre rw 0 0\nnone /fsx\\040a/b tmpfs rw 0 0\n\n/dev/sda / ext4 rw 0 0\n"
    )
    kinds = {place: mount_of(Path(place), mounts) for place in ("/home", "/fsx a/x", "/fsx a/b/c")}
    assert [one and one.kind for one in kinds.values()] == ["ext4", "lustre", "tmpfs"]
    assert mount_of(Path("/x"), []) is None
    exports = tmp_path / "exports"
    exports.write_text("# all\n/home 10.0.0.0/16(rw)\n\n")
    assert is_exported(Path("/home/ada"), [exports, tmp_path / "gone"])
    assert not is_exported(Path("/scratch"), [exports])
