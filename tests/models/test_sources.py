import os
import pickle
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.fake_hub import COMMIT, FakeHub
from warmray.config import ModelConfig
from warmray.errors import InputError, InterruptedRunError
from warmray.models import sources
from warmray.models.loading import licence_of, load_model, load_tokenizer, resolve_model
from warmray.storage.home import model_cache

REPO = "org/tiny"
WEIGHTS = "model.safetensors"
FETCH = "import pickle, sys; from warmray.models.sources import fetch; fetch(*pickle.load(sys.stdin.buffer), True)"


@pytest.fixture
def hub(tiny_folder, tmp_path, monkeypatch):
    """A hub with a copy of the tiny model, and a cache of the test's own."""
    with FakeHub(shutil.copytree(tiny_folder, tmp_path / "hub"), REPO) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("WARMRAY_MODEL_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


def from_hub(revision=None):
    return resolve_model(ModelConfig(source=REPO, revision=revision, dtype="float32"))


def same_weights(model, other):
    return all((a == b).all() for a, b in zip(model.parameters(), other.parameters(), strict=True))


def as_a_fresh_node_sees_it(base):
    """Remove what was fetched, as on a node that has only been handed ``base``."""
    shutil.rmtree(model_cache())
    return pickle.loads(pickle.dumps(base))


def fetch_in_another_process(base):
    process = subprocess.Popen([sys.executable, "-c", FETCH], stdin=subprocess.PIPE, env=os.environ)
    process.stdin.write(pickle.dumps((base.folder, base.remote)))
    process.stdin.close()
    return process


def test_a_driver_fetches_everything_but_the_weights(hub, tiny):
    base = from_hub()
    assert base.folder == model_cache() / "hub" / "models--org--tiny" / "snapshots" / COMMIT
    assert (base.name, base.revision) == (REPO, COMMIT)
    assert not list(base.folder.glob("*.safetensors"))
    assert hub.requests["GET config.json"] == 1
    assert hub.requests[f"GET {WEIGHTS}"] == 0
    assert base.digest != tiny.digest  # named by its commit, for which no weights are needed


def test_a_node_with_nothing_fetches_tokenizer_and_weights(hub, tiny, capsys):
    base = as_a_fresh_node_sees_it(from_hub())
    tokenizer = load_tokenizer(base)
    assert not list(base.folder.glob("*.safetensors"))
    assert tokenizer("hello").input_ids == load_tokenizer(tiny)("hello").input_ids
    assert same_weights(load_model(base), load_model(tiny))
    assert capsys.readouterr().out == f"[warmray] fetching {REPO} (0.0 GiB) into {base.folder}\n"


def test_what_is_in_the_cache_is_not_asked_for_again(hub):
    base = from_hub(COMMIT)
    load_model(base)
    hub.requests.clear()
    assert from_hub(COMMIT) == base
    load_tokenizer(base)
    load_model(base)
    assert not hub.requests


@pytest.mark.slow
def test_of_two_processes_at_once_one_fetches_and_the_other_waits(hub):
    base = as_a_fresh_node_sees_it(from_hub())
    hub.requests.clear()
    hub.seconds_per_chunk = 0.05
    processes = [fetch_in_another_process(base) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert hub.requests[f"GET {WEIGHTS}"] == 1
    assert hub.requests["GET config.json"] == 1


def test_a_branch_that_moved_is_another_model(hub):
    before = from_hub("main")
    hub.branches["main"] = "f" * 40
    assert from_hub("main").folder != before.folder


@pytest.mark.parametrize("revision", [None, "main"])
def test_a_branch_seen_before_is_remembered_for_when_the_hub_is_down(hub, revision):
    base = from_hub(revision)
    hub.down = True
    assert from_hub(revision) == base


def test_offline_mode_opens_no_connection(hub, monkeypatch):
    base = from_hub()
    load_model(base)
    hub.requests.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert from_hub() == base
    load_model(base)
    assert not hub.requests


def test_a_model_that_was_never_fetched_needs_the_hub(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"cannot fetch org/tiny .*OfflineModeIsEnabled.* connect this machine"):
        from_hub()


def test_a_hub_that_does_not_answer_is_named(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"cannot fetch org/tiny from http://127.0.0.1:9 \(ConnectError"):
        from_hub()


def test_an_unknown_hub_id_is_refused(hub):
    with pytest.raises(InputError, match=r"model\.source org/other is not at http"):
        resolve_model(ModelConfig(source="org/other"))


@pytest.mark.parametrize("revision", ["v9", "e" * 40])
def test_an_unknown_revision_is_refused(hub, revision):
    with pytest.raises(InputError, match=f"model.revision '{revision}' is not in org/tiny"):
        from_hub(revision)


def test_a_gated_model_says_how_to_get_it(hub):
    hub.gated = True
    with pytest.raises(InputError, match=f"is gated: accept the licence at {hub.address}/org/tiny and set HF_TOKEN"):
        from_hub()


def test_the_token_of_the_environment_is_sent_and_never_shown(hub, monkeypatch, capfd):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.gated = True
    with pytest.raises(InputError) as refusal:
        from_hub()
    assert hub.tokens == {"Bearer hf_secret"}
    assert "hf_secret" not in str(refusal.value) + "".join(capfd.readouterr())
    hub.gated = False
    load_model(from_hub())
    assert hub.cdn_tokens == {None}


def test_the_licence_on_a_hub_models_card_is_known(hub):
    (hub.folder / "README.md").write_text("---\nlicense: mit\n---\n")
    assert licence_of(ModelConfig(source=REPO), from_hub()) == "mit"


def test_a_revision_fits_a_hub_id_only(tiny_folder):
    for source in ("embedded", str(tiny_folder), tiny_folder.as_uri()):
        with pytest.raises(InputError, match=r"model\.revision 'v1' fits a hub id"):
            resolve_model(ModelConfig(source=source, revision="v1"))


def test_names_in_a_listing_cannot_leave_the_folder(hub, tmp_path):
    hub.extra_names = ["../evil.json", "/tmp/evil.json", "sub/evil.json", ".evil.json", "a\\evil.json", "\nevil.json"]
    base = from_hub()
    load_model(base)
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]
    assert not [request for request in hub.requests if "evil" in request]


def test_code_and_pickles_are_never_fetched(hub):
    names = ["modeling_tiny.py", "pytorch_model.bin", "optimizer.pt", "tokenizer.pkl"]
    for name in names:
        (hub.folder / name).write_text("boom")
    base = from_hub()
    load_model(base)
    assert not {path.name for path in base.folder.iterdir()} & set(names)


def test_a_model_with_pickled_weights_only_is_refused(hub):
    (hub.folder / WEIGHTS).rename(hub.folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="holds no weights that can be read"):
        from_hub()


def test_weights_in_a_second_layout_are_left_out(hub):
    shutil.copy(hub.folder / WEIGHTS, hub.folder / "consolidated.safetensors")
    assert [file.name for file in from_hub().remote.weights] == [WEIGHTS]


def test_weights_in_several_files_are_those_of_the_index(hub, tiny):
    (hub.folder / WEIGHTS).unlink()
    load_model(tiny).save_pretrained(hub.folder, max_shard_size="2MB")
    shards = sorted(path.name for path in hub.folder.glob("*.safetensors"))
    assert len(shards) > 1
    shutil.copy(hub.folder / shards[0], hub.folder / "consolidated.safetensors")
    base = from_hub()
    assert [file.name for file in base.remote.weights] == shards
    assert same_weights(load_model(base), load_model(tiny))


@pytest.mark.parametrize(
    ("index", "hint"),
    [
        ('{"weight_map": {"w": "../../x.safetensors"}}', "names ../../x.safetensors, which is not there"),
        ('{"weight_map": {"w": "config.json"}}', "names config.json, which is not there"),
        ('{"weight_map": ["x"]}', "its copy is damaged"),
        ("[", "its copy is damaged"),
    ],
)
def test_an_index_that_names_what_is_not_there_is_refused(hub, index, hint):
    (hub.folder / WEIGHTS).unlink()
    (hub.folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError, match=hint):
        from_hub()


def test_a_fetch_that_failed_goes_on_with_what_is_missing(hub, tiny):
    base = as_a_fresh_node_sees_it(from_hub())
    hub.cdn_down = True
    with pytest.raises(InputError, match=r"cannot fetch org/tiny .*503"):
        load_model(base)
    assert not list(model_cache().rglob("*.safetensors"))
    hub.cdn_down = False
    hub.requests.clear()
    assert same_weights(load_model(base), load_model(tiny))
    assert hub.requests["GET config.json"] == 0


def test_a_connection_that_breaks_goes_on_where_it_broke(hub, tiny, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 16)  # the file is smaller than one chunk
    base = from_hub()
    hub.cut_off_once = True
    assert same_weights(load_model(base), load_model(tiny))
    assert [int(wanted.removeprefix("bytes=").rstrip("-")) >= 1 << 16 for wanted in hub.ranges] == [True]


def test_a_file_that_was_damaged_in_the_cache_is_fetched_again(hub):
    base = from_hub()
    load_model(base)
    (base.folder / WEIGHTS).write_bytes(b"half")
    load_model(base)
    assert hub.requests[f"GET {WEIGHTS}"] == 2


@pytest.mark.slow
def test_a_killed_process_leaves_nothing_half_and_the_next_one_goes_on(hub, tiny):
    base = as_a_fresh_node_sees_it(from_hub())
    hub.seconds_per_chunk = 0.1
    process = fetch_in_another_process(base)
    while not hub.requests[f"GET {WEIGHTS}"]:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (base.folder / WEIGHTS).exists()
    partial_files = list(model_cache().rglob("*.incomplete"))
    assert partial_files
    for path in partial_files:
        os.utime(path, (0, 0))  # so old that nobody can be writing to it
    hub.seconds_per_chunk = 0
    assert same_weights(load_model(base), load_model(tiny))
    assert not list(model_cache().rglob("*.incomplete"))


def test_a_full_disk_is_told_before_hours_of_fetching(hub, monkeypatch):
    base = from_hub()
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(InterruptedRunError, match="disk full while writing"):
        load_model(base)
    assert hub.requests[f"GET {WEIGHTS}"] == 0


def test_a_cache_that_cannot_be_written_serves_what_it_holds(hub, monkeypatch):
    def state():
        return {path: path.lstat().st_mtime_ns for path in model_cache().rglob("*")}

    load_model(from_hub(COMMIT))
    before = state()
    monkeypatch.setattr(sources, "make_folder", lambda _: pytest.fail("the cache was written to"))
    monkeypatch.setattr(sources, "only_one_at", lambda _: pytest.fail("the cache was locked"))
    load_model(from_hub(COMMIT))
    assert state() == before


def test_a_relative_cache_folder_is_refused(monkeypatch):
    monkeypatch.setenv("WARMRAY_MODEL_CACHE", "models")
    with pytest.raises(InputError, match="WARMRAY_MODEL_CACHE is the relative path 'models'"):
        model_cache()


class FolderStore:
    """A folder whose address has a space in it."""

    def __init__(self, folder):
        self.folder = folder
        self.address = folder.as_uri()
        folder.mkdir(parents=True)

    def read(self, name):
        return (self.folder / name).read_bytes()

    def write(self, name, content):
        (self.folder / name).write_bytes(content)

    def delete(self, name):
        (self.folder / name).unlink()

    def close(self):
        shutil.rmtree(self.folder)


class S3Store:
    """A folder in a bucket of an S3 server of this machine."""

    def __init__(self, monkeypatch):
        import boto3
        from moto.server import ThreadedMotoServer

        self.server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self.server.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*self.server.get_host_and_port()))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-a-test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-a-test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        self.address = "s3://bucket/models/my model"
        self.bucket = boto3.resource("s3").create_bucket(Bucket="bucket")

    def _object(self, name):
        return self.bucket.Object(f"models/my model/{name}")

    def read(self, name):
        return self._object(name).get()["Body"].read()

    def write(self, name, content):
        self._object(name).put(Body=content)

    def delete(self, name):
        self._object(name).delete()

    def close(self):
        self.server.stop()


