"""A real Slurm on this machine: one controller and several nodes, as the current user, on loopback.

Everything lies in `<state_dir>/slurm`, but for sockets and spool folders: their paths must be short
and on a local disk, so they lie in a private folder under the temporary directory. Nothing is
written to /etc and no service of the machine is used.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import random
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox import slurm_config
from snakemake_executor_takeda.sandbox.slurm_processes import MARK, end_all, members, wait_until
from snakemake_executor_takeda.values import TakedaError

PACKAGES = {
    "munged": "munge",
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "sbatch": "slurm-client",
    "scancel": "slurm-client",
    "sinfo": "slurm-client",
    "squeue": "slurm-client",
}
"""Command → the package of Debian and Ubuntu that has it."""
START_SECONDS = 30.0
END_SECONDS = 10.0
COMMAND_SECONDS = 20.0
MAX_NODES = 64
JOB_ID_GAP = 10_000
"""More than the array tasks, which have no script of their own, that start within some seconds."""
SOCKET_PATH_ROOM = 60
"""Characters that Slurm adds to the run folder in the path of a unix socket, which ends at 108."""


def up(state_dir: Path, nodes: int = 4) -> dict[str, str]:
    """Start the cluster, or find it running with this number of nodes, and return the environment
    of its users.

    Returns when all nodes are idle, or at once where it runs already. Leftovers of an earlier life, processes and jobs, are ended
    first. Raises TakedaError with the daemon's last words when it does not start.
    """
    if not 1 <= nodes <= MAX_NODES:
        raise TakedaError(f"a sandbox has 1 to {MAX_NODES} nodes, not {nodes}")
    home = _home(state_dir)
    _check_packages()
    if bad := slurm_config.unusable_characters(home):
        raise TakedaError(
            f"Slurm cannot use a folder with {' '.join(map(repr, bad))} in its path: {home}\n"
            "Choose another state folder for the sandbox."
        )
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home):
        if _is_whole(home, nodes):
            return environment(state_dir)
        was_killed = bool(_read_record(home)) and not _is_running(home)
        _end(home)
        try:
            _start(home, nodes, _unused_job_id(home) if was_killed else 1)
        except BaseException:
            _end(home)
            raise
    return environment(state_dir)


def down(state_dir: Path) -> None:
    """End all jobs and daemons. Raises TakedaError naming any process that would not end."""
    home = _home(state_dir)
    if not home.is_dir() and not members(home):
        return
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home):
        _end(home)


def environment(state_dir: Path) -> dict[str, str]:
    """The variables with which Slurm's commands find this cluster; {} when it is down."""
    home = _home(state_dir)
    return {"SLURM_CONF": str(home / "slurm.conf")} if _is_running(home) else {}


def status(state_dir: Path) -> dict[str, Any]:
    """`running`, `version`, `nodes` (name → state), `jobs` (state → count), and where files are."""
    home = _home(state_dir)
    running = _is_running(home)
    facts: dict[str, Any] = {
        "running": running,
        "version": _read_record(home).get("version"),
        "partitions": list(slurm_config.PARTITIONS),
        "nodes": {},
        "jobs": {},
        "processes": [process.pid for process in members(home)],
        "slurm_conf": str(home / "slurm.conf"),
        "logs": str(home / "log"),
        "jobcomp": str(home / "jobcomp.txt"),
    }
    if running:
        facts["nodes"] = _node_states(home)
        facts["jobs"] = dict(Counter((_ask(home, "squeue", "-h", "-r", "-o", "%T") or "").split()))
    return facts


def missing_packages() -> dict[str, str]:
    """Command or library that is not here → package of Debian and Ubuntu that has it."""
    missing = {command: package for command, package in PACKAGES.items() if not _which(command)}
    # Their Slurm opens a file of this name for `srun --mpi=pmix`; only the -dev package has it.
    libraries = Path("/usr/lib")
    if any(libraries.glob("*/slurm-wlm/mpi_pmix*.so")) and not any(libraries.glob("*/libpmix.so")):
        missing["libpmix.so"] = "libpmix-dev"
    return missing


def _home(state_dir: Path) -> Path:
    return state_dir.resolve() / "slurm"


def _is_running(home: Path) -> bool:
    return any(process.name == "slurmctld" for process in members(home))


