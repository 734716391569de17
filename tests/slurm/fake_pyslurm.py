"""A stand-in for the module pyslurm, with names and signatures as in pyslurm 25.11.2."""

from __future__ import annotations

import types

ATTRIBUTES = [
    "name",
    "account",
    "user_id",
    "group_id",
    "priority",
    "site_factor",
    "wckey",
    "array",
    "batch_constraints",
    "begin_time",
    "clusters",
    "cluster_constraints",
    "comment",
    "admin_comment",
    "requires_contiguous_nodes",
    "working_directory",
    "nodes",
    "deadline",
    "dependencies",
    "excluded_nodes",
    "required_nodes",
    "constraints",
    "kill_on_node_fail",
    "licenses",
    "mail_user",
    "mail_types",
    "memory_per_cpu",
    "memory_per_node",
    "memory_per_gpu",
    "network",
    "nice",
    "overcommit",
    "partitions",
    "qos",
    "is_requeueable",
    "reservations",
    "script",
    "script_args",
    "environment",
    "resource_sharing",
    "time_limit",
    "time_limit_min",
    "cpus_per_task",
    "cpus_per_gpu",
    "gpus",
    "gpus_per_socket",
    "gpus_per_task",
    "gres_per_node",
    "ntasks",
    "ntasks_per_node",
    "standard_output",
    "temporary_disk_per_node",
    "get_user_environment",
    "extra",
]


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
                answer(None)
                controller.submitted.append(vars(self))
                return 41 + len(controller.submitted)

        class Job:
            def __init__(self, job_id):
                assert isinstance(job_id, int)
                self._job_id = job_id

            def send_signal(self, signal, steps="children", hurry=False):
                answer(None)
                controller.signalled.append((self._job_id, signal, steps))

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
                    "requires_reservation": False,
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
    facts = {
        **{"id": job_id, "name": "x", "state": state, "user_id": user_id, "state_reason": "None"},
        **{"array_id": None, "array_task_id": None, "array_tasks_waiting": None},
        **{"allocated_nodes": None, "run_time": 5, "exit_code": 0, "exit_code_signal": 0},
    }
    return types.SimpleNamespace(**{**facts, **changes})
