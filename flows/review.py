"""A person in the loop: the question that suspends a run, the form that answers it, and what the answer changes."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, NoReturn
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.input import RunInput
from prefect.input.run_input import keyset_from_base_key
from prefect.states import Paused
from pydantic import Field

from devtasks.task import DevTask, TaskStatus
from flows.giving_back import give_back

_KEY = "review-"
_RESPONSE = "-response"
_MOST = 200
"""The server hands out at most so many answers at once; nobody is asked so often."""

MAX_LARGER = 10


class Decision(StrEnum):
    """What a person may have done with a task that the machine cannot bring to an end."""

    TRY_AGAIN = "try again"
    ACCEPT = "accept anyway"
    GIVE_UP = "give up"


class Review(RunInput):
    """The form that a person answers an escalated task with."""

    decision: Decision = Field(
        description="try again from the start, deliver the last change although it was not accepted, or end the task",
        json_schema_extra={"position": 0},
    )
    hint: Annotated[str, Field(max_length=20_000)] = Field(
        "", description="For trying again: what the model should know.", json_schema_extra={"position": 1}
    )
    model: Annotated[str, Field(max_length=200)] = Field(
        "",
        description="For trying again: a model's id, to use that one alone; empty leaves the choice as it was.",
        json_schema_extra={"position": 2},
    )
    larger: Annotated[float, Field(ge=0, le=MAX_LARGER, allow_inf_nan=False)] = Field(
        1.0,
        description="For trying again: how much is added to every limit of the task; 1 is as much again.",
        json_schema_extra={"position": 3},
    )


async def read_answers(flow_run_id: str) -> tuple[Review, ...]:
    """Return what people have answered to the questions of a run, in the order of the questions."""
    async with get_client() as client:
        found = await client.filter_flow_run_input(UUID(flow_run_id), _KEY, _MOST, set())
    responses = {
        int(each.key.removeprefix(_KEY).removesuffix(_RESPONSE)): each for each in found if each.key.endswith(_RESPONSE)
    }
    return tuple(Review.load_from_flow_run_input(responses[number]) for number in sorted(responses))


def with_answers(task: DevTask, answers: tuple[Review, ...]) -> DevTask:
    """Return a task with the larger limits and the other model that people have given it."""
    limits, model = task.limits, task.model
    for answer in answers:
        if answer.decision is Decision.TRY_AGAIN:
            limits = limits.enlarged(answer.larger, task.limits)
            model = answer.model or model
    return task.model_copy(update={"limits": limits, "model": model})


def hints(answers: tuple[Review, ...]) -> list[str]:
    """Return what people want the model to know."""
    return [answer.hint for answer in answers if answer.decision is Decision.TRY_AGAIN and answer.hint]


async def ask(flow_run_id: str, number: int, question: str, reason: str, wait: timedelta) -> NoReturn:
    """Suspend the run with a question, in Markdown, as its `number`th; the worker slot is given back meanwhile.

    The run goes on from its start, in another process, once there is an answer; without one the server ends it as
    Failed when the time is over.
    """
    key = f"{_KEY}{number}"
    keyset = keyset_from_base_key(key)
    state = Paused(
        name=TaskStatus.NEEDS_REVIEW,
        message=reason,
        reschedule=True,
        timeout_seconds=int(wait.total_seconds()),
    )
    state.state_details.run_input_keyset = {str(name): value for name, value in keyset.items()}
    async with get_client() as client:
        # What a process wrote that was killed before it had asked.
        for each in await client.filter_flow_run_input(UUID(flow_run_id), f"{key}-", _MOST, set()):
            await client.delete_flow_run_input(UUID(flow_run_id), each.key)
        await Review.with_initial_data(description=question).asave(keyset, UUID(flow_run_id))
    await give_back(UUID(flow_run_id), state)
