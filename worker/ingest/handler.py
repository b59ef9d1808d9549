"""The handler of a push, below HTTP: from its bytes to one of the answers of contract 3.

Owns the order of the questions (whose, room, signed, readable, durable) and the one deadline over all of them,
`ingest_durable`. Says "received" only after every event of the body is in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anyio
import anyio.to_thread

from worker.directory.registering import Registrar
from worker.domain.catalog import Instance
from worker.domain.errors import MalformedEvent, StoreFull, StoreUnavailable
from worker.domain.ids import InstanceId
from worker.gateways import cloud_api
from worker.gateways.port import Gateway, Push
from worker.ingest import reply
from worker.ingest.door import Door, DoorState, Refusal
from worker.ingest.frames import Frames
from worker.ingest.intake import Intake
from worker.ingest.preparation import Preparation, Prepared, Unverified
from worker.ingest.reply import Reply
from worker.ingest.segments import SegmentWriter, TooMuchAtOnce
from worker.journal.group_commit import GroupCommitClosed, GroupCommitFull
from worker.metrics import Metrics

INGEST_DURABLE_S = 4.0
"""`ingest_durable`: some gateways give up at 5 s."""
OFF_LOOP_BYTES = 64 << 10
OFF_LOOP_THREADS = 2
CHALLENGING_GATEWAY = "cloud-api"


class Ingest:
    """`accept` for each push, from any task, until the writer is closed."""

    def __init__(
        self,
        preparation: Preparation,
        gateways: Mapping[str, Gateway],
        writer: SegmentWriter,
        door: Door,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._preparation = preparation
        self._gateways = gateways
        self._writer = writer
        self._door = door
        self._metrics = metrics
        self._clock = clock
        self._off_loop = anyio.CapacityLimiter(OFF_LOOP_THREADS)
        self.intake = Intake(metrics)
        self.frames = Frames(preparation, gateways, writer, door, self.intake)
        """The same for what a gateway's stream brings."""
        self.registrar: Registrar | None = None
        """Where instances may be registered at run time: whom to ask before a 404 or a 401."""

    async def accept(self, gateway: str, instance_id: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """The answer to one push. Header names in lower case. Cancelling gives up what has not gone to the journal yet."""
        started_s = self._clock()
        module = self._gateways.get(gateway)
        if module is None:
            return self.finished("unknown", reply.unknown_gateway(gateway, self._gateways))
        try:
            with anyio.fail_after(INGEST_DURABLE_S):
                instance = self._instance(gateway, instance_id) or await self._look_up(gateway, instance_id)
                if instance is None:
                    return self.finished(gateway, reply.unknown_instance())
                answer = await self._answer(module, instance, Push(headers=headers, body=body))
        except (TimeoutError, StoreUnavailable):
            answer = reply.refused(Refusal.JOURNAL_UNAVAILABLE)
        self._metrics.ingest_duration.record(self._clock() - started_s, gateway)
        return self.finished(gateway, answer)

    async def challenge(self, gateway: str, instance_id: str, query: Mapping[str, str]) -> Reply | None:
        """Meta's GET: its challenge back when it knows the instance's token, compared in constant time; None: this gateway asks nothing."""
        if gateway != CHALLENGING_GATEWAY:
            return None
        try:
            with anyio.fail_after(INGEST_DURABLE_S):
                instance = self._instance(gateway, instance_id) or await self._look_up(gateway, instance_id)
                met = _met(instance, query)
                if instance is not None and met is None:
                    met = _met(await self._look_up(gateway, instance_id), query)
        except (TimeoutError, StoreUnavailable):
            return self.finished(gateway, reply.refused(Refusal.JOURNAL_UNAVAILABLE))
        if instance is None:
            return self.finished(gateway, reply.unknown_instance())
        return self.finished(gateway, reply.challenge_failed() if met is None else reply.challenge_met(met))

    def finished(self, gateway: str, answer: Reply) -> Reply:
        """Counts an answer, and tells the client to go elsewhere while the worker leaves. Also for answers given before `accept`."""
        self._metrics.ingest_requests.add(gateway, answer.code)
        if answer.status == 503:  # noqa: PLR2004 -- the one status that says "again"
            self.intake.refused += 1
        elif not answer.is_accepted:
            self.intake.rejected += 1
        if self._door.state is DoorState.OPEN:
            return answer
        return _closing(answer)

    def statistics(self) -> dict[str, object]:
        intake = self.intake
        return {
            "events": intake.events,
            "duplicates": intake.duplicates,
            "refused": intake.refused,
            "rejected": intake.rejected,
            "door": self._door.statistics(),
            "appends": self._writer.statistics(),
        }

    def _instance(self, gateway: str, instance_id: str) -> Instance | None:
        instance = self._preparation.catalog.instances.get(InstanceId(instance_id))
        return instance if instance is not None and instance.gateway == gateway else None

    async def _look_up(self, gateway: str, instance_id: str) -> Instance | None:
        """As the store has it now: registered or changed a moment ago, perhaps by another worker. Raises `StoreUnavailable`."""
        if self.registrar is not None:
            await self.registrar.look_again(instance_id)
        return self._instance(gateway, instance_id)

    async def _answer(self, module: Gateway, instance: Instance, push: Push) -> Reply:
        # First of all, before any work: a worker without room must not spend its time on what it refuses anyway.
        if (why := self._door.refused(instance.tenant_id)) is not None:
            return reply.refused(why)
        prepared = await self._prepared(module, instance, push)
        if isinstance(prepared, Unverified):
            again = await self._look_up(instance.gateway, instance.id)
            if again is not None and again is not instance:
                instance, prepared = again, await self._prepared(module, again, push)
        if isinstance(prepared, Unverified):
            self.intake.note_fault(instance.gateway, prepared.fault)
            return reply.bad_signature()
        if isinstance(prepared, MalformedEvent):
            return reply.malformed(prepared.field, prepared.why, instance.gateway)
        return await self._append(module, instance, prepared)

    async def _prepared(self, module: Gateway, instance: Instance, push: Push) -> Prepared | Unverified | MalformedEvent:
        if len(push.body) > OFF_LOOP_BYTES:
            # Waited for even beyond the deadline (linear in the body, tens of milliseconds): an abandoned thread would escape the limiter.
            return await anyio.to_thread.run_sync(self._preparation.prepare, module, instance, push, limiter=self._off_loop)
        return self._preparation.prepare(module, instance, push)

    async def _append(self, module: Gateway, instance: Instance, prepared: Prepared) -> Reply:
        items = prepared.items
        self._door.count(instance.tenant_id, len(items), sum([len(event.record) for _, event in items]))
        try:
            appended = await self._writer.append_each(items)
        except TooMuchAtOnce as exc:
            return reply.too_large(str(exc))
        except StoreFull:
            return reply.refused(Refusal.JOURNAL_FULL)
        except GroupCommitClosed:
            return reply.refused(Refusal.DRAINING)
        except (StoreUnavailable, GroupCommitFull):
            return reply.refused(Refusal.JOURNAL_UNAVAILABLE)
        duplicates = sum([one.duplicate for one in appended])
        self.intake.count(instance, prepared, [one.duplicate for one in appended])
        return reply.accepted(module.ACCEPTED_STATUS, len(items) - duplicates, duplicates)


def _met(instance: Instance | None, query: Mapping[str, str]) -> str | None:
    return None if instance is None else cloud_api.challenge(query, instance.ingest_verify_token or "")


def _closing(answer: Reply) -> Reply:
    headers = {**answer.headers, "Connection": "close"}
    return Reply(status=answer.status, body=answer.body, code=answer.code, content_type=answer.content_type, headers=headers)
