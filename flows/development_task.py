"""The flow of one development task: prepare; select, run, validate and record until settled; deliver."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NoReturn
from uuid import UUID, uuid4

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed, Scheduled
from pydantic import Field

from devtasks import workspace
from devtasks.errors import (
    DevtasksError,
    GitHubRefused,
    InvalidInput,
    NoModelAvailable,
    ServiceUnreachable,
    WorkspaceError,
)
from devtasks.evidence import DIFF
from devtasks.metrics_collector import ExecutionMetrics
from devtasks.prompt import hinted, repair_prompt
from devtasks.recovery import POSTPONING, Attempt, FailureKind, Step, classify, next_step, retry_delay
from devtasks.report import TaskReport, diff_markdown, verdict_markdown
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
from flows.giving_back import give_back
from flows.review import Decision, Review, ask, hints, read_answers, with_answers
from flows.timeline import line_of
from tasks import (
    Assignment,
    AttemptEnd,
    check_price,
    check_pull_request,
    deliver_result,
    open_pull_request,
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
from tasks.run import Run, check_ours, open_run

DEFAULTS = TaskLimits()

SHORTEST_DEFERRAL = timedelta(seconds=10)
"""The process that gives its slot back needs a moment to end."""

LONGEST_DEFERRAL = timedelta(hours=26)
"""An account's day, and some; who asks for more is not waited for."""

MAX_DEFERRALS = 10
"""How often one run is deferred before it ends with what it has."""

_GOES_ON = {Step.RETRY: TaskStatus.AWAITING_RETRY, Step.DEFER: TaskStatus.AWAITING_QUOTA}


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
    review_hours: Annotated[float, Field(ge=0, le=720)] = 0,
    batch: str = "",
    max_batch_cost_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None,
    credentials: str = "default",
    runtime_block: str = "default",
    github: str = "default",
    use_docker: bool = False,
    metadata: dict[str, str] | None = None,
) -> State[Any]:
    """Run one AI development task in its own copy of the repository; deliver the result only if it validates.

    Ends as Accepted (independently validated), Approved (not accepted, but delivered because a person said so),
    Undelivered (either of them, but without the pull request that was asked for), Rejected (no attempt passed) or
    Failed (it could not be tried, or nobody answered).

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
        delivery: patch writes a file and an artifact; branch commits on a new branch as well; pull_request also pushes
            that branch to GitHub and opens a draft pull request.
        max_attempts: Attempts, over all models.
        max_seconds: Seconds the agents may work, over all attempts.
        max_llm_calls: Calls to models, over all attempts.
        max_tokens: Tokens, over all attempts.
        max_cost_usd: US dollars, over all attempts; empty is no limit, and lets a model of unknown price work.
        max_iterations: Steps of the agent in one attempt.
        review_hours: Hours to wait for a person's answer where no attempt was accepted; 0 asks nobody.
        batch: Name of a batch; its tasks share the next limit.
        max_batch_cost_usd: US dollars that all tasks of the batch may spend together; empty is no limit.
        credentials: Name of an OpenRouter Credentials block.
        runtime_block: Name of an OpenHands Runtime block.
        github: Name of a devtasks GitHub Credentials block, for delivery as a pull request.
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
            review_hours=review_hours,
            batch=batch or None,
            metadata=metadata or {},
        )
        answers = await read_answers(flow_run_id)
        task = with_answers(task, answers)
        await asyncio.to_thread(workspace.check_repository, task)
        async with open_run(
            task, flow_run_id, credentials=credentials, runtime=runtime_block, github=github, docker=use_docker
        ) as run:
            return await _settle(run, answers)
    except DevtasksError as error:
        get_run_logger().error("%s: %s", type(error).__name__, error)
        return Failed(message=str(error))


async def _settle(run: Run, answers: tuple[Review, ...]) -> State[Any]:
    """Settle the task, now or, where a service that it needs cannot be reached, in a while."""
    course = Course.load(run.folder.course)
    try:
        await check_price(run)
        if not (course and course.step is Step.ACCEPT):
            await check_pull_request(run)
        if course:
            show_environment(run, course.prepared.environment)
        course = course or await _begin(run)
        return await _go_on(run, course, answers)
    except ServiceUnreachable as error:
        course = course or await _begin(run)
        model = course.assignment.lineup[0].model_id if course.assignment else ""
        met = Attempt(model, FailureKind.UNREACHABLE)
        step = next_step((*course.history, met), run.task.limits)
        await _note(run, course, met, step, str(error))
        if step in POSTPONING:
            await _postpone(run, course, met, step, str(error))
        if course.delivered:
            return await _end(run, course, TaskStatus.UNDELIVERED, _no_pull_request(error))
        raise


async def _go_on(run: Run, course: Course, answers: tuple[Review, ...]) -> State[Any]:
    """Go round the picture's loop until the policy or a person accepts or gives up, then deliver and report."""
    asks = run.task.review_hours > 0
    while course.step in (Step.FALL_BACK, Step.REPAIR, Step.ESCALATE):
        if course.step is Step.ESCALATE:
            if course.questions == len(answers):
                await _ask(run, course)
            await _obey(run, course, answers[course.questions])
            continue
        resumed = course.assignment is not None
        if course.assignment is None:
            try:
                course.assignment = await _assign(run, course, hints(answers))
            except NoModelAvailable as error:
                none = Attempt("", FailureKind.NO_MODEL)
                await _postpone(run, course, none, Step.DEFER, str(error), until=error.ready_at)
                if not course.metrics:
                    raise
                course.reason, course.step = str(error), Step.ESCALATE if asks else Step.REJECT
                await _note(run, course, none, course.step, course.reason)
                continue
            course.started_at, course.worked, course.verdict = datetime.now(UTC), None, None
            course.save(run.folder.course)
        else:
            get_run_logger().info("attempt %d goes on where its process ended", course.assignment.attempt)
        metrics = await _attempt(run, course, course.assignment, resumed=resumed)
        await check_ours(run)
        attempt, refusal = attempt_of(metrics), run.gateway.refusal
        step = next_step((*course.history, attempt), run.task.limits, asks=asks)
        why = refusal.message if refusal and attempt.failure else _reason([*course.metrics, metrics])
        await _note(run, course, attempt, step, why)
        if step in POSTPONING:
            course.worked = course.verdict = None
            await _postpone(run, course, attempt, step, why, until=refusal.until if refusal else None)
            step = Step.ESCALATE if asks else Step.REJECT
            await _note(run, course, attempt, step, "waiting longer does not help")
        course.metrics.append(metrics)
        course.assignment, course.step, course.reason, course.postponed = None, step, "", ()
        course.save(run.folder.course)
    return await _finish(run, course)


