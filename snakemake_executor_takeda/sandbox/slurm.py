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
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox import slurm_config, slurm_layout, slurm_services
from snakemake_executor_takeda.sandbox.slurm_processes import end_all, members, wait_until
from snakemake_executor_takeda.sandbox.slurm_programs import Programs
from snakemake_executor_takeda.values import TakedaError

START_SECONDS = 30.0
END_SECONDS = 10.0
MAX_NODES = 64
MAX_ARRAY_SIZE = 4_000_001
"""Slurm's own limit of MaxArraySize."""
JOB_ID_GAP = 10_000
"""More than the array tasks, which have no script of their own, that start within some seconds."""
_ALL_STATES = ("squeue", "-h", "-r", "-o", "%T")
SOCKET_PATH_ROOM = 60
"""Characters that Slurm adds to the run folder in the path of a unix socket, which ends at 108."""


@dataclass(frozen=True)
class Setup:
    """What a cluster is to be."""

    nodes: int
    layout: str
    root: str
    """The root file system whose Slurm runs; empty for this machine's own."""
    accounting: bool
    rest: bool
    max_array_size: int
    max_job_count: int


@dataclass(frozen=True)
class Rest:
    """Where slurmrestd answers."""

    url: str
    token: str
    """A JSON Web Token of the current user, for the header X-SLURM-USER-TOKEN."""


def up(
    state_dir: Path,
    nodes: int = 4,
    *,
    layout: str = slurm_layout.PLAIN,
    root: Path | None = None,
    accounting: bool = False,
    rest: bool = False,
    max_array_size: int = 1001,
    max_job_count: int = 10_000,
) -> dict[str, str]:
    """Start the cluster, or find it running as it is wanted, and return the environment of its users.

    `nodes` is the number of nodes of the default partition. `root` is a root file system whose Slurm
    runs instead of this machine's. `accounting` adds slurmdbd, `rest` slurmrestd. Returns when all
    nodes are idle, or at once where the cluster runs already. Leftovers of an earlier life, processes
    and jobs, are ended first. Raises TakedaError with the daemon's last words when it does not start.
    """
    if not 1 <= nodes <= MAX_NODES:
        raise TakedaError(f"a sandbox has 1 to {MAX_NODES} nodes, not {nodes}")
    if layout not in slurm_layout.LAYOUTS:
        raise TakedaError(f"no layout {layout!r}: there are {', '.join(slurm_layout.LAYOUTS)}")
    if not 2 <= max_array_size <= MAX_ARRAY_SIZE:
        raise TakedaError(f"MaxArraySize is from 2 to {MAX_ARRAY_SIZE:,}, not {max_array_size:,}")
    if max_job_count < 1:
        raise TakedaError(f"MaxJobCount is at least 1, not {max_job_count}")
    home = _home(state_dir)
    setup = Setup(
        nodes=nodes,
        layout=layout,
        root=str(root.resolve()) if root is not None else "",
        accounting=accounting,
        rest=rest,
        max_array_size=max_array_size,
        max_job_count=max_job_count,
    )
    programs = Programs(home, Path(setup.root) if setup.root else None)
    programs.check(accounting=accounting, rest=rest)
    if bad := slurm_config.unusable_characters(home):
        raise TakedaError(
            f"Slurm cannot use a folder with {' '.join(map(repr, bad))} in its path: {home}\n"
            "Choose another state folder for the sandbox."
        )
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home):
        if _is_whole(home, setup):
            return environment(state_dir)
        was_killed = bool(_read_record(home)) and not _is_running(home)
        _end(home)
        try:
            _start(home, setup, programs, was_killed)
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
    """The variables with which Slurm's commands find this cluster; {} when it is down.

    With a root, PATH is one of them: the caller's own, with the root's commands first.
    """
    home = _home(state_dir)
    if not _is_running(home):
        return {}
    variables = {"SLURM_CONF": str(home / "slurm.conf")}
    if root := _programs(home).root:
        others = os.environ.get("PATH", os.defpath).split(os.pathsep)
        words = [str(root.bin), *(word for word in others if word != str(root.bin))]
        variables["PATH"] = os.pathsep.join(words)
    return variables


