"""Rules broken by hand, one at a time: each is an order or a guard that somebody might swap in good faith, and the tests that notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """`old` stands exactly once in `file`; with `new` in its place each of `killers` must fail by an assertion."""

    name: str
    file: str
    old: str
    new: str
    killers: tuple[str, ...]


MUTANTS = (
    Mutant(
        name="a letter leaves the dead before it waits in the queue",
        file="worker/adapters/lua/replay.lua",
        old="  local letter = cmsgpack.unpack(packed)\n",
        new="  local letter = cmsgpack.unpack(packed)\n  redis.call('ZREM', dead_at, letter_id)\n  redis.call('HDEL', dead, letter_id)\n",
        killers=("tests/contract/test_interrupted_scripts.py::test_a_letter_whose_replay_failed_stays_one_until_a_repeat[{wa:0}:due]",),
    ),
    Mutant(
        name="a discard takes a record that waits in the queue again",
        file="worker/adapters/lua/discard.lua",
        old="    if redis.call('HEXISTS', KEYS[4], id) == 0 then\n",
        new="    if true then\n",
        killers=(
            "tests/contract/test_past_letters_contract.py::test_a_record_that_waits_in_the_queue_again_outlives_the_old_letter[redis]",
        ),
    ),
    Mutant(
        name="teardown before drain",
        file="worker/shutdown.py",
        old="            await self._drain()\n",
        new="            self._rooms.shut_door()\n            await self._drain()\n",
        killers=("tests/component/test_drain.py::test_what_is_pushed_during_a_drain_is_journalled_and_delivered_by_the_next",),
    ),
    Mutant(
        name="release before spill",
        file="worker/shutdown.py",
        old="""        await self._empty(tenure)
        await self._give_up(tenure)
""",
        new="""        from worker.client_registry.proofs import SEAL

        self._drained[tenure.shard] = Drained(after=self._rooms.handover.quiesce(tenure), seal=SEAL)
        await self._give_up(tenure)
        await self._empty(tenure)
""",
        killers=("tests/component/test_drain.py::test_while_one_shard_is_handed_over_none_of_its_waiting_deliveries_starts",),
    ),
    Mutant(
        name="acknowledge before append",
        file="worker/ingest/handler.py",
        old="            appended = await self._writer.append_each(items)\n",
        new="            return reply.accepted(module.ACCEPTED_STATUS, len(items), 0)\n"
        "            appended = await self._writer.append_each(items)\n",
        killers=("tests/component/test_ingest.py::test_nobody_is_told_received_before_the_append_has_answered",),
    ),
    Mutant(
        name="settle with the expired deadline",
        file="worker/event_integration/pipeline.py",
        old="""        else:
            self._finishing = lane
""",
        new="""        elif not attempt.deadline.has_passed(now_s):
            self._finishing = lane
""",
        killers=("tests/component/test_way_of_an_event.py::test_a_suspect_without_a_place_is_parked_and_no_attempt_counted",),
    ),
    Mutant(
        name="park counted as an attempt",
        file="worker/event_integration/settling.py",
        old="        self._submit_park(delivery, self._parking(delivery, due_in_s=due_in_s, error=error, dead=dead))\n",
        new="        delivery.attempts += error is None\n"
        "        self._submit_park(delivery, self._parking(delivery, due_in_s=due_in_s, error=error, dead=dead))\n",
        killers=("tests/component/test_way_of_an_event.py::test_a_suspect_without_a_place_is_parked_and_no_attempt_counted",),
    ),
    Mutant(
        name="unfenced checkpoint",
        file="worker/adapters/lua/checkpoint.lua",
        old="if is_stale(KEYS[1], ARGV[1]) then\n  return STALE\nend\n",
        new="",
        killers=("tests/contract/test_checkpoints_contract.py::test_a_superseded_owner_may_neither_load_save_nor_trim[redis]",),
    ),
    Mutant(
        name="unfenced checkpoint of the twin",
        file="worker/adapters/memory_journal.py",
        old="        state.guard(checkpoint.token)\n",
        new="",
        killers=("tests/contract/test_checkpoints_contract.py::test_a_superseded_owner_may_neither_load_save_nor_trim[twin]",),
    ),
    Mutant(
        name="remember before append",
        file="worker/adapters/lua/append.lua",
        old="""  redis.call('XADD', KEYS[2], number_text(first) .. '-' .. number_text(position - first), unpack(fields))
  if #to_remember > 0 then
    redis.call('HSET', slot_key(slot), unpack(to_remember))
  end
""",
        new="""  if #to_remember > 0 then
    redis.call('HSET', slot_key(slot), unpack(to_remember))
  end
  redis.call('XADD', KEYS[2], number_text(first) .. '-' .. number_text(position - first), unpack(fields))
