"""What an answer costs before its vendor has counted."""

from providers.price import Price
from workers.spoken import Spoken

RATE = 10**6  # nano-dollars per million tokens: one for each


def test_thoughts_of_an_answer_that_broke_off_cost_what_thoughts_cost() -> None:
    """Where they are dearer than words, an estimate that takes them for words would be too low."""
    costs = []
    for rate in (RATE, 5 * RATE):
        spoken = Spoken(Price(RATE, RATE, RATE, RATE, "test", reasoning=rate), input_tokens=0)
        spoken.overhear("Somebody thinks about this for quite a while. " * 20)
        costs.append(spoken.cost)
        spoken.hear("And says little.")
        costs.append(spoken.cost)
    plain, plain_said, dear, dear_said = costs
    assert dear == 5 * plain > 0
    assert dear_said - dear == plain_said - plain