def rest(state_dir: Path, lifespan_seconds: int = 86_400) -> Rest:
    """Address of the cluster's slurmrestd, and a new token of this user. Raises TakedaError where it
    runs none."""
    home = _home(state_dir)
    url = _read_record(home).get("rest_url")
    said = _programs(home).ask("scontrol", "token", f"lifespan={lifespan_seconds}") if url else None
    token = (said or "").strip().removeprefix("SLURM_JWT=")
    if not url or not token:
        raise TakedaError(
            f"no slurmrestd runs in {state_dir}: start it with `takeda sandbox slurm up --rest`"
        )
    return Rest(url, token)


def status(state_dir: Path) -> dict[str, Any]:
    """`running`, `version`, `nodes` (name → state), `jobs` (state → count), and where files are."""
    home = _home(state_dir)
    running = _is_running(home)
    facts: dict[str, Any] = {
        "running": running,
        "version": _read_record(home).get("version"),
        "partitions": [],
        "nodes": {},
        "jobs": {},
        "processes": [process.pid for process in members(home)],
        "slurm_conf": str(home / "slurm.conf"),
        "logs": str(home / "log"),
        "jobcomp": str(home / "jobcomp.txt"),
    }
    if running:
        programs = _programs(home)
        facts |= _read_record(home).get("setup", {})
        facts["rest_url"] = _read_record(home).get("rest_url")
        facts["partitions"] = (programs.ask("sinfo", "-h", "-o", "%R") or "").split()
        facts["nodes"] = _node_states(programs)
        facts["jobs"] = dict(Counter((programs.ask(*_ALL_STATES) or "").split()))
    return facts


def missing_packages() -> dict[str, str]:
    """Command or library that is not here → package of Debian and Ubuntu that has it."""
    return Programs(Path()).missing()


def _home(state_dir: Path) -> Path:
    return state_dir.resolve() / "slurm"


def _is_running(home: Path) -> bool:
    return any(process.name == "slurmctld" for process in members(home))


def _is_whole(home: Path, setup: Setup) -> bool:
    """Whether such a cluster runs, busy or not, with all of its daemons."""
    if _read_record(home).get("setup") != asdict(setup):
        return False
    nodes = _node_layouts(setup)
    daemons = Counter(process.name for process in members(home))
    wanted = {"munged", "slurmctld"}
    wanted |= {"mariadbd", "slurmdbd"} if setup.accounting else set()
    wanted |= {"slurmrestd"} if setup.rest else set()
    if daemons["slurmd"] != len(nodes) or not wanted <= daemons.keys():
        return False
    return _node_states(_programs(home)).keys() == {node.name for node in nodes}


def _node_layouts(setup: Setup) -> tuple[slurm_layout.NodeLayout, ...]:
    return slurm_layout.all_nodes(slurm_layout.partitions(setup.layout, setup.nodes))


