"""The flow of one development task: prepare; select, run, validate and record until settled; deliver."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID, uuid4

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed, Scheduled
from pydantic import Field

from devtasks import workspace
from devtasks.errors import DevtasksError, InvalidInput, NoModelAvailable
from devtasks.evidence import DIFF
from devtasks.metrics_collector import ExecutionMetrics
from devtasks.prompt import repair_prompt
from devtasks.recovery import Step, classify, next_step
from devtasks.report import TaskReport
from devtasks.task import (
    Complexity,
    Delivery,
    DevTask,
    EnvironmentChoice,
    TaskCategory,
    TaskLimits,
    TaskPriority,
    TaskStatus,
)
from flows.course import Course, Worked, attempt_of
from tasks import (
    Assignment,
    AttemptEnd,
    check_price,
    deliver_result,
    prepare_workspace,
    publish_report,
    record_metrics,
    restore_calls,
    run_openhands,
    select_model,
    show_environment,
    validate_result,
    write_broken_off,
)
from tasks.deliver_result import Delivered
from tasks.run import Run, open_run

DEFAULTS = TaskLimits()

SHORTEST_DEFERRAL = timedelta(seconds=10)
"""The process that gives its slot back needs a moment to end."""

LONGEST_DEFERRAL = timedelta(hours=26)
"""An account's day, and some; who asks for more is not waited for."""

MAX_DEFERRALS = 10
"""How often one run is deferred before it ends with what it has."""


def run_name() -> str:
    """Return the name a person recognises in the UI, such as `unit_test src/auth.py`."""
    parameters: dict[str, Any] = flow_run.parameters
    category = TaskCategory(parameters["category"])
    return f"{category} {parameters.get('target_file') or parameters.get('repository')}"


@flow(name="development-task", flow_run_name=run_name)
async def development_task(  # noqa: PLR0917 - each parameter is a field of the form in the UI
    category: TaskCategory,
    description: Annotated[str, Field(min_length=1, max_length=20_000)],
    repository: Annotated[str, Field(min_length=1)],
    target_file: str = "",
    base_ref: Annotated[str, Field(min_length=1)] = "HEAD",
    context_files: list[str] | None = None,
    allowed_paths: list[str] | None = None,
    environment: EnvironmentChoice = EnvironmentChoice.AUTO,
    setup_command: str = "",
    acceptance_tests: list[str] | None = None,
    build_command: str = "",
    complexity: Complexity = Complexity.MODERATE,
    quality_threshold: Annotated[float, Field(ge=0, le=1)] = 0.7,
    model: str = "",
    delivery: Delivery = Delivery.PATCH,
    max_attempts: Annotated[int, Field(ge=1, le=20)] = DEFAULTS.attempts,
    max_seconds: Annotated[float, Field(gt=0, le=86_400)] = DEFAULTS.seconds,
    max_llm_calls: Annotated[int, Field(ge=1, le=1_000)] = DEFAULTS.llm_calls,
    max_tokens: Annotated[int, Field(ge=1_000)] = DEFAULTS.tokens,
    max_cost_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = DEFAULTS.cost_usd,
    max_iterations: Annotated[int, Field(ge=1, le=500)] = DEFAULTS.iterations,
    batch: str = "",
    max_batch_cost_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None,
    credentials: str = "default",
    runtime_block: str = "default",
    use_docker: bool = False,
    metadata: dict[str, str] | None = None,
) -> State[Any]:
    """Run one AI development task in its own copy of the repository; deliver the result only if it validates.

    Ends as Accepted (independently validated), Rejected (no attempt passed) or Failed (it could not be tried).

    Args:
        category: The kind of work; decides the prompt and the validation rules.
        description: What to do, in your own words.
        repository: Path of a git repository on the worker's machine, or a git URL.
        target_file: The file the task is about, relative to the repository's root.
        base_ref: Branch, tag or commit to start from.
        context_files: Further files the model is shown, relative to the root.
        allowed_paths: Patterns as in a .gitignore file for the files that may change, such as tests/**; all else is
            put back. Empty is the category's own. CI, hook and lock files only where a pattern names them.
        environment: auto makes an environment from what describes the project's dependencies; none runs its tests
            with the interpreter of devtasks.
        setup_command: A shell command that completes the environment, run once, with network, in a copy of the project.
        acceptance_tests: Test files of the repository that generated code has to pass, relative to the root.
        build_command: The shell command that a build script is run by, twice; empty runs the script itself.
        complexity: How hard the task is.
        quality_threshold: The least score of an accepted result, 0 to 1.
        model: A model's id, to use that one alone; empty lets the selector choose.
        delivery: patch writes a file and an artifact; branch commits on a new branch as well.
        max_attempts: Attempts, over all models.
        max_seconds: Seconds the agents may work, over all attempts.
        max_llm_calls: Calls to models, over all attempts.
        max_tokens: Tokens, over all attempts.
        max_cost_usd: US dollars, over all attempts; empty is no limit, and lets a model of unknown price work.
        max_iterations: Steps of the agent in one attempt.
        batch: Name of a batch; its tasks share the next limit.
        max_batch_cost_usd: US dollars that all tasks of the batch may spend together; empty is no limit.
        credentials: Name of an OpenRouter Credentials block.
        runtime_block: Name of an OpenHands Runtime block.
        use_docker: Work in a container, also where the runtime block says local.
        metadata: Your own labels, kept with the task.
    """
    flow_run_id = str(flow_run.id)
    try:
        task = DevTask.parse(
            task_id=flow_run_id,
            category=category,
            description=description,
            repository=repository,
            target_file=target_file or None,
            base_ref=base_ref,
            context_files=tuple(context_files or ()),
            allowed_paths=tuple(allowed_paths or ()),
            environment=environment,
            setup_command=setup_command or None,
            acceptance_tests=tuple(acceptance_tests or ()),
            build_command=build_command or None,
            priority=_priority(),
            complexity=complexity,
            quality_threshold=quality_threshold,
            model=model or None,
            delivery=delivery,
            limits=TaskLimits(
                attempts=max_attempts,
                seconds=max_seconds,
                llm_calls=max_llm_calls,
                tokens=max_tokens,
                cost_usd=max_cost_usd,
                batch_cost_usd=max_batch_cost_usd,
                iterations=max_iterations,
            ),
            batch=batch or None,
            metadata=metadata or {},
        )
        await asyncio.to_thread(workspace.check_repository, task)
        async with open_run(
            task, flow_run_id, credentials=credentials, runtime=runtime_block, docker=use_docker
        ) as run:
            return await _settle(run)
    except DevtasksError as error:
        get_run_logger().error("%s: %s", type(error).__name__, error)
        return Failed(message=str(error))