async def _note(run: Run, course: Course, attempt: Attempt, step: Step, why: str) -> None:
    """Write a step into the log, and as an event and a line of the timeline."""
    get_run_logger().info("next step: %s", step.replace("_", " "))
    number = course.assignment.attempt if course.assignment else course.first + len(course.metrics) - 1
    line = line_of(number, attempt, step, why, simulated=run.simulated)
    await course.timeline.add(run.flow_run_id, line)


async def _postpone(
    run: Run, course: Course, met: Attempt, step: Step, reason: str, *, until: datetime | None = None
) -> None:
    """Give the slot back and have the run go on later; return where waiting does not help.

    A retry waits longer each time, and at least until the service wants to be asked again; a deferred run until then.
    """
    now = datetime.now(UTC)
    if step is Step.RETRY:
        until = max(until or now, now + retry_delay((*course.history, met)))
    elif course.deferrals >= MAX_DEFERRALS:
        return
    if until is None or until - now > LONGEST_DEFERRAL:
        return
    course.deferrals += step is Step.DEFER
    course.postponed += (replace(met, postponed=True),)
    course.save(run.folder.course)
    at = max(until, now + SHORTEST_DEFERRAL)
    get_run_logger().info("%s at %s: %s", _GOES_ON[step], f"{at:%Y-%m-%d %H:%M:%S %Z}", reason)
    state = Scheduled(name=_GOES_ON[step], message=reason, scheduled_time=at)
    await give_back(UUID(run.flow_run_id), state)


async def _ask(run: Run, course: Course) -> NoReturn:
    """Suspend the run with what a person needs to decide what becomes of the task."""
    course.save(run.folder.course)
    report = _report(run, course, TaskStatus.NEEDS_REVIEW, "open")
    diff = course.patch.text if course.patch else ""
    await publish_report(run, report, diff)
    shown = run.redactor.text(diff_markdown(diff, simulated=report.simulated))
    question = f"{verdict_markdown(report)}\n## The last attempt's change\n\n{shown}"
    hours = run.task.review_hours
    get_run_logger().info("a person is asked, for %g hours: %s", hours, report.reason)
    message = f"waits for a person, who can answer here or with `devtasks review`: {report.reason}{report.mark}"
    await ask(run.flow_run_id, course.questions, question, message, timedelta(hours=hours))


