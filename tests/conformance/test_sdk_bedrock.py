"""The simulator's bedrock dialect, judged by Amazon's own client."""

import json

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from urllib3.exceptions import ProtocolError

TASK = [{"role": "user", "content": [{"text": "Task: summarize this\n```python\nclass Basket:\n    pass\n```"}]}]
SYSTEM = [{"text": "Be brief."}]


@pytest.fixture
def client(simulator):
    one = boto3.client(
        "bedrock-runtime",
        endpoint_url=f"{simulator.url}/bedrock",
        region_name="us-east-1",
        aws_access_key_id="id",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=10, proxies={}),
    )
    yield one
    one.close()


def ask(client, model, **more):
    return client.converse(modelId=model, messages=TASK, system=SYSTEM, **more)


def events(client, model, **more):
    return list(client.converse_stream(modelId=model, messages=TASK, system=SYSTEM, **more)["stream"])


def deltas(streamed):
    return [event["contentBlockDelta"]["delta"] for event in streamed if "contentBlockDelta" in event]


def test_an_answer_is_about_the_code_and_is_counted(client, simulator):
    answer = ask(client, "sim-instant")
    assert "`Basket`" in answer["output"]["message"]["content"][0]["text"]
    assert answer["stopReason"] == "end_turn"
    call = simulator.last_call()
    assert (answer["usage"]["inputTokens"], answer["usage"]["outputTokens"]) == (
        call["input_tokens"],
        call["output_tokens"],
    )


def test_a_stream_says_the_same_as_a_whole_answer(client, simulator):
    streamed = events(client, "sim-instant")
    whole = ask(client, "sim-instant")["output"]["message"]["content"][0]["text"]
    assert "".join(delta["text"] for delta in deltas(streamed)) == whole
    kinds = [next(iter(event)) for event in streamed]
    assert (kinds[0], kinds[-3:]) == ("messageStart", ["contentBlockStop", "messageStop", "metadata"])
    assert streamed[-1]["metadata"]["usage"]["outputTokens"] == simulator.last_call()["output_tokens"]


def test_reasoning_is_a_block_of_its_own(client):
    quick, wish = "sim-reasoner+ttft=0+speed=0", {"thinking": {"type": "adaptive"}}
    whole = ask(client, quick, additionalModelRequestFields=wish)["output"]["message"]["content"]
    streamed = deltas(events(client, quick, additionalModelRequestFields=wish))
    reasoned = [delta["reasoningContent"] for delta in streamed if "reasoningContent" in delta]
    thought = "".join(piece.get("text", "") for piece in reasoned)
    assert whole[0]["reasoningContent"]["reasoningText"] == {"text": thought, "signature": reasoned[-1]["signature"]}
    assert "text" in whole[1]
    assert not [delta for delta in deltas(events(client, quick)) if "reasoningContent" in delta]


def test_an_answer_ends_at_the_limit_that_was_asked_for(client):
    answer = ask(client, "sim-instant+tokens=50", inferenceConfig={"maxTokens": 7})
    assert (answer["stopReason"], answer["usage"]["outputTokens"]) == ("max_tokens", 7)


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("sim-instant+auth", "UnrecognizedClientException"),
        ("sim-instant+fail=403", "AccessDeniedException"),
        ("sim-unheard-of", "ResourceNotFoundException"),
        ("sim-instant+fail=429", "ThrottlingException"),
        ("sim-instant+context", "ValidationException"),
        ("sim-instant+fail=500", "InternalServerException"),
        ("sim-instant+overloaded", "ServiceUnavailableException"),
        ("sim-instant+quota", "ServiceQuotaExceededException"),
    ],
)
def test_a_refusal_is_the_clients_own_error(client, model, code):
    with pytest.raises(ClientError) as caught:
        ask(client, model)
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["Error"]["Message"]


def test_an_error_in_mid_stream_reaches_the_client(client, simulator):
    with pytest.raises(EventStreamError) as caught:
        events(client, "sim-instant+midfail=5")
    assert caught.value.response["Error"]["Code"] == "modelStreamErrorException"
    assert simulator.last_call()["output_tokens"] == 5


def test_a_cut_stream_is_billed_what_was_produced(client, simulator):
    with pytest.raises(ProtocolError):
        events(client, "sim-instant+tokens=60+cut=40")
    call = simulator.last_call()
    assert (call["outcome"], call["output_tokens"]) == ("cut", 40)


def test_texts_are_embedded_one_by_one(client, simulator):
    body = json.dumps({"inputText": "red fox", "dimensions": 16})
    answer = json.loads(client.invoke_model(modelId="sim-embed", body=body)["body"].read())
    assert len(answer["embedding"]) == 16
    assert answer["inputTextTokenCount"] == simulator.last_call()["input_tokens"]
    with pytest.raises(ClientError) as caught:
        client.invoke_model(modelId="sim-embed", body=json.dumps({"inputText": "red fox", "prompt": "x"}))
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_an_inference_profile_keeps_its_colon(client, simulator):
    with pytest.raises(ClientError):
        ask(client, "us.sim-unheard-of-v1:0")
    assert simulator.last_call()["model"] == "us.sim-unheard-of-v1:0"
