"""The optional daemons of a sandboxed Slurm: slurmrestd, slurmdbd, and its MariaDB."""

from __future__ import annotations

import shutil
from pathlib import Path

from snakemake_executor_takeda.sandbox.slurm_programs import Programs

CLUSTER = "takeda"
ACCOUNTS = ("lab", "phylo")
QUALITIES = ("low", "high")
"""Qualities of service beside Slurm's own `normal`."""


OPENAPI_NAMES_SINCE = "23.11"
"""The first version whose OpenAPI plugins are named by the daemon they speak to."""


def start_rest(programs: Programs, home: Path, port: int, version: str, accounting: bool) -> None:
    """slurmrestd on loopback; it takes tokens only."""
    # It does not start where it is to speak to a slurmdbd that the cluster has not.
    plugins: tuple[str, ...] = ("-s", "openapi/slurmctld")
    if accounting or version < OPENAPI_NAMES_SINCE:
        plugins = ()
    programs.start(
        home / "log" / "slurmrestd.log",
        "slurmrestd",
        *("-a", "rest_auth/jwt", *plugins),
        f"127.0.0.1:{port}",
        # Else it refuses to run as the cluster's own user. That matters where it takes a caller's
        # word for who he is; here it takes signed tokens.
        SLURMRESTD_SECURITY="disable_user_check",
        # It has no token of its own; this word makes it speak by tokens, not by munge.
        SLURM_JWT="daemon",
    )


def start_database(programs: Programs, home: Path, user: str, socket: Path) -> None:
    """MariaDB, whose only way in is a socket in a private folder. Raises CalledProcessError."""
    data, temporary = home / "accounting", home / "accounting-tmp"
    # Its own: a server that starts removes all temporary tables there, another server's too.
    temporary.mkdir(exist_ok=True)
    if not (data / "mysql").is_dir():
        # What a start that was ended left half made.
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir()
        programs.run(
            "mariadb-install-db",
            "--no-defaults",
            "--basedir=/usr",
            f"--datadir={data}",
            f"--tmpdir={temporary}",
            f"--user={user}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        )
    programs.start(
        home / "log" / "mariadbd.log",
        "mariadbd",
        "--no-defaults",
        f"--user={user}",
        f"--datadir={data}",
        f"--tmpdir={temporary}",
        f"--socket={socket}",
        f"--pid-file={socket.with_suffix('.pid')}",
        "--skip-networking",
        "--innodb-buffer-pool-size=32M",
        "--innodb-log-file-size=16M",
        # Accounting of a sandbox may lose its last second in a power cut.
        "--innodb-flush-log-at-trx-commit=0",
    )


def start_slurmdbd(programs: Programs, home: Path, socket: Path) -> None:
    programs.start(home / "log" / "slurmdbd.log", "slurmdbd", "-D", MYSQL_UNIX_PORT=str(socket))


def register(programs: Programs, user: str) -> bool:
    """Tell slurmdbd of the cluster, some accounts and qualities of service; False while it is not
    ready. What it knows already is no error."""
    if programs.ask("sacctmgr", "-n", "-P", "show", "cluster") is None:
        return False
    say = ("sacctmgr", "--immediate", "--quiet", "add")
    programs.ask(*say, "cluster", CLUSTER)
    programs.ask(*say, "qos", ",".join(QUALITIES))
    programs.ask(*say, "account", ",".join(ACCOUNTS), f"cluster={CLUSTER}")
    programs.ask(*say, "user", user, f"account={','.join(ACCOUNTS)}", f"cluster={CLUSTER}")
    return True