@pytest.fixture(params=["file", "s3"])
def store(request, tiny_folder, home, monkeypatch):
    """An object store with a copy of the tiny model, and a home of the test's own."""
    is_s3 = request.param == "s3"
    opened = S3Store(monkeypatch) if is_s3 else FolderStore(home.parent / "bucket" / "my model")
    for path in tiny_folder.iterdir():
        opened.write(path.name, path.read_bytes())
    yield opened
    if is_s3:
        opened.close()


def from_store(store):
    return resolve_model(ModelConfig(source=store.address, dtype="float32"))


def change_last_byte(store, name=WEIGHTS):
    content = bytearray(store.read(name))
    content[-1] = (content[-1] + 1) % 256
    store.write(name, bytes(content))


def test_a_stored_model_is_the_same_as_its_folder(store, tiny, capsys):
    base = from_store(store)
    assert base.folder.parent == model_cache() / "stores"
    assert base.folder.name.startswith("my--model-")
    assert base.digest == tiny.digest
    assert base.revision is None
    assert not list(base.folder.glob("*.safetensors"))
    base = as_a_fresh_node_sees_it(base)
    assert same_weights(load_model(base), load_model(tiny))
    assert capsys.readouterr().out == f"[warmray] fetching {store.address} (0.0 GiB) into {base.folder}\n"


