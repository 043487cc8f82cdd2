"""Health checks: asks providers of which nothing was heard for a while for their list of models, which costs nothing.

A key that is refused opens its breaker before a step is spent on it, and a provider that has recovered is closed again
without one. Whoever is called anyway is not asked, nor whoever rests. A list says nothing about a single model.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from goblin.errors import Breaker
from ledger import marks
from ledger.session import Ledger
from providers.discover import list_models
from providers.errors import ProviderFault
from providers.provider import Provider
from routing.admission import Admission
from routing.breaker import Contact, seen

AT_ONCE = 8
PATIENCE_S = 3.0  # that a provider has to answer


@dataclass(frozen=True, slots=True)
class Probe:
    """One per scheduler process. `providers` gives those of the present configuration; `interval` in seconds."""

    ledger: Ledger
    admission: Admission
    providers: Callable[[], Iterable[Provider]]
    interval: float
    patience: float = PATIENCE_S

    def go(self) -> bool:
        """One round, or False when another scheduler is at it. Raises Unavailable while a part is away."""
        with marks.duty(self.ledger, "probe") as is_mine:
            if is_mine:
                self._round()
            return is_mine

    def _round(self) -> None:
        able = [one for one in self.providers() if one.obstacle is None and (one.models or one.discovers)]
        contacts = self.admission.contacts([(one.id, one.fingerprint) for one in able])
        quiet = [pair for pair in zip(able, contacts, strict=True) if self._is_quiet(pair[1])]
        if quiet:
            with ThreadPoolExecutor(min(AT_ONCE, len(quiet)), thread_name_prefix="probe") as pool:
                list(pool.map(lambda pair: self._check(*pair), quiet))

    def _is_quiet(self, contact: Contact) -> bool:
        """Half an interval, so that a round which comes a moment early does not leave out every second one."""
        if contact.is_left_alone:
            return False
        return contact.heard_ms is None or contact.heard_ms >= 500 * self.interval

    def _check(self, provider: Provider, contact: Contact) -> None:
        try:
            if list_models(provider, self.patience) is None:
                return  # it has no list, so nothing was asked
            fault = None
        except ProviderFault as error:
            fault = error
        if fault is not None and fault.breaker is Breaker.OPEN and contact.has_worked and not contact.is_locked:
            return  # a key may be good for calls and not for lists
        self.admission.observe(provider.id, None, seen(fault), key=provider.fingerprint)