def _is_whole(home: Path, nodes: int) -> bool:
    """Whether a cluster of this size runs, busy or not, with all of its daemons."""
    daemons = Counter(process.name for process in members(home))
    if daemons["slurmd"] != nodes or not daemons["slurmctld"] or not daemons["munged"]:
        return False
    return _node_states(home).keys() == set(slurm_config.node_names(nodes))


def _check_packages() -> None:
    if missing := missing_packages():
        raise TakedaError(
            f"a sandboxed Slurm needs {', '.join(missing)}, which this machine lacks.\n"
            f"On Debian or Ubuntu: sudo apt-get install --no-install-recommends "
            f"{' '.join(sorted(set(missing.values())))}"
        )


def _which(command: str) -> str | None:
    """Debian keeps daemons out of a plain user's PATH."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
    return shutil.which(command, path=path)


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Two commands at once must not start two clusters in one folder."""
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(home: Path, node_count: int, first_job_id: int) -> None:
    version = slurm_config.parse_version(_run([_which("slurmctld") or "", "-V"], {}))
    run_dir = _make_run_dir(home)
    record = json.dumps({"run_dir": str(run_dir), "version": version})
    (home / "record.json").write_text(f"{record}\n")
    ports = _free_ports(node_count + 1)
    cluster = slurm_config.Cluster(
        home=home,
        run_dir=run_dir,
        version=version,
        user=_user(),
        hostname=socket.gethostname().partition(".")[0],
        loopback_only=_keeps_to_loopback(),
        controller_port=ports[0],
        first_job_id=first_job_id,
        nodes=tuple(
            slurm_config.Node(name, port)
            for name, port in zip(slurm_config.node_names(node_count), ports[1:], strict=True)
        ),
    )
    for folder in (home / "log", home / "state"):
        folder.mkdir(exist_ok=True)
    for node in cluster.nodes:
        for folder in (run_dir / node.name, run_dir / f"{node.name}-tmp"):
            folder.mkdir()
    for log in (home / "log").iterdir():
        log.unlink()
    for name, content in slurm_config.render(cluster).items():
        (home / name).write_text(content)
        (home / name).chmod(0o755 if name.endswith(".sh") else 0o644)
    _start_munged(home, run_dir)
    _start_daemon(home, "slurmctld", ["slurmctld"])
    if not wait_until(lambda: _ask(home, "squeue", "-h") is not None, START_SECONDS):
        raise TakedaError(_did_not_start(home, "slurmctld"))
    # Jobs that an earlier life left in the saved state must not start again.
    _ask(home, "scancel", f"--user={cluster.user}")
    for node in cluster.nodes:
        _start_daemon(home, node.name, ["slurmd", "-N", node.name])
    if not wait_until(lambda: not _late_nodes(home, cluster), START_SECONDS, every=0.2):
        raise TakedaError(_did_not_start(home, *_late_nodes(home, cluster)))


def _late_nodes(home: Path, cluster: slurm_config.Cluster) -> list[str]:
    """Nodes that are not idle yet. One that the saved state has down or drained is resumed."""
    states = _node_states(home)
    for name, state in states.items():
        if state.startswith(("down", "drain")):
            _ask(home, "scontrol", "update", f"nodename={name}", "state=resume")
    return [node.name for node in cluster.nodes if states.get(node.name) != "idle"]


def _start_munged(home: Path, run_dir: Path) -> None:
    key = run_dir / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    arguments = [
        "munged",
        "--force",  # it would refuse a private folder, which other users can't reach
        f"--key-file={key}",
        f"--socket={run_dir}/munge.sock",
        f"--pid-file={run_dir}/munged.pid",
        f"--seed-file={run_dir}/munged.seed",
        f"--log-file={home}/log/munged.log",
    ]
    _start_daemon(home, "munged", arguments)


def _start_daemon(home: Path, log: str, arguments: Sequence[str]) -> None:
    """Each goes to the background in a session of its own, out of reach of the terminal's Ctrl-C."""
    program = _which(arguments[0])
    assert program is not None  # _check_packages
    try:
        _run([program, *arguments[1:]], _daemon_environment(home))
    except (subprocess.SubprocessError, OSError) as error:
        said = getattr(error, "stdout", None) or ""
        raise TakedaError(_did_not_start(home, log, said=said)) from error


