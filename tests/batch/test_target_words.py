"""What a Batch target can say: each word reaches Batch's own member, and what cannot be is refused."""

import json

import pytest
import yaml
from batch_fakes import MODEL, FakeClients, context, submission, target
from botocore.validate import ParamValidator

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.batch.batch_backend import BatchBackend
from snakemake_executor_takeda.backends.batch.definitions import (
    MAX_BYTES,
    container_properties,
    definition_of,
    job_definition,
)
from snakemake_executor_takeda.backends.batch.options import BatchOptions
from snakemake_executor_takeda.backends.batch.shapes import fargate_disk_gib
from snakemake_executor_takeda.routing.policy import load_policy
from snakemake_executor_takeda.values import FailureKind, Shape, TakedaError

ROLE = "arn:aws:iam::123456789012:role/batch"
S3_FILES = "arn:aws:s3files:eu-west-1:123456789012:file-system/fs-0123456789abcdef0"
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf"
FARGATE = f"platform: FARGATE, execution_role_arn: {ROLE}"


def options(words):
    return BatchOptions.model_validate(yaml.safe_load(f"{{queue: q, {words}}}"))


def container(words, **more):
    """containerProperties, which botocore's model takes."""
    definition = job_definition(options(words), **more)
    shape = MODEL.operation_model("RegisterJobDefinition").input_shape
    report = ParamValidator().validate(definition, shape)
    assert not report.has_errors(), report.generate_report()
    return definition["containerProperties"]


@pytest.mark.parametrize(
    ("words", "member", "value"),
    [
        ("user: '1000:1000'", "user", "1000:1000"),
        ("privileged: true", "privileged", True),
        (
            "ulimits: {nofile: 65536, memlock: -1, stack: '1024:2048', core: '0:-1'}",
            "ulimits",
            [
                {"name": "nofile", "softLimit": 65536, "hardLimit": 65536},
                {"name": "memlock", "softLimit": -1, "hardLimit": -1},
                {"name": "stack", "softLimit": 1024, "hardLimit": 2048},
                {"name": "core", "softLimit": 0, "hardLimit": -1},
            ],
        ),
        ("shared_memory_mib: 4096", "linuxParameters", {"sharedMemorySize": 4096}),
        ("init: true", "linuxParameters", {"initProcessEnabled": True}),
        (
            "tmpfs: {/fast/: 512}",
            "linuxParameters",
            {"tmpfs": [{"containerPath": "/fast", "size": 512}]},
        ),
        (
            "devices: [/dev/fuse, '/dev/a:/dev/b:wr']",
            "linuxParameters",
            {
                "devices": [
                    {"hostPath": "/dev/fuse"},
                    {
                        "hostPath": "/dev/a",
                        "containerPath": "/dev/b",
                        "permissions": ["READ", "WRITE"],
                    },
                ]
            },
        ),
        (
            f"secrets: {{DB: '{SECRET}:password::', TOKEN: /lab/token}}, execution_role_arn: {ROLE}",
            "secrets",
            [
                {"name": "DB", "valueFrom": f"{SECRET}:password::"},
                {"name": "TOKEN", "valueFrom": "/lab/token"},
            ],
        ),
        (
            f"registry_credentials: hub, execution_role_arn: {ROLE}",
            "repositoryCredentials",
            {"credentialsParameter": "hub"},
        ),
        (
            f"{FARGATE}, architecture: arm64",
            "runtimePlatform",
            {"operatingSystemFamily": "LINUX", "cpuArchitecture": "ARM64"},
        ),
        (
            f"{FARGATE}, fargate: {{assign_public_ip: true}}",
            "networkConfiguration",
            {"assignPublicIp": "ENABLED"},
        ),
        (
            f"{FARGATE}, fargate: {{platform_version: 1.4.0}}",
            "fargatePlatformConfiguration",
            {"platformVersion": "1.4.0"},
        ),
        (f"job_role_arn: {ROLE}", "jobRoleArn", ROLE),
        (f"execution_role_arn: {ROLE}", "executionRoleArn", ROLE),
    ],
)
def test_a_word_becomes_batchs_own_member(words, member, value):
    assert container(words)[member] == value


