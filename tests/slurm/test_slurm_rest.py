"""slurmrestd played by a small HTTP server whose answers have the shapes of Slurm 24.11."""

import base64
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from snakemake_executor_takeda.backends.slurm.accounting import Account
from snakemake_executor_takeda.backends.slurm.answers import Sighting
from snakemake_executor_takeda.backends.slurm.clients import rest as rest_module
from snakemake_executor_takeda.backends.slurm.clients import rest_answers
from snakemake_executor_takeda.backends.slurm.clients.base import (
    SlurmFull,
    SlurmRefused,
    SlurmSilent,
    SlurmUnauthorized,
)
from snakemake_executor_takeda.backends.slurm.clients.rest import Rest
from snakemake_executor_takeda.backends.slurm.clients.rest_request import job_description
from snakemake_executor_takeda.backends.slurm.clients.token import Token, expiry, user_of
from snakemake_executor_takeda.backends.slurm.request import JobRequest

REQUEST = JobRequest("takeda-x-1", "/data", "/data/0.log", environment={"PATH": "/bin", "A": "b c"})
UNSET = {"set": False, "infinite": False, "number": 0}


def token(ends=4_000_000_000, user="ada", name="one"):
    claims = base64.urlsafe_b64encode(json.dumps({"exp": ends, "sun": user, "n": name}).encode())
    return f"e30.{claims.decode().rstrip('=')}.c2ln"


def number(value):
    return {"set": True, "infinite": False, "number": value}


def trouble(words, code=500):
    return {"errors": [{"error": words, "error_number": code, "description": "", "source": "x"}]}


class Server:
    """Answers by a function of method, path, query and content; remembers what it was asked."""

    def __init__(self):
        self.asked = []
        self.connections = 0
        self.answer = lambda method, path, query, content: (200, {})
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                outer.connections += 1
                super().setup()

            def handle_any(self):
                size = int(self.headers.get("Content-Length") or 0)
                content = json.loads(self.rfile.read(size)) if size else None
                parts = urlsplit(self.path)
                path = parts.path.removeprefix("/slurm/v0.0.42/")
                outer.asked.append((self.command, path, dict(self.headers), content))
                answer = outer.answer(self.command, path, parse_qs(parts.query), content)
                if answer is None:  # the connection breaks
                    self.close_connection = True
                    return
                status, body = answer
                text = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_DELETE = handle_any

            def log_message(self, *words):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture
def rest(server, monkeypatch):
    monkeypatch.setattr(rest_module, "PAUSE_SECONDS", 0.0)
    made = Rest(server.url, Token(environ={"SLURM_JWT": token(), "PATH": ""}))
    yield made
    made.close()


def test_one_connection_and_the_token_in_its_header_only(server, rest):
    server.answer = lambda *asked: (200, {"job_id": 12, "errors": [], "warnings": []})
    assert [rest.submit(REQUEST, "#!/bin/sh\n") for _ in range(3)] == ["12"] * 3
    assert server.connections == 1
    method, path, headers, content = server.asked[0]
    assert (method, path) == ("POST", "job/submit")
    assert headers["X-SLURM-USER-TOKEN"] == token()
    assert headers["X-SLURM-USER-NAME"] == "ada"
    assert content["script"] == "#!/bin/sh\n"
    assert "A=b c" in content["job"]["environment"]
    assert token() not in json.dumps(content)


