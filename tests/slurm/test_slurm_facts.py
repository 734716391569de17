"""Nodes and partitions as scontrol shows them → values."""

from snakemake_executor_takeda.backends.slurm.facts import (
    NodeFacts,
    PartitionFacts,
    read_nodes,
    read_partitions,
)

NODE = (
    "NodeName=gpu-dy-g5xl-1 CoresPerSocket=1  CPUAlloc=0 CPUEfctv=4 CPUTot=8 CPULoad=N/A "
    "AvailableFeatures=dynamic,g5.xlarge,g5xl,gpu ActiveFeatures=dynamic,g5.xlarge,g5xl,gpu "
    "Gres=gpu:a10g:1(S:0),shard:8 NodeAddr=gpu-dy-g5xl-1 NodeHostName=gpu-dy-g5xl-1 "
    "RealMemory=15564 AllocMem=0 FreeMem=N/A Sockets=4 Boards=1 "
    "State=DOWN+CLOUD+NOT_RESPONDING+POWERING_UP ThreadsPerCore=1 TmpDisk=0 Weight=1000 "
    "Owner=N/A MCS_label=N/A Partitions=gpu,all  BootTime=None SlurmdStartTime=None "
    "CfgTRES=cpu=4,mem=15564M,billing=4 AllocTRES= "
    "Reason=(Code:InsufficientInstanceCapacity)Failure when resuming nodes [root@2026-03-01T10:11:12]"
)
PARTITION = (
    "PartitionName=long AllowGroups=ALL AllowAccounts=lab,core DenyQos=free AllocNodes=ALL "
    "Default=NO QoS=N/A DefaultTime=01:00:00 DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 "
    "Hidden=NO MaxNodes=4 MaxTime=7-00:00:00 MinNodes=1 LLN=NO MaxCPUsPerNode=32 "
    "Nodes=long-st-c6i-[1-4] PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO "
    "OverSubscribe=NO OverTimeLimit=NONE PreemptMode=OFF State=UP TotalCPUs=128 TotalNodes=4 "
    "SelectTypeParameters=NONE JobDefaults=(null) DefMemPerCPU=2000 MaxMemPerNode=UNLIMITED"
)


def test_a_node():
    assert read_nodes(f"{NODE}\n\nNo nodes\n") == [
        NodeFacts(
            name="gpu-dy-g5xl-1",
            states=("DOWN", "CLOUD", "NOT_RESPONDING", "POWERING_UP"),
            cpus=4,
            memory_mib=15564,
            features=("dynamic", "g5.xlarge", "g5xl", "gpu"),
            gres=("gpu:a10g:1", "shard:8"),
            partitions=("gpu", "all"),
            reason="(Code:InsufficientInstanceCapacity)Failure when resuming nodes",
        )
    ]


def test_a_partition():
    assert read_partitions(PARTITION) == [
        PartitionFacts(
            name="long",
            nodes="long-st-c6i-[1-4]",
            total_nodes=4,
            total_cpus=128,
            max_time_min=7 * 24 * 60,
            default_time_min=60,
            min_nodes=1,
            max_nodes=4,
            max_cpus_per_node=32,
            default_mem_per_cpu_mib=2000,
            allow_accounts=("lab", "core"),
            deny_qos=("free",),
        )
    ]


def test_nothing_said_is_no_limit():
    (facts,) = read_partitions("PartitionName=p MaxTime=UNLIMITED MaxNodes=UNLIMITED Default=YES")
    assert facts.is_default
    assert (facts.max_time_min, facts.max_nodes, facts.allow_accounts) == (None, None, ())
