"""How the worker comes by credentials for S3, and what it says where it has none. S3 is a stand-in."""

import http.server
import os
import subprocess
import sys
import threading

import pytest

from snakemake_executor_takeda.worker import credentials, objects
from snakemake_executor_takeda.worker.exits import UNREACHABLE

METADATA = ("AWS_METADATA_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT")


@pytest.fixture
def s3(monkeypatch, tmp_path):
    """A server for S3 and the instance's metadata; no other way to credentials is left."""
    told = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            is_s3 = "latest" not in self.path
            told.append(self.headers.get("Authorization", "") if is_s3 else self.path)
            body = b"hello" if is_s3 else b"no role"
            self.send_response(200 if is_s3 else 403)
            self.send_header("Content-Length", str(len(body)))
            for name in ("ETag", "Last-Modified") if is_s3 else ():
                value = {"ETag": '"1"', "Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}[name]
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = answer

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    url = f"http://127.0.0.1:{server.server_port}"
    for name in METADATA:
        monkeypatch.setenv(name, url)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    credentials.of_files.cache_clear()
    yield url, told
    credentials.of_files.cache_clear()
    server.shutdown()
    server.server_close()


def write_keys(folder, url=None):
    folder.mkdir(exist_ok=True)
    keys = "aws_access_key_id = FILEKEY\naws_secret_access_key = x\n"
    (folder / "credentials").write_text(f"[default]\n{keys}[lab]\n{keys.replace('FILE', 'LAB')}")
    place = f"endpoint_url = {url}\n" if url else ""
    sections = ("default", "profile lab")
    (folder / "config").write_text(
        "".join(f"[{name}]\nregion = eu-north-1\n{place}" for name in sections)
    )
    return folder


@pytest.mark.parametrize("way", ["home", "files", "profile"])
def test_credentials_of_files_are_used(s3, tmp_path, monkeypatch, way):
    url, told = s3
    folder = write_keys(tmp_path / (".aws" if way != "files" else "keys"), url)
    if way == "files":
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    if way == "profile":
        monkeypatch.setenv("AWS_PROFILE", "lab")
    assert objects.read("s3://bucket/key") == b"hello"
    key = "LABKEY" if way == "profile" else "FILEKEY"
    assert f"Credential={key}/" in told[0] and "/eu-north-1/s3/" in told[0]


def test_what_the_environment_says_comes_first(s3, tmp_path, monkeypatch):
    url, told = s3
    write_keys(tmp_path / ".aws", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "MINE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert objects.read("s3://bucket/key") == b"hello"
    assert "Credential=MINE/" in told[0] and "/eu-west-1/s3/" in told[0]


def test_boto3_is_not_imported_where_no_file_is_there(s3, monkeypatch):
    url, _ = s3
    code = (
        "import sys; from snakemake_executor_takeda.worker import objects; "
        "objects.read('s3://b/k'); sys.exit('botocore' in sys.modules)"
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "MINE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ({}, "no AWS credentials on this node"),
        ({"AWS_PROFILE": "nosuch"}, "The config profile (nosuch) could not be found"),
        ({"AWS_CONFIG_FILE": "{tmp}/sso"}, "Token for login does not exist"),
    ],
)
def test_a_worker_without_credentials_says_so_in_one_line(s3, tmp_path, setting, why):
    url, _ = s3
    (tmp_path / "sso").write_text(
        "[default]\nsso_session = login\nsso_account_id = 1\nsso_role_name = r\n"
        "[sso-session login]\nsso_start_url = https://localhost\nsso_region = eu-west-1\n"
    )
    words = ["--manifest", "s3://bucket/m/s1", "--exit-records", "s3://bucket/exits"]
    given = {name: value.format(tmp=tmp_path) for name, value in setting.items()}
    done = subprocess.run(
        [sys.executable, "-m", "snakemake_executor_takeda.worker", *words],
        env={**os.environ, "AWS_ENDPOINT_URL": url, **given},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == UNREACHABLE, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("takeda-worker: cannot read s3://bucket/m/s1: ")
    assert why in line


def test_a_manifest_that_the_node_does_not_see_is_told_in_one_line(tmp_path):
    words = ["--manifest", str(tmp_path / "none")]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake_executor_takeda.worker", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == UNREACHABLE
    line = f"takeda-worker: cannot read {tmp_path / 'none'}: No such file or directory\n"
    assert done.stderr == line