def test_begun_tasks_of_arrays_are_told_apart(server, rest):
    """Slurm prints them with an id of their own: 24.11 to 26.05."""
    arrays = {
        "7": [("7_2", "PENDING"), ("9_0", "RUNNING"), ("10_1", "COMPLETED")],
        "8": [("11_0", "RUNNING"), ("8_1", "RUNNING")],
        "20": [("20", "FAILED")],
    }

    def answer(method, path, query, content):
        if path != "jobs/state/":
            return 200, {"jobs": []}
        rows = [row for one in query["job_id"] for row in arrays[one]]
        return 200, {"jobs": [{"job_id": name, "state": [state]} for name, state in rows]}

    server.answer = answer

    def states():
        del server.asked[:]
        seen = rest.queue(["7", "8", "20"])
        looks = len([path for _, path, *_ in server.asked if path == "jobs/state/"])
        return {name: one.state for name, one in seen.items()}, looks

    wanted = {
        **{"7_0": "RUNNING", "7_1": "COMPLETED", "7_2": "PENDING"},
        **{"8_0": "RUNNING", "8_1": "RUNNING", "20": "FAILED"},
    }
    assert states() == (wanted, 3)
    assert states() == (wanted, 1)
    arrays["7"][0] = ("7_2", "RUNNING")
    assert states() == ({**wanted, "7_2": "RUNNING"}, 1)
    # a controller that was killed has forgotten that 9 was 7_0
    arrays["7"] = [("9_2", "RUNNING")]
    seen, _ = states()
    assert "7_0" not in seen
    assert seen["7_2"] == "RUNNING"


def test_reasons_are_asked_for_rarely_and_a_few_at_a_time(server):
    now = [0.0]
    rest = Rest(server.url, Token(environ={"SLURM_JWT": token()}), clock=lambda: now[0])

    def answer(method, path, query, content):
        if path == "jobs/state/":
            return 200, {"jobs": [{"job_id": one, "state": ["PENDING"]} for one in query["job_id"]]}
        job = {"job_id": int(path.partition("/")[2]), "job_state": ["PENDING"]}
        return 200, {"jobs": [{**job, "state_reason": "Priority", "array_job_id": number(0)}]}

    server.answer = answer
    ids = [str(n) for n in range(1, 11)]
    first = rest.queue(ids)
    assert [one.reason for one in first.values()].count("Priority") == 4
    for _ in range(2):
        last = rest.queue(ids)
    assert [one.reason for one in last.values()] == ["Priority"] * 10
    asked = len(server.asked)
    rest.queue(ids)
    assert len(server.asked) == asked + 1
    now[0] = 61.0
    rest.queue(ids)
    assert len(server.asked) == asked + 1 + 5
    rest.close()


def test_a_renewed_file_is_read_when_the_old_token_is_refused(server, tmp_path):
    file = tmp_path / "token"
    file.write_text(token(name="old"))
    good = token(name="new")

    def answer(method, path, query, content):
        given = server.asked[-1][2].get("X-SLURM-USER-TOKEN")
        if given == good:
            return 200, {"partitions": []}
        file.write_text(f"SLURM_JWT={good}\n")
        return 401, "Authentication failure"

    server.answer = answer
    rest = Rest(server.url, Token(str(file), environ={"PATH": ""}))
    assert rest.partitions() == []
    assert len(server.asked) == 2
    rest.close()


@pytest.mark.parametrize(
    "answer", [(401, "Authentication failure"), (511, {}), (500, trouble("x", 1007))]
)
def test_without_a_valid_token_it_is_said_how_to_get_one(server, rest, answer):
    server.answer = lambda *asked: answer
    with pytest.raises(SlurmUnauthorized, match="scontrol token lifespan") as refused:
        rest.partitions()
    assert isinstance(refused.value, SlurmSilent)  # no job fails for it
    assert token() not in str(refused.value)


def test_an_ended_token_is_told_with_its_time(server):
    server.answer = lambda *asked: (401, "Authentication failure")
    rest = Rest(server.url, Token(environ={"SLURM_JWT": token(ends=86_400), "PATH": ""}))
    with pytest.raises(SlurmUnauthorized, match="of SLURM_JWT ended at 1970-01-02 00:00:00 UTC"):
        rest.partitions()
    rest.close()


