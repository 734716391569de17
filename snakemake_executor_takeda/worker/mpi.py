"""What MPI launchers are told about the nodes of a job: host files and variables. Pure.

Open MPI 4 reads `OMPI_MCA_…`, Open MPI 5 (PRRTE) `PRTE_MCA_…`, Intel MPI `I_MPI_HYDRA_…`, MPICH
`HYDRA_…`. All start their daemons by something that is called as ssh is: our `remote` module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

NOT_FOR_MPI = "127.0.0.0/8,169.254.0.0/16"
"""Networks that every container has for itself: loopback, and the one that ECS gives out roles by. MPI
would try to reach other nodes there, and hang."""

FOR_EFA: Mapping[str, str] = {
    "FI_PROVIDER": "efa",
    # programs that fork, as shells and Python do, would otherwise damage what EFA has pinned
    "FI_EFA_FORK_SAFE": "1",
    # Open MPI, 4 and 5: libfabric's matching, nothing else
    "OMPI_MCA_pml": "cm",
    "OMPI_MCA_mtl": "ofi",
    # Intel MPI
    "I_MPI_FABRICS": "shm:ofi",
    "I_MPI_OFI_PROVIDER": "efa",
}
"""FI_EFA_USE_DEVICE_RDMA is left to libfabric: where it is set, instances without RDMA end the program."""
UNBOUND: Mapping[str, str] = {
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}
"""Open MPI's mpirun would bind a rank and all its threads to one core."""


def slots(addresses: Sequence[str], ranks: int, ranks_per_node: int) -> list[tuple[str, int]]:
    """Each node's ranks, the nodes filled in order; a node without ranks is left out."""
    filled = []
    for address in addresses:
        here = min(ranks_per_node, ranks)
        ranks -= here
        if here:
            filled.append((address, here))
    return filled


def open_mpi_hosts(places: Sequence[tuple[str, int]]) -> str:
    """A host file for Open MPI."""
    return "".join(f"{address} slots={count}\n" for address, count in places)


def hydra_hosts(places: Sequence[tuple[str, int]]) -> str:
    """A host file for Intel MPI and MPICH."""
    return "".join(f"{address}:{count}\n" for address, count in places)


AS_ROOT = (
    *("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"),
    *("PRTE_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM"),
)
"""Open MPI's launcher starts nothing for root unless each is `1`."""


def variables(
    *,
    hosts: str,
    hydra: str,
    agent: str,
    cpus_per_rank: int,
    given: Mapping[str, str],
) -> dict[str, str]:
    """The environment by which `mpirun` finds nodes and agent. What `given` already says is kept.

    `hosts` and `hydra` are paths of host files, `agent` that of a program called as ssh is.
    """
    made = {
        "TAKEDA_HOSTFILE": hosts,
        "OMPI_MCA_orte_default_hostfile": hosts,
        "OMPI_MCA_plm_rsh_agent": agent,
        # the agent is on the main node only
        "OMPI_MCA_plm_rsh_no_tree_spawn": "1",
        # daemons that stay in the foreground are seen to end, and are ended with their connection
        "OMPI_MCA_orte_leave_session_attached": "1",
        "PRTE_MCA_prte_default_hostfile": hosts,
        "PRTE_MCA_plm_ssh_agent": agent,
        "PRTE_MCA_plm_ssh_no_tree_spawn": "1",
        "PRTE_MCA_prte_leave_session_attached": "1",
        "I_MPI_HYDRA_HOST_FILE": hydra,
        "I_MPI_HYDRA_BOOTSTRAP": "ssh",
        "I_MPI_HYDRA_BOOTSTRAP_EXEC": agent,
        "HYDRA_HOST_FILE": hydra,
        "HYDRA_LAUNCHER": "ssh",
        "HYDRA_LAUNCHER_EXEC": agent,
        # root in a container is not the machine's
        **dict.fromkeys(AS_ROOT, "1"),
    }
    # include and exclude shut each other out
    for prefix in ("OMPI_MCA_btl_tcp", "OMPI_MCA_oob_tcp", "PRTE_MCA_prte"):
        if f"{prefix}_if_include" not in given:
            made[f"{prefix}_if_exclude"] = NOT_FOR_MPI
    if cpus_per_rank > 1:
        made |= UNBOUND
    return {name: value for name, value in made.items() if name not in given}
