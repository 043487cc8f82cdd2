"""Run by a Python that has the package `together`, beside ours: asks the simulator, and prints what its client makes of
it as JSON. Knows nothing of this project.
"""

import json
import sys

import together

TASK = [{"role": "user", "content": "Task: summarize this\n```python\nclass Basket:\n    pass\n```"}]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


def main(url: str) -> None:
    client = together.Together(api_key="key", base_url=url, max_retries=0, timeout=10)

    def ask(model: str, **more: object) -> object:
        return client.chat.completions.create(model=model, messages=TASK, **more)

    answer = ask("sim-instant")
    chunks = [chunk for chunk in ask("sim-instant", stream=True) if chunk.choices]
    called = ask("sim-instant+call=1", tools=TOOLS).choices[0]
    refused = {}
    for model in (
        "sim-instant+auth",
        "sim-unheard-of",
        "sim-instant+fail=429",
        "sim-instant+context",
        "sim-instant+fail=503",
    ):
        try:
            ask(model)
        except together.APIStatusError as error:
            refused[model] = error.status_code
    try:
        broken = [chunk.id for chunk in ask("sim-instant+tokens=20+midfail=3", stream=True)]
    except together.TogetherError as error:
        broken = type(error).__name__
    try:
        cut = [chunk.id for chunk in ask("sim-instant+tokens=60+cut=40", stream=True)]
    except Exception as error:  # noqa: BLE001 - what it lets through is what is asked
        cut = type(error).__name__
    thought = ask("sim-instant+think=reasoning").choices[0].message
    vectors = client.embeddings.create(model="sim-embed", input=["red fox", "blue sky"])
    told = {
        "text": answer.choices[0].message.content,
        "usage": [answer.usage.prompt_tokens, answer.usage.completion_tokens],
        "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks),
        "finish": chunks[-1].choices[0].finish_reason,
        "call": [called.message.tool_calls[0].function.name, called.finish_reason],
        "refused": refused,
        "broken": broken,
        "cut": cut,
        "thought": thought.reasoning,
        "dimensions": [len(row.embedding) for row in vectors.data],
    }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
