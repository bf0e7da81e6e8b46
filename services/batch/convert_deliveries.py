"""Deliveries to protobuf."""

from infermesh.batch.v1 import batch_job_pb2

from services.batch.convert import timestamp
from services.batch.domain.deliveries import Delivery
from services.batch.domain.notices import shown_address

DELIVERIES_MAX = 64
"""Deliveries that are shown of a job. Of one attempt there are 34 at most: 17 addresses, two statuses."""
_WAITING = "waiting"


def delivery_to_proto(delivery: Delivery) -> batch_job_pb2.NotificationDelivery:
    """What became of telling somebody, without what may be a secret."""
    ended = delivery.outcome is not None
    return batch_job_pb2.NotificationDelivery(
        means=delivery.means,
        address=shown_address(delivery.means, delivery.address),
        status=delivery.status,
        attempt=delivery.attempt,
        outcome=delivery.outcome or _WAITING,
        tries=delivery.tries,
        last_problem=delivery.problem,
        next_try_time=None if ended else timestamp(delivery.due_at),
        created_at=timestamp(delivery.created_at),
        ended_at=timestamp(delivery.ended_at) if delivery.ended_at is not None else None,
    )