@pytest.mark.parametrize(
    ("mount", "volume"),
    [
        (
            "efs: fs-01234567",
            {
                "efsVolumeConfiguration": {
                    "fileSystemId": "fs-01234567",
                    "transitEncryption": "ENABLED",
                }
            },
        ),
        (
            "efs: fs-01234567, path: /data, encrypted: false",
            {
                "efsVolumeConfiguration": {
                    "fileSystemId": "fs-01234567",
                    "rootDirectory": "/data",
                    "transitEncryption": "DISABLED",
                }
            },
        ),
        (
            "efs: fs-01234567, access_point: fsap-01234567, iam: true",
            {
                "efsVolumeConfiguration": {
                    "fileSystemId": "fs-01234567",
                    "transitEncryption": "ENABLED",
                    "authorizationConfig": {"accessPointId": "fsap-01234567", "iam": "ENABLED"},
                }
            },
        ),
        (
            f"s3files: '{S3_FILES}', path: /refs",
            {"s3filesVolumeConfiguration": {"fileSystemArn": S3_FILES, "rootDirectory": "/refs"}},
        ),
        (
            f"s3files: '{S3_FILES}', access_point: '{S3_FILES}/access-point/fsap-0123'",
            {
                "s3filesVolumeConfiguration": {
                    "fileSystemArn": S3_FILES,
                    "accessPointArn": f"{S3_FILES}/access-point/fsap-0123",
                }
            },
        ),
        ("host: /fsx", {"host": {"sourcePath": "/fsx"}}),
    ],
)
@pytest.mark.parametrize("read_only", [True, False])
def test_a_mount_becomes_a_volume_and_a_mount_point(mount, volume, read_only):
    words = f"job_role_arn: {ROLE}, mounts: [{{at: /data, read_only: {read_only}, {mount}}}]"
    found = container(words)
    assert found["volumes"] == [{"name": "mount-0", **volume}]
    assert found["mountPoints"] == [
        {"sourceVolume": "mount-0", "containerPath": "/data", "readOnly": read_only}
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fargate: {assign_public_ip: true}", "platform: FARGATE"),
        (f"{FARGATE}, shared_memory_mib: 64", "Fargate has no `shared_memory_mib`"),
        (f"{FARGATE}, tmpfs: {{/fast: 64}}", "Fargate has no `tmpfs`"),
        (f"{FARGATE}, ulimits: {{nofile: 64}}", "Fargate has no `ulimits`"),
        (f"{FARGATE}, devices: [/dev/fuse]", "Fargate has no `devices`"),
        (f"{FARGATE}, privileged: true", "Fargate has no `privileged`"),
        (f"{FARGATE}, mounts: [{{at: /a, host: /b}}]", "use efs or s3files"),
        (f"{FARGATE}, fargate: {{platform_version: new}}", "platform_version"),
        ("platform: FARGATE", "execution_role_arn"),
        ("secrets: {A: /lab/token}", "`secrets` needs `execution_role_arn`"),
        ("registry_credentials: hub", "`registry_credentials` needs `execution_role_arn`"),
        (f"secrets: {{AWS_BATCH_X: /a}}, execution_role_arn: {ROLE}", "AWS_BATCH_X"),
        (f"secrets: {{1X: /a}}, execution_role_arn: {ROLE}", "1X"),
        ("ulimits: {nofiles: 1}", "Did you mean nofile"),
        ("ulimits: {nofile: '5:3'}", "above the hard one"),
        ("ulimits: {nofile: '-1:3'}", "above the hard one"),
        ("ulimits: {nofile: many}", "no limit"),
        ("devices: [fuse]", "no device"),
        ("devices: ['/dev/fuse:/dev/fuse:x']", "no device"),
        ("tmpfs: {fast: 5}", "absolute path"),
        ("tmpfs: {/fast: 0}", "greater than or equal to 1"),
        ("tmpfs: {/a: 1}, mounts: [{at: /a, host: /b}]", "two things are mounted at /a"),
        ("mounts: [{at: /a}]", "one of efs, s3files and host, not none"),
        ("mounts: [{at: /a, host: /b, efs: fs-01234567}]", "not `efs` and `host`"),
        ("mounts: [{at: /, host: /b}]", "absolute path below /"),
        ("mounts: [{at: /a/../b, host: /b}]", "no `..`"),
        ("mounts: [{at: /a, host: /b, path: /c}]", "`path` means nothing"),
        ("mounts: [{at: /a, efs: fsx-1}]", "such as fs-0123456789abcdef0"),
        ("mounts: [{at: /a, efs: fs-01234567, iam: true}]", "job_role_arn"),
        (f"mounts: [{{at: /a, s3files: '{S3_FILES}'}}]", "job_role_arn"),
        ("mounts: [{at: /a, efs: fs-01234567, iam: true, encrypted: false}]", "encrypted"),
        ("mounts: [{at: /a, efs: fs-01234567, access_point: x}]", "fsap-"),
        (
            "mounts: [{at: /a, efs: fs-01234567, access_point: fsap-01234567, path: /b}]",
            "leave `path` out",
        ),
        (f"mounts: [{{at: /a, s3files: '{S3_FILES}', access_point: fsap-1}}]", "is an ARN"),
        (f"mounts: [{{at: /a, s3files: '{S3_FILES}', encrypted: false}}]", "always encrypted"),
        ("scratch: /fsx/tmp, mounts: [{at: /fsx, host: /fsx, read_only: true}]", "read_only"),
        ("read_only_root: true, scratch: /work", "cannot be written"),
        ("share_identifier: lab-a", "share_identifier"),
        ("scheduling_priority: 10000", "scheduling_priority"),
        ("consumable_resources: {a: 0}", "consumable_resources"),
        ("consumable_resources: {a: 1, b: 1, c: 1, d: 1, e: 1, f: 1}", "at most 5"),
        ("architecture: riscv", "architecture"),
    ],
)
def test_words_that_cannot_work_together_are_refused(words, said):
    with pytest.raises(ValueError, match=said):
        options(words)


