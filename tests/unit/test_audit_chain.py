"""The chain through the event log: whatever is done to the file afterwards is found, and where."""

import errno
import io
import json
import os
import subprocess
from random import Random

import pytest

from snakemake_executor_takeda.audit.chain import SEED, event_of
from snakemake_executor_takeda.audit.verifying import verify
from snakemake_executor_takeda.events import NO_JOB, EventLog, about, without_secrets
from snakemake_executor_takeda.values import JobSpec, Shape, Target

TARGET = Target("t", "fake")


def write(path, count, run_id="run", name="placed"):
    """Append this many events, as one run; where the chain ends then."""
    log = EventLog(path, run_id)
    for number in range(count):
        job = JobSpec(number, "r", {"n": f"ü{number}\u2028"}, 1, Shape(), {})
        log.write(name, about(job), TARGET, None, {"reasons": ["default"]})
    head = log.sync()
    log.close()
    return head


def lines_of(path):
    with path.open("rb") as file:
        return file.readlines()


def lines_of_bytes(data):
    return io.BytesIO(data).readlines()


def found(lines, known=()):
    """Kind and lines of each problem."""
    report = verify(lines, known)
    return [(one.kind, one.first_line, one.last_line) for one in report.problems]


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "e.jsonl"
    write(path, 10)
    return lines_of(path)


def changed(line, old=b"default", new=b"DEFAULT"):
    assert old in line
    return line.replace(old, new)


def test_each_line_holds_its_number_and_the_sum_of_the_line_before(tmp_path, log):
    events = [json.loads(line) for line in log]
    assert [event["seq"] for event in events] == list(range(1, 11))
    assert events[0]["previous"] == SEED
    (tmp_path / "one").write_bytes(log[3])
    said = subprocess.run(
        ["sha256sum", tmp_path / "one"], capture_output=True, text=True, check=True
    )
    assert events[4]["previous"] == said.stdout.split()[0]


def test_runs_one_after_the_other_make_one_chain(tmp_path):
    path = tmp_path / "e.jsonl"
    first, second = write(path, 3, "one"), write(path, 4, "two")
    report = verify(lines_of(path), [first, second])
    assert (report.lines, report.head, report.problems, report.notes) == (7, second, (), ())
    assert second.seq == 7


def test_a_log_of_nothing_is_in_order():
    assert verify([]).problems == ()


@pytest.mark.parametrize("number", range(1, 10))
def test_a_changed_line_is_found(log, number):
    log[number - 1] = changed(log[number - 1])
    assert found(log) == [("changed", number, number)]


@pytest.mark.parametrize("number", range(1, 10))
def test_a_line_that_is_no_json_any_more_is_found(log, number):
    log[number - 1] = b"{" + log[number - 1]
    assert ("changed", number, number) in found(log)


@pytest.mark.parametrize("first", range(9))
@pytest.mark.parametrize("count", [1, 3])
def test_removed_lines_are_found(log, first, count):
    count = min(count, 9 - first)
    del log[first : first + count]
    (problem,) = verify(log).problems
    assert (problem.kind, problem.last_line) == ("removed", first)
    said = f"line {first + 1} was" if count == 1 else f"lines {first + 1} to {first + count} were"
    assert problem.text.startswith(f"{said} removed")


@pytest.mark.parametrize("number", range(9))
def test_inserted_lines_are_found(log, number):
    for words in (
        [b'{"event": "placed"}\n'],
        [b"words\n", b"more words\n"],
        [log[4]],
        [changed(log[number])],
    ):
        more = log[:number] + words + log[number:]
        # Of a line and its copy beside it either may be called the copy.
        first = 5 if words == [log[4]] and number in (4, 5) else number + 1
        assert ("inserted", first, first + len(words) - 1) in found(more), words


def test_two_lines_in_another_order_are_found(log):
    log[4], log[5] = log[5], log[4]
    assert found(log)


def test_changes_in_several_places_are_all_found(log):
    log[1] = changed(log[1])
    log[8] = changed(log[8])
    del log[5]
    assert found(log) == [("changed", 2, 2), ("removed", 5, 5), ("changed", 8, 8)]