def _daemon_environment(home: Path) -> dict[str, str]:
    """Nothing of the caller's environment: daemons must not keep its secrets."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(Path.home()),
        "LC_ALL": "C",
        "SLURM_CONF": str(home / "slurm.conf"),
        MARK: str(home),
    }


def _run(arguments: Sequence[str], variables: Mapping[str, str]) -> str:
    """Standard output and error of a command. Raises CalledProcessError or TimeoutExpired."""
    # A file, not a pipe: a daemon may keep it open after its parent has ended.
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        try:
            subprocess.run(
                arguments,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                timeout=COMMAND_SECONDS,
                check=True,
                start_new_session=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            output.seek(0)
            error.stdout = output.read()
            raise
        output.seek(0)
        return output.read()


def _ask(home: Path, *arguments: str) -> str | None:
    """What a Slurm command prints; None when the controller does not answer."""
    variables = {**_daemon_environment(home), "SLURM_CONF": str(home / "slurm.conf")}
    del variables[MARK]
    try:
        done = subprocess.run(
            [_which(arguments[0]) or arguments[0], *arguments[1:]],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=True,
        )
    except (subprocess.SubprocessError, OSError):
        return None
    return done.stdout


def _node_states(home: Path) -> dict[str, str]:
    lines = (_ask(home, "sinfo", "-h", "-N", "-o", "%N %T") or "").splitlines()
    return {line.split()[0]: line.split()[1] for line in lines}


def _did_not_start(home: Path, *names: str, said: str = "") -> str:
    lines = [f"the sandbox's Slurm did not start: {', '.join(names)}"]
    if said.strip():
        lines += [f"  {line}" for line in said.strip().splitlines()[-10:]]
    for name in names[:2]:
        log = home / "log" / f"{name}.log"
        if log.is_file():
            lines.append(f"last lines of {log}:")
            lines += [f"  {line}" for line in log.read_text(errors="replace").splitlines()[-10:]]
    return "\n".join(lines)


def _end(home: Path) -> None:
    if _is_running(home):
        # Jobs first, so that the cluster's saved state and its record know their end.
        _ask(home, "scancel", f"--user={_user()}")
        wait_until(lambda: not _ask(home, "squeue", "-h"), END_SECONDS, every=0.2)
    if left := end_all(home, END_SECONDS):
        names = ", ".join(f"{process.name} ({process.pid})" for process in left)
        raise TakedaError(f"these processes of the sandbox's Slurm would not end: {names}")
    if run_dir := _read_record(home).get("run_dir"):
        shutil.rmtree(run_dir, ignore_errors=True)
    (home / "record.json").unlink(missing_ok=True)


def _read_record(home: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((home / "record.json").read_text())
    except (FileNotFoundError, ValueError):  # never up, or killed while it was written
        return {}
    return record


def _unused_job_id(home: Path) -> int:
    """A job id that a killed controller has not used: it saves its last one some seconds late, but a
    job's script at once. A ledger must never find one id for two jobs."""
    ids = [
        int(folder.name.removeprefix("job."))
        for folder in (home / "state").glob("hash.*/job.*")
        if folder.name.removeprefix("job.").isdigit()
    ]
    return max(ids, default=0) + JOB_ID_GAP


def _make_run_dir(home: Path) -> Path:
    """A new private folder whose path leaves room for Slurm's sockets."""
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:8]
    parent = Path(tempfile.gettempdir()).resolve()
    if len(str(parent)) + SOCKET_PATH_ROOM > 108 or slurm_config.unusable_characters(parent):
        parent = Path("/tmp")  # noqa: S108 - mkdtemp makes a private folder in it
    return Path(tempfile.mkdtemp(prefix=f"takeda-slurm-{digest}-", dir=parent))


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise TakedaError(
            f"Slurm needs a user name, and user id {os.getuid()} has none in this machine's "
            "/etc/passwd. Run as a user who has one."
        ) from None


def _keeps_to_loopback() -> bool:
    """Whether the machine's name resolves to 127.0.0.1.

    Slurm's daemons can be told to listen at one address only, and take the one that the machine's
    name resolves to. 127.0.1.1 (Debian's custom) won't do: the kernel lets connections to it come
    from 127.0.0.1, where srun then doesn't listen for its steps to call back.
    """
    try:
        return socket.gethostbyname(socket.gethostname()) == "127.0.0.1"
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    """Free ports, below those that the kernel hands out to outgoing connections."""
    try:
        first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        first_ephemeral = 32768
    top = first_ephemeral if first_ephemeral > 12000 else 65536
    candidates = random.sample(range(10000, top), k=min(20 * count + 100, top - 10000))
    ports: list[int] = []
    for port in candidates:
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise TakedaError(f"no {count} free ports between 10000 and {top}")