def _programs(home: Path) -> Programs:
    """Those of the cluster that runs here."""
    root = _read_record(home).get("setup", {}).get("root")
    return Programs(home, Path(root) if root else None)


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Two commands at once must not start two clusters in one folder."""
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(home: Path, setup: Setup, programs: Programs, was_killed: bool) -> None:
    programs.prepare()
    version = slurm_config.parse_version(programs.run("slurmctld", "-V"))
    first_job_id = _unused_job_id(home) if was_killed else 1
    if not _is_state_of(home, version):
        first_job_id = _unused_job_id(home)
        shutil.rmtree(home / "state", ignore_errors=True)
    run_dir = _make_run_dir(home)
    nodes = _node_layouts(setup)
    controller_port, rest_port, accounting_port, *node_ports = _free_ports(3 + len(nodes))
    facts = {
        "run_dir": str(run_dir),
        "version": version,
        "setup": asdict(setup),
        "rest_url": f"http://127.0.0.1:{rest_port}" if setup.rest else None,
    }
    (home / "record.json").write_text(f"{json.dumps(facts)}\n")
    cluster = slurm_config.Cluster(
        home=home,
        run_dir=run_dir,
        version=version,
        user=_user(),
        hostname=socket.gethostname().partition(".")[0],
        loopback_only=_keeps_to_loopback(),
        controller_port=controller_port,
        first_job_id=first_job_id,
        nodes=tuple(
            slurm_config.Node(layout, port) for layout, port in zip(nodes, node_ports, strict=True)
        ),
        partitions=slurm_layout.partitions(setup.layout, setup.nodes),
        max_array_size=setup.max_array_size,
        max_job_count=setup.max_job_count,
        jwt_key=home / "jwt.key" if setup.rest else None,
        accounting=slurm_config.Accounting(accounting_port, run_dir / "mariadb.sock")
        if setup.accounting
        else None,
    )
    _write_files(cluster)
    _start_munged(programs, cluster)
    if cluster.accounting:
        # The id that the state has from a life without slurmdbd would not be slurmdbd's.
        (home / "state" / "clustername").unlink(missing_ok=True)
        _start_accounting(programs, cluster, cluster.accounting)
    _start_daemon(programs, home, "slurmctld", "slurmctld")
    if not wait_until(lambda: programs.ask("squeue", "-h") is not None, START_SECONDS):
        raise TakedaError(_did_not_start(home, "slurmctld"))
    # Jobs that an earlier life left in the saved state must not start again.
    programs.ask("scancel", f"--user={cluster.user}")
    for node in cluster.nodes:
        _start_daemon(programs, home, node.name, "slurmd", "-N", node.name)
    if setup.rest:
        slurm_services.start_rest(programs, home, rest_port, version, setup.accounting)
        if not wait_until(lambda: _answers(rest_port), START_SECONDS):
            raise TakedaError(_did_not_start(home, "slurmrestd"))
    if not wait_until(lambda: not _late_nodes(programs, cluster), START_SECONDS, every=0.2):
        raise TakedaError(_did_not_start(home, *_late_nodes(programs, cluster)))


def _write_files(cluster: slurm_config.Cluster) -> None:
    home, run_dir = cluster.home, cluster.run_dir
    for folder in (home / "log", home / "state"):
        folder.mkdir(exist_ok=True)
    for node in cluster.nodes:
        for folder in (run_dir / node.name, run_dir / f"{node.name}-tmp"):
            folder.mkdir()
    for log in (home / "log").iterdir():
        log.unlink()
    for name in slurm_config.OPTIONAL_FILES:
        (home / name).unlink(missing_ok=True)
    for name, content in slurm_config.render(cluster).items():
        (home / name).touch(mode=0o600)
        (home / name).write_text(content)
        (home / name).chmod(slurm_config.mode(name))
    if cluster.jwt_key:
        _write_key(cluster.jwt_key, 32)


def _write_key(path: Path, count: int) -> None:
    path.touch(mode=0o600)
    path.write_bytes(secrets.token_bytes(count))


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _late_nodes(programs: Programs, cluster: slurm_config.Cluster) -> list[str]:
    """Nodes that are not idle yet. One that the saved state has down or drained is resumed."""
    states = _node_states(programs)
    for name, state in states.items():
        if state.startswith(("down", "drain")):
            programs.ask("scontrol", "update", f"nodename={name}", "state=resume")
    return [node.name for node in cluster.nodes if states.get(node.name) != "idle"]


def _start_munged(programs: Programs, cluster: slurm_config.Cluster) -> None:
    run_dir = cluster.run_dir
    key = run_dir / "munge.key"
    _write_key(key, 128)
    _start_daemon(
        programs,
        cluster.home,
        "munged",
        "munged",
        "--force",  # it would refuse a private folder, which other users can't reach
        f"--key-file={key}",
        f"--socket={run_dir}/munge.sock",
        f"--pid-file={run_dir}/munged.pid",
        f"--seed-file={run_dir}/munged.seed",
        f"--log-file={cluster.home}/log/munged.log",
    )


def _start_accounting(
    programs: Programs, cluster: slurm_config.Cluster, accounting: slurm_config.Accounting
) -> None:
    home = cluster.home
    try:
        slurm_services.start_database(programs, home, cluster.user, accounting.socket)
    except subprocess.SubprocessError as error:
        said = getattr(error, "stdout", None) or ""
        raise TakedaError(_did_not_start(home, "mariadbd", said=said)) from error
    if not wait_until(accounting.socket.exists, START_SECONDS):
        raise TakedaError(_did_not_start(home, "mariadbd"))
    slurm_services.start_slurmdbd(programs, home, accounting.socket)
    if not wait_until(lambda: slurm_services.register(programs, cluster.user), START_SECONDS):
        raise TakedaError(_did_not_start(home, "slurmdbd"))


def _start_daemon(programs: Programs, home: Path, log: str, *arguments: str) -> None:
    """Each goes to the background in a session of its own, out of reach of the terminal's Ctrl-C."""
    try:
        programs.run(*arguments)
    except (subprocess.SubprocessError, OSError) as error:
        said = getattr(error, "stdout", None) or ""
        raise TakedaError(_did_not_start(home, log, said=said)) from error