def test_a_line_whose_own_hash_was_changed_too(log):
    event = json.loads(log[5])
    log[5] = log[5].replace(event["previous"].encode(), b"0" * 64)
    problems = verify(log).problems
    assert [(one.kind, one.first_line) for one in problems] == [("changed", 5), ("changed", 6)]
    assert "unless that is what was changed in line 6" in problems[0].text


def test_what_was_cut_off_is_known_by_the_head(tmp_path):
    path = tmp_path / "e.jsonl"
    heads = [write(path, 4), write(path, 4)]
    lines = lines_of(path)
    assert found(lines[:6]) == [], "nothing in the file itself tells"
    assert found(lines[:6], heads) == [("cut", 6, 6)]
    assert found(lines[:3], heads) == [("cut", 3, 3)]
    assert found([], heads) == [("cut", 0, 0)]
    lines[7] = changed(lines[7])
    assert found(lines, heads) == [("changed", 8, 8)]


def test_what_was_cut_off_and_written_over_is_known_by_the_head(tmp_path):
    path = tmp_path / "e.jsonl"
    head = write(path, 6)
    path.write_bytes(b"".join(lines_of(path)[:3]))
    last = write(path, 6)
    assert found(lines_of(path)) == []
    assert found(lines_of(path), [head, last]) == [("changed", 6, 6)]


def test_a_forged_line_behind_the_end_does_not_blame_the_line_before(log):
    head = verify(log).head
    event = {**json.loads(log[-1]), "seq": 11, "previous": "0" * 64}
    log.append(json.dumps(event).encode() + b"\n")
    assert found(log, [head]) == [("changed", 11, 11)]


def test_a_torn_line_is_kept_and_the_chain_goes_on(tmp_path):
    path = tmp_path / "e.jsonl"
    write(path, 4)
    whole = path.read_bytes()
    torn = whole[: len(whole) - 60]
    path.write_bytes(torn)
    report = verify(lines_of(path))
    assert report.problems == ()
    assert report.notes == (
        "line 4, the last, is torn: its writer is in the middle of it, or was ended there",
    )
    head = write(path, 2, "again")
    lines = lines_of(path)
    assert b"".join(lines).startswith(torn + b"\n")
    resumed = json.loads(lines[4])
    assert (resumed["event"], resumed["seq"]) == ("resumed", 5)
    assert resumed["detail"]["torn_bytes"] == len(lines[3]) - 1
    report = verify(lines, [head])
    assert (report.lines, report.head, report.problems) == (7, head, ())
    assert report.notes == (
        "line 4 is torn: its writer was ended in the middle of it; line 5 takes the chain up",
    )
    for number in (1, 2, 3, 4, 5, 6):
        more = list(lines)
        more[number - 1] = more[number - 1].replace(b'"', b"'", 1)
        assert found(more), f"line {number}"
    # Before half a line nothing but the hash over all of it tells.
    more = list(lines)
    more[2] = changed(more[2])
    assert found(more) == [("changed", 1, 4)]
    assert found([*lines[:3], *lines[4:]])
    assert found([*lines[:2], *lines[3:]])


def test_a_line_that_lacks_only_its_end_is_no_loss(tmp_path):
    path = tmp_path / "e.jsonl"
    write(path, 2)
    path.write_bytes(path.read_bytes()[:-1])
    assert found(lines_of(path)) == []
    write(path, 1)
    lines = lines_of(path)
    assert [event_of(line)["seq"] for line in lines] == [1, 2, 3, 4]
    assert found(lines) == []


