"""Creating an instance so that it may be tried again: our own row first, then the broker, then the row is whole (design 6).

The row holds the name that the instance will have at its broker, made by us with a random part. So "already exists" for that name can
only be our own earlier call, and is adopted; a repeated call ends in the same instance. What exists at a broker under any other name is
attached by the operator alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import orjson
import structlog

from worker.directory.port import Kind, Revision, RowConflict
from worker.directory.registering import Declared, Registrar
from worker.domain.catalog import Catalog, Instance
from worker.domain.deadline import Deadline
from worker.domain.errors import StoreFull, StoreUnavailable, WorkerError
from worker.domain.ids import InstanceId, TenantId
from worker.instances import naming
from worker.instances.broker import AlreadyExists, BrokerCause, BrokerFailure, BrokerInstance, NoSuchInstance, Push
from worker.instances.calling import Caller
from worker.instances.failures import not_configured
from worker.instances.refreshing import sighting_of
from worker.instances.roster import Roster
from worker.instances.snapshots import Snapshots

log = structlog.get_logger("worker.instances")

CREATE_S = 20.0
MAX_INSTANCES = 20_000
"""Of one tenant: the directory is everybody's."""
TOLD_WHERE_TO_PUSH = frozenset({"evolution", "waha", "wuzapi"})
"""Gateways whose broker takes an instance's push address and signing key when it makes it."""