def test_a_stored_model_in_the_cache_needs_no_store(store, capsys):
    base = from_store(store)
    load_model(base)
    capsys.readouterr()
    store.close()
    load_model(base)
    assert capsys.readouterr().out == ""
    assert from_store(store) == base
    assert f"using the version seen last, {base.folder}" in capsys.readouterr().out


def test_offline_mode_does_not_ask_the_store(store, monkeypatch, capsys):
    base = from_store(store)
    load_model(base)
    capsys.readouterr()
    monkeypatch.setattr(sources, "_list_store", lambda *_: pytest.fail("the store was asked"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert from_store(store) == base
    load_model(base)
    assert capsys.readouterr().out == ""


def test_a_model_that_changed_in_the_store_is_another_model(store):
    before = from_store(store)
    change_last_byte(store)
    after = from_store(store)
    assert after.folder != before.folder
    assert after.digest != before.digest
    assert from_store(store) == after


def test_weights_that_changed_in_the_store_since_the_run_began_are_refused(store):
    base = from_store(store)
    change_last_byte(store)
    for _ in range(2):
        with pytest.raises(InputError, match="has changed since this run began: run the command again"):
            load_model(base)
    assert not list(base.folder.glob("*.safetensors"))


@pytest.mark.parametrize("method", ["cat_file", "get_file"])
def test_weights_that_change_while_they_are_read_are_refused(store, method, monkeypatch):
    base = from_store(store) if method == "get_file" else None
    filesystem, _ = sources._open_store(store.address)
    read = getattr(type(filesystem), method)

    def read_and_change(self, *arguments, **settings):
        content = read(self, *arguments, **settings)
        change_last_byte(store)
        return content

    monkeypatch.setattr(type(filesystem), method, read_and_change)
    with pytest.raises(InputError, match="has changed since this run began"):
        load_model(base or from_store(store))
    assert not list(model_cache().rglob("*.safetensors"))


def test_a_node_that_holds_another_version_of_an_address_is_told(store):
    old = from_store(store)
    store.write("config.json", store.read("config.json") + b" ")
    new = from_store(store)
    assert new.digest != old.digest
    shutil.rmtree(old.folder)
    with pytest.raises(InputError, match="has changed since this run began"):
        load_tokenizer(old)


def test_a_copy_that_was_killed_is_made_again(store, tiny):
    base = from_store(store)
    (base.folder / f"{WEIGHTS}.partial").write_bytes(b"x" * (1 << 24))
    assert same_weights(load_model(base), load_model(tiny))
    assert not list(base.folder.glob("*.partial"))


def test_a_disk_that_fills_up_while_copying_is_told(store, monkeypatch):
    base = from_store(store)
    filesystem, _ = sources._open_store(store.address)

    def fills_up(self, *arguments, **settings):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(type(filesystem), "get_file", fills_up)
    with pytest.raises(InterruptedRunError, match="disk full while writing"):
        load_model(base)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_an_address_without_a_model_is_refused(store, name):
    store.delete(name)
    with pytest.raises(InputError, match=r"(file|s3)://.* holds no (config.json|weights)"):
        from_store(store)


def test_a_stored_model_without_a_chat_template_is_refused(store):
    store.delete("chat_template.jinja")
    with pytest.raises(InputError, match=r"model.source (file|s3)://.* has no chat template"):
        from_store(store)


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_names_in_a_bucket_cannot_leave_the_folder(store, tmp_path):
    for name in ["../evil.json", "..\\evil.json", "/evil.json", "sub/evil.json", ".evil.json", "evil.py", "evil.bin"]:
        store.write(name, b"boom")
    load_model(from_store(store))
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_a_bucket_that_is_not_there_or_does_not_answer_is_named_without_its_keys(store, monkeypatch, capfd):
    with pytest.raises(InputError, match=r"cannot read s3://nowhere/model \(there is no such folder\)"):
        resolve_model(ModelConfig(source="s3://nowhere/model"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"cannot read s3://bucket/models/my model \(.*: check the address") as refusal:
        from_store(store)
    assert "of-a-test" not in str(refusal.value) + "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("file:///no/such/place", "there is no such folder"),
        ("file://relative/place", "cannot read file://relative/place"),
        ("ftp://host/model", "unknown scheme: use s3, gs, file or a folder"),
        ("s3://key:secret@bucket/model", "a key or options, which would be recorded"),
        ("s3://bucket/model?secret_key=secret", "a key or options, which would be recorded"),
        ("ftp://key:secret@host/model", "a key or options, which would be recorded"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(home, address, hint):
    with pytest.raises(InputError, match=hint) as refusal:
        resolve_model(ModelConfig(source=address))
    assert "secret" not in str(refusal.value).replace("AWS_SECRET_ACCESS_KEY", "")


def test_a_store_whose_library_is_not_installed_is_told_how_to_get_it(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(InputError, match=r"gs://bucket/model needs gcsfs: .*pip install 'warmray\[gs\]'"):
        resolve_model(ModelConfig(source="gs://bucket/model"))
