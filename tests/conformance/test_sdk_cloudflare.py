"""The simulator's Workers AI and Vectorize, judged by Cloudflare's own client."""

import json

import cloudflare
import pytest

from tests.conformance.test_tools import LOOK, SEEN, WAIT

TASK = [{"role": "user", "content": "Task: summarize this\n```python\nclass Basket:\n    pass\n```"}]
ACCOUNT = "a1"
pytestmark = pytest.mark.filterwarnings("ignore:Passing raw bytes:DeprecationWarning")  # the client warns of itself


@pytest.fixture
def client(simulator):
    with cloudflare.Cloudflare(
        api_token="token", base_url=f"{simulator.url}/cloudflare/client/v4", max_retries=0, timeout=10
    ) as one:
        yield one


def ask(client, model, **more):
    return client.ai.run(model, account_id=ACCOUNT, messages=TASK, **more)


def test_an_answer_is_about_the_code_and_is_counted(client, simulator):
    answer = ask(client, "sim-instant")
    assert "`Basket`" in answer["response"]
    call = simulator.last_call()
    assert answer["usage"]["prompt_tokens"] == call["input_tokens"]
    assert answer["usage"]["completion_tokens"] == call["output_tokens"]


def test_an_answer_ends_at_the_limit_that_was_asked_for(client):
    assert ask(client, "sim-instant+tokens=50", max_tokens=7)["usage"]["completion_tokens"] == 7


@pytest.mark.parametrize(
    ("model", "error", "code"),
    [
        ("sim-instant+auth", cloudflare.AuthenticationError, 10000),
        ("sim-unheard-of", cloudflare.NotFoundError, 3042),
        ("sim-instant+quota", cloudflare.RateLimitError, 3036),
        ("sim-instant+overloaded", cloudflare.RateLimitError, 3040),
        ("sim-instant+context", cloudflare.APIStatusError, 3006),
        ("sim-instant+fail=500", cloudflare.InternalServerError, 3000),
    ],
)
def test_a_refusal_is_the_clients_own_error(client, model, error, code):
    with pytest.raises(error) as caught:
        ask(client, model)
    assert [one.code for one in caught.value.errors] == [code]


def test_thinking_comes_in_tags(client):
    thought, _, said = ask(client, "sim-reasoner+ttft=0+speed=0")["response"].partition("</think>")
    assert thought.startswith("<think>The task is")
    assert "`Basket`" in said


def test_a_call_of_a_tool_arrives(client):
    answer = ask(client, "sim-instant+call=2", tools=[LOOK, WAIT])
    assert [(call["name"], call["arguments"]) for call in answer["tool_calls"]] == [("look", SEEN), ("wait", {})]


def test_a_cut_answer_is_none(client, simulator):
    with pytest.raises(cloudflare.APIConnectionError):
        ask(client, "sim-instant+tokens=60+cut=40")
    assert simulator.last_call()["outcome"] == "cut"


def test_models_are_listed(client):
    assert {"sim-fast", "sim-embed"} <= {model["name"] for model in client.ai.models.list(account_id=ACCOUNT)}


@pytest.fixture
def indexes(client):
    client.vectorize.indexes.create(account_id=ACCOUNT, name="docs", config={"dimensions": 3, "metric": "cosine"})
    return client.vectorize.indexes


def put(indexes, *vectors, do="upsert"):
    body = "".join(json.dumps(vector) + "\n" for vector in vectors).encode()
    return getattr(indexes, do)("docs", account_id=ACCOUNT, body=body)


def near(indexes, vector, **more):
    return [match.id for match in indexes.query("docs", account_id=ACCOUNT, vector=vector, **more).matches]


EAST, NORTH = {"id": "east", "values": [1, 0, 0]}, {"id": "north", "values": [0, 1, 0], "metadata": {"cold": True}}


def test_the_nearest_vectors_come_first(indexes):
    put(indexes, EAST, NORTH, {"id": "north-east", "values": [1, 1.5, 0]})
    found = indexes.query("docs", account_id=ACCOUNT, vector=[0, 2, 0], top_k=2, return_values=True)
    assert [match.id for match in found.matches] == ["north", "north-east"]
    assert found.matches[0].score == pytest.approx(1)
    assert found.matches[1].values == [1, 1.5, 0]
    assert found.count == 2


