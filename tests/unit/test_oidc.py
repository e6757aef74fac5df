"""Who may call: tokens signed here, and their certificates served on the loopback."""

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.auth import jwt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.adapters.gcp.oidc import CallerCheck, Certificates
from shared.errors import CertificatesUnavailable, UntrustedCaller
from tests.unit.google_tokens import ACCOUNT, AUDIENCE, Google


@pytest.fixture(scope="module")
def google():
    with Google() as google:
        yield google


@pytest.fixture
def caller_check(google):
    google.requests = 0
    google.headers = {}
    google.status = 200
    return CallerCheck(
        audience=AUDIENCE, service_account=ACCOUNT, certificates_url=google.certificates_url
    )


def refused(caller_check, authorization) -> str:
    with pytest.raises(UntrustedCaller) as caught:
        caller_check.check(authorization)
    return caught.value.reason


def test_the_configured_account_is_let_in(caller_check, google):
    caller_check.check(f"Bearer {google.token()}")
    caller_check.check(f"bearer {google.token(iss='accounts.google.com')}")


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": "https://another.example.com"}, "not a valid token"),
        ({"aud": None}, "not a valid token"),
        ({"aud": ""}, "not a valid token"),
        ({"email": "another@demo.iam.gserviceaccount.com"}, "another account"),
        ({"email": ACCOUNT.upper()}, "another account"),
        ({"email": None}, "another account"),
        ({"email": [ACCOUNT]}, "another account"),
        ({"email_verified": False}, "not verified"),
        ({"email_verified": "true"}, "not verified"),
        ({"email_verified": None}, "not verified"),
        ({"iss": "https://accounts.example.com"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        pytest.param({"exp": int(time.time()) - 60}, "not a valid token", id="expired"),
        ({"exp": None}, "not a valid token"),
        # Much later, for the tests before it may take a while.
        pytest.param({"iat": int(time.time()) + 86_400}, "not a valid token", id="of the future"),
        ({"iat": "now"}, "not a valid token"),
    ],
    ids=str,
)
def test_a_token_with_a_wrong_claim_is_refused(caller_check, google, claims, reason):
    assert reason in refused(caller_check, f"Bearer {google.token(**claims)}")


def test_a_token_that_is_signed_by_another_key_is_refused(caller_check, google):
    forged = google.token(signer=google.other_signer)
    assert "not a valid token" in refused(caller_check, f"Bearer {forged}")


def test_a_token_of_a_key_google_does_not_know_is_refused(caller_check, google):
    forged = jwt.encode(google.other_signer, google.claims(), key_id="unknown").decode()
    assert "not a valid token" in refused(caller_check, f"Bearer {forged}")


def test_a_token_without_a_key_id_is_refused(caller_check, google):
    token = jwt.encode(google.signer_without_id, google.claims()).decode()
    assert refused(caller_check, f"Bearer {token}") == "no key id"


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "ES256", "", None, []])
def test_an_unsigned_token_is_refused(caller_check, google, algorithm):
    def part(content):
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    header = {"alg": algorithm, "typ": "JWT", "kid": google.key_id}
    _, _, signature = google.token().split(".")
    for end in ("", signature):
        token = f"{part(header)}.{part(google.claims())}.{end}"
        assert "not a valid token" in refused(caller_check, f"Bearer {token}")


def test_a_token_changed_on_the_way_is_refused(caller_check, google):
    header, claims, signature = google.token().split(".")
    other = google.token(email="another@demo.iam.gserviceaccount.com").split(".")[1]
    assert "not a valid token" in refused(caller_check, f"Bearer {header}.{other}.{signature}")
    assert "not a valid token" in refused(caller_check, f"Bearer {header}.{claims}.AAAA")


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic YTpi", "x" * 9999])
def test_no_token_is_refused(caller_check, authorization):
    assert refused(caller_check, authorization) == "no bearer token"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text() | st.lists(st.text(), min_size=3, max_size=3).map(".".join))
def test_garbage_is_refused(caller_check, garbage):
    refused(caller_check, f"Bearer {garbage}")


