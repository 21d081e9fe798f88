"""The controller application: passes what the framework and the API tell to the synchroniser, in one loop."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from controllers.ryu_app.framework import AppBase, dispatchers, hub, ofp_event, ofproto
from controllers.ryu_app.reporter import Reporter
from controllers.ryu_app.switch import Encoder, OpenFlowSwitch
from controllers.ryu_app.synchroniser import Synchroniser
from testbed.cluster.client import ApiClient, Batch, ListWatch, Selection
from testbed.cluster.identity import CONFIG_NAME, CONFIG_NAMESPACE
from testbed.cluster.kinds import CONFIG_MAP, ENDPOINT_SLICE, NODE, POD, SERVICE

_SELECTIONS = (
    # Not the whole namespace: our own status would come back as a change.
    Selection(CONFIG_MAP, CONFIG_NAMESPACE, field_selector=f"metadata.name={CONFIG_NAME}"),
    Selection(NODE),
    Selection(POD),
    Selection(SERVICE),
    Selection(ENDPOINT_SLICE),
)

_IDLE_S = 0.1
# What follows from so many changed objects is computed within a few tenths of a second.
_EVENTS_AT_ONCE = 2000
# Open vSwitch begins to revise its cached decisions at the latest 0.5 s after a change (ovs-vswitchd.conf.db(5),
# max-revalidator); there is no message that tells when it has.
_CACHED_AT_MOST_S = 1.0


class PodNetworkApp(AppBase):  # type: ignore[misc]  # the frameworks have no types
    """One thing happens at a time: everything goes through a queue to ``run``."""

    OFP_VERSIONS = (ofproto.OFP_VERSION,)

    def __init__(self, api_url: str) -> None:
        super().__init__()
        self._synchroniser = Synchroniser()
        self._encoder = Encoder()
        self._switches: dict[Any, OpenFlowSwitch] = {}  # by the framework's datapath
        self._happened = hub.Queue()
        api = ApiClient(api_url)
        self._reporter = Reporter(api, self._inherited)
        self._objects = ListWatch(
            api,
            _SELECTIONS,
            lambda batch: self._happened.put(lambda: self._objects_changed(batch)),
        )

    def run(self) -> None:
        """Work until something that must not fail has failed; that error is raised."""
        self._watch_over(self._reporter.run)  # which begins to follow the objects
        gc.disable()  # see _next
        while True:
            self._next()()
            hub.sleep(0)  # lets everybody else say what has arrived meanwhile, to be handled in one go
            while not self._happened.empty():
                self._happened.get()()
            for _ in self._synchroniser.reconcile():
                hub.sleep(0)  # the first switches begin while the last are still being told
            self._encoder.forget()
            for recheck in self._synchroniser.take_rechecks():
                again = partial(self._synchroniser.recheck, recheck)
                hub.spawn_after(_CACHED_AT_MOST_S, self._happened.put, again)
            self._reporter.report(self._synchroniser.status())

    def _objects_changed(self, batch: Batch) -> None:
        """Between the parts of a large change others have their turn: a switch that gets no answer gives up."""
        events = batch.events
        while len(events) > _EVENTS_AT_ONCE:
            self._synchroniser.prepare(events[:_EVENTS_AT_ONCE])
            events = events[_EVENTS_AT_ONCE:]
            hub.sleep(0)
        self._synchroniser.objects_changed(batch._replace(events=events))

    def _next(self) -> Callable[[], None]:
        """The next thing that happened, having collected garbage if nothing happens for a moment.

        Over the objects of a large cluster an automatic collection takes 60 ms, just when a change is on its way. What
        survives one is taken for permanent (``freeze``), so that the next one looks only at what is new.
        """
        try:
            return cast(Callable[[], None], self._happened.get(timeout=_IDLE_S))
        except hub.QueueEmpty:
            gc.collect()
            gc.freeze()
            return cast(Callable[[], None], self._happened.get())

    def _inherited(self, status: dict[str, str] | None) -> None:
        self._happened.put(lambda: self._synchroniser.inherit(status))
        self._watch_over(self._objects.run)

    def _watch_over(self, task: Callable[[], None]) -> None:
        """Run a task that never ends in a green thread; an error in it comes out of ``run``."""

        def guarded() -> None:
            try:
                task()
            except Exception as error:
                self._happened.put(_raiser(error))

        hub.spawn(guarded)

    @dispatchers.set_ev_cls(ofp_event.EventOFPStateChange, [dispatchers.MAIN_DISPATCHER, dispatchers.DEAD_DISPATCHER])  # type: ignore[untyped-decorator]
    def _state_changed(self, event: Any) -> None:
        datapath = event.datapath
        if event.state == dispatchers.MAIN_DISPATCHER:
            switch = self._switches[datapath] = OpenFlowSwitch(datapath, self._encoder)
            self._happened.put(lambda: self._synchroniser.connected(datapath.id, switch))
        elif datapath in self._switches:
            switch = self._switches.pop(datapath)
            self._happened.put(lambda: self._synchroniser.disconnected(datapath.id, switch))

    @dispatchers.set_ev_cls(ofp_event.EventOFPBarrierReply, dispatchers.MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def _barrier_passed(self, event: Any) -> None:
        datapath, xid = event.msg.datapath, event.msg.xid
        switch = self._switches.get(datapath)
        if switch is not None:
            self._happened.put(lambda: self._synchroniser.barrier_passed(datapath.id, switch, xid))

    @dispatchers.set_ev_cls(ofp_event.EventOFPErrorMsg, dispatchers.MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def _error(self, event: Any) -> None:
        datapath, xid, reason = event.msg.datapath, event.msg.xid, _error_text(event.msg)
        switch = self._switches.get(datapath)
        if switch is not None:
            self._happened.put(lambda: self._synchroniser.refused(datapath.id, switch, xid, reason))


def _raiser(error: Exception) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


def _error_text(message: Any) -> str:
    """The error in the names of the OpenFlow specification; extensions have only numbers."""
    if message.type == ofproto.OFPET_EXPERIMENTER:
        return f"experimenter {message.experimenter:#x} error {message.exp_type}"
    return f"{ofproto.ofp_error_type_to_str(message.type)} {ofproto.ofp_error_code_to_str(message.type, message.code)}"