""",
        killers=("tests/contract/test_interrupted_scripts.py::test_an_event_is_remembered_only_after_it_was_appended",),
    ),
    Mutant(
        name="a claim's attempts started while claims are written",
        file="worker/event_integration/leaving.py",
        old="        withdrawn = self._buffer.remove(tenure)\n        try:\n",
        new="        withdrawn = []\n        try:\n",
        killers=("tests/component/test_drain.py::test_while_one_shard_is_handed_over_none_of_its_waiting_deliveries_starts",),
    ),
    Mutant(
        name="a socket made for whatever a name resolves to",
        file="worker/adapters/http.py",
        old="        if refusal is not None:\n            raise ForbiddenDestination(refusal)\n",
        new="",
        killers=("tests/contract/test_destinations_at_the_socket.py::test_the_connection_goes_to_the_address_that_was_checked[asyncio]",),
    ),
    Mutant(
        name="a refusal counted as the endpoint's failure",
        file="worker/event_integration/pipeline.py",
        old="            freed_as = SlotResult.CANCELLED",
        new="            freed_as = SlotResult.FAILED",
        killers=("tests/component/test_forbidden_webhooks.py::test_its_events_are_dead_letters_within_a_second_however_many_there_are",),
    ),
    Mutant(
        name="a repeated grant believed to be a fresh one",
        file="worker/client_registry/registry.py",
        old="        if shard not in await self._leases.renew({shard: grant.token}, self.identity.owner, ttl_s=self._renewal.ttl_s):\n"
        "            return\n",
        new="",
        killers=(
            "tests/component/test_lease_loss.py::test_a_lease_found_again_before_it_ran_out_is_trusted_no_longer_than_the_store_keeps_it",
        ),
    ),
    Mutant(
        name="a chat overtaken by what comes while it waits in the store",
        file="worker/event_integration/pipeline.py",
        old="                self._settling.park(delivery)\n            elif now_s",
        new="                self._buffer.line_up(lane, delivery)\n            elif now_s",
        killers=("tests/component/test_chat_order.py::test_the_names_of_a_chat_survive_a_kill",),
    ),
    Mutant(
        name="a tenure begun without knowing which chats wait",
        file="worker/event_integration/chat_order.py",
        old="waiting = await self._retry_queue.waiting_chats(tenure.shard, sorted(webhooks))",
        new="waiting: dict[WebhookId, dict[str, int]] = {}",
        killers=("tests/component/test_chat_order.py::test_the_waiting_chats_of_a_shard_are_known_before_its_first_event_is_read",),
    ),
    Mutant(
        name="a webhook that wants order again, its waiting chats not asked for",
        file="worker/event_integration/chat_order.py",
        old="        return not self.webhooks or (tenure in self._loaded and tenure not in self._to_load)\n",
        new="        return True\n",
        killers=("tests/component/test_registered_rows.py::test_chats_that_wait_from_an_earlier_time_of_order_are_not_overtaken",),
    ),
    Mutant(
        name="an event routed by whose its instance is now",
        file="worker/event_integration/routing.py",
        old="self._catalog.webhooks_for(event.tenant_id, event.instance_id)",
        new="self._catalog.webhooks_of(event.instance_id)",
        killers=(
            "tests/component/test_registered_rows.py::test_what_an_unknown_instance_sent_is_delivered_by_an_owner_that_never_heard_of_it",
        ),
    ),
    Mutant(
        name="shards owned before it is known what was registered",
        file="worker/engine.py",
        old="        await self.follower.loaded.wait()\n",
        new="",
        killers=("tests/component/test_registered_rows.py::test_nothing_is_owned_before_all_that_was_registered_is_known",),
    ),
    Mutant(
        name="old news believed",
        file="worker/directory/replica.py",
        old="        if revision < self._known(kind, row_id):\n            return\n",
        new="",
        killers=("tests/component/test_registrar.py::test_in_whatever_order_and_how_often_news_comes_the_last_change_of_a_row_stands",),
    ),
    Mutant(
        name="a stranger refused without asking the store",
        file="worker/ingest/handler.py",
        old="self._instance(gateway, instance_id) or await self._look_up(gateway, instance_id)\n                if instance is None:",
        new="self._instance(gateway, instance_id)\n                if instance is None:",
        killers=("tests/component/test_registered_rows.py::test_an_instance_registered_at_one_worker_is_accepted_by_another_at_once",),
    ),
    Mutant(
        name="an event tried out before it is marked",
        file="worker/event_integration/careful.py",
        old="        await self._checkpoints.mark_reading(tenure.shard, tenure.token, position)\n",
        new="",
        killers=(
            "tests/component/test_careful_reading.py::test_the_event_that_ends_the_process_is_one_dead_letter_and_all_else_arrives[build]",
        ),
    ),
    Mutant(
        name="a second suspect marked before the first is buried",
        file="worker/event_integration/careful.py",
        old="            if not await self._has_buried(tenure, care):\n                return\n",
        new="",
        killers=(
            "tests/component/test_careful_reading.py::test_what_was_buried_is_never_opened_again_while_an_earlier_event_is_under_way",
        ),
    ),
    Mutant(
        name="a kill at a mark taken for a proof",
        file="worker/journal/care.py",
        old="STRIKES = 2\n",
        new="STRIKES = 1\n",
        killers=("tests/component/test_careful_reading.py::test_one_kill_at_a_mark_convicts_nobody[True]",),
    ),
    Mutant(
        name="a link told in whole seconds known again",
        file="worker/gateways/whatsmeow.py",
        old="EventType.CONNECTION, EventType.QR})",
        new="EventType.QR})",
        killers=("tests/unit/test_look_alikes.py::test_what_looks_alike_is_kept_apart[wuzapi: open twice in one second]",),
    ),
    Mutant(
        name="two equal items of one body taken for one",
        file="worker/gateways/evolution_items.py",
        old="[item.name or item.event, item.nth, item.part]",
        new="[item.name or item.event, item.part]",
        killers=("tests/unit/test_gateway_evolution.py::test_two_equal_items_of_one_list_are_two_events_and_told_again_the_same_two",),
    ),
    Mutant(
        name="a token of any algorithm",
        file="worker/gateways/web_tokens.py",
        old='header.get("alg") != _ALGORITHM or ',
        new="",
        killers=("tests/unit/test_web_tokens.py::test_another_algorithm_is_refused_whatever_the_signature[header0]",),
    ),
    Mutant(
        name="nobody told the store who is held back",
        file="worker/event_integration/retry_pump.py",
        old="        await self._holding.keep(tenure, now_s)\n",
        new="",
        killers=("tests/component/test_paused_webhooks.py::test_a_paused_webhook_gets_nothing_and_everything_once_it_is_resumed",),
    ),
    Mutant(
        name="claiming before it is known who is paused",
        file="worker/event_integration/holding.py",
        old="        if not self._standing.is_known:\n",
        new="        if False:\n",
        killers=("tests/component/test_paused_webhooks.py::test_a_worker_that_has_not_read_who_is_paused_claims_nothing",),
    ),
    Mutant(
        name="what is parked for a held webhook made due",
        file="worker/adapters/lua/queue.lua",
        old="  if earliest[1] and redis.call('SISMEMBER', held, webhook) == 0 then\n",
        new="  if earliest[1] then\n",
        killers=("tests/contract/test_holding_contract.py::test_what_is_parked_for_a_held_webhook_is_neither_due_nor_claimed[redis]",),
    ),
    Mutant(
        name="time paused counted in an event's age",
        file="worker/event_integration/pipeline.py",
        old="age_s - self.standing.time_paused_s(attempt.webhook.id, age_s)",
        new="age_s",
        killers=("tests/component/test_paused_webhooks.py::test_time_paused_is_not_counted_in_an_events_age",),
    ),
    Mutant(
        name="a create repeated blindly",
        file="worker/instances/creating.py",
        old="            may_exist = True  # whatever becomes of the next line\n",
        new="",
        killers=("tests/component/test_instances_creating.py::test_a_broker_that_is_back_within_the_call_is_asked_again",),
    ),
    Mutant(
        name="a stranger's row taken for one's own",
        file="worker/instances/creating.py",
        old="stored.row.mark != plan.mark:",
        new="stored.row.tenant_id != order.tenant_id:",
        killers=("tests/component/test_instances_creating.py::test_the_same_id_at_once_is_one_instance_and_one_refusal",),
    ),
    Mutant(
        name="the last try speaks for all",
        file="worker/instances/creating.py",
        old="failure.is_certain = failure.is_certain and is_certain",
        new="failure.is_certain = failure.is_certain",
        killers=("tests/component/test_instances_creating.py::test_whether_the_broker_may_have_made_it_is_said_of_all_tries_together",),
    ),
    Mutant(
        name="a half-made row forgotten while its key may come",
        file="worker/instances/repairing.py",
        old='or "") >= FORGOTTEN_AFTER_S:',
        new='or "") >= 0:',
        killers=(
            "tests/component/test_instances_creating.py::test_one_that_the_broker_does_not_have_waits_for_its_key_and_is_forgotten_with_it",
        ),
    ),
    Mutant(
        name="a lease that nobody renews",
        file="worker/instances/once.py",
        old="                working.start_soon(self._keep_lease, run)\n",
        new="",
        killers=("tests/component/test_instances_once.py::test_the_other_worker_waits_for_the_answer_however_long_the_lease_is_renewed",),
    ),
    Mutant(
        name="a snapshot that hides a missing setting",
        file="worker/instances/listing.py",
        old="    if failure.cause is BrokerCause.NOT_CONFIGURED:\n",
        new="    if False:\n",
        killers=("tests/component/test_instances_listing.py::test_a_broker_that_is_not_configured_is_never_hidden_by_a_snapshot",),
    ),
    Mutant(
        name="a key answered before its body is compared",
        file="worker/adapters/lua/once_begin.lua",
        old="if body ~= ARGV[1] then\n",
        new="if body ~= ARGV[1] and not answer then\n",
        killers=(
            (
                "tests/contract/test_idempotency_contract.py"
                "::test_the_same_key_with_another_body_is_refused_before_and_after_the_answer[redis]"
            ),
        ),
    ),
    Mutant(
        name="the row of an instance deleted before its broker was asked",
        file="worker/instances/single.py",
        old="        if instance.broker is not None:\n            caller",
        new="        await self._registrar.remove(instance)\n        if instance.broker is not None:\n            caller",
        killers=("tests/e2e/test_instances_api.py::test_delete_goes_to_the_broker_first_and_keeps_the_row_while_that_fails",),
    ),
    Mutant(
        name="a create that may have reached its broker counts as not done",
        file="worker/adapters/brokers/client.py",
        old="            is_certain=not (self.has_changed or (trip.changes and trip.may_have_arrived)),\n",
        new="            is_certain=True,\n",
        killers=("tests/contract/test_broker_troubles.py::test_a_create_whose_answer_is_lost_is_found_by_the_next_one[waha]",),
    ),
    Mutant(
        name="a call that has changed something may still be said to have changed nothing",
        file="worker/adapters/brokers/client.py",
        old="        self.has_changed = self.has_changed or (self._changes and answer.is_success)\n",
        new="",
        killers=("tests/contract/test_broker_troubles.py::test_a_change_whose_second_step_is_refused_may_have_been_made",),
    ),
    Mutant(
        name="the library asks a broker again by itself",
        file="worker/adapters/brokers/client.py",
        old="            self._session._retry_connection = False",
        new="            self._session._retry_connection = True",
        killers=("tests/contract/test_broker_troubles.py::test_nothing_is_asked_twice_behind_the_callers_back[evolution-instances]",),
    ),
    Mutant(
        name="a proxy's 404 is a word about an instance",
        file="worker/adapters/brokers/waha.py",
        old="""    return answer.status == _NOT_FOUND and "session" in answer.words() and "cannot " not in answer.words()\n""",
        new="    return answer.status == _NOT_FOUND\n",
        killers=("tests/contract/test_broker_troubles.py::test_a_proxys_404_is_no_word_about_an_instance[waha]",),
    ),
    Mutant(
        name="a broker's error that quotes our key is passed on",
        file="worker/adapters/brokers/answers.py",
        old=" and not any(secret in found for secret in self.hidden)",
        new="",
        killers=("tests/unit/test_broker_answers.py::test_no_code_holds_a_secret",),
    ),
    Mutant(
        name="a tenant's key does what the operator's does",
        file="worker/api/authentication.py",
        old='        if audience is Audience.ADMIN:\n            raise ApiError(403, "ADMIN_KEY_REQUIRED"',
        new='        if False:\n            raise ApiError(403, "ADMIN_KEY_REQUIRED"',
        killers=("tests/e2e/test_api_matrix.py::test_every_path_answers_every_key_as_it_should[uvloop]",),
    ),
    Mutant(
        name="a tenant's key may name another tenant",
        file="worker/api/authentication.py",
        old="        if shown.tenant_id is not None and shown.tenant_id != tenant.id:\n            raise _no_such_tenant()\n",
        new="        tenant = self._catalog.tenants.get(TenantId(shown.tenant_id or tenant.id), tenant)\n",
        killers=("tests/e2e/test_api_matrix.py::test_every_path_answers_every_key_as_it_should[uvloop]",),
    ),
    Mutant(
        name="a lock-out shuts out the customers beside the guesser",
        file="worker/api/lock_out.py",
        old="        if known is None or key_sha256 in self._right:\n",
        new="        if known is None:\n",
        killers=("tests/unit/test_lock_out.py::test_a_right_key_is_let_in_during_a_lock_out_where_it_was_right_before",),
    ),
)
