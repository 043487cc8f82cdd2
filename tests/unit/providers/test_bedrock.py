"""Bedrock: what is signed and how, frames that are none, and what is missing when botocore is."""

import json
import re
import sys
from dataclasses import replace

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from pydantic import SecretStr

from goblin.settings import Settings
from providers.errors import BadCredentials, Malformed
from providers.registry import load
from providers.sampling import Sampling
from providers.wire.bedrock import Bedrock
from providers.wire.dialect import Decoder
from providers.wire.sse import LONGEST_LINE
from tests.fakes.said import frame
from tests.fakes.vendor import PROMPT, chat, provider

SIGNING = provider(
    "https://bedrock-runtime.eu-west-1.amazonaws.com",
    dialect="bedrock",
    auth="sigv4",
    key=SecretStr("AKID:secret/with+signs:token=="),
)
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=AKID/\d{8}/eu-west-1/bedrock/aws4_request, "
    r"SignedHeaders=accept;content-type;host;x-amz-date;x-amz-security-token, Signature=[0-9a-f]{64}"
)


def test_converse_is_asked_in_content_blocks() -> None:
    request = Bedrock().request(SIGNING, chat(model="us.model-v1:0", sampling=Sampling(temperature=0.5)))
    assert request.url == "https://bedrock-runtime.eu-west-1.amazonaws.com/model/us.model-v1%3A0/converse-stream"
    assert json.loads(request.body) == {
        "system": [{"text": "be brief"}],
        "messages": [{"role": "user", "content": [{"text": PROMPT}]}],
        "inferenceConfig": {"maxTokens": 200, "temperature": 0.5},
    }


def test_a_request_is_signed_and_shows_no_secret() -> None:
    request = Bedrock().request(SIGNING, chat())
    said = {name.lower(): value for name, value in request.headers.items()}
    assert AUTHORIZATION.fullmatch(said["authorization"])
    assert said["x-amz-security-token"] == "token=="
    assert "secret/with+signs" not in f"{request.headers} {request.url} {request.body!r}"


def test_the_signature_covers_the_body() -> None:
    """Signed again at the same moment, only the same body gives the same signature."""
    one, other = (Bedrock().request(SIGNING, chat(max_output_tokens=limit)) for limit in (7, 8))
    assert signature(one.headers) != signature(other.headers)
    again = AWSRequest(one.method, one.url, {name: one.headers[name] for name in ("content-type", "accept")}, one.body)
    again.context["timestamp"] = one.headers["X-Amz-Date"]
    again.headers["X-Amz-Date"], again.headers["X-Amz-Security-Token"] = one.headers["X-Amz-Date"], "token=="
    signer = SigV4Auth(Credentials("AKID", "secret/with+signs", "token=="), "bedrock", "eu-west-1")
    text = signer.string_to_sign(again, signer.canonical_request(again))
    assert signer.signature(text, again) == signature(one.headers)


def signature(headers: object) -> str:
    return str(headers).partition("Signature=")[2][:64]


@pytest.mark.parametrize("key", ["AKID", "AKID:", ":secret"])
def test_half_a_key_signs_nothing(key: str) -> None:
    with pytest.raises(BadCredentials):
        Bedrock().request(replace(SIGNING, key=SecretStr(key)), chat())


def test_a_configured_region_wins() -> None:
    request = Bedrock().request(replace(SIGNING, variables={"region": "us-west-2"}), chat())
    assert "/us-west-2/bedrock/" in request.headers["Authorization"]


def test_a_bearer_token_is_sent_as_it_is() -> None:
    request = Bedrock().request(replace(SIGNING, auth="bearer", key=SecretStr("token")), chat())
    assert request.headers["authorization"] == "Bearer token"


def test_a_fault_does_not_show_the_secret_of_a_signature() -> None:
    fault = Bedrock().fault(SIGNING, 403, {}, b'{"message": "secret/with+signs is wrong for AKID"}')
    assert fault.message.endswith("[key] is wrong for AKID")


@pytest.mark.parametrize("data", [b"data: hello, this is no frame", bytes(64), frame({":x": "y"}, b"{}")[:-1] + b"!"])
def test_bytes_that_are_no_frame_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        Bedrock().decoder(SIGNING).feed(data, [])


def test_a_frame_without_end_is_malformed_and_not_kept() -> None:
    endless = frame({":message-type": "event"}, b"x" * (2 * LONGEST_LINE))
    pieces = [endless[at : at + 65_536] for at in range(0, len(endless), 65_536)][:-1]
    with pytest.raises(Malformed):
        feed_all(Bedrock().decoder(SIGNING), pieces)


def feed_all(decoder: Decoder, pieces: list[bytes]) -> None:
    for piece in pieces:
        decoder.feed(piece, [])


CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-west-1"}


def test_the_parts_of_a_key_come_from_the_environment() -> None:
    vendor = load(Settings(), CREDENTIALS).get("bedrock")
    assert vendor.key is not None
    assert (vendor.key.get_secret_value(), vendor.auth) == ("AKID:secret", "sigv4")
    assert vendor.base_url == "https://bedrock-runtime.eu-west-1.amazonaws.com"
    vendor = load(Settings(), {**CREDENTIALS, "AWS_SESSION_TOKEN": "token"}).get("bedrock")
    assert vendor.key is not None
    assert vendor.key.get_secret_value() == "AKID:secret:token"
    assert vendor.ready


def test_a_bearer_token_in_the_environment_replaces_the_signature() -> None:
    vendor = load(Settings(), {**CREDENTIALS, "AWS_BEARER_TOKEN_BEDROCK": "token"}).get("bedrock")
    assert vendor.key is not None
    assert (vendor.key.get_secret_value(), vendor.auth) == ("token", "bearer")


def test_half_a_key_in_the_environment_is_none() -> None:
    environ = {name: value for name, value in CREDENTIALS.items() if name != "AWS_SECRET_ACCESS_KEY"}
    assert load(Settings(), environ).get("bedrock").why_not() == (
        "no key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )


def test_without_botocore_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore", None)  # as it is where the extra was not installed
    why = load(Settings(), CREDENTIALS).get("bedrock").why_not()
    assert why is not None
    assert "botocore" in why
    assert "`bedrock`" in why
