"""What only Firestore can get wrong about an owner's pictures: what is kept, and who comes in between."""

from contextlib import closing
from dataclasses import replace

import pytest

from shared.adapters.gcp.indexes import FIELD_SETTINGS, USAGE
from shared.admission import AdmissionLimits
from shared.errors import TooManyJobs
from shared.ledger import entries_of
from tests.jobs import picture_job


def test_an_entry_is_a_document_people_can_read_and_nothing_removes_it(firestore_jobs, noon):
    job = picture_job(idempotency_key="once")
    returned = replace(job, charge=replace(job.charge, given_back_at=noon))
    firestore_jobs.admit(job)
    firestore_jobs.update(job.id, lambda _: returned)
    firestore_jobs.delete(job.id)
    found = {one.id: one.to_dict() for one in firestore_jobs._client.collection(USAGE).get()}
    assert found == {entry.id: vars(entry) for entry in entries_of(returned)}
    assert set(found) == {"job_1-debit", "job_1-refund"}
    assert USAGE not in {setting.collection_group for setting in FIELD_SETTINGS}


@pytest.mark.parametrize(
    "limit",
    [
        "in_flight_per_owner",
        "submissions_per_minute_per_owner",
        "images_in_flight_per_owner",
        "images_per_month_per_owner",
    ],
)
def test_who_comes_in_between_the_counting_and_the_commit_is_counted_too(
    firestore_jobs, open_firestore_jobs, monkeypatch, limit
):
    one = AdmissionLimits(**{limit: 1})
    api = firestore_jobs._client._firestore_api
    commit = api.commit
    with closing(open_firestore_jobs()) as other:

        def commit_too_late(**arguments):
            monkeypatch.setattr(api, "commit", commit)
            assert other.admit(picture_job(id="job_2"), one).created
            return commit(**arguments)

        monkeypatch.setattr(api, "commit", commit_too_late)
        with pytest.raises(TooManyJobs):
            firestore_jobs.admit(picture_job(id="job_1"), one)
    assert firestore_jobs.used("ada", "2026-01") == 1
