"""The courier that pulls its messages: ``python -m services.courier.pull``. One machine."""

import argparse
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import structlog

from shared.config import find_config, load_config
from shared.errors import EXIT_CONFIGURATION, ConfigurationError, TransientError
from shared.lifeline import exit_with_parent
from shared.messages import TOPIC_WEBHOOKS
from shared.ports import Delivery, MessageQueue
from shared.settings import read_settings
from shared.telemetry import configure_logging
from shared.webhooks.courier import Courier
from shared.wiring import wire

# Waiting longer would keep one that was told to stop.
_RECEIVE_SECONDS = 1.0
_PAUSE_SECONDS = 1.0

log = structlog.get_logger("promptreel.webhooks")


class PullingCourier:
    """Takes a message only when it can be seen to at once."""

    def __init__(self, courier: Courier, queue: MessageQueue, *, at_once: int) -> None:
        self._courier = courier
        self._queue = queue
        self._at_once = at_once
        self._places = threading.BoundedSemaphore(at_once)
        self._stopping = threading.Event()

    def run(self) -> None:
        """Until it is told to stop; what is under way then is seen through."""
        with ThreadPoolExecutor(self._at_once, thread_name_prefix="courier") as threads:
            while not self._stopping.is_set():
                if not self._places.acquire(timeout=_RECEIVE_SECONDS):
                    continue
                delivery = self._receive()
                if delivery is None:
                    self._places.release()
                else:
                    threads.submit(self._see_to, delivery)

    def stop(self) -> None:
        self._stopping.set()

    def _receive(self) -> Delivery | None:
        try:
            return self._queue.receive([TOPIC_WEBHOOKS], wait_seconds=_RECEIVE_SECONDS)
        except TransientError as error:
            log.warning("no message received", code=error.code)
            self._stopping.wait(_PAUSE_SECONDS)
            return None

    def _see_to(self, delivery: Delivery) -> None:
        try:
            self._courier.deliver(delivery.message.job_id)
            self._queue.acknowledge(delivery)
        except TransientError as error:
            # The message comes back at its deadline, and the sweep sends another.
            log.warning("webhook not seen to", job_id=delivery.message.job_id, code=error.code)
        except Exception:
            log.exception("webhook not seen to", job_id=delivery.message.job_id)
        finally:
            self._places.release()


def main() -> None:
    """Run a courier until SIGTERM or SIGINT; exits 2 when the configuration cannot be used."""
    parser = argparse.ArgumentParser(description="A Promptreel courier that pulls its messages.")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when the parent ends")
    if parser.parse_args().exit_with_parent:
        exit_with_parent()
    try:
        settings = read_settings()
        config = load_config(find_config(settings.config_file))
        configure_logging(settings.log_format, service="courier", project=config.gcp.project)
        wiring = wire(config, service="courier")
    except ConfigurationError as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(EXIT_CONFIGURATION)
    courier = PullingCourier(wiring.courier(), wiring.queue, at_once=config.webhooks.at_once)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: courier.stop())
    try:
        courier.run()
    finally:
        wiring.close()


if __name__ == "__main__":
    main()
