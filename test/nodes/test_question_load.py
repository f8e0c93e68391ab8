"""Questions from many processes at once: each is answered or told that the stack is busy, and memory stays flat."""

import json
import resource
import subprocess
import sys
from pathlib import Path

CLIENTS, QUESTIONS_EACH, IN_FLIGHT = 8, 25, 3
#: Beside answers that run and wait; one leaked scene prefix per question would be 500 MiB.
GROWTH_MIB = 60.0
TIMEOUT_S = 90.0


def resident_mib():
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def test_200_questions_from_8_processes_are_all_answered_or_told_busy(start_stack):
    stack = start_stack()
    stack.rig.calibrate()
    stack.rig.run_cycle(0)
    program = Path(__file__).with_name('question_client.py')
    clients = [
        subprocess.Popen(
            [sys.executable, program, str(number), str(QUESTIONS_EACH), str(IN_FLIGHT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(CLIENTS)
    ]
    try:
        assert [client.stdout.readline() for client in clients] == ['ready\n'] * CLIENTS
        before_mib = resident_mib()
        for client in clients:
            client.stdin.write('go\n')
            client.stdin.flush()
        stack.rig.run_cycle(1)  # scenes go on meanwhile
        told = [json.loads(client.communicate(timeout=TIMEOUT_S)[0]) for client in clients]
    finally:
        for client in clients:
            client.kill()
            client.wait()
    assert [len(answers) for answers in told] == [QUESTIONS_EACH] * CLIENTS
    refused = [message for answers in told for success, message, _ in answers if not success]
    assert all(message.startswith('busy') for message in refused), set(refused)
    engine = stack.nodes['reasoning']._engine
    assert len(refused) == engine.counts['busy'] > 0
    answered = [text for answers in told for success, _, text in answers if success]
    assert len(answered) > CLIENTS
    assert all(text.strip() for text in answered)
    assert resident_mib() - before_mib < GROWTH_MIB
    assert engine._answers.batch.nbytes == 0
