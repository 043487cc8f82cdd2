"""What replicate sends, and what it says. Written by hand from the wire format."""

import json

from providers.message import Finish, Report, Text, Thought, Usage
from tests.fakes.said import Transcript

SAID = (
    Transcript(
        "a prediction that is over at once",
        "replicate",
        json.dumps(
            {
                "id": "p1",
                "model": "o/n",
                "status": "succeeded",
                "output": ["<thi", "nk>hm</think>", "Hel", "lo ☃"],
                "metrics": {"predict_time": 1.5, "input_token_count": 9, "output_token_count": 3},
            }
        ).encode(),
        (Thought("hm"), Text("Hello ☃"), Finish("stop", "succeeded"), Report(Usage(9, 0, 0, 3, 0), "o/n")),
    ),
    Transcript(
        "a prediction without counts",
        "replicate",
        b'{"id": "p1", "status": "succeeded", "output": "Hi", "metrics": {"predict_time": 1.5}}',
        (Text("Hi"), Finish("stop", "succeeded")),
    ),
)
