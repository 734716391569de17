"""A stand-in for the module pyslurm: names and signatures as in pyslurm 25.11.2, and the ways of its own
that 24.11.0 had with a real Slurm."""

from __future__ import annotations

import os
import types
from pathlib import Path

_NAMES = """
    name account user_id group_id priority site_factor wckey array batch_constraints begin_time
    clusters cluster_constraints comment admin_comment requires_contiguous_nodes
    cores_reserved_for_system threads_reserved_for_system working_directory cpu_frequency nodes
    deadline delay_boot_time dependencies excluded_nodes required_nodes constraints
    kill_on_node_fail licenses mail_user mail_types mcs_label memory_per_cpu memory_per_node
    memory_per_gpu network nice log_files_open_mode overcommit partitions profile_types
    accounting_gather_frequency qos requires_node_reboot is_requeueable reservations script
    script_args environment resource_sharing distribution time_limit time_limit_min container
    container_id cpus_per_task cpus_per_gpu sockets_per_node cores_per_socket threads_per_core
    gpus gpus_per_socket gpus_per_task gres_per_node gpu_binding ntasks ntasks_per_node
    ntasks_per_socket ntasks_per_core ntasks_per_gpu switches signal standard_in
    standard_output standard_error kill_on_invalid_dependency spreads_over_nodes use_min_nodes
    gres_binding gres_tasks_per_sharing temporary_disk_per_node get_user_environment
    min_cpus_per_node wait_all_nodes selinux_context segment_size reserved_ports extra
"""
ATTRIBUTES = _NAMES.split()
"""Of JobSubmitDescription."""
WHOLE_NUMBERS = {"time_limit", "time_limit_min"}
"""Text of digits is a TypeError for these."""


class PyslurmError(Exception):
    pass


class RPCError(PyslurmError):
    def __init__(self, errno=-1, msg=None):
        self.errno, self.msg = errno, msg
        super().__init__(msg)


class Controller:
    """What the module's calls end in."""

    def __init__(self):
        self.submitted = []
        self.jobs = {}
        self.signalled = []
        self.error = None

    def module(self):
        controller = self

        def answer(value):
            if controller.error:
                raise RPCError(msg=controller.error)
            return value

        class JobSubmitDescription:
            def __init__(self, **kwargs):
                for name, value in kwargs.items():
                    assert name in ATTRIBUTES, name
                    setattr(self, name, value)

            def submit(self):
                sent = dict(vars(self))
                for name in WHOLE_NUMBERS & sent.keys():
                    if not isinstance(sent[name], int):
                        raise TypeError("an integer is required")
                if Path(sent["script"]).is_file():  # ENAMETOOLONG for a long text
                    sent["script"] = Path(sent["script"]).read_text()
                own = {name: value for name, value in os.environ.items() if "SLURM_" in name[:6]}
                sent["environment"] = {**own, **sent["environment"]}
                answer(None)
                controller.submitted.append(sent)
                return 41 + len(controller.submitted)

        class Job:
            def __init__(self, job_id):
                assert isinstance(job_id, int)
                self._job_id = job_id

            def send_signal(self, signal, steps="children", hurry=False):
                controller.signalled.append((self._job_id, signal, steps))
                if controller.error != "Invalid job id specified":  # no error for signal 9
                    answer(None)

            def cancel(self):
                self.send_signal(9)

        class Jobs:
            @staticmethod
            def load(preload_passwd_info=False, frozen=False):
                return answer(controller.jobs)

        class Config:
            @staticmethod
            def load():
                facts = {
                    "max_array_size": 501,
                    "max_job_count": 10000,
                    "scheduler_parameters": {"max_array_tasks": "100", "defer": True},
                    "accounting_storage_type": None,
                    "version": "25.11.6",
                }
                return answer(types.SimpleNamespace(**facts))

        class Nodes:
            @staticmethod
            def load(preload_passwd_info=False):
                facts = {
                    "name": "gpu-dy-g5-1",
                    "state": "IDLE+CLOUD+POWERED_DOWN",
                    "effective_cpus": 4,
                    "total_cpus": 8,
                    "real_memory": 15000,
                    "available_features": ["dynamic", "gpu"],
                    "configured_gres": {"gpu:a10g": 1},
                    "partitions": ["gpu"],
                    "reason": None,
                }
                return answer({facts["name"]: types.SimpleNamespace(**facts)})

        class Partitions:
            @staticmethod
            def load():
                facts = {
                    **{
                        "name": "gpu",
                        "state": "UP",
                        "is_default": True,
                        "nodes": "gpu-dy-g5-[1-4]",
                    },
                    **{"total_nodes": 4, "total_cpus": 16, "max_time": "UNLIMITED"},
                    **{"default_time": None, "min_nodes": 0, "max_nodes": 2},
                    **{"max_cpus_per_node": None, "max_memory_per_node": "UNLIMITED"},
                    **{"max_memory_per_cpu": None, "default_memory_per_node": None},
                    **{"default_memory_per_cpu": 2000, "allowed_accounts": ["ALL"]},
                    **{"denied_accounts": [], "allowed_qos": ["high"], "denied_qos": []},
                    **{"allowed_groups": ["ALL"], "qos": None, "is_root_only": False},
                    **{"is_hidden": False, "requires_reservation": False},
                }
                return answer({"gpu": types.SimpleNamespace(**facts)})

        return types.SimpleNamespace(
            PyslurmError=PyslurmError,
            RPCError=RPCError,
            JobSubmitDescription=JobSubmitDescription,
            Job=Job,
            Jobs=Jobs,
            Nodes=Nodes,
            Partitions=Partitions,
            slurmctld=types.SimpleNamespace(Config=Config),
        )


def job(job_id, state="RUNNING", user_id=0, **changes):
    """One of `Jobs`. A 0 is None in it, such as the index of an array's first task."""
    facts = {
        **{"id": job_id, "name": "x", "state": state, "user_id": user_id, "state_reason": "None"},
        **{"array_id": None, "array_task_id": None, "array_tasks_waiting": None},
        **{"allocated_nodes": None, "run_time": 5, "exit_code": 0, "exit_code_signal": 0},
    }
    if not changes.get("array_task_id"):
        changes["array_task_id"] = None
    return types.SimpleNamespace(**{**facts, **changes})