async def _settle(run: Run) -> State[Any]:
    """Go round the picture's loop until the policy accepts or rejects, then deliver and report."""
    await check_price(run)
    course = Course.load(run.folder.course)
    if course:
        show_environment(run, course.prepared.environment)
    else:
        course = await _begin(run)
    while course.step in (Step.FALL_BACK, Step.REPAIR):
        resumed = course.assignment is not None
        if course.assignment is None:
            try:
                course.assignment = await _assign(run, course)
            except NoModelAvailable as error:
                await _defer(run, course, error.ready_at, str(error))
                if not course.metrics:
                    raise
                course.reason = str(error)
                break
            course.started_at, course.worked, course.verdict = datetime.now(UTC), None, None
            course.save(run.folder.course)
        else:
            get_run_logger().info("attempt %d goes on where its process ended", course.assignment.attempt)
        metrics = await _attempt(run, course, course.assignment, resumed=resumed)
        step = next_step((*course.history, attempt_of(metrics)), run.task.limits)
        get_run_logger().info("next step: %s", step.replace("_", " "))
        if step is Step.DEFER and (refusal := run.gateway.refusal):
            course.worked = course.verdict = None
            await _defer(run, course, refusal.until, refusal.message)
            step = Step.REJECT
        course.metrics.append(metrics)
        course.assignment, course.step = None, step
        course.save(run.folder.course)
    if course.step is Step.ACCEPT and course.patch and course.verdict:
        delivered = await deliver_result(run, course.prepared.workspace, course.patch, course.verdict)
        return await _finish(run, course, delivered)
    return await _finish(run, course, None)


async def _defer(run: Run, course: Course, until: datetime | None, reason: str) -> None:
    """Give the slot back and have the run go on when there is quota again; return where waiting does not help."""
    now = datetime.now(UTC)
    if until is None or until - now > LONGEST_DEFERRAL or course.deferrals >= MAX_DEFERRALS:
        return
    course.deferrals += 1
    course.save(run.folder.course)
    at = max(until, now + SHORTEST_DEFERRAL)
    get_run_logger().info("deferred until %s: %s", f"{at:%Y-%m-%d %H:%M:%S %Z}", reason)
    state = Scheduled(name=TaskStatus.AWAITING_QUOTA, message=reason, scheduled_time=at)
    async with get_client() as client:
        await client.set_flow_run_state(UUID(run.flow_run_id), state, force=True)
    raise Pause(reason, state=state)


async def _begin(run: Run) -> Course:
    earlier = await run.ledger.attempts(flow_run_id=run.flow_run_id)
    course = Course(prepared=await prepare_workspace(run), first=len(earlier) + 1)
    covered = course.prepared.baseline.coverage
    if run.task.category is TaskCategory.UNIT_TEST and covered and covered.fraction == 1:
        # No result could raise it: not one model call is spent on trying.
        raise InvalidInput("target_file", run.task.target_file, "a file that its tests do not cover completely yet")
    return course


