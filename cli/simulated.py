"""Settings under which every provider is the built-in simulator: four of them, of different speed and price, and
everybody else switched off, whatever keys the environment holds.
"""

from dataclasses import dataclass

from providers.row import rows


@dataclass(frozen=True, slots=True)
class Part:
    """A provider's part: its path on the simulator, and one model. Seconds, tokens per second, USD per million."""

    path: str
    model: str
    ttft: float
    speed: int
    input: str
    output: str
    more: str = ""  # settings


VECTORS, VECTORS_PRICE = "text-embedding-3-small", "0.02"
EMBEDS = f'embedding_models = [{{ id = "{VECTORS}", input_usd_mtok = "{VECTORS_PRICE}" }}]'
CAST = {
    "openai": Part("/openai/v1", "sim-gpt", ttft=0.25, speed=110, input="0.15", output="0.60", more=EMBEDS),
    "anthropic": Part("/anthropic", "sim-claude", ttft=0.45, speed=80, input="3", output="15"),
    "gemini": Part("/gemini", "sim-flash", ttft=0.3, speed=140, input="0.10", output="0.40"),
    "ollama": Part("/ollama", "sim-llama", ttft=0.5, speed=60, input="0", output="0"),
}
FAVOURITES = {"docs-writer": "ollama", "code-writer": "anthropic", "analyze": "openai", "deploy": "gemini"}
CONTEXT = 131_072


def sheet_toml() -> str:
    """The simulator's models and prices."""
    return "\n".join(
        f"[{part.model}]\nttft = {part.ttft}\nspeed = {part.speed}\ncontext = {CONTEXT}\n"
        f'input = "{part.input}"\noutput = "{part.output}"\ncache = "{part.input}"\n'
        for part in CAST.values()
    ) + (
        f"\n[{VECTORS}]\nttft = 0.1\nspeed = 100\ncontext = 8191\ndimensions = 8\n"
        f'input = "{VECTORS_PRICE}"\noutput = "0"\ncache = "{VECTORS_PRICE}"\n'
    )


def settings_toml(simulator_url: str) -> str:
    """A settings file with the same prices."""
    cast = [_provider(name, part, simulator_url) for name, part in CAST.items()]
    others = [f"[providers.{name}]\nenabled = false\n" for name in rows() if name not in CAST]
    tastes = [f'[goblins.{goblin}]\nproviders = ["{name}"]\n' for goblin, name in FAVOURITES.items()]
    return "\n".join([*cast, *tastes, *others])


def _provider(name: str, part: Part, simulator_url: str) -> str:
    return f"""\
[providers.{name}]
enabled = true
api_key = "simulated"
base_url = "{simulator_url}{part.path}"
input_usd_mtok = "{part.input}"
output_usd_mtok = "{part.output}"
cached_input_usd_mtok = "{part.input}"
models = [{{ id = "{part.model}", context = {CONTEXT} }}]
{part.more}
"""
