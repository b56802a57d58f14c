"""Where the jobs come from: the arguments at first, and what they were when the task is tried again."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Sequence

import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_veo.batch import inputs
from airflow_provider_veo.batch.inputs import BatchInput
from airflow_provider_veo.connection import VeoConnection
from airflow_provider_veo.protocol import VeoError, VeoJournalError, VeoJournalRecordError, VeoValidationError
from tests.unit.batch.conftest import LOG, job

DEFAULTS = {"model": "veo3-fast", "aspect_ratio": "16:9", "enhance_prompt": True, "enable_upsample": False}
SETTINGS = VeoConnection("veo_default", "https://relay.example.com", "sk-key")


class Pushed(Sequence):
    """What a mapped task has pushed: no list, and no text that says what is in it."""

    def __init__(self, *jobs):
        self._jobs = jobs

    def __len__(self):
        return len(self._jobs)

    def __getitem__(self, index):
        return self._jobs[index]


@pytest.fixture
def read(journal_of_batch):
    """Read the jobs, and keep them, as a try does."""

    def of(jobs=None, manifest=None, journal=None, **arguments):
        journal = journal or journal_of_batch()
        made = BatchInput(jobs, manifest, **{"defaults": DEFAULTS, **arguments}).read(journal, SETTINGS, LOG)
        journal.begin()
        return inputs.settled(journal, made).jobs

    return of


def prompts(jobs):
    return [job.body["prompt"] for job in jobs]


def test_a_list_becomes_jobs(read):
    made = read(["a cow", {"prompt": "a dog", "key": "dog", "model": "veo3"}])
    assert prompts(made) == ["a cow", "a dog"]
    assert (made[1].key, made[1].body["model"], made[1].named) == ("dog", "veo3", True)


@pytest.mark.parametrize("place", ["file", "memory", "s3"])
def test_a_manifest_becomes_jobs(read, folder):
    path = folder.parent / "prompts.jsonl"
    path.fs.makedirs(path.parent.path, exist_ok=True)
    path.fs.pipe_file(path.path, '{"prompt": "牛", "key": "cow"}\n{"prompt": "a dog"}\n'.encode())
    made = read(manifest=str(path))
    assert prompts(made) == ["牛", "a dog"]
    assert made[1].source == "prompts.jsonl, line 2"


def test_the_next_try_has_the_same_jobs_though_their_prompts_would_be_rendered_otherwise(read, tmp_path):
    (tmp_path / "prompts.csv").write_text("prompt\na cow on {{ now }}\na dog\n")
    rendered = (str(number) for number in itertools.count(1))
    render = {"render": lambda text: text.replace("{{ now }}", next(rendered))}
    first = read(manifest=f"file://{tmp_path}/prompts.csv", **render)
    assert prompts(first) == ["a cow on 1", "a dog"]
    assert read(manifest=f"file://{tmp_path}/prompts.csv", **render) == first
    assert next(rendered) == "2"


@pytest.mark.parametrize("changed", [{"jobs": ["a cow", "a horse"]}, {"defaults": {**DEFAULTS, "model": "veo3"}}])
def test_changed_input_is_read_again(read, changed, caplog):
    read(["a cow"])
    made = read(**{"jobs": ["a cow"], **changed})
    assert made[0].body["model"] == changed.get("defaults", DEFAULTS)["model"]
    assert len(made) == len(changed.get("jobs", "1"))
    assert "The jobs differ from the previous try" in caplog.text


def test_changed_manifest_is_read_again(read, tmp_path):
    uri = f"file://{tmp_path}/prompts.jsonl"
    for prompt in "a cow", "a dog":
        (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": prompt}))
        assert prompts(read(manifest=uri)) == [prompt]


@pytest.mark.parametrize("before", [None, str.upper])
def test_manifest_is_read_again_when_rendering_is_switched(read, tmp_path, before):
    (tmp_path / "prompts.csv").write_text("prompt\na {{ cow }}\n")
    uri = f"file://{tmp_path}/prompts.csv"
    assert prompts(read(manifest=uri, render=before)) == ["A {{ COW }}" if before else "a {{ cow }}"]
    after = None if before else str.upper
    assert prompts(read(manifest=uri, render=after)) == ["A {{ COW }}" if after else "a {{ cow }}"]


def test_prompts_that_look_like_templates_are_sent_as_they_are_with_one_warning(read, tmp_path, caplog):
    (tmp_path / "prompts.csv").write_text("prompt\na {{ conn.x.password }}\n{% if x %}b{% endif %}\n{'shot': 1}\n")
    assert prompts(read(manifest=f"file://{tmp_path}/prompts.csv"))[0] == "a {{ conn.x.password }}"
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [
        "2 of 3 prompts in the manifest look like templates. They are sent unrendered. Set render_prompts=True to "
        "render them"
    ]


def recorded_by_an_earlier_version(journal_of_batch, content, rendered_prompt, *, render_prompts=True, jobs=None):
    """Record what the version did that rendered with the whole context, by default."""
    arguments = json.dumps([jobs, DEFAULTS, render_prompts], default=str).encode()
    journal = journal_of_batch()
    journal.begin()
    made = [job("cow", rendered_prompt)]
    digest = hashlib.sha256(arguments + b"\0" + content).hexdigest()
    journal.save(inputs.JOBS, [{"input": digest}, *(each.to_dict() for each in made)], 1 + len(made))
    return made


@pytest.mark.parametrize("render", [None, str.upper])
def test_a_batch_that_an_earlier_version_rendered_is_not_read_again(read, journal_of_batch, tmp_path, render):
    content = b"prompt,key\na cow on {{ dag_run.logical_date | ds }},cow\n"
    (tmp_path / "prompts.csv").write_bytes(content)
    made = recorded_by_an_earlier_version(journal_of_batch, content, "a cow on 2026-11-22")
    assert read(manifest=f"file://{tmp_path}/prompts.csv", render=render) == made


def test_a_batch_that_an_earlier_version_did_not_render_is_read_again_only_if_it_is_to_be_rendered(
    read, journal_of_batch, tmp_path
):
    content = b"prompt,key\na {{ cow }},cow\n"
    (tmp_path / "prompts.csv").write_bytes(content)
    made = recorded_by_an_earlier_version(journal_of_batch, content, "a {{ cow }}", render_prompts=False)
    uri = f"file://{tmp_path}/prompts.csv"
    assert read(manifest=uri) == made
    assert prompts(read(manifest=uri, render=str.upper)) == ["A {{ COW }}"]


def test_a_list_that_an_earlier_version_recorded_is_the_same_list(read, journal_of_batch):
    made = recorded_by_an_earlier_version(journal_of_batch, b"", "a cow", jobs=["a cow"])
    assert read(["a cow"]) == made


def test_a_changed_manifest_that_an_earlier_version_rendered_is_not_sent_unrendered(read, journal_of_batch, tmp_path):
    made = recorded_by_an_earlier_version(
        journal_of_batch, b"prompt,key\na cow on {{ ds }},cow\n", "a cow on 2026-11-22"
    )
    (tmp_path / "prompts.csv").write_text("prompt,key\na cow on {{ ds }},cow\na dog,dog\n")
    uri = f"file://{tmp_path}/prompts.csv"
    with pytest.raises(VeoValidationError, match="1 of 2 prompts in the manifest look like templates") as caught:
        read(manifest=uri)
    assert "Set render_prompts=True" in str(caught.value)
    again = read(manifest=uri, render=lambda prompt: prompt.replace("{{ ds }}", "2026-11-22"))
    assert again[0].body == made[0].body


@pytest.mark.parametrize("size", [inputs.MAX_MANIFEST_BYTES + 1, 2**40])
def test_a_manifest_that_is_too_large_is_refused_unread(read, tmp_path, size):
    with (tmp_path / "prompts.csv").open("wb") as file:
        file.truncate(size)
    with pytest.raises(VeoValidationError, match=rf"expected at most 268,435,456 bytes, .* has {size:,} or more"):
        read(manifest=f"file://{tmp_path}/prompts.csv")


def test_a_manifest_of_unknown_size_is_not_read_beyond_the_limit(read, tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "MAX_MANIFEST_BYTES", 100)
    monkeypatch.setattr(LocalFileSystem, "info", lambda *_, **__: {"type": "file", "size": None})
    (tmp_path / "prompts.csv").write_bytes(b"prompt\n" + b"a" * 1_000)
    with pytest.raises(VeoValidationError, match=r"expected at most 100 bytes, .* has 101 or more"):
        read(manifest=f"file://{tmp_path}/prompts.csv")


def test_fifo_is_not_a_manifest(read, tmp_path):
    os.mkfifo(tmp_path / "prompts.csv")
    os.symlink(tmp_path / "prompts.csv", tmp_path / "link.csv")
    for name in ("prompts.csv", "link.csv"):
        with pytest.raises(VeoValidationError, match="is not a regular file"):
            read(manifest=f"file://{tmp_path}/{name}")


def test_what_a_mapped_task_pushed_is_the_same_each_time(read, caplog):
    first = read(Pushed("a cow", "a dog"))
    caplog.clear()
    caplog.set_level("INFO")
    assert read(Pushed("a cow", "a dog")) == first
    assert "2 jobs, the same as in the previous try" in caplog.text


def test_resumed_task_has_the_same_jobs(read, journal_of_batch):
    made = read(["a cow", {"prompt": "牛", "key": "cow", "existing_veo_task_id": "veo3:9"}])
    assert inputs.recorded(journal_of_batch()).jobs == made


def test_task_cannot_resume_without_its_jobs(journal_of_batch, folder):
    with pytest.raises(VeoValidationError, match="was removed or emptied") as caught:
        inputs.recorded(journal_of_batch())
    assert str(folder) in str(caught.value)


def test_jobs_of_another_task_instance_are_refused(read, journal_of_batch):
    read(["a cow"])
    with pytest.raises(VeoJournalRecordError, match="belongs to another task instance"):
        read(["a cow"], journal=journal_of_batch(run_id="manual__1"))


def test_jobs_that_were_cut_off_are_refused(read, folder, files):
    read(["a cow", "a dog"])
    (name,) = [name for name in files() if name.startswith("jobs-")]
    path = folder / name
    path.fs.pipe_file(path.path, b"".join(path.fs.cat_file(path.path).splitlines(True)[:-1]))
    with pytest.raises(VeoJournalRecordError, match="2 of 3 lines"):
        read(["a cow", "a dog"])


@pytest.mark.parametrize("place", ["memory"])
def test_unreadable_jobs_are_not_created_again(read, journal_of_batch, storage):
    read(["a cow"])
    storage.fails = {"read"}
    with pytest.raises(VeoJournalError, match="can't read"):
        read(["a cow"])
    with pytest.raises(VeoJournalError, match="can't read"):
        inputs.recorded(journal_of_batch())


def test_missing_manifest_is_a_final_error(read, tmp_path):
    with pytest.raises(VeoValidationError, match=r"(?s)Nothing was sent.*manifest: the file 'file://") as caught:
        read(manifest=f"file://{tmp_path}/none.csv")
    assert caught.value.final


def test_a_manifest_that_can_not_be_read_now_may_be_read_later(read, tmp_path):
    with pytest.raises(VeoError, match="could not be read") as caught:
        read(manifest=f"file://{tmp_path}")
    assert not caught.value.final
    with pytest.raises(VeoError, match="could not be read"):
        read(manifest="nowhere://bucket/prompts.csv")


def claimed(journal_of_batch):
    journal = journal_of_batch()
    journal.begin()
    return journal


def as_read(key, digest):
    return inputs.Jobs([job(key)], {"input": digest})


def test_what_another_try_has_recorded_meanwhile_goes_before_what_was_read_earlier(journal_of_batch):
    """A process that is frozen between reading and claiming has rendered its prompts to something else."""
    inputs.settled(claimed(journal_of_batch), as_read("rendered by the newer one", "same"))
    thawed = inputs.settled(claimed(journal_of_batch), as_read("rendered long ago", "same"))
    assert [each.key for each in thawed.jobs] == ["rendered by the newer one"]


def test_an_older_process_does_not_replace_what_a_newer_one_has_recorded(journal_of_batch):
    older = claimed(journal_of_batch)
    newer = claimed(journal_of_batch)
    inputs.settled(newer, as_read("of the newer one", "rendered again"))
    inputs.settled(older, as_read("of the older one", "rendered at first"))
    assert [each.key for each in inputs.recorded(claimed(journal_of_batch)).jobs] == ["of the newer one"]