async def _obey(run: Run, course: Course, answer: Review) -> None:
    """Have the course go on as a person has answered; a change that there is not cannot be accepted."""
    course.questions += 1
    step, why = Step.REJECT, "a person gave up"
    if answer.decision is Decision.TRY_AGAIN:
        step, why = Step.FALL_BACK, "a person wants another try"
        course.tried, course.answered = (), len(course.metrics)
    elif answer.decision is Decision.ACCEPT:
        step, why = Step.ACCEPT, "accepted by a person, not by validation"
        if not (course.patch and course.patch.changes):
            step, why = Step.ESCALATE, "there is no change that could be accepted; a person is asked again"
    await _note(run, course, course.history[-1], step, why)
    course.step, course.reason = step, "" if step is Step.FALL_BACK else f"{why}; {_reason(course.metrics)}"
    course.save(run.folder.course)


async def _begin(run: Run) -> Course:
    earlier = await run.ledger.attempts(flow_run_id=run.flow_run_id)
    course = Course(prepared=await prepare_workspace(run), first=len(earlier) + 1)
    covered = course.prepared.baseline.coverage
    if run.task.category is TaskCategory.UNIT_TEST and covered and covered.fraction == 1:
        # No result could raise it: not one model call is spent on trying.
        raise InvalidInput("target_file", run.task.target_file, "a file that its tests do not cover completely yet")
    return course


async def _assign(run: Run, course: Course, told: list[str]) -> Assignment:
    """Return the next attempt to make: the same conversation with the findings, or the next model from the start."""
    attempt = course.first + len(course.metrics)
    remaining = run.task.limits.seconds - course.agent_seconds
    place = course.prepared.workspace
    if course.step is Step.REPAIR and course.lineup and course.verdict:
        message = repair_prompt(place.path, course.verdict.findings)
        return Assignment(attempt, course.lineup, course.conversation_id, message, remaining)
    prompt = hinted(course.prepared.prompt, told)
    course.lineup = await select_model(run, prompt, course.tried)
    course.conversation_id = str(uuid4())
    if course.metrics:
        await asyncio.to_thread(workspace.reset, place)
    return Assignment(attempt, course.lineup, course.conversation_id, prompt, remaining)


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


async def _finish(run: Run, course: Course) -> State[Any]:
    """Deliver what was accepted, publish the report and return the state that says honestly how the task ended."""
    if not (course.step is Step.ACCEPT and course.patch and course.verdict):
        return await _end(run, course, TaskStatus.REJECTED)
    status = TaskStatus.ACCEPTED if course.verdict.passed else TaskStatus.APPROVED
    place = course.prepared.workspace
    course.delivered = await deliver_result(run, place, course.patch, course.verdict)
    if run.github:
        try:
            address = await open_pull_request(run, place, _report(run, course, status, status.lower()))
        except (GitHubRefused, InvalidInput, WorkspaceError) as error:
            return await _end(run, course, TaskStatus.UNDELIVERED, _no_pull_request(error))
        course.delivered = replace(course.delivered, pull_request=address)
    return await _end(run, course, status)


def _no_pull_request(error: DevtasksError) -> str:
    return f"; the pull request is missing, the result is on its branch: {error}"


async def _end(run: Run, course: Course, status: TaskStatus, more: str = "") -> State[Any]:
    """Publish the report, and return the state of this name; `more` comes after the report's own reason."""
    report = _report(run, course, status, status.lower(), more)
    await publish_report(run, report, course.patch.text if course.patch else "")
    make = Completed if status in (TaskStatus.ACCEPTED, TaskStatus.APPROVED) else Failed
    return make(name=status, message=f"{report.reason}{report.mark}")


def _report(run: Run, course: Course, status: TaskStatus, outcome: str, more: str = "") -> TaskReport:
    last, delivered = course.metrics[-1], course.delivered
    return TaskReport(
        task_id=run.task.task_id,
        flow_run_id=run.flow_run_id,
        title=run.task.title,
        state=status,
        outcome=outcome,
        reason=(course.reason or _reason(course.metrics)) + more,
        simulated=any(each.simulated for each in course.metrics),
        isolation=run.runtime.isolation,
        repository=run.task.repository,
        base_commit=course.prepared.workspace.base_commit,
        attempts=tuple(course.metrics),
        diff_path=delivered.patch_path if delivered else str(run.folder.attempt(last.attempt) / DIFF),
        evidence=str(run.folder.path),
        branch=delivered.branch if delivered else None,
        commit=delivered.commit if delivered else None,
        pull_request=delivered.pull_request if delivered else None,
    )


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