def test_a_secrets_value_given_by_mistake_is_not_repeated():
    with pytest.raises(ValueError, match="never the value") as caught:
        options(f"secrets: {{DB: 'hunter 2!'}}, execution_role_arn: {ROLE}")
    assert "hunter" not in str(caught.value.errors()[0]["msg"])


def told(tmp_path, words):
    """What is said of a policy whose one target has these words: its mistakes, without file and line."""
    policy = tmp_path / "routing.yaml"
    policy.write_text(
        f"version: 1\ntargets:\n  t: {{backend: batch, queue: q, {words}}}\ndefault: t\n"
    )
    with pytest.raises(TakedaError) as caught:
        load_policy(policy, {"batch": BatchOptions}, {})
    lines = str(caught.value).splitlines()
    return [line.partition("routing.yaml:3: target t")[2] for line in lines if ":3: " in line]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "ulimits: {nofiles: 100, memlock: lots, stack: '9:1'}",
            ["`memlock: lots`", "`nofiles: 100`", "`stack: 9:1`"],
        ),
        (
            f"{FARGATE}, tmpfs: {{/a: 1}}, ulimits: {{nofile: 1}}, devices: [/dev/fuse], "
            "privileged: true, shared_memory_mib: 1",
            ["`devices`", "`privileged`", "`shared_memory_mib`", "`tmpfs`", "`ulimits`"],
        ),
        ("secrets: {1X: /a, DB: 'a b', C: 'c d'}", ["`1X: …`", "`C: …`", "`DB: …`"]),
        (
            "tags: {'aws:x': y, ok: [1, 2], 'takeda:run': z}",
            ["`aws:x: y`", "`ok: [1, 2]`", "`takeda:run: z`"],
        ),
        (
            "mounts: [{at: /a}, {at: b, host: /b}, {at: /c, host: /c, path: /x}, {at: /d, efs: x}]",
            ["[0]: `{at: /a}`", "[1]: `at: b`", "`{at: /c, host: /c, path: /x}`", "`efs: x`"],
        ),
        (
            "mounts: [{at: /a, efs: fs-01234567, access_point: x, path: /b, encrypted: false}]",
            ["encrypted on the way", "an id of EFS", "leave `path` out"],
        ),
        (
            "mounts: [{at: /a, host: /a}, {at: /a, host: /b}, {at: /c, host: /c}], tmpfs: {/c: 1}",
            ["mounted at /a", "mounted at /c"],
        ),
        ("tmpfs: {fast: 0, 'a:b': 1}", ["`a:b: 1`", "`a:b: 1`", "`fast: 0`", "`fast: 0`"]),
    ],
)
def test_all_mistakes_of_a_word_are_listed_with_what_was_written(tmp_path, words, said):
    lines = told(tmp_path, words)
    assert len(lines) == len(said), lines
    for line, word in zip(lines, said, strict=True):
        assert word in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("job_role_arn: takeda-job", "such as arn:aws:iam::123456789012:role/takeda-job."),
        ("execution_role_arn: x", "such as arn:aws:iam::123456789012:role/takeda-job."),
        ("mounts: [{at: /a, efs: x}]", "such as fs-0123456789abcdef0."),
        ("mounts: [{at: /a, s3files: x}]", "such as arn:aws:s3files:eu-central-1:123456789012:"),
        ("mounts: [{at: /a, efs: fs-01234567, path: b}]", "such as /references."),
        ("region: Frankfurt", "such as eu-central-1."),
        ("share_identifier: lab-a", "such as labA."),
        ("fargate: {platform_version: new}", "such as 1.4.0."),
        ("event_queue: 'my queue'", "such as|its URL, or its ARN"),
        ("runnable_notice: 10m", "`runnable_notice: 10m` must be a number (Minutes "),
        ("timeout: 0", "`timeout: 0` must be at least 1 (Minutes "),
        ("shared_memory_mib: 1.5", "must be a whole number (MiB "),
        ("reconcile_seconds: 1", "must be at least 5 (Seconds "),
        ("scheduling_priority: 10000", "must be at most 9999 ("),
        ("runnable_limit: 0", "must be more than 0 (Minutes "),
        ("ulimits: {nofiles: 1}", "no limit is called 'nofiles'. Did you mean nofile?"),
        ("mounts: [{att: /a, host: /a}]", "unknown word `att`. Did you mean at?"),
        ("image: My Image", "NAME in lower case and without spaces"),
        ("image: my/Image", "NAME in lower case"),
        ("image: 'docker://debian'", "[REGISTRY/]NAME[:TAG][@DIGEST]"),
        ("image: 'debian:'", "[REGISTRY/]NAME[:TAG][@DIGEST]"),
        ("image: 'debian@sha256:12'", "[REGISTRY/]NAME[:TAG][@DIGEST]"),
        ("log_group: a b", "such as /aws/batch/job."),
        ("user: me me", "'1000:1000'"),
        ("user: '1000:'", "'1000:1000'"),
        ("init: 'yes'", "`init: yes` must be true or false, without quotes."),
        ("read_only_root: 1", "`read_only_root: 1` must be true or false, without quotes."),
        ("mounts: [{at: /a, host: /a, read_only: 'no'}]", "must be true or false, without quotes."),
        ("tags: {'takeda:run': z}", "tags that begin with `takeda:` are takeda's own"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_is_expected(tmp_path, words, said):
    (line,) = told(tmp_path, words)
    assert any(text in line for text in said.split("|"))


@pytest.mark.parametrize(
    "image",
    [
        "debian",
        "debian:13",
        "localhost/a/b-c__d",
        "registry:5000/lab/tool:1.0_a",
        "[::1]:5000/tool",
        "123456789012.dkr.ecr.eu-central-1.amazonaws.com/takeda-worker:0.1.0",
        f"public.ecr.aws/lab/tool@sha256:{'0123456789abcdef' * 4}",
        f"quay.io/biocontainers/bwa:0.7.17--h5bf99c6_8@sha256:{'0' * 64}",
        BatchOptions(queue="q").image,
    ],
)
def test_images_of_registries_are_taken(image):
    assert options(f"image: '{image}'").image == image


@pytest.mark.parametrize("user", ["1000", "0:0", "biouser", "biouser:lab", "1000:lab"])
def test_users_of_containers_are_taken(user):
    assert options(f"user: '{user}'").user == user


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("ulimit: {nofile: 5}", "Did you mean ulimits?"),
        ("mounts: [{at: /a, hosts: /b}]", "Did you mean host?"),
        ("fargate: {assign_public: true}, platform: FARGATE", "Did you mean assign_public_ip?"),
        ("architecture: arm", "Did you mean arm64?"),
        ("read_only: true", "Did you mean read_only_root?"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_nearest_valid_one(tmp_path, words, said):
    policy = tmp_path / "routing.yaml"
    policy.write_text(
        f"version: 1\ntargets:\n  t: {{backend: batch, queue: q, {words}}}\ndefault: t\n"
    )
    with pytest.raises(TakedaError) as caught:
        load_policy(policy, {"batch": BatchOptions}, {})
    assert said in str(caught.value)
    assert "line 3" in str(caught.value) or ":3" in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("queue: p", "the job queue 'p' does not exist"),
        ("queue: q, share_identifier: lab", "leave out `share_identifier: lab`"),
        ("queue: q, architecture: arm64, instances: [c7i]", "architecture arm64, but c7i"),
        ("queue: q, job_definition: none", "the job definition 'none' does not exist"),
        ("queue: q, region: eu-west-1", "eu-west-1"),
    ],
)
def test_what_does_not_fit_the_service_is_told_with_the_policys_line(tmp_path, words, said):
    policy = tmp_path / "routing.yaml"
    policy.write_text(
        "version: 1\ntargets:\n  good: {backend: batch, queue: q}\n"
        f"  bad: {{backend: batch, {words}}}\ndefault: good\n"
    )
    targets = [*load_policy(policy, {"batch": BatchOptions}, {}).targets.values()]
    with pytest.raises(TakedaError) as caught:
        BatchBackend(targets, context(), FakeClients()).check()
    (line,) = [line for line in str(caught.value).splitlines() if "'bad'" in line]
    assert line.strip().startswith(f"{policy}:4: target 'bad': ")
    assert said in line


