"""Rules of the streams' adapters, broken by hand."""

from __future__ import annotations

from tests.mutants.mutants import Mutant

_SUITE = "tests/contract/test_connections_contract.py"
_BAILEYS = "tests/contract/test_baileys_stream.py"

STREAMS = (
    Mutant(
        name="what comes after our goodbye thrown away",
        file="worker/adapters/sockets/waha.py",
        old="            await self._send(_GOODBYE, WSMsgType.CLOSE)\n",
        new="            await self._socket.close()\n",
        killers=(
            f"{_SUITE}::test_leaving_gives_what_was_sent_before_and_then_ends[waha-asyncio]",
            f"{_SUITE}::test_leaving_gives_what_was_sent_before_and_then_ends[waha-tls-uvloop]",
        ),
    ),
    Mutant(
        name="a gateway's ping not answered",
        file="worker/adapters/sockets/waha.py",
        old="            await self._send(message.data, WSMsgType.PONG)\n",
        new="            pass\n",
        killers=(f"{_SUITE}::test_a_gateways_pings_are_answered_and_are_signs_of_life[waha-asyncio]",),
    ),
    Mutant(
        name="the key taken along to wherever a redirect points",
        file="worker/adapters/sockets/client.py",
        old="                trace_configs=[_refusing_redirects()],\n",
        new="",
        killers=("tests/contract/test_connections_refused.py::test_a_redirect_is_not_followed[waha]",),
    ),
    Mutant(
        name="only what the stream repeats is read",
        file="worker/adapters/sockets/baileys.py",
        old="        if not self._backfill.is_done and self._leave_by_s is None:\n",
        new="        if False:\n",
        killers=(f"{_BAILEYS}::test_nothing_that_was_not_acknowledged_is_missed",),
    ),
    Mutant(
        name="a cut of the stream between carriage return and line feed ends an event",
        file="worker/adapters/sockets/sse.py",
        old='        self._skips_lf = self._skips_lf or chunk.endswith(b"\\r")\n',
        new="",
        killers=("tests/unit/test_event_stream.py::test_where_a_stream_is_cut_makes_no_difference",),
    ),
    Mutant(
        name="a receipt taken for given though nobody said so",
        file="worker/adapters/sockets/baileys.py",
        old='            if not isinstance(answer.mapping().get("acknowledged"), list):\n',
        new="            if not answer.is_success:\n",
        killers=(f"{_BAILEYS}::test_a_receipt_that_is_not_confirmed_was_not_taken",),
    ),
)