async def _assign(run: Run, course: Course) -> Assignment:
    """Return the next attempt to make: the same conversation with the findings, or the next model from the start."""
    attempt = course.first + len(course.metrics)
    remaining = run.task.limits.seconds - course.agent_seconds
    place = course.prepared.workspace
    if course.step is Step.REPAIR and course.lineup and course.verdict:
        message = repair_prompt(place.path, course.verdict.findings)
        return Assignment(attempt, course.lineup, course.conversation_id, message, remaining)
    course.lineup = await select_model(run, course.prepared.prompt, course.tried)
    course.conversation_id = str(uuid4())
    if course.metrics:
        await asyncio.to_thread(workspace.reset, place)
    return Assignment(attempt, course.lineup, course.conversation_id, course.prepared.prompt, remaining)


async def _attempt(run: Run, course: Course, assignment: Assignment, *, resumed: bool = False) -> ExecutionMetrics:
    """Let the agent work, judge what it left behind, and write the attempt down whatever its end.

    What a resumed attempt has done already is not done again.
    """
    started_at = course.started_at or datetime.now(UTC)

    def end() -> AttemptEnd:
        refused = run.gateway.refusal.kind if run.gateway.refusal else None
        agent = course.worked.agent if course.worked else None
        passed = bool(course.verdict and course.verdict.passed)
        failure = classify(agent.status if agent else None, refused, passed=passed)
        seconds = (datetime.now(UTC) - started_at).total_seconds()
        return AttemptEnd(assignment, started_at, seconds, agent, course.verdict, failure)

    try:
        if course.worked is None:
            waited = run.gateway.waited_seconds
            agent = await run_openhands(run, course.prepared, replace(assignment, resumed=resumed))
            course.agent_seconds += max(0.0, agent.seconds - (run.gateway.waited_seconds - waited))
            course.worked = Worked(agent, run.gateway.lineup, run.gateway.rotations, run.gateway.refusal)
            course.save(run.folder.course)
        else:
            await restore_calls(run, assignment, course.worked.lineup)
            run.gateway.rotations, run.gateway.refusal = course.worked.rotations, course.worked.refusal
        if course.verdict is None:
            course.patch, course.verdict = await validate_result(run, course.prepared, assignment.attempt)
            course.save(run.folder.course)
    except BaseException as error:
        await asyncio.shield(write_broken_off(run, course.prepared, end(), error))
        raise
    ahead = run.gateway.lineup[1:]
    course.tried += tuple(each.model_id for each in assignment.lineup if each.model_id not in ahead)
    course.lineup = tuple(each for each in assignment.lineup if each.model_id in run.gateway.lineup)
    return await record_metrics(run, end())


async def _finish(run: Run, course: Course, delivered: Delivered | None) -> State[Any]:
    """Publish the report and return the state that says honestly how the task ended."""
    last = course.metrics[-1]
    report = TaskReport(
        task_id=run.task.task_id,
        flow_run_id=run.flow_run_id,
        title=run.task.title,
        state=TaskStatus.ACCEPTED if delivered else TaskStatus.REJECTED,
        outcome="accepted" if delivered else "rejected",
        reason=course.reason or _reason(course.metrics),
        simulated=any(each.simulated for each in course.metrics),
        isolation=run.runtime.isolation,
        repository=run.task.repository,
        base_commit=course.prepared.workspace.base_commit,
        attempts=tuple(course.metrics),
        diff_path=delivered.patch_path if delivered else str(run.folder.attempt(last.attempt) / DIFF),
        evidence=str(run.folder.path),
        branch=delivered.branch if delivered else None,
        commit=delivered.commit if delivered else None,
    )
    await publish_report(run, report, course.patch.text if course.patch else "")
    message = f"{report.reason}{report.mark}"
    if delivered:
        return Completed(name=TaskStatus.ACCEPTED, message=message)
    return Failed(name=TaskStatus.REJECTED, message=message)


def _reason(metrics: list[ExecutionMetrics]) -> str:
    last, count = metrics[-1], len(metrics)
    attempts = f"{count} attempt{'s' if count > 1 else ''}"
    if last.outcome == "accepted":
        return f"{last.model_requested} passed validation with score {last.score:.2f} after {attempts}"
    errors = [finding.message for finding in last.findings if finding.level == "ERROR"]
    return f"no result passed in {attempts}; the last one ({last.failure}): {errors[0] if errors else 'no findings'}"


def _priority() -> TaskPriority:
    """Return the priority of the deployment this run came from; normal for a run without one."""
    name: str | None = deployment.name
    return TaskPriority(name) if name in set(TaskPriority) else TaskPriority.NORMAL