def test_a_check_that_checks_nothing_is_not_made():
    for audience, account in (("", ACCOUNT), (AUDIENCE, "")):
        with pytest.raises(ValueError, match="name the audience"):
            CallerCheck(audience=audience, service_account=account)


# --- behind Cloud Run's own check, which takes signatures away


def without_signature(token: str) -> str:
    header, claims, _ = token.split(".")
    return f"Bearer {header}.{claims}.SIGNATURE_REMOVED_BY_GOOGLE"


@pytest.fixture
def behind_cloud_run(google):
    return CallerCheck(
        audience=AUDIENCE,
        service_account=ACCOUNT,
        certificates_url=google.certificates_url,
        checked_by_cloud_run=True,
    )


def test_a_signature_that_cloud_run_has_checked_is_not_missed(behind_cloud_run, google):
    behind_cloud_run.check(without_signature(google.token()))


def test_where_cloud_run_checks_nobody_it_is_missed(caller_check, google):
    assert "not a valid token" in refused(caller_check, without_signature(google.token()))


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": "https://another.example.com"}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"email": "another@demo.iam.gserviceaccount.com"}, "another account"),
        ({"email_verified": False}, "not verified"),
        ({"iss": "https://accounts.example.com"}, "another issuer"),
        pytest.param({"exp": int(time.time()) - 60}, "expired", id="expired"),
        ({"exp": None}, "expired"),
        ({"exp": "9999999999"}, "expired"),
    ],
    ids=str,
)
def test_whose_token_it_is_still_counts(behind_cloud_run, google, claims, reason):
    assert reason in refused(behind_cloud_run, without_signature(google.token(**claims)))


def test_a_signature_that_is_there_must_be_googles(behind_cloud_run, google):
    behind_cloud_run.check(f"Bearer {google.token()}")
    forged = google.token(signer=google.other_signer)
    assert "not a valid token" in refused(behind_cloud_run, f"Bearer {forged}")


def test_garbage_without_a_signature_is_refused(behind_cloud_run):
    for garbage in ("", "x", "x.y", "e30.e30", "e30.W10"):
        refused(behind_cloud_run, f"Bearer {garbage}.SIGNATURE_REMOVED_BY_GOOGLE")


# --- certificates


def test_certificates_are_fetched_once_for_many_tokens(caller_check, google):
    with ThreadPoolExecutor(8) as threads:
        tokens = [google.token() for _ in range(20)]
        list(threads.map(lambda token: caller_check.check(f"Bearer {token}"), tokens))
    assert google.requests == 1


def test_nobody_can_have_them_fetched_again_and_again(caller_check, google):
    caller_check.check(f"Bearer {google.token()}")
    for number in range(20):
        forged = jwt.encode(google.other_signer, google.claims(), key_id=f"k{number}").decode()
        refused(caller_check, f"Bearer {forged}")
    assert google.requests == 1


def test_they_are_fetched_again_when_google_says_so_and_for_a_new_key(google):
    google.requests, google.headers = 0, {"Cache-Control": "public, max-age=300, must-revalidate"}
    now = 1000.0
    certificates = Certificates(google.certificates_url, clock=lambda: now)
    for moment, key_id, fetched in (
        (1000.0, google.key_id, 1),
        (1299.0, google.key_id, 1),
        (1300.0, google.key_id, 2),
        (1330.0, "new", 2),
        (1360.0, "new", 3),
        (1361.0, "new", 3),
    ):
        now = moment
        certificates.with_key(key_id)
        assert google.requests == fetched, (moment, key_id)


def test_without_certificates_nobody_is_let_in_nor_refused(caller_check, google):
    google.status = 500
    with pytest.raises(CertificatesUnavailable):
        caller_check.check(f"Bearer {google.token()}")
    google.status = 200
    caller_check.check(f"Bearer {google.token()}")


def test_certificates_that_cannot_be_reached_are_unavailable(google):
    caller_check = CallerCheck(
        audience=AUDIENCE, service_account=ACCOUNT, certificates_url="http://127.0.0.1:1/certs"
    )
    with pytest.raises(CertificatesUnavailable):
        caller_check.check(f"Bearer {google.token()}")