def test_nothing_is_sent_that_was_not_asked_for():
    assert container("scratch: /work") == {
        "image": BatchOptions(queue="q").image,
        "resourceRequirements": [
            {"type": "VCPU", "value": "1"},
            {"type": "MEMORY", "value": "2048"},
        ],
    }


@pytest.mark.parametrize(
    ("words", "volume"),
    [("", {"name": "tmp", "host": {}}), (f", {FARGATE}", {"name": "tmp"})],
)
def test_a_read_only_root_leaves_a_tmp_to_write_to(words, volume):
    found = container(f"read_only_root: true, scratch: /tmp/work{words}")
    assert found["readonlyRootFilesystem"] is True
    assert found["volumes"] == [volume]
    assert found["mountPoints"][0]["containerPath"] == "/tmp"


@pytest.mark.parametrize("words", ["tmpfs: {/tmp: 64}", "mounts: [{at: /tmp, host: /mnt/nvme}]"])
def test_a_tmp_of_the_targets_own_stays(words):
    found = container(f"read_only_root: true, {words}")
    assert "tmp" not in [volume["name"] for volume in found.get("volumes", [])]


def test_a_definition_above_batchs_limit_is_refused_with_its_size():
    mounts = ", ".join(
        f"{{at: /a{number}, host: /{'x' * 2000}{number}}}" for number in range(MAX_BYTES // 2000)
    )
    with pytest.raises(SubmissionError, match=f"Batch takes {MAX_BYTES}") as caught:
        job_definition(options(f"mounts: [{mounts}]"))
    assert caught.value.kind == FailureKind.CONFIGURATION


def test_what_a_submission_overrides_is_not_in_the_definition():
    plain = job_definition(options(""))
    other = (
        "share_identifier: a, scheduling_priority: 5, consumable_resources: {x: 1}, tags: {a: b}"
    )
    assert job_definition(options(f"{other}, timeout: 5, scratch: /s")) == plain


@pytest.mark.parametrize(
    ("disk_mb", "gib"),
    [(None, None), (1, None), (21_474, None), (21_475, 30), (32_213, 40), (214_748, 200)],
)
def test_fargates_disk_is_rounded_up_in_steps(disk_mb, gib):
    assert fargate_disk_gib(disk_mb) == gib


def test_a_fargate_disk_is_in_the_definition_and_an_ec2_disk_is_not():
    shape = Shape(disk_mb=60_000)
    fargate = target(platform="FARGATE", execution_role_arn=ROLE)
    found = definition_of(submission(2, shape=shape, to=fargate))["containerProperties"]
    assert found["ephemeralStorage"] == {"sizeInGiB": 60}
    assert definition_of(submission(2, shape=shape)) == definition_of(submission(2))


def test_a_container_can_be_had_without_its_definition():
    assert "jobDefinitionName" not in json.dumps(container_properties(options(""), "other:1"))
    assert container_properties(options(""), "other:1")["image"] == "other:1"
