"""Makes moto's SQS good for many thousands of messages.

moto looks at every message of a queue dozens of times for each one that is received or deleted, and one
that comes in while another is deleted can get lost. (moto 5.2)
"""

from __future__ import annotations

import time
import uuid
from typing import Any


def mend() -> None:
    """Replace the methods in question, in this process."""
    from moto.sqs import models

    queue: Any = models.Queue
    queue.messages = property(_messages)
    queue.approximate_number_of_messages_delayed = property(_delayed)
    queue.approximate_number_of_messages_not_visible = property(_not_visible)
    queue.delete_message = _delete_message
    backend: Any = models.SQSBackend
    backend.is_message_valid_based_on_retention_period = _is_kept


def send(account_id: str, region: str, queue_name: str, body: str) -> None:
    """A message to a queue that is not FIFO. Raises moto's ServiceException where there is none.

    moto's own `send_message` counts the queue's messages each time.
    """
    from moto.sqs import models

    queue: Any = models.sqs_backends[account_id][region].get_queue(queue_name)
    message = models.Message(str(uuid.uuid4()), body)
    message.mark_sent(delay_seconds=int(queue.delay_seconds))
    queue.add_message(message)


def _messages(queue: Any) -> list[Any]:
    """The messages that can be received now."""
    now = time.time() * 1000
    return [one for one in queue._messages if now > one.visible_at and now >= one.delayed_until]


def _delayed(queue: Any) -> int:
    now = time.time() * 1000
    return sum(now < one.delayed_until for one in queue._messages)


def _not_visible(queue: Any) -> int:
    now = time.time() * 1000
    return sum(now <= one.visible_at for one in queue._messages)


def _delete_message(queue: Any, receipt_handle: str) -> None:
    from moto.sqs.exceptions import ReceiptHandleIsInvalid

    with queue._messages_lock:
        if receipt_handle in queue.deleted_messages:
            return
        # what was received is near the front
        found = (one for one in queue._messages if one.had_receipt_handle(receipt_handle))
        message = next(found, None)
        if message is None:
            raise ReceiptHandleIsInvalid()
        queue._messages.remove(message)
        queue.pending_messages.discard(message)
        queue.deleted_messages.update(message.all_receipt_handles)


def _is_kept(backend: Any, queue_name: str, message: Any) -> bool:
    kept_seconds = int(backend.get_queue(queue_name).message_retention_period)
    return bool(message.sent_timestamp / 1000 + kept_seconds > time.time())