def test_a_token_is_made_by_scontrol_where_it_is_there(server, tmp_path):
    made = token(name="made")
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "scontrol"
    script.write_text(
        f'#!/bin/sh\necho "$*" > {tmp_path}/asked\n[ -z "$SLURM_JWT" ] && echo SLURM_JWT={made}\n'
    )
    script.chmod(0o755)
    one = Token(environ={"SLURM_JWT": token(ends=100), "PATH": f"{folder}:/bin"})
    assert one.value() == made
    assert (tmp_path / "asked").read_text() == "token lifespan=43200\n"
    assert made not in repr(one)


def test_what_a_token_says():
    assert expiry(token(ends=77)) == 77
    assert user_of(token(user="bob")) == "bob"
    for broken in (None, "", "abc", "a.b.c", "a.bnVsbA.c", "a.W10.c"):
        assert expiry(broken) is None
        assert user_of(broken) is None


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((502, ""), SlurmSilent),
        ((504, ""), SlurmSilent),
        ((500, trouble("Unable to contact slurm controller (connect failure)", 1800)), SlurmSilent),
        ((500, trouble("Unable to create job record, try again", 2004)), SlurmFull),
        ((500, trouble("Resource temporarily unavailable", 11)), SlurmFull),
        ((500, trouble("Invalid partition name specified", 2000)), SlurmRefused),
        ((200, trouble("Invalid qos specification", 2066)), SlurmRefused),
        ((200, {"job_id": 0}), SlurmRefused),
        ((404, "Unable to find requested URL"), SlurmRefused),
        (None, SlurmSilent),
    ],
)
def test_what_a_submission_may_meet(server, rest, answer, error):
    server.answer = lambda *asked: answer
    with pytest.raises(error) as met:
        rest.submit(REQUEST, "")
    assert type(met.value) is error
    assert len(server.asked) == 1  # it is never sent twice


def test_a_question_on_a_connection_that_the_server_closed_is_asked_again(server, rest):
    server.answer = lambda *asked: (200, {"partitions": []})
    rest.partitions()
    server.answer = lambda *asked: None if len(server.asked) == 2 else (200, {"partitions": []})
    assert rest.partitions() == []
    assert server.connections == 2


def test_a_controller_that_is_down_is_silence_though_it_is_not_said_so(server, rest):
    server.answer = lambda *asked: (500, trouble("Unspecified error", -1))
    with pytest.raises(SlurmSilent):
        rest.queue(["1"])
    with pytest.raises(SlurmSilent):
        rest.cancel(["1"])


def test_a_question_without_answer_is_asked_twice(server, rest):
    words = "Header lengths are longer than data received"
    server.answer = lambda *asked: (
        (502, trouble(words)) if len(server.asked) == 1 else (200, {"partitions": []})
    )
    assert rest.partitions() == []
    server.answer = lambda *asked: (502, trouble(words))
    with pytest.raises(SlurmSilent, match=words):
        rest.partitions()
    assert len(server.asked) == 4


def test_a_slurmrestd_that_is_too_old_or_too_new(server, rest):
    server.answer = lambda *asked: (404, "Unable to find requested URL")
    with pytest.raises(SlurmRefused, match=r"no v0\.0\.42 .*Slurm 24\.11 to 26\.05"):
        rest.partitions()
    server.answer = lambda *asked: (404, trouble("Invalid job id specified", 2017))
    assert rest.jobs("7") == {}


def test_nobody_there(monkeypatch):
    monkeypatch.setattr(rest_module, "PAUSE_SECONDS", 0.0)
    with pytest.raises(SlurmSilent, match=r"127\.0\.0\.1:1"):
        Rest("http://127.0.0.1:1", Token(environ={})).partitions()
    with pytest.raises(SlurmSilent, match="socket"):
        Rest("unix:///no/such/socket", Token(environ={})).partitions()


def test_a_unix_socket(tmp_path):
    import socket

    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve():
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{"partitions": []}')

    threading.Thread(target=serve, daemon=True).start()
    client = Rest(f"unix://{path}", Token(environ={}))
    assert client.partitions() == []
    client.close()
    listener.close()