def test_a_log_of_an_earlier_version_is_gone_on_with(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_text('{"event": "placed"}\n{"event": "succeeded"}\n')
    assert found(lines_of(path)) == [("unchained", 1, 2)]
    write(path, 2)
    lines = lines_of(path)
    report = verify(lines)
    assert report.problems == ()
    assert report.notes == ("lines 1 to 2 were written without a chain",)
    lines[0] = lines[0].replace(b"placed", b"failed")
    assert found(lines) == [("changed", 1, 2)]


def test_events_that_a_full_disk_swallowed_are_counted(tmp_path):
    path = tmp_path / "e.jsonl"
    log = EventLog(path, "run")
    room = [5000]

    class Disk:
        """A file on a disk with so many bytes left."""

        def __init__(self, file):
            self._file = file

        def write(self, data):
            taken = self._file.write(data[: room[0]])
            room[0] -= taken
            if not taken:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return taken

        def __getattr__(self, name):
            return getattr(self._file, name)

    log._file = Disk(log._file)
    lost = 0
    for number in range(60):
        if number == 50:
            room[0] = 10**6
        try:
            log.write("placed", NO_JOB, TARGET, None, {"n": number})
        except OSError:
            lost += 1
    head = log.sync()
    log.close()
    lines = lines_of(path)
    (told,) = [one["detail"] for one in map(event_of, lines) if one and one["event"] == "resumed"]
    assert told["lost"] == lost > 20 and told["torn_bytes"] > 0
    report = verify(lines, [head])
    assert (report.problems, report.head) == ((), head)
    assert any(f"{lost} events could not be written" in note for note in report.notes)


def test_long_lines_are_read_from_their_start(tmp_path):
    path = tmp_path / "e.jsonl"
    log = EventLog(path, "run")
    log.write("placed", NO_JOB, TARGET, None, {"inputs": ["x" * 100] * 5000})
    log.close()
    write(path, 1)
    assert found(lines_of(path)) == []


def test_threads_share_one_chain(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    path = tmp_path / "e.jsonl"
    log = EventLog(path, "run")
    with ThreadPoolExecutor(8) as pool:
        for number in range(400):
            pool.submit(log.write, "placed", NO_JOB, TARGET, None, {"n": number})
    log.close()
    lines = lines_of(path)
    assert len(lines) == log.counts["placed"] == 400
    assert found(lines) == []
    times = [json.loads(line)["time"] for line in lines]
    assert times == sorted(times)


def test_each_event_is_one_write(tmp_path, monkeypatch):
    log = EventLog(tmp_path / "e.jsonl", "run")
    writes = []
    file = log._file

    class Counting:
        def write(self, data):
            writes.append(data)
            return file.write(data)

        def __getattr__(self, name):
            return getattr(file, name)

    log._file = Counting()
    for _ in range(3):
        log.write("placed", NO_JOB, TARGET, None, {})
    assert len(writes) == 3


def tampered(lines, random):
    """The lines with one to three things done to them."""
    lines = list(lines)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(lines))
        match random.randrange(5):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, random.choice(lines))
            case 2:
                byte = random.randrange(len(lines[at]))
                lines[at] = lines[at][:byte] + random.randbytes(1) + lines[at][byte + 1 :]
            case 3:
                other = random.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case 4:
                event = {**(event_of(lines[at]) or {}), "seq": random.randint(-1, 20)}
                event["detail"] = random.choice([None, [], 7, {"lost": 1}])
                lines[at] = json.dumps(event).encode() + b"\n"
    return b"".join(lines)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_done_to_a_log_is_found(tmp_path, seed):
    path = tmp_path / "e.jsonl"
    heads = [write(path, 4)]
    with path.open("ab") as file:
        file.write(b'{"seq": 5, "prev')
    heads.append(write(path, 4, "again"))
    whole = path.read_bytes()
    assert found(lines_of(path), heads) == []
    random = Random(seed)
    for _ in range(20):
        after = tampered(lines_of_bytes(whole), random)
        if after != whole:
            assert found(lines_of_bytes(after), heads), after


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("https://b.s3.amazonaws.com/k?X-Amz-Date=1&X-Amz-Signature=5ec7e7", "https://b.s3.amaz"),
        ("https://x/y?Expires=1&Signature=5ec7e7&Key-Pair-Id=K", "https://x/y?…"),
        ("https://x.blob.core.windows.net/c/b?sv=1&sig=5ec7e7", "/c/b?…"),
        ("clone of https://me:5ec7e7@host/repo failed", "https://…@host/repo failed"),
    ],
)
def test_signatures_and_passwords_in_urls_are_not_written(tmp_path, text, kept):
    log = EventLog(tmp_path / "e.jsonl", "run")
    log.write("failed", NO_JOB, TARGET, None, {"reason": text, "kind": "user"})
    log.close()
    (line,) = lines_of(tmp_path / "e.jsonl")
    assert b"5ec7e7" not in line
    event = json.loads(line)
    assert kept in event["detail"]["reason"] and event["detail"]["kind"] == "user"


@pytest.mark.parametrize(
    "text", ["s3://b/k?x=1", "image@sha256:0123", "me@host", "s3://b/a:b@c", "config=2?"]
)
def test_other_text_stays_as_it_is(text):
    assert without_secrets(text) == text
