"""The worker on several nodes: who it is, what it tells launchers, and that nobody else has a say."""

import asyncio
import errno
import io
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from snakemake_executor_takeda.worker import hub, mpi, nodes
from snakemake_executor_takeda.worker.exits import NODE_LOST, NODES_MISSING, NODES_UNFIT
from snakemake_executor_takeda.worker.frames import (
    BrokenFrame,
    Seal,
    meet_child,
    meet_main,
    pack,
    unpack,
)
from snakemake_executor_takeda.worker.launching import portable
from snakemake_executor_takeda.worker.remote import split_arguments

TOKEN = b"t" * 32


def test_a_job_of_one_container_has_no_nodes():
    assert nodes.here({}) is None
    assert nodes.here({"AWS_BATCH_JOB_NUM_NODES": "1"}) is None


def test_a_node_knows_itself():
    variables = {
        "AWS_BATCH_JOB_NUM_NODES": "3",
        "AWS_BATCH_JOB_NODE_INDEX": "2",
        "AWS_BATCH_JOB_MAIN_NODE_INDEX": "0",
        "AWS_BATCH_JOB_ATTEMPT": "4",
        "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS": "10.0.0.7",
    }
    here = nodes.here(variables)
    assert here == nodes.Here(index=2, main=0, count=3, attempt=4, main_address="10.0.0.7")
    assert not here.is_main


def test_nodes_are_filled_in_order():
    hosts = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert mpi.slots(hosts, 7, 3) == [("10.0.0.1", 3), ("10.0.0.2", 3), ("10.0.0.3", 1)]
    assert mpi.slots(hosts, 2, 1) == [("10.0.0.1", 1), ("10.0.0.2", 1)]
    assert mpi.open_mpi_hosts([("10.0.0.1", 3)]) == "10.0.0.1 slots=3\n"
    assert mpi.hydra_hosts([("10.0.0.1", 3)]) == "10.0.0.1:3\n"


def variables(given=None, cpus_per_rank=1):
    return mpi.variables(
        hosts="/h", hydra="/y", agent="/a", cpus_per_rank=cpus_per_rank, given=given or {}
    )


def test_what_launchers_are_told():
    told = variables()
    assert told["OMPI_MCA_orte_default_hostfile"] == told["PRTE_MCA_prte_default_hostfile"] == "/h"
    assert told["OMPI_MCA_plm_rsh_agent"] == told["PRTE_MCA_plm_ssh_agent"] == "/a"
    assert told["I_MPI_HYDRA_HOST_FILE"] == told["HYDRA_HOST_FILE"] == "/y"
    assert "169.254.0.0/16" in told["OMPI_MCA_btl_tcp_if_exclude"]
    assert "OMPI_MCA_hwloc_base_binding_policy" not in told
    assert variables(cpus_per_rank=4)["OMPI_MCA_hwloc_base_binding_policy"] == "none"


def test_what_is_set_already_stays():
    told = variables({"OMPI_MCA_btl_tcp_if_include": "eth0", "HYDRA_LAUNCHER": "manual"})
    assert "OMPI_MCA_btl_tcp_if_exclude" not in told
    assert "HYDRA_LAUNCHER" not in told
    assert "OMPI_MCA_oob_tcp_if_exclude" in told


@pytest.mark.parametrize(
    ("words", "host", "command"),
    [
        (["10.0.0.2", "orted", "-mca", "x", '"1"'], "10.0.0.2", 'orted -mca x "1"'),
        (["-x", "-q", "root@10.0.0.2", "true"], "10.0.0.2", "true"),
        (["-p", "22", "-oBatchMode=yes", "-l", "me", "h", "a b"], "h", "a b"),
        ([], "", ""),
    ],
)
def test_it_is_called_as_ssh_is(words, host, command):
    assert split_arguments(words) == (host, command)


def test_what_a_command_on_another_node_gets():
    given = {
        **{"PATH": "/p", "MINE": "1"},
        **{"AWS_BATCH_JOB_NODE_INDEX": "0", "TMPDIR": "/t", "HOME": "/h", "PMIX_RANK": "0"},
        **{"OMPI_MCA_x": "1", "TAKEDA_NODES_SOCKET": "/s", "ECS_AGENT_URI": "u"},
    }
    assert portable(given) == {"PATH": "/p", "MINE": "1"}


def test_messages_of_the_private_socket():
    stream = io.BytesIO(pack({"a": "ü"}) + pack({"b": 2}) + b"\x00\x00\x00\x09cut")
    assert [unpack(stream), unpack(stream), unpack(stream)] == [{"a": "ü"}, {"b": 2}, None]


@contextmanager
def quiet_close(*writers):
    try:
        yield
    finally:
        for writer in writers:
            writer.close()