def test_ends_are_asked_for_in_one_request(server, rest):
    server.answer = lambda *asked: (200, {"status": []})
    rest.cancel(["1", "2"])
    rest.cancel(["1"], kill=True)
    rest.cancel(["1"], pending_only=True)
    contents = [(method, path, content) for method, path, _, content in server.asked]
    assert contents == [
        ("DELETE", "jobs/", {"jobs": ["1", "2"], "signal": "SIGKILL"}),
        ("DELETE", "jobs/", {"jobs": ["1"], "signal": "SIGKILL", "flags": ["FULL_JOB"]}),
        ("DELETE", "jobs/", {"jobs": ["1"], "signal": "SIGKILL", "job_state": ["PENDING"]}),
    ]


def test_accounts_of_tasks_and_ranks(server, rest):
    def step(ranks, rss, seconds, microseconds):
        most = [{"type": "cpu", "count": 350}, {"type": "mem", "count": rss}]
        time = {"total": {"seconds": seconds, "microseconds": microseconds}}
        return {"tasks": {"count": ranks}, "time": time, "tres": {"requested": {"max": most}}}

    ended = {"return_code": number(0), "signal": {"id": UNSET}}
    mpi = {"job_id": 2, "array": {"job_id": 0, "task_id": UNSET}, "nodes": "node-[2-3]"}
    mpi |= {"state": {"current": ["COMPLETED"]}, "time": {"elapsed": 5}, "exit_code": ended}
    mpi |= {"steps": [step(1, 11_636_736, 0, 27_000), step(2, 89_145_344, 1, 734_237)]}
    task = {"job_id": 9, "array": {"job_id": 7, "task_id": number(3)}, "nodes": "None assigned"}
    task |= {"state": {"current": ["CANCELLED"]}, "time": {"elapsed": 0}, "exit_code": ended}
    task |= {"steps": [], "kill_request_user": "ada"}
    server.answer = lambda *asked: (200, {"jobs": [mpi, task]})
    asked = rest.tasks({"7_3", "2"})
    assert server.asked[-1][1] == "/slurmdb/v0.0.42/jobs/"
    assert asked["2"] == Account(
        Sighting("2", "COMPLETED", "", "node-[2-3]", 5.0, 0), 1.761237, 174_112
    )
    assert asked["7_3"] == Account(Sighting("7_3", "CANCELLED", "by ada", "", 0.0, 0))


def test_a_cluster_without_a_database_is_asked_once(server, rest):
    server.answer = lambda *asked: (404, "Unable find requested URL.")
    assert rest.tasks({"7"}) == rest.tasks({"8"}) == {}
    assert len(server.asked) == 1


def test_a_database_that_is_down_says_so(server, rest):
    server.answer = lambda *asked: (500, trouble("Slurmdb connection failed", 7000))
    with pytest.raises((SlurmSilent, SlurmRefused)):
        rest.tasks({"7"})
    server.answer = lambda *asked: (200, {"jobs": []})
    assert rest.tasks({"7"}) == {}
    assert len(server.asked) == 2


def test_the_state_that_squeue_would_say():
    assert rest_answers.state_word(["RUNNING"]) == "RUNNING"
    assert rest_answers.state_word(["FAILED", "COMPLETING"]) == "COMPLETING"
    assert rest_answers.state_word(["PENDING", "REQUEUED"]) == "REQUEUED"
    assert rest_answers.state_word([]) == ""


def test_a_job_that_a_signal_ended():
    job = {
        "job_id": 7,
        "array_job_id": number(5),
        "array_task_id": number(1),
        "job_state": ["FAILED"],
        "state_reason": "None",
        "nodes": "node-[1-2]",
        "start_time": number(1000),
        "end_time": number(1030),
        "exit_code": {"return_code": number(0), "signal": {"id": number(9), "name": "Killed"}},
    }
    (seen,) = rest_answers.read_job_infos({"jobs": [job]}, now=5000).values()
    assert (seen.external_id, seen.reason, seen.nodes) == ("5_1", "", "node-[1-2]")
    assert (seen.exit_code, seen.wall_seconds) == (137, 30)