def _node_states(programs: Programs) -> dict[str, str]:
    lines = (programs.ask("sinfo", "-h", "-N", "-o", "%N %T") or "").splitlines()
    return {line.split()[0]: line.split()[1] for line in lines}


def _did_not_start(home: Path, *names: str, said: str = "") -> str:
    lines = [f"the sandbox's Slurm did not start: {', '.join(names)}"]
    told = said.strip().splitlines()
    # MariaDB says what is wrong first, and then where one may read on.
    lines += [f"  {line}" for line in [*(line for line in told if "[" in line), *told[-10:]]]
    for name in names[:2]:
        log = home / "log" / f"{name}.log"
        if log.is_file():
            lines.append(f"last lines of {log}:")
            lines += [f"  {line}" for line in log.read_text(errors="replace").splitlines()[-10:]]
    return "\n".join(lines)


def _end(home: Path) -> None:
    if _is_running(home):
        # Jobs first, so that the cluster's saved state and its record know their end.
        programs = _programs(home)
        programs.ask("scancel", f"--user={_user()}")
        wait_until(lambda: not programs.ask("squeue", "-h"), END_SECONDS, every=0.2)
    if left := end_all(home, END_SECONDS):
        names = ", ".join(f"{process.name} ({process.pid})" for process in left)
        raise TakedaError(f"these processes of the sandbox's Slurm would not end: {names}")
    if run_dir := _read_record(home).get("run_dir"):
        shutil.rmtree(run_dir, ignore_errors=True)
    if root := _programs(home).root:
        root.remove()
    (home / "record.json").unlink(missing_ok=True)


def _read_record(home: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((home / "record.json").read_text())
    except (FileNotFoundError, ValueError):  # never up, or killed while it was written
        return {}
    return record


def _unused_job_id(home: Path) -> int:
    """A job id that a killed controller, or one of another version, has not used: it saves its last
    one some seconds late, but a job's script at once, and its end in jobcomp.txt. A ledger must never
    find one id for two jobs."""
    ids = [
        int(folder.name.removeprefix("job."))
        for folder in (home / "state").glob("hash.*/job.*")
        if folder.name.removeprefix("job.").isdigit()
    ]
    with contextlib.suppress(FileNotFoundError), (home / "jobcomp.txt").open() as ended:
        ids += [int(found[1]) for line in ended if (found := re.match(r"JobId=(\d+) ", line))]
    return max(ids, default=0) + JOB_ID_GAP


def _is_state_of(home: Path, version: str) -> bool:
    """Whether the saved state is of this version: others can't be read, in either direction. Notes
    the version for the next time."""
    note = home / "state-version"
    same = not (home / "state").exists() or (note.is_file() and note.read_text() == version)
    note.write_text(version)
    return same


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
