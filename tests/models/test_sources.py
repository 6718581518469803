import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fake_hub import COMMIT, FakeHub
from warmray.config import ModelConfig
from warmray.errors import InputError, InterruptedRunError
from warmray.models import sources
from warmray.models.hub import Hub
from warmray.models.loading import load_model, load_tokenizer, resolve_model
from warmray.models.sources import fetch
from warmray.storage.home import model_cache

REPO = "org/tiny"
WEIGHTS = "model.safetensors"


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


def from_store(folder):
    return resolve_model(ModelConfig(source=folder.as_uri(), dtype="float32"))


def same_weights(model, other):
    return all((a == b).all() for a, b in zip(model.parameters(), other.parameters(), strict=True))


def as_a_fresh_node_sees_it(base):
    """Remove what was fetched, as on a node that has only been handed ``base``."""
    shutil.rmtree(base.folder)
    base.folder.with_name(f"{base.folder.name}.json").unlink()
    return pickle.loads(pickle.dumps(base))


def test_a_driver_fetches_everything_but_the_weights(hub, tiny):
    base = from_hub()
    assert base.folder == model_cache() / "org--tiny-0123456789ab"
    assert (base.revision, base.remote.source) == (COMMIT, REPO)
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
def test_many_at_once_fetch_each_file_once(hub):
    base = as_a_fresh_node_sees_it(from_hub())
    hub.requests.clear()
    hub.seconds_per_chunk = 0.01
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: fetch(base.folder, base.remote, with_weights=True), range(4)))
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


def test_a_fetch_that_failed_leaves_no_part_of_a_file_and_goes_on(hub, monkeypatch):
    base = from_hub()
    whole = Hub.fetch

    def breaks_off(self, name, folder):
        (folder / name).write_bytes(b"half")
        raise InputError("cable pulled")

    monkeypatch.setattr(Hub, "fetch", breaks_off)
    with pytest.raises(InputError, match="cable pulled"):
        load_model(base)
    assert not list(model_cache().rglob("*.safetensors"))
    monkeypatch.setattr(Hub, "fetch", whole)
    load_model(base)


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
    code = "import pickle, sys; from warmray.models.sources import fetch; fetch(*pickle.load(sys.stdin.buffer), True)"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, env=os.environ)
    process.stdin.write(pickle.dumps((base.folder, base.remote)))
    process.stdin.close()
    while not hub.requests[f"GET {WEIGHTS}"]:
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (base.folder / WEIGHTS).exists()
    hub.seconds_per_chunk = 0
    assert same_weights(load_model(base), load_model(tiny))
    assert {path.name for path in model_cache().iterdir()} == {
        "revisions", base.folder.name, f"{base.folder.name}.json", f"{base.folder.name}.lock"
    }  # fmt: skip


def test_a_full_disk_is_told_before_hours_of_fetching(hub, monkeypatch):
    base = from_hub()
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(InterruptedRunError, match="disk full while writing"):
        load_model(base)
    assert hub.requests[f"GET {WEIGHTS}"] == 0


def test_a_cache_that_cannot_be_written_serves_what_it_holds(hub, monkeypatch):
    base = from_hub(COMMIT)
    load_model(base)
    monkeypatch.setattr(sources, "make_folder", lambda _: pytest.fail("the cache was written to"))
    monkeypatch.setattr(sources, "only_one_at", lambda _: pytest.fail("the cache was locked"))
    load_model(from_hub(COMMIT))


def test_a_relative_cache_folder_is_refused(monkeypatch):
    monkeypatch.setenv("WARMRAY_MODEL_CACHE", "models")
    with pytest.raises(InputError, match="WARMRAY_MODEL_CACHE is the relative path 'models'"):
        model_cache()


@pytest.fixture
def store(tiny_folder, home):
    """A folder that is read through pyarrow as an object store is."""
    return shutil.copytree(tiny_folder, home.parent / "bucket" / "my model")


def test_a_stored_model_is_the_same_as_its_folder(store, tiny):
    base = from_store(store)
    assert base.folder.parent == model_cache()
    assert base.folder.name.startswith("my--20model-")
    assert base.digest == tiny.digest
    assert base.revision is None
    assert not list(base.folder.glob("*.safetensors"))
    base = as_a_fresh_node_sees_it(base)
    assert same_weights(load_model(base), load_model(tiny))


def test_a_stored_model_in_the_cache_is_not_read_again(store, monkeypatch):
    base = from_store(store)
    load_model(base)
    shutil.rmtree(store)
    assert from_store(store) == base
    load_model(base)


def test_weights_that_changed_in_the_store_since_the_run_began_are_refused(store):
    base = from_store(store)
    content = bytearray((store / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (store / WEIGHTS).write_bytes(content)
    for _ in range(2):
        with pytest.raises(InputError, match=r"is not the version that .* was begun with: delete that folder"):
            load_model(base)
    assert not (base.folder / WEIGHTS).exists()


def test_a_node_that_holds_another_version_of_an_address_is_told(store):
    old = from_store(store)
    (store / "config.json").write_text((store / "config.json").read_text() + " ")
    new = from_store(as_a_fresh_node_sees_it(old) and store)
    assert new.digest != old.digest
    with pytest.raises(InputError, match="is not the version that"):
        load_tokenizer(old)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_an_address_without_a_model_is_refused(store, name):
    (store / name).unlink()
    with pytest.raises(InputError, match=r"file:///.* holds no (config.json|weights)"):
        from_store(store)


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("file:///no/such/place", "there is no such folder"),
        ("file://relative/place", "cannot read file://relative/place"),
        ("ftp://host/model", "unknown scheme: use s3, gs, file or a folder"),
        ("s3://key:secret@bucket/model", "holds a password"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(home, address, hint):
    with pytest.raises(InputError, match=hint) as refusal:
        resolve_model(ModelConfig(source=address))
    assert "secret" not in str(refusal.value)


def test_a_stored_model_without_a_chat_template_is_refused(store):
    (store / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match=r"model.source file:///.* has no chat template"):
        from_store(store)
