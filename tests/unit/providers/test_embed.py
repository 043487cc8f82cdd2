"""Embeddings: what is asked in each dialect, what its answers mean, and how many requests a call takes."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goblin.settings import ProviderSettings, Settings
from providers import price
from providers.call import Caller, Control
from providers.embed import Embed, Embeddings
from providers.errors import BadRequest, ContextTooLong, Malformed, ProviderFault, Throttled, UnknownModel
from providers.message import Usage
from providers.registry import load
from providers.wire.embedding import EMBEDDING
from tests.fakes.scripts import say
from tests.fakes.vendor import KEY, PROMPT, Connection, Vendor, provider

ASKED = Embed("e-1", ("a", "b"), "query", 2)


def asked(dialect: str, embed: Embed = ASKED) -> tuple[str, dict[str, Any]]:
    request = EMBEDDING[dialect].request(provider("https://v.example", dialect=dialect), embed)
    assert KEY in "".join(request.headers.values())
    return request.url, json.loads(request.body)


def test_openai_is_asked_for_floats() -> None:
    body = {"model": "e-1", "input": ["a", "b"], "encoding_format": "float", "dimensions": 2}
    assert asked("openai") == ("https://v.example/embeddings", body)


def test_gemini_is_asked_once_per_text_in_one_request() -> None:
    url, body = asked("gemini")
    assert url == "https://v.example/v1beta/models/e-1:batchEmbedContents"
    wish = {"model": "models/e-1", "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 2}
    assert body["requests"] == [{**wish, "content": {"parts": [{"text": text}]}} for text in "ab"]


def test_ollama_is_asked_at_its_own_door_and_never_for_a_part_of_a_text() -> None:
    body = {"model": "e-1", "input": ["a"], "truncate": False}
    assert asked("ollama", Embed("e-1", ("a",))) == ("https://v.example/api/embed", body)


@pytest.mark.parametrize("purpose", ["document", "query"])
def test_cohere_is_told_what_the_vectors_are_for_and_to_cut_no_text(purpose: Any) -> None:
    url, body = asked("cohere", Embed("e-1", ("a",), purpose))
    assert url == "https://v.example/v2/embed"
    assert body == {
        "model": "e-1",
        "texts": ["a"],
        "input_type": f"search_{purpose}",
        "embedding_types": ["float"],
        "truncate": "NONE",
    }


@pytest.mark.parametrize("purpose", ["document", "query"])
def test_vertex_is_asked_for_the_content_of_one_text_and_never_for_a_part_of_it(purpose: Any) -> None:
    url, body = asked("vertex", Embed("gemini-e-1", ("a",), purpose, 2))
    assert url == "https://v.example/v1beta1/publishers/google/models/gemini-e-1:embedContent"
    assert body == {
        "content": {"role": "user", "parts": [{"text": "a"}]},
        "embedContentConfig": {
            "autoTruncate": False,
            "outputDimensionality": 2,
            "taskType": f"RETRIEVAL_{purpose.upper()}",
        },
    }


def test_vertex_is_asked_for_predictions_of_models_before_gemini() -> None:
    url, body = asked("vertex", Embed("e-1", ("a",)))
    assert url == "https://v.example/v1beta1/publishers/google/models/e-1:predict"
    instance = {"content": "a", "task_type": "RETRIEVAL_DOCUMENT"}
    assert body == {"instances": [instance], "parameters": {"autoTruncate": False}}


CUT = {"values": [1, 2], "statistics": {"token_count": 9, "truncated": True}}


@pytest.mark.parametrize(
    "answer", [{"predictions": [{"embeddings": CUT}]}, {"embedding": {"values": [1, 2]}, "truncated": True}]
)
def test_the_vector_of_a_text_that_was_cut_is_no_vector_of_the_text(answer: Any) -> None:
    with pytest.raises(ContextTooLong):
        EMBEDDING["vertex"].parse(json.dumps(answer).encode(), 1)


ANSWERS = [
    (
        "openai",
        {
            "data": [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1.5, 2]}],
            "usage": {"prompt_tokens": 9},
        },
        Usage(input=9),
    ),
    ("gemini", {"embeddings": [{"values": [1.5, 2]}, {"values": [3, 4]}]}, None),
    ("ollama", {"embeddings": [[1.5, 2], [3, 4]], "prompt_eval_count": 9}, Usage(input=9)),
    (
        "cohere",
        {"embeddings": {"float": [[1.5, 2], [3, 4]]}, "meta": {"billed_units": {"input_tokens": 9.0}}},
        Usage(input=9),
    ),
]


WHOLE = {"values": [1.5, 2], "statistics": {"token_count": 9.0, "truncated": False}}
ONE_BY_ONE = [
    ("bedrock", {"embedding": [1.5, 2], "inputTextTokenCount": 9}),
    ("vertex", {"predictions": [{"embeddings": WHOLE}], "metadata": {"billableCharacterCount": 4}}),
    ("vertex", {"embedding": {"values": [1.5, 2]}, "usageMetadata": {"promptTokenCount": 9}, "truncated": False}),
]


@pytest.mark.parametrize(("dialect", "answer"), ONE_BY_ONE)
def test_who_takes_one_text_answers_with_one_vector(dialect: str, answer: Any) -> None:
    body = json.dumps(answer).encode()
    assert EMBEDDING[dialect].parse(body, 1) == Embeddings(((1.5, 2.0),), Usage(input=9))
    with pytest.raises(Malformed):
        EMBEDDING[dialect].parse(body, 2)


@pytest.mark.parametrize(("dialect", "answer", "usage"), ANSWERS)
def test_an_answer_is_a_vector_per_text_in_order(dialect: str, answer: Any, usage: Usage | None) -> None:
    parsed = EMBEDDING[dialect].parse(json.dumps(answer).encode(), 2)
    assert parsed == Embeddings(((1.5, 2.0), (3.0, 4.0)), usage)


@pytest.mark.parametrize(("dialect", "answer", "_usage"), ANSWERS)
def test_a_vector_too_few_is_malformed(dialect: str, answer: Any, _usage: Usage | None) -> None:
    with pytest.raises(Malformed):
        EMBEDDING[dialect].parse(json.dumps(answer).encode(), 3)


@pytest.mark.parametrize("vector", [[], ["1"], [True], [None], 7, [1.0]])
def test_what_is_no_vector_is_malformed(vector: Any) -> None:
    body = json.dumps({"embeddings": [[1, 2], vector]}).encode()
    with pytest.raises(Malformed):
        EMBEDDING["ollama"].parse(body, 2)


@pytest.mark.parametrize("dialect", EMBEDDING)
@given(data=st.data())
def test_garbage_raises_nothing_but_malformed(dialect: str, data: st.DataObject) -> None:
    words = st.sampled_from(
        ["data", "embedding", "embeddings", "predictions", "values", "float", "index", "usage", "meta", "statistics"]
    )
    value = st.recursive(
        st.none() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
        max_leaves=10,
    )
    body = data.draw(st.binary(max_size=50) | value.map(lambda one: json.dumps(one).encode()))
    try:
        parsed = EMBEDDING[dialect].parse(body, 1)
    except Malformed:
        return
    assert len(parsed.vectors) == 1


def serve(connection: Connection) -> None:
    """As many vectors as texts: each the number of its own letters."""
    while request := connection.request():
        texts = json.loads(request.partition(b"\r\n\r\n")[2])["texts"]
        answer = {"embeddings": {"float": [[len(text)] for text in texts]}}
        body = json.dumps({**answer, "meta": {"billed_units": {"input_tokens": len(texts)}}}).encode()
        connection.send(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)


def test_many_texts_take_several_requests_on_one_connection() -> None:
    caller, control = Caller(), Control()
    with Vendor(serve) as vendor:
        texts = ["x" * (number % 7 + 1) for number in range(200)]
        found = caller.embed(provider(vendor.url, dialect="cohere"), "e-1", texts, control)
        caller.close()
    assert found == Embeddings(tuple((float(len(text)),) for text in texts), Usage(input=200))
    assert vendor.connections == 1
    assert control.phase == "stall"  # only the first request has the limit of a first token
    assert control.ttft_s is not None


def test_a_vendor_that_takes_fewer_texts_at_once_is_sent_fewer() -> None:
    sent: list[int] = []

    def count(connection: Connection) -> None:
        while head := connection.request():
            sent.append(len(json.loads(head.partition(b"\r\n\r\n")[2])["input"]))
            rows = [{"index": nth, "embedding": [float(nth)]} for nth in range(sent[-1])]
            body = json.dumps({"data": rows, "usage": {"prompt_tokens": sent[-1]}}).encode()
            connection.send(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)

    said = {"mine": ProviderSettings(base_url="http://mine.test", embedding_texts=16)}
    mine = load(Settings(providers=said), {}).get("mine")
    caller = Caller()
    with Vendor(count) as vendor:
        found = caller.embed(replace(mine, base_url=vendor.url), "e-1", ["x"] * 40, Control())
        caller.close()
    assert sent == [16, 16, 8]
    assert (len(found.vectors), found.usage) == (40, Usage(input=40))


def test_no_text_takes_no_request() -> None:
    assert Caller().embed(provider(dialect="cohere"), "e-1", [], Control()) == Embeddings(())


def test_a_dialect_without_embeddings_says_so() -> None:
    with pytest.raises(UnknownModel):
        Caller().embed(provider(dialect="anthropic"), "e-1", ["a"], Control())


def test_no_message_repeats_a_text() -> None:
    def refuse(connection: Connection) -> None:
        connection.request()
        body = json.dumps({"message": f"cannot read {PROMPT}"}).encode()
        connection.send(f"HTTP/1.1 400 Bad\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)

    caller = Caller()
    with Vendor(refuse) as vendor:
        with pytest.raises(BadRequest) as caught:
            caller.embed(provider(vendor.url, dialect="cohere"), "e-1", [PROMPT], Control())
        caller.close()
    assert PROMPT not in str(caught.value)


def test_a_model_that_makes_vectors_has_a_price_per_token_of_its_input() -> None:
    (model,) = (one for one in load(Settings(), {}).get("cohere").embedders if one.id == "embed-v4.0")
    assert model.price is not None
    assert price.cost(model.price, Usage(input=1_000_000)) == 120_000_000


@pytest.mark.parametrize("status", [401, 404, 500])
def test_an_error_answer_means_what_it_means_to_a_conversation(status: int) -> None:
    def refuse(connection: Connection) -> None:
        connection.request()
        connection.send(f"HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n".encode())

    caller = Caller()
    with Vendor(refuse) as vendor:
        with pytest.raises(ProviderFault) as caught:
            caller.embed(provider(vendor.url, dialect="openai"), "e-1", ["a"], Control())
        caller.close()
    assert caught.value.slug == {401: "bad_credentials", 404: "unknown_model", 500: "server_error"}[status]


def test_an_error_inside_a_success_is_read_with_its_head() -> None:
    body = b'{"error": {"message": "slow down", "code": 429}}'
    caller = Caller()
    with Vendor(say("200 OK\r\nRetry-After: 7", body)) as vendor:
        with pytest.raises(Throttled) as caught:
            caller.embed(provider(vendor.url, dialect="openai"), "e-1", ["a"], Control())
        caller.close()
    assert caught.value.retry_after == 7
