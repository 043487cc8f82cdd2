"""API keys: who may call, and whose runs are whose. A secret is shown once; only its digest is kept."""

import hashlib
import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import exists, select

from goblin.clock import new_id
from goblin.errors import Conflict, NotFound
from ledger.models import Key
from ledger.session import Ledger

_PREFIX = "gob_"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may do. `budget` in nano-dollars for its whole life, `rpm` submissions in any minute; None: no limit.

    `weight` is its share of the turns where keys wait for the same capacity.
    """

    budget: int | None = None
    rpm: int | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ApiKey:
    id: uuid.UUID
    name: str
    created_at: datetime
    revoked_at: datetime | None
    limits: Limits


def create(ledger: Ledger, name: str, limits: Limits = Limits()) -> str:
    """A new secret for `name`; nobody can read it again. Raises Conflict when the name is taken."""
    secret = _PREFIX + secrets.token_urlsafe(32)
    if not ledger.run(
        "keys.create",
        id=new_id(),
        name=name,
        digest=digest(secret),
        budget=limits.budget,
        rpm=limits.rpm,
        weight=limits.weight,
    ):
        raise Conflict(f"there is a key named {name!r} already; revoked names stay taken")
    return secret


def seed(ledger: Ledger, name: str, secret: str) -> None:
    """Let `name` be opened by a secret that somebody else chose; the one it had before stops working."""
    ledger.run("keys.seed", id=new_id(), name=name, digest=digest(secret))


def revoke(ledger: Ledger, name: str) -> None:
    """Raises NotFound when no such key is in use."""
    if not ledger.run("keys.revoke", name=name):
        raise NotFound(f"no key named {name!r} is in use")


def find(ledger: Ledger, secret_digest: bytes) -> ApiKey | None:
    """The key in use whose secret has this digest."""
    rows = ledger.read(_KEYS.where(Key.digest == secret_digest, Key.revoked_at.is_(None)))
    return _key(rows[0]) if rows else None


def all_keys(ledger: Ledger) -> list[ApiKey]:
    return [_key(row) for row in ledger.read(_KEYS.order_by(Key.created_at))]


def any_exist(ledger: Ledger) -> bool:
    """Whether a key was ever created: revoking the last one locks the API, it does not open it."""
    return bool(ledger.read(select(exists(select(Key.id))))[0][0])


def digest(secret: str) -> bytes:
    """A plain hash is enough: what it hides is 256 random bits, not a word that could be guessed."""
    return hashlib.sha256(secret.encode()).digest()


def _key(row: Any) -> ApiKey:
    limits = Limits(row.budget_nanousd, row.rpm, row.weight)
    return ApiKey(row.id, row.name, row.created_at, row.revoked_at, limits)


_KEYS = select(Key.id, Key.name, Key.created_at, Key.revoked_at, Key.budget_nanousd, Key.rpm, Key.weight)