def test_a_job_as_json():
    request = replace(
        REQUEST,
        **{"array_size": 20, "array_throttle": 5, "partition": "a,b", "exclude": ("n1", "n2")},
        **{"ntasks": 4, "nodes": 2, "tasks_per_node": 2, "cpus_per_task": 3, "runtime_min": 9},
        **{"mem_mb": 500, "gpus": 2, "gpu_model": "a10g", "gres": "shard:1,nvme:2"},
    )
    job = job_description(request)
    assert job["environment"] == [
        *("PATH=/bin", "A=b c", "SLURM_CPUS_PER_TASK=3", "SLURM_NTASKS_PER_NODE=2")
    ]
    del job["environment"]
    assert job == {
        **{"name": "takeda-x-1", "current_working_directory": "/data"},
        **{"standard_output": "/data/0.log", "array": "0-19%5", "partition": "a,b"},
        **{"excluded_nodes": ["n1", "n2"], "nodes": "2", "tasks": 4, "tasks_per_node": 2},
        **{"cpus_per_task": 3, "minimum_cpus": 12, "memory_per_node": number(500)},
        **{"time_limit": number(9), "requeue": False, "tres_per_job": "gres/gpu:a10g:2"},
        "tres_per_node": "gres/shard:1,gres/nvme:2",
    }


@pytest.mark.parametrize(
    ("word", "fields"),
    [
        ("--mem=2G", {"memory_per_node": number(2048)}),
        ("--mem-per-cpu=1000K", {"memory_per_cpu": number(1)}),
        ("--time=1-2:03", {"time_limit": number(26 * 60 + 3)}),
        ("--time=90:30", {"time_limit": number(91)}),
        ("-t1:00:01", {"time_limit": number(61)}),
        ("--exclusive", {"shared": ["none"]}),
        ("-Ca|b", {"constraints": "a|b"}),
        ("--nice", {"nice": 100}),
        ("--mail-type=end,FAIL", {"mail_type": ["END", "FAIL"]}),
        (
            "--signal=B:USR1@120",
            {"kill_warning_signal": "USR1", "kill_warning_flags": ["BATCH_JOB"]},
        ),
        ("--gpus-per-node=a10g:1", {"tres_per_node": "gres/gpu:a10g:1"}),
        ("--cpus-per-task=8", {"cpus_per_task": 8, "minimum_cpus": 8}),
        ("-H", {"hold": True}),
    ],
)
def test_words_of_slurm_extra(word, fields):
    job = job_description(replace(REQUEST, extra=(word,)))
    assert {name: job[name] for name in fields} == fields


def test_the_later_of_two_memories_wins():
    job = job_description(replace(REQUEST, mem_mb=500, extra=("--mem-per-cpu=1G",)))
    assert "memory_per_node" not in job
    assert job["memory_per_cpu"] == number(1024)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--begin=now+1hour", "--begin"),
        ("--exlusive", "Did you mean --exclusive"),
        ("--time=soon", "not its value"),
        ("--mem=lots", "not its value"),
        ("--nodes", "not its value"),
        ("--contiguous=3", "not its value"),
        ("-Zx", "-Zx"),
        ("--container-image=x", "--container-image"),
    ],
)
def test_what_cannot_be_said_is_refused_by_its_name(rest, word, said):
    with pytest.raises(ValueError, match="can't be said through slurmrestd") as refused:
        rest.check_request(replace(REQUEST, extra=(word,)))
    assert word in str(refused.value) and said in str(refused.value)


def test_export():
    def given(word):
        return job_description(replace(REQUEST, extra=(word,)))["environment"]

    assert given("--export=ALL,X=1")[:3] == ["PATH=/bin", "A=b c", "X=1"]
    assert given("--export=NONE")[0] == "SLURM_GET_USER_ENV=1"
    assert "A=b c" not in given("--export=X=1")