def test_metadata_comes_back_and_filters(indexes):
    put(indexes, EAST, NORTH)
    found = indexes.query("docs", account_id=ACCOUNT, vector=[1, 1, 0], filter={"cold": True}, return_metadata="all")
    assert [(match.id, match.metadata) for match in found.matches] == [("north", {"cold": True})]
    assert near(indexes, [1, 1, 0], filter={"cold": {"$ne": True}}) == ["east"]


def test_an_upsert_replaces_and_an_insert_does_not(indexes):
    put(indexes, EAST)
    put(indexes, {**EAST, "values": [0, 0, 1]}, do="insert")
    assert indexes.get_by_ids("docs", account_id=ACCOUNT, ids=["east"])[0]["values"] == [1, 0, 0]
    mutation = put(indexes, {**EAST, "values": [0, 0, 1]})
    assert indexes.get_by_ids("docs", account_id=ACCOUNT, ids=["east"])[0]["values"] == [0, 0, 1]
    info = indexes.info("docs", account_id=ACCOUNT)
    assert (info.vector_count, info.dimensions, info.processed_up_to_mutation) == (1, 3, mutation.mutation_id)


def test_vectors_can_be_deleted(indexes):
    put(indexes, EAST, NORTH)
    indexes.delete_by_ids("docs", account_id=ACCOUNT, ids=["east"])
    assert near(indexes, [1, 1, 0]) == ["north"]


def test_a_wrong_number_of_dimensions_is_refused_or_left_out(indexes):
    with pytest.raises(cloudflare.BadRequestError) as caught:
        put(indexes, EAST, {"id": "flat", "values": [1, 0]})
    assert [one.code for one in caught.value.errors] == [40006]
    body = b'{"id":"flat","values":[1,0]}\nnonsense\n{"id":"east","values":[1,0,0]}\n'
    indexes.upsert("docs", account_id=ACCOUNT, body=body, unparsable_behavior="discard")
    assert near(indexes, [1, 0, 0]) == ["east"]


@pytest.mark.parametrize(
    ("directives", "error", "code"),
    [
        ("+auth", cloudflare.AuthenticationError, 10000),
        ("+quota", cloudflare.RateLimitError, 3036),
        ("+fail=429", cloudflare.RateLimitError, 971),
        ("+overloaded", cloudflare.RateLimitError, 3040),
        ("+fail=500", cloudflare.InternalServerError, 3000),
        ("+midfail=0", cloudflare.InternalServerError, 3000),
    ],
)
def test_a_refusal_is_the_clients_own_error_of_an_index_too(indexes, simulator, directives, error, code):
    simulator.post("faults", name="cloudflare", directives=directives)
    with pytest.raises(error) as caught:
        near(indexes, [1, 0, 0])
    assert [one.code for one in caught.value.errors] == [code]


def test_a_cut_answer_of_an_index_is_none(indexes, simulator):
    simulator.post("faults", name="cloudflare", directives="+cut=0")
    with pytest.raises(cloudflare.APIConnectionError):
        indexes.info("docs", account_id=ACCOUNT)


def test_an_index_is_described_listed_and_deleted(client, indexes):
    assert indexes.get("docs", account_id=ACCOUNT).config.metric == "cosine"
    assert [index.name for index in indexes.list(account_id=ACCOUNT)] == ["docs"]
    assert not list(indexes.list(account_id="another"))
    with pytest.raises(cloudflare.BadRequestError) as caught:
        indexes.create(account_id=ACCOUNT, name="docs", config={"dimensions": 3, "metric": "cosine"})
    assert [one.code for one in caught.value.errors] == [3002]
    indexes.delete("docs", account_id=ACCOUNT)
    with pytest.raises(cloudflare.NotFoundError) as caught:
        indexes.info("docs", account_id=ACCOUNT)
    assert [one.code for one in caught.value.errors] == [3000]