class Refused(WorkerError):
    """Raised when what is asked for cannot be, whatever the brokers do: a final answer, 409."""

    def __init__(self, code: str, message: str, **details: str) -> None:
        super().__init__(message)
        self.code = code
        self.details: Mapping[str, str] = details


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked for. `attach`: the name of what the broker has already; only the operator may ask that."""

    tenant_id: TenantId
    name: str
    gateway: str
    id: InstanceId | None = None
    broker: str | None = None
    attach: str | None = None
    ingest_secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything chosen before anything is done: whoever goes on with it does the same. `spare`: for what else is created with it."""

    instance_id: str
    gateway_instance: str
    broker: str | None
    mark: str
    created_at: str
    ingest_secret: str | None = field(default=None, repr=False)
    verify_token: str | None = field(default=None, repr=False)
    spare: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def written(self) -> bytes:
        return orjson.dumps(asdict(self))

    @classmethod
    def read(cls, data: bytes) -> Plan:
        """What another version wrote beside it is left aside."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in orjson.loads(data).items() if name in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """What is not ours to decide. `text(n)`: n random characters of `naming.ALPHABET`; `now`: RFC 3339, for people."""

    text: Callable[[int], str]
    now: Callable[[], str]


class Creating:
    """`public_url`: where gateways reach this deployment; None: nobody is told where to push."""

    def __init__(
        self, catalog: Catalog, registrar: Registrar, roster: Roster, snapshots: Snapshots, chance: Chance, *, public_url: str | None
    ) -> None:
        self._catalog = catalog
        self._registrar = registrar
        self._roster = roster
        self._snapshots = snapshots
        self._chance = chance
        self._public_url = public_url.rstrip("/") if public_url else None

    def plan(self, order: Order, *, spare: Mapping[str, Any]) -> Plan:
        """Raises `Refused` where no broker can do it."""
        caller = self._caller(order)
        random = self._chance.text(naming.RANDOM_CHARS)
        name = order.attach or naming.broker_name(order.tenant_id, order.name, random)
        instance_id = order.id or naming.own_id(order.name, random)
        is_told = caller is not None and order.attach is None and self._public_url is not None and order.gateway in TOLD_WHERE_TO_PUSH
        return Plan(
            instance_id=instance_id,
            gateway_instance=name if caller is not None else instance_id,
            broker=caller.broker.id if caller is not None else None,
            mark=self._chance.text(16),
            created_at=self._chance.now(),
            ingest_secret=order.ingest_secret or (self._chance.text(40) if is_told else None),
            verify_token=self._chance.text(32) if order.gateway == "cloud-api" else None,
            spare=spare,
        )

    def random_text(self, chars: int) -> str:
        """For what else is created with an instance."""
        return self._chance.text(chars)

    async def create(self, order: Order, plan: Plan, deadline: Deadline) -> Instance:
        """The instance, made. Repeated with the same plan it goes on where it ended.

        Raises `Refused`; `BrokerFailure`, `StoreUnavailable` and `StoreFull` leave a half-made row for the next call or `discard`.
        """
        instance, is_ours_already = await self._own_row(order, plan)
        if instance.is_made:
            return instance
        caller = self._roster.find(instance.tenant_id, plan.broker or "")
        if caller is None:
            raise not_configured(f"brokers[{plan.broker}]")
        if order.attach is None:
            shown = await self._made_there(caller, instance, deadline, may_exist=is_ours_already)
        else:
            shown = await self._attached(caller, instance, deadline)
        return await self.finished(instance, shown, caller, deadline)

    async def discard(self, plan: Plan) -> None:
        """Forgets a half-made row that nobody can go on with, where its broker certainly has nothing of this name."""
        stored = await self._registrar.find(Kind.INSTANCE, plan.instance_id)
        if stored is not None and isinstance(stored.row, Instance) and stored.row.mark == plan.mark and not stored.row.is_made:
            await self._registrar.remove(stored.row)

    async def finished(self, instance: Instance, shown: BrokerInstance, caller: Caller, deadline: Deadline) -> Instance:
        """Its broker has it: the row is whole. Raises `Refused` when it was deleted meanwhile, and takes it from the broker again."""
        made = await self._registrar.change(instance, lambda row: replace(row, is_made=True))
        if made is None or made.mark != instance.mark:
            await caller.ask(deadline, lambda left_s: caller.broker.delete(instance.gateway_instance, timeout_s=left_s))
            raise Refused("INSTANCE_DELETED", "the instance was deleted while it was being created; create it again with a new key")
        try:
            await self._snapshots.save(made.tenant_id, {made.id: sighting_of(shown)}, whole=False)
        except (StoreUnavailable, StoreFull) as exc:
            log.warning("snapshot_not_saved", tenant=made.tenant_id, cause=str(exc))  # the next refresh sees it
        return made

    def _caller(self, order: Order) -> Caller | None:
        """None: a row alone, for what is pushed."""
        if order.broker is None:
            found = self._roster.first_of(order.tenant_id, order.gateway)
            if found is None and order.attach is not None:
                raise Refused("BROKER_UNKNOWN", f"no {order.gateway} broker is configured for this tenant, so there is nothing to attach")
            return found
        found = self._roster.find(order.tenant_id, order.broker)
        if found is None:
            raise Refused("BROKER_UNKNOWN", f"this tenant has no broker {order.broker}; leave it out, or ask the operator for its name")
        if found.broker.gateway != order.gateway:
            raise Refused("BROKER_OF_OTHER_GATEWAY", f"broker {order.broker} speaks {found.broker.gateway}, not {order.gateway}")
        return found

    async def _own_row(self, order: Order, plan: Plan) -> tuple[Instance, bool]:
        """The row, and whether an earlier call wrote it."""
        row = Instance(
            id=InstanceId(plan.instance_id),
            tenant_id=order.tenant_id,
            gateway=order.gateway,
            gateway_instance=plan.gateway_instance,
            name=order.name,
            broker=plan.broker,
            ingest_secrets=(plan.ingest_secret,) if plan.ingest_secret else (),
            ingest_verify_token=plan.verify_token,
            is_made=plan.broker is None,
            created_at=plan.created_at,
            mark=plan.mark,
        )
        stored = await self._registrar.find(Kind.INSTANCE, plan.instance_id)
        try:
            if stored is None:
                self._expect_room(order)
                if await self._registrar.is_reserved(plan.instance_id, order.tenant_id):
                    raise self._taken(row.id)
                await self._registrar.put(row, expected=Revision(0))
                return row, False
        except (RowConflict, Declared) as exc:
            if (what := getattr(exc, "what", "id")) in {"name", "room"}:
                raise _conflict(what, order) from exc
            stored = await self._registrar.find(Kind.INSTANCE, plan.instance_id)
        if stored is None or not isinstance(stored.row, Instance) or stored.row.mark != plan.mark:
            raise self._taken(row.id)
        return stored.row, True

    def _expect_room(self, order: Order) -> None:
        if self._catalog.instances_of_tenant(order.tenant_id) >= MAX_INSTANCES:
            raise Refused("LIMIT_REACHED", f"a tenant has at most {MAX_INSTANCES} instances; delete some first")

    def _taken(self, instance_id: InstanceId) -> Refused:
        random = self._chance.text(naming.RANDOM_CHARS)
        suggested = naming.suggested_id(instance_id, lambda one: one not in self._catalog.instances, random)
        message = f"the id {instance_id} is taken; use another, {suggested} for example, or leave it out"
        return Refused("INSTANCE_ALREADY_EXISTS", message, suggestedId=suggested)

    async def _made_there(self, caller: Caller, instance: Instance, deadline: Deadline, *, may_exist: bool) -> BrokerInstance:
        """Made, or adopted where an earlier try of ours made it and its answer was lost."""
        name, broker = instance.gateway_instance, caller.broker
        push = self._push(instance)
        is_certain = not may_exist

        async def look_then_make(left_s: float) -> BrokerInstance:
            nonlocal may_exist, is_certain
            if may_exist:
                try:
                    return await broker.status(name, timeout_s=left_s)
                except NoSuchInstance:
                    pass
            may_exist = True  # whatever becomes of the next line
            try:
                return await broker.create(name, push, timeout_s=left_s)
            except AlreadyExists:
                return await broker.status(name, timeout_s=left_s)
            except BrokerFailure as failure:
                is_certain = is_certain and failure.is_certain
                raise

        try:
            return await caller.ask(deadline, look_then_make)
        except BrokerFailure as failure:
            failure.is_certain = failure.is_certain and is_certain  # the last try speaks for all of them
            raise
        except NoSuchInstance as exc:
            raise _contradiction(caller, name) from exc

    async def _attached(self, caller: Caller, instance: Instance, deadline: Deadline) -> BrokerInstance:
        name = instance.gateway_instance
        try:
            return await caller.ask(deadline, lambda left_s: caller.broker.status(name, timeout_s=left_s))
        except BrokerFailure as failure:
            failure.is_certain = True  # it was only looked for
            raise
        except NoSuchInstance as exc:
            await self._registrar.remove(instance)
            message = f"broker {caller.broker.id} has no instance {name}; correct `attach`, or leave it out to create one"
            raise Refused("NOTHING_TO_ATTACH", message) from exc

    def _push(self, instance: Instance) -> Push | None:
        if self._public_url is None:
            return None
        secret = instance.ingest_secrets[0] if instance.ingest_secrets else None
        return Push(url=f"{self._public_url}/ingest/{instance.gateway}/{instance.id}", secret=secret)


def _conflict(what: str, order: Order) -> Refused:
    if what == "name":
        return Refused("INSTANCE_ATTACHED_ALREADY", f"the broker's instance {order.attach} belongs to an instance here already")
    return Refused("LIMIT_REACHED", "this deployment holds as many instances as it may; delete some first")


def _contradiction(caller: Caller, name: str) -> BrokerFailure:
    message = f"broker {caller.broker.id} says that {name} exists and that it does not; look at the broker, then try again"
    return BrokerFailure(BrokerCause.PROTOCOL, message, is_certain=False)
