"""What is on offer now: the registry of this process, renewed while it lives, with the models of local servers."""

import threading
from collections.abc import Mapping

import structlog

from goblin.errors import ConfigError
from goblin.settings import Settings
from providers import registry
from providers.discover import refresh

_log = structlog.get_logger()
_PATIENCE = 0.5  # seconds that the local servers have to answer


class Offers:
    """`registry` is always the newest; prices that depend on the time and local models are read anew every interval."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._stopped = threading.Event()
        self.registry = registry.load(settings, environ)

    def start(self) -> None:
        """Look for local servers now, and again every health_check_interval until `stop`."""
        threading.Thread(target=self._renew_always, name="offers", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def renew(self) -> None:
        self.registry = refresh(registry.load(self._settings, self._environ), _PATIENCE)

    def _renew_always(self) -> None:
        while True:
            try:
                self.renew()
            except ConfigError as error:  # a catalog file was broken while we run: the offers of before still stand
                _log.warning("offers.not_renewed", reason=error.message)
            if self._stopped.wait(self._settings.routing.health_check_interval):
                return
