"""``sparseoccvla ask``: a question to the running stack."""

from typing import Annotated

import typer
from rich.console import Console

FAILED, CANCELLED = 1, 130


def ask(
    question: Annotated[str, typer.Argument(metavar='QUESTION', help='About the newest scene, in plain words.')],
    stream: Annotated[bool, typer.Option('--stream', help='Show the answer as it grows; Ctrl-C cancels it.')] = False,
    stamp: Annotated[int, typer.Option('--stamp', metavar='NS', min=0, help='A past scene that is still kept.')] = 0,
    conversation: Annotated[
        str, typer.Option('--conversation', metavar='ID', help='Earlier questions of this id are kept in mind.')
    ] = '',
    wait: Annotated[float, typer.Option('--wait', metavar='S', min=0.1, help='How long to look for a stack.')] = 5.0,
) -> None:
    """Ask the stack that runs in this shell's ROS domain (ROS_DOMAIN_ID).

    The answer goes to standard output, everything else to standard error. Exit code 1: no stack, no answer, or the
    stack ended meanwhile; 130: cancelled.
    """
    # imported here: `sparseoccvla --help` and the commands for training machines must work without ROS
    from sparseoccvla_ros.nodes.client import StackUnreachableError, ask_once, ask_streaming
    from sparseoccvla_ros.nodes.processes import exit_on_sigterm

    errors = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    try:
        with exit_on_sigterm():
            if stream:
                answer = ask_streaming(
                    question, stamp, conversation, wait, lambda text: print(text, end='', flush=True)
                )
                print('\n' if answer.generated_tokens else '', end='')
            else:
                answer = ask_once(question, stamp, conversation, wait)
                print(f'{answer.answer}\n' if answer.answer else '', end='')
    except StackUnreachableError as error:
        errors.print(f'error: {error}', style='red')
        raise typer.Exit(FAILED) from error
    except KeyboardInterrupt as error:
        errors.print('cancelled')
        raise typer.Exit(CANCELLED) from error
    if not answer.success:
        errors.print(f'no answer: {answer.message}', style='red')
        raise typer.Exit(FAILED)
    if answer.message:
        errors.print(f'note: {answer.message}')
    errors.print(
        f'scene {answer.scene_stamp_ns} ns, {answer.prompt_tokens} prompt tokens, {answer.generated_tokens} generated, '
        f'first token {answer.first_token_ms:.0f} ms, total {answer.total_ms:.0f} ms',
        style='dim',
    )
