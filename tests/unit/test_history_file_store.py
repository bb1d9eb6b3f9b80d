"""The store in a directory: atomic, private, and shared between processes."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest
from history_faults import keyed_point, name_of, new_log

from engine_ops.history.driving import run_sync
from engine_ops.history.file_store import FileStore
from engine_ops.history.memory_store import MemoryStore
from engine_ops.history.store import BlobStore, ConflictError, StoreRefusedError

LABELS = {"engineops.dev/history": "segment"}


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    return MemoryStore() if request.param == "memory" else FileStore(tmp_path / "history")


def test_contract(store: BlobStore) -> None:
    assert run_sync(store.list()) == []
    assert run_sync(store.read("a")) is None
    run_sync(store.delete("a"))
    first = run_sync(store.create("a", b"1", LABELS))
    with pytest.raises(ConflictError):
        run_sync(store.create("a", b"2", LABELS))
    second = run_sync(store.replace("a", b"2", LABELS, first))
    assert second != first
    with pytest.raises(ConflictError):
        run_sync(store.replace("a", b"3", LABELS, first))
    with pytest.raises(ConflictError):
        run_sync(store.delete("a", first))
    with pytest.raises(ConflictError):
        run_sync(store.replace("b", b"3", LABELS, first))
    run_sync(store.create("0", b"", {}, sealed=True))
    whole = run_sync(store.list())
    assert [(blob.name, blob.content, dict(blob.labels), blob.sealed) for blob in whole] == [
        ("0", b"", {}, True),
        ("a", b"2", LABELS, False),
    ]
    short = run_sync(store.list(contents=False))
    assert [(blob.name, blob.version, blob.content) for blob in short] == [
        (blob.name, blob.version, None) for blob in whole
    ]
    run_sync(store.delete("a", second))
    run_sync(store.delete("0"))
    assert run_sync(store.list()) == []


def test_only_the_owner_reads(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "deep" / "history")
    run_sync(store.create("a", b"1", LABELS))
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700
    for path in store.directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("size", [0, 5, 11, 13, 40])
def test_a_truncated_file_is_set_aside_and_the_rest_loads(tmp_path: Path, size: int) -> None:
    store = FileStore(tmp_path)
    log = new_log(store)
    run_sync(log.load())
    for index in range(10):
        log.record(keyed_point(f"p-{index}"), log.stamp())
    run_sync(log.flush())
    path = tmp_path / "engine-ops-history-00000001.blob"
    path.write_bytes(path.read_bytes()[:size])
    again = new_log(store)
    run_sync(again.load())
    assert [one.name for one in again.health.damaged] == ["engine-ops-history-00000001"]
    assert [name_of(point) for point in again.collector.select().points()] == [f"p-{index}" for index in range(4, 10)]
    assert not path.exists()


def test_what_a_killed_process_left_behind_is_removed(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    (tmp_path / ".a.0123.tmp").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("of somebody else")
    run_sync(store.create("b", b"1", LABELS))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "b.blob", "notes.txt"]
    assert [blob.name for blob in run_sync(store.list())] == ["b"]


def test_names_cannot_leave_the_directory(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no name of a blob"):
        run_sync(FileStore(tmp_path).create("../a", b"", {}))


def test_a_directory_that_cannot_be_written_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreRefusedError, match="file"):
        run_sync(FileStore(tmp_path / "file" / "history").create("a", b"", {}))


def test_a_full_disk_is_a_refusal_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path)
    version = run_sync(store.create("a", b"1", LABELS))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreRefusedError, match="No space"):
            run_sync(store.replace("a", b"2", LABELS, version))
    blob = run_sync(store.read("a"))
    assert blob is not None
    assert (blob.content, blob.version) == (b"1", version)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "a.blob"]


def write_points(directory: str, prefix: str) -> None:
    log = new_log(FileStore(directory), segment_points=7)
    run_sync(log.load())
    for index in range(40):
        log.record(keyed_point(f"{prefix}-{index}"), log.stamp())
        if index % 3 == 0:
            flush(log)
    flush(log)


def flush(log: object) -> None:
    while True:
        try:
            run_sync(log.flush())  # type: ignore[attr-defined]
            return
        except ConflictError:
            continue


def test_two_processes(tmp_path: Path) -> None:
    """Both write to one directory at once: each point is there once."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=write_points, args=(str(tmp_path), prefix)) for prefix in ("one", "other")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    log = new_log(FileStore(tmp_path))
    run_sync(log.load())
    expected = sorted(f"{prefix}-{index}" for prefix in ("one", "other") for index in range(40))
    assert sorted(name_of(point) for point in log.collector.select().points()) == expected