def meet(main_token, child_token, speak):
    """Connect both ends over TCP and have `speak(main, child, raw writer of the child)` use them."""

    async def both():
        met = asyncio.get_running_loop().create_future()

        async def on_child(reader, writer):
            met.set_result((await meet_child(reader, writer, main_token), writer))

        server = await asyncio.start_server(on_child, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        child = await meet_main(reader, writer, child_token)
        main, main_writer = await met
        with quiet_close(writer, main_writer):
            result = await asyncio.wait_for(speak(main, child, writer), 10)
        server.close()
        return result

    return asyncio.run(both())


def test_who_knows_the_token_is_heard():
    async def speak(main, child, _):
        child.send({"index": 1})
        main.send({"type": "over"})
        return await main.receive(), await child.receive()

    assert meet(TOKEN, TOKEN, speak) == ({"index": 1}, {"type": "over"})


def test_who_does_not_know_it_is_not():
    async def speak(main, child, _):
        child.send({"index": 1})
        await main.receive()

    with pytest.raises(BrokenFrame):
        meet(TOKEN, b"guess", speak)


def test_a_frame_cannot_be_said_twice():
    async def speak(main, child, raw):
        seal = child._ours
        child.send({"type": "ping"})
        await main.receive()
        # the same bytes again, as somebody on the way could send them
        seal._number -= 1
        child.send({"type": "ping"})
        await main.receive()

    with pytest.raises(BrokenFrame):
        meet(TOKEN, TOKEN, speak)


def test_a_frame_cannot_be_too_long():
    async def speak(main, child, raw):
        raw.write(b"\xff\xff\xff\xff")
        await main.receive()

    with pytest.raises(BrokenFrame, match="4294967295 bytes"):
        meet(TOKEN, TOKEN, speak)


def test_directions_have_keys_of_their_own():
    assert Seal(b"k", b"main").of(b"x") != Seal(b"k", b"child").of(b"x")


def test_the_task_directory_is_filled_where_it_is_not_shared(tmp_path, monkeypatch):
    monkeypatch.setenv("TAKEDA_NODE_ADDRESS", "127.9.9.2")
    here = nodes.Here(index=1, main=0, count=2, attempt=1, main_address="127.9.9.1")
    plan = nodes.Plan(str(tmp_path), 1, 2, 1, 1, 0)
    filled = []
    follower = nodes._Follower(here, plan, filled.append)
    follower._make(tmp_path)
    assert filled == []
    follower._make(tmp_path / "scratch" / "task")
    assert filled == [tmp_path / "scratch" / "task"]
    assert filled[0].is_dir()


@pytest.mark.parametrize("end", [OSError(errno.EHOSTUNREACH, "No route to host"), "silence"])
def test_a_node_whose_machine_is_gone_is_lost(tmp_path, monkeypatch, end):
    """Its ranks would be waited for until the job's time limit."""
    if end == "silence":
        monkeypatch.setattr(hub, "SILENCE_SECONDS", 0.2)
    lost = queue.Queue()
    main = hub.Hub(
        main=0,
        count=2,
        address="127.0.0.1",
        token=TOKEN,
        socket_path=tmp_path / "socket",
        on_loss=lambda *words: lost.put(words),
    )
    port = main.start()

    async def join():
        connection = await meet_main(*await asyncio.open_connection("127.0.0.1", port), TOKEN)
        connection.send({"index": 1, "address": "127.0.0.2", "unfit": None})
        await connection.drain()
        await asyncio.to_thread(main.wait, 10)
        if end != "silence":
            reader = main._children[1].connection._reader
            main._loop.call_soon_threadsafe(reader.set_exception, end)
        return await asyncio.to_thread(lost.get, timeout=10)

    index, why = asyncio.run(join())
    assert index == 1
    assert "No route" in why or "has said nothing" in why
    assert main.missing() == [1]
    main.over()


@pytest.fixture
def handlers():
    """The worker's own of signals are taken back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("lost", [(1, "gone"), None])
@pytest.mark.parametrize("moment", ["wait", "missing", "over"])
@pytest.mark.usefixtures("handlers")
def test_a_loss_is_no_ctrl_c_whenever_it_is_heard_of(tmp_path, monkeypatch, moment, lost):
    """The hub's thread ends the task by the same signal as Batch does."""

    class Ending(hub.Hub):
        def __init__(self, **words):
            pass

        def __getattribute__(self, name):
            if name == moment:
                os.kill(os.getpid(), signal.SIGTERM)
            answers = {"start": 1, "unfit": {}, "missing": [2], "wait": False, "over": None}
            return (lambda *words: answers[name]) if name in answers else lost

    monkeypatch.setattr(nodes, "Hub", Ending)
    monkeypatch.setenv("TAKEDA_NODE_ADDRESS", "127.9.9.1")
    here = nodes.Here(index=0, main=0, count=3, attempt=1, main_address=None)
    plan = nodes.Plan(str(tmp_path), 1, 2, 1, 1, 0)
    try:
        code = nodes.run_main(here, plan, lambda prepare: 0)
    except SystemExit as end:
        code = end.code
    assert code == (NODE_LOST if lost else 128 + signal.SIGTERM)


@pytest.mark.usefixtures("handlers")
def test_the_task_is_ended_by_the_thread_that_waits_for_it(monkeypatch):
    """A signal for the process may be taken by another thread, half of the time by the one that sends
    it: then the task is only left behind, after half a minute."""
    told = []
    real = signal.pthread_kill
    monkeypatch.setattr(signal, "pthread_kill", lambda *words: told.append(words) or real(*words))
    heard = threading.Event()
    signal.signal(signal.SIGTERM, lambda *words: heard.set())
    ender = threading.Thread(target=hub.end_task)
    ender.start()
    ender.join()
    assert heard.wait(10)
    assert told == [(threading.main_thread().ident, signal.SIGTERM)]


# Real workers, one for each node, without Batch.


def workers(tmp_path, argv, *, count=3, started=None, wait="30", words=(), change=None):
    """Start the nodes of a job that runs `argv`; → exit codes and what each said, by index."""
    entry = {
        "run_id": "r",
        "task_id": "t",
        "argv": argv,
        "workdir": str(tmp_path),
        "sources_uri": None,
        "environment_uri": None,
    }
    line = json.dumps(entry).encode() + b"\n"
    manifest = tmp_path / "manifest"
    manifest.write_bytes(b"%016d%016d" % (32, 32 + len(line)) + line)
    meeting = ["--nodes", str(tmp_path / "nodes"), "--node-wait", wait, "--ranks", str(count)]
    command = [sys.executable, "-P", "-m", "snakemake_executor_takeda.worker"]
    running = {}
    for index in range(count) if started is None else started:
        environment = {
            **os.environ,
            "AWS_BATCH_JOB_NUM_NODES": str(count),
            "AWS_BATCH_JOB_NODE_INDEX": str(index),
            "AWS_BATCH_JOB_MAIN_NODE_INDEX": "0",
            "TAKEDA_NODE_ADDRESS": f"127.9.9.{index + 1}",
            **({"AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS": "127.9.9.1"} if index else {}),
            **(change or {}),
        }
        running[index] = subprocess.Popen(
            [*command, "--manifest", str(manifest), *meeting, *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    said = {index: one.communicate(timeout=120)[0] for index, one in running.items()}
    return {index: one.returncode for index, one in running.items()}, said


EVERYWHERE = """
for host in $(cut -d' ' -f1 $TAKEDA_HOSTFILE); do
    echo "to $host" | $OMPI_MCA_plm_rsh_agent -x $host 'cat; echo "on $AWS_BATCH_JOB_NODE_INDEX"; exit 4'
    echo "code $?"
done
$OMPI_MCA_plm_rsh_agent 10.9.9.9 true
echo "elsewhere $?"
exit 6
"""


@pytest.mark.sandbox
def test_commands_run_on_every_node_with_input_output_and_exit_code(tmp_path):
    codes, said = workers(tmp_path, ["sh", "-c", EVERYWHERE])
    assert codes == {0: 6, 1: 0, 2: 0}
    found = re.findall(r"to (\S+)\non (\d)\ncode (\d)", said[0])
    assert found == [(f"127.9.9.{n + 1}", str(n), "4") for n in range(3)]
    assert "10.9.9.9 is no node of this job: 127.9.9.1" in said[0]
    assert "elsewhere 255" in said[0]


@pytest.mark.sandbox
def test_a_node_that_does_not_come_is_named(tmp_path):
    codes, said = workers(tmp_path, ["true"], started=[0, 1], wait="3")
    assert codes == {0: NODES_MISSING, 1: 0}
    assert "after 3 s these of 3 nodes have not started: 2." in said[0]


@pytest.mark.sandbox
def test_a_main_node_that_does_not_come(tmp_path):
    codes, said = workers(tmp_path, ["true"], started=[1], wait="1")
    assert codes == {1: NODES_MISSING}
    assert "main node (127.9.9.1) could not be reached: it has not said where it is" in said[1]


@pytest.mark.sandbox
def test_no_efa_is_said_at_once(tmp_path):
    codes, said = workers(tmp_path, ["true"], words=("--efa-devices", "99"), wait="60")
    assert codes[0] == NODES_UNFIT
    assert "the target says `efa: true`, but there is no device /dev/infiniband/uverbs" in said[0]


@pytest.mark.sandbox
def test_a_node_that_cannot_connect_says_why(tmp_path, monkeypatch):
    (tmp_path / "nodes/1").mkdir(parents=True)
    word = {"address": "10.0.0.3", "trouble": "timed out"}
    (tmp_path / "nodes/1/2.json").write_text(json.dumps(word))
    codes, said = workers(tmp_path, ["true"], started=[0, 1], wait="3")
    assert codes[0] == NODES_UNFIT
    assert "node 2 (10.0.0.3) has started but cannot connect" in said[0]
    assert "security group" in said[0]
